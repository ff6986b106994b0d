"""Where the job finds its servers, read from the environment once."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TrainerSettings(BaseSettings):
    """Every field can be set as PLUMBLINE_ + NAME."""

    model_config = SettingsConfigDict(env_prefix="PLUMBLINE_", frozen=True, extra="ignore")

    features_address: str = Field("localhost:7410", min_length=1, description="host:port of feature_service.")
    registry_address: str = Field(
        "localhost:7420", min_length=1, description="host:port of registry_service."
    )
    actor: str = Field("trainer", min_length=1, max_length=128, description="Who acts, kept in histories.")
    code_repository: str = Field(
        "", description="Where the code comes from, when that is not a git working tree, as in a container."
    )
    code_commit: str = Field("", description="The commit of that code; unset: git is asked.")
    code_dirty: bool = Field(False, description="Whether that code differs from the commit.")
    trainer_otlp_endpoint: str | None = Field(
        None, description="OTLP/gRPC collector for traces, as http://host:4317; unset: none are sent."
    )
    trainer_trace_sample_ratio: float = Field(1.0, ge=0, le=1, description="Share of jobs that are traced.")
    trainer_lease_seconds: float = Field(
        120.0,
        ge=3,
        le=86400,
        description="The registry gives a job up that it has heard nothing of for so long.",
    )
    trainer_join_timeout_seconds: float = Field(3600.0, gt=0, description="Longest wait for the features.")
