"""Settings of feature_service: environment variables PLUMBLINE_FEATURES_…"""

from __future__ import annotations

from pathlib import Path

from pydantic import AwareDatetime, Field
from pydantic_settings import SettingsConfigDict

from servicekit.settings import ServerSettings


class FeatureSettings(ServerSettings):
    """What it takes to serve one Feast repository."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="PLUMBLINE_FEATURES_")

    port: int = Field(7410, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    metrics_port: int | None = Field(
        7411, ge=0, le=65535, description="Port of the Prometheus page /metrics; none: no page."
    )
    http_port: int | None = Field(
        7412,
        ge=0,
        le=65535,
        description="HTTP port for Feast's clients (online_store: remote); 0 takes a free one; none: none.",
    )
    workers: int = Field(
        1, ge=1, le=64, description="Processes that share the gRPC and the HTTP port; also --workers."
    )
    repo: Path = Field(Path("."), description="The folder with feature_store.yaml.")
    max_entities: int = Field(10_000, ge=1, description="Entities in one online read.")
    max_push_rows: int = Field(50_000, ge=1, description="Rows in one push.")
    max_clock_skew_seconds: float = Field(
        60.0,
        ge=0,
        description="How far after now the times of a pushed row may lie; later rows are refused.",
    )
    join_memory: str = Field(
        "2GB",
        pattern=r"^\d+(\.\d+)?\s*[KMGT]i?B$",
        description="Memory of one historical join; then it spills.",
    )
    join_threads: int = Field(0, ge=0, description="Threads of one historical join; 0: one for each core.")
    max_joins: int = Field(
        2,
        ge=1,
        description="Historical joins at once; more wait. Materializations run one by one, beside them.",
    )
    max_spool_bytes: int = Field(
        16 * 1024**3, ge=1024**2, description="Entity rows of one historical read, as Arrow bytes."
    )
    data_roots: tuple[str, ...] = Field(
        (),
        description="JSON list of folders and URI prefixes (s3://bucket/folder) below which callers may have "
        "entity rows read and results written as Parquet; none: nowhere.",
    )
    temp_dir: Path | None = Field(
        None, description="Where entity rows, spilled joins and results lie meanwhile; unset: the system's."
    )
    online_threads: int = Field(4, ge=1, description="Threads that read the online store.")
    store_timeout_seconds: float = Field(
        2.0, gt=0, description="How long an online read waits for the store."
    )
    sweep_seconds: float | None = Field(
        3600.0,
        gt=0,
        description="How often rows past their ttl are removed from an embedded online store; none: never. "
        "Off while replaying.",
    )
    merge_seconds: float | None = Field(
        3600.0,
        gt=0,
        description="How often the parts that pushes add to sources on this machine are merged, where there "
        "are 32 or more; none: never.",
    )
    refresh_seconds: float = Field(2.0, gt=0, description="How often the registry is looked at for changes.")
    replay_time: AwareDatetime | None = Field(
        None,
        description="Replays the past: the moment taken as now for ttl, push and materialization, as "
        "2013-12-30T17:00:00Z; unset: the clock.",
    )
