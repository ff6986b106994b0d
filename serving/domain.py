"""What a served model is, in the words of the registry's signature. Nothing but the standard library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

_NAME = re.compile(
    r"(?:models/)?(?P<model>[A-Za-z0-9][A-Za-z0-9_.-]{0,127})"
    r"(?:(?:@|/aliases/)(?P<alias>[A-Za-z0-9][A-Za-z0-9_.-]{0,127})|/(?:versions/)?(?P<version>[1-9][0-9]{0,17}))"
)


class ColumnType(Enum):
    """The types a column can have; the names are those of the contract's ValueType."""

    DOUBLE = "DOUBLE"
    FLOAT = "FLOAT"
    INT64 = "INT64"
    INT32 = "INT32"
    BOOL = "BOOL"
    STRING = "STRING"
    BYTES = "BYTES"
    TIMESTAMP = "TIMESTAMP"
    DOUBLE_LIST = "DOUBLE_LIST"
    FLOAT_LIST = "FLOAT_LIST"
    INT64_LIST = "INT64_LIST"
    INT32_LIST = "INT32_LIST"
    BOOL_LIST = "BOOL_LIST"
    STRING_LIST = "STRING_LIST"
    BYTES_LIST = "BYTES_LIST"
    TIMESTAMP_LIST = "TIMESTAMP_LIST"

    @property
    def is_integer(self) -> bool:
        """INT64 and INT32."""
        return self in (ColumnType.INT64, ColumnType.INT32)

    @property
    def is_number(self) -> bool:
        """Integers and floating-point numbers; BOOL is none."""
        return self.is_integer or self in (ColumnType.DOUBLE, ColumnType.FLOAT)


@dataclass(frozen=True)
class Field:
    """A named, typed column without its values."""

    name: str
    type: ColumnType


@dataclass(frozen=True)
class ModelInput:
    """One input of a model.

    view, feature: where feature_service keeps it; both "" for an input the caller sends. categories:
    category k is the number k to the model, anything else is missing; empty: not categorical.
    """

    name: str
    type: ColumnType
    view: str = ""
    feature: str = ""
    categories: tuple[str, ...] = ()

    @property
    def from_caller(self) -> bool:
        """Sent with the request rather than looked up."""
        return not self.feature


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives; inputs and outputs in the model's order."""

    inputs: tuple[ModelInput, ...]
    outputs: tuple[Field, ...]
    feature_service: str = ""
    feature_service_digest: str = ""
    join_keys: tuple[Field, ...] = ()
    request_data: tuple[Field, ...] = ()

    @property
    def caller_fields(self) -> tuple[Field, ...]:
        """What a caller sends beside the join keys: the request data of on-demand features, and the
        inputs that come from the caller and are not join keys."""
        fields = {field.name: field for field in self.request_data}
        keys = {field.name for field in self.join_keys}
        for item in self.inputs:
            if item.from_caller and item.name not in keys:
                fields.setdefault(item.name, Field(item.name, item.type))
        return tuple(fields.values())


@dataclass(frozen=True)
class FeatureSet:
    """A feature service as feature_service describes it now. features: by (view, feature)."""

    name: str
    digest: str
    features: Mapping[tuple[str, str], ColumnType]
    join_keys: tuple[Field, ...] = ()
    request_data: tuple[Field, ...] = ()


@dataclass(frozen=True)
class ModelRef:
    """A model as people name it: by alias or by version number (0: by alias)."""

    model: str
    alias: str = ""
    version: int = 0

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """Of models/m/aliases/a, models/m/versions/3, m@a or m/3. Raises ValueError for anything else."""
        match = _NAME.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text!r} names no model; write model@alias, model/version, models/model/aliases/alias "
                "or models/model/versions/version"
            )
        return cls(match["model"], match["alias"] or "", int(match["version"] or 0))

    @property
    def name(self) -> str:
        """The full name."""
        if self.alias:
            return f"models/{self.model}/aliases/{self.alias}"
        return f"models/{self.model}/versions/{self.version}"


@dataclass(frozen=True)
class Release:
    """A READY version as the registry records it.

    version: models/m/versions/3. sha256, size: of its Booster text file, at `path` in the version.
    """

    version: str
    path: str
    sha256: str
    size: int
    signature: Signature
