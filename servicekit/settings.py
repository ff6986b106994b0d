"""Settings that every server has. Each program's own class derives from ServerSettings."""

from __future__ import annotations

import sys
from typing import Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from plumbline.channel import MAX_MESSAGE_BYTES, MIN_MESSAGE_BYTES


class ServerSettings(BaseSettings):
    """What it takes to run a server: read once from the environment, then handed in, never changed.

    A subclass names its environment prefix in model_config; every field can be set as PREFIX + NAME.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_parse_none_str="none")

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 in a container.")
    port: int = Field(0, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="Port of the Prometheus page /metrics; none: no page."
    )
    grace_seconds: float = Field(10.0, ge=0, description="How long calls in flight may go on after SIGTERM.")
    max_message_bytes: int = Field(
        MAX_MESSAGE_BYTES, ge=MIN_MESSAGE_BYTES, description="Largest message accepted or sent."
    )
    max_concurrent_rpcs: int = Field(
        1_000, ge=1, description="Calls at once; one more is answered RESOURCE_EXHAUSTED."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level logged.")
    log_format: Literal["json", "text"] = Field("json", description="One JSON object a line, or text.")
    slow_call_seconds: float = Field(
        1.0, ge=0, description="Calls that take longer are logged, also where fast ones are not."
    )
    otlp_endpoint: str | None = Field(
        None, description="OTLP/gRPC collector for traces, as http://host:4317; unset: none are sent."
    )
    trace_sample_ratio: float = Field(
        1.0, ge=0, le=1, description="Share of new traces that are recorded; a caller's decision is kept."
    )

    @property
    def port_variable(self) -> str:
        """The environment variable that sets the port, for messages to people."""
        return f"{self.model_config.get('env_prefix', '')}PORT"


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def read_settings(name: str, settings_class: type[SettingsT]) -> SettingsT | None:
    """The settings of the program `name`; None when some are wrong, which is said on stderr."""
    try:
        return settings_class()
    except ValidationError as error:
        print_settings_error(name, settings_class, error)
        return None


def print_settings_error(name: str, settings: type[BaseSettings], error: ValidationError) -> None:
    """Tells people on stderr which settings of the program `name` are wrong, and how."""
    print(f"{name}: bad settings", file=sys.stderr)
    prefix = settings.model_config.get("env_prefix", "")
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"])
        print(f"  {prefix}{where.upper()}: {item['msg']} (value: {item['input']!r})", file=sys.stderr)
