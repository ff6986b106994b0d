"""Settings of serving."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from servicekit.settings import ServerSettings
from serving.domain import ModelRef


class ServingSettings(ServerSettings):
    """Every field can be set as PLUMBLINE_SERVING_ + NAME. `port` is gRPC, `http_port` HTTP and metrics."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="PLUMBLINE_SERVING_")

    port: int = Field(7430, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    http_port: int = Field(
        7431, ge=0, le=65535, description="Port of /predict, /metrics, /readyz; 0 takes a free one."
    )
    models: str = Field(
        "",
        validate_default=True,
        description="What to serve: model@alias or model/version, comma-separated; the first is the default.",
    )
    registry_address: str = Field("127.0.0.1:7420", description="registry_service, as host:port.")
    features_address: str = Field("127.0.0.1:7410", description="feature_service, as host:port.")
    poll_seconds: float = Field(1.0, gt=0, description="How often an alias is looked up in the registry.")
    retry_seconds: float = Field(
        5.0, gt=0, description="Longest pause between attempts to load a version that failed to load."
    )
    registry_timeout: float = Field(5.0, gt=0, description="Seconds for a call to registry_service.")
    features_timeout: float = Field(
        2.0, gt=0, description="Seconds for a call to feature_service; a caller's nearer deadline wins."
    )
    cache_dir: Path = Field(
        Path(".plumbline/serving/models"),
        description="Models downloaded and what was served last (enough to start without the registry), "
        "and the process's own files.",
    )
    max_rows: int = Field(10_000, ge=1, description="Rows in one request.")
    inline_rows: int = Field(
        200, ge=0, description="Up to so many rows are scored on the event loop, more on a thread."
    )

    @field_validator("models")
    @classmethod
    def _readable(cls, text: str) -> str:
        names = [part.strip() for part in text.split(",") if part.strip()]
        if not names:
            raise ValueError("name at least one model, as in model@alias")
        refs = [ModelRef.parse(name) for name in names]
        if len(set(refs)) != len(refs):
            raise ValueError(f"a model is named twice in {text!r}")
        return text

    @property
    def model_refs(self) -> tuple[ModelRef, ...]:
        """`models`, read; the first is the default."""
        return tuple(ModelRef.parse(part.strip()) for part in self.models.split(",") if part.strip())

    @property
    def http_port_variable(self) -> str:
        """The environment variable that sets the HTTP port, for messages to people."""
        return f"{self.model_config.get('env_prefix', '')}HTTP_PORT"
