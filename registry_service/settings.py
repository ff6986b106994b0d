"""Settings of registry_service, from PLUMBLINE_REGISTRY_… variables."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from plumbline.channel import MAX_MESSAGE_BYTES
from servicekit.settings import ServerSettings

_GIB = 1024**3


class RegistrySettings(ServerSettings):
    """Every field has a default that works on one machine."""

    model_config = SettingsConfigDict(env_prefix="PLUMBLINE_REGISTRY_", frozen=True, extra="ignore")

    port: int = Field(7420, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    metrics_port: int | None = Field(
        7421, ge=0, le=65535, description="Port of the Prometheus page /metrics; none: no page."
    )
    http_port: int | None = Field(
        7422, ge=0, le=65535, description="Port of MLflow's model registry API over HTTP; none: not served."
    )
    http_url: str = Field(
        "",
        description="URL by which MLflow's clients reach the HTTP port, when it is not the one they call, "
        "as behind a proxy that ends TLS.",
    )
    http_allowed_hosts: tuple[str, ...] = Field(
        (),
        description='Names that callers may use for the HTTP port, as ["registry.example.com"]; without any: '
        "those of this machine while it listens on this machine alone, else all.",
    )
    tokens_file: Path | None = Field(
        None, description="File of the tokens that calls must carry; unset: everybody may call."
    )
    max_message_bytes: int = Field(
        # Room for the 1 MiB of a file that the contract lets callers send at once.
        MAX_MESSAGE_BYTES,
        ge=2 * 1024**2,
        description="Largest message accepted or sent.",
    )
    database_url: str = Field(
        "sqlite:///.plumbline/registry/registry.db",
        description="sqlite:///file.db, or postgresql://user:password@host/database.",
        repr=False,
    )
    artifacts_dir: Path = Field(
        Path(".plumbline/registry/artifacts"),
        description="Folder of the artifact bytes, by sha256, and of uploads under way.",
    )
    artifacts_url: str = Field(
        "",
        pattern=r"^(s3://[^/\s]+(/[^\s]*)?)?$",
        description="s3://bucket/prefix keeps the artifact bytes there, uploads under way in the folder; "
        "endpoint, region and credentials come from the usual AWS_… variables. Unset: all in the folder.",
    )
    max_file_bytes: int = Field(
        16 * _GIB, ge=1, le=16 * _GIB, description="Largest file that may be uploaded."
    )
    database_threads: int = Field(
        8, ge=1, le=64, description="Transactions at once, and connections to the database."
    )
    file_threads: int = Field(4, ge=1, le=64, description="File reads and writes at once.")
    busy_seconds: float = Field(
        5.0, gt=0, description="How long to wait for the database before answering UNAVAILABLE."
    )

    expiry_seconds: float = Field(
        5.0, gt=0, description="How often runs and deployments whose lease has ended are looked for."
    )
    expiry_grace_seconds: float = Field(
        30.0,
        ge=0,
        description="How long after a start to begin with that: while it was down, nobody could renew.",
    )

    webhook_allow_http: bool = Field(False, description="Whether webhooks may go to http:// too.")
    webhook_allowed_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (),
        description="Networks that webhooks may go to though they are not public, as 10.1.0.0/16,fd00::/8.",
    )
    webhook_timeout_seconds: float = Field(
        10.0, gt=0, le=60, description="How long a receiver of a webhook may take to answer."
    )

    @field_validator("webhook_allowed_networks", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        return (
            [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        )

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        scheme = value.partition("://")[0].partition("+")[0]
        if scheme not in ("sqlite", "postgresql"):
            raise ValueError("use sqlite:///path/to/file.db or postgresql://user:password@host/database")
        if scheme == "sqlite" and value.partition(":///")[2].strip("/") in ("", ":memory:"):
            raise ValueError(
                "name a file, as in sqlite:///path/to/file.db; the registry is not kept in memory"
            )
        return value
