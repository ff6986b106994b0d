"""Settings of registry_service, from PLUMBLINE_REGISTRY_… variables."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

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
        Path(".plumbline/registry/artifacts"), description="Folder of the artifact bytes, by sha256."
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
