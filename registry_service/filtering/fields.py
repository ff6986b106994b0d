"""What can be filtered and ordered by, per resource."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from registry_service.domain import STAGES, RunState, VersionState
from registry_service.events import Kind
from registry_service.filtering.ast import Order


class Type(StrEnum):
    """How values compare. The text is what messages call a value of it."""

    TEXT = "a text"
    CHOICE = "one of a few words"
    INTEGER = "a whole number"
    NUMBER = "a number"
    TIME = 'a time, as "2026-10-01T00:00:00Z" or "2026-10-01" (midnight UTC)'
    BOOLEAN = "true or false"


class Shape(StrEnum):
    ONE = "one value"
    LIST = "some values"
    MAP = "a value for each key"


@dataclass(frozen=True)
class Field:
    """prefix: of resource names, that a value may have or leave out. sortable: lists can be ordered by it."""

    name: str
    type: Type
    shape: Shape = Shape.ONE
    choices: tuple[str, ...] = ()
    prefix: str = ""
    sortable: bool = False

    @property
    def shown(self) -> str:
        """As it stands in filters."""
        if self.shape is not Shape.MAP:
            return self.name
        return f"{self.name}.{'KEY' if self.type is Type.TEXT else 'NAME'}"


class Resource:
    """A kind of thing that lists are made of."""

    def __init__(self, name: str, fields: Iterable[Field], default: Order | None = None) -> None:
        """default: the order of a list that asks for none; None: newest first, by the registry's own ids."""
        self.name, self.default = name, default
        self.fields: Mapping[str, Field] = {field.name: field for field in fields}

    @property
    def filterable(self) -> str:
        """The fields, for messages."""
        return ", ".join(field.shown for field in self.fields.values())

    @property
    def sortable(self) -> str:
        """The fields to order by, for messages."""
        return ", ".join(field.shown for field in self.fields.values() if field.sortable)


def _text(name: str, *, prefix: str = "", sortable: bool = False) -> Field:
    return Field(name, Type.TEXT, prefix=prefix, sortable=sortable)


def _time(name: str, *, sortable: bool = False) -> Field:
    return Field(name, Type.TIME, sortable=sortable)


def _choice(name: str, choices: Iterable[str]) -> Field:
    return Field(name, Type.CHOICE, choices=tuple(choices))


_TAGS = Field("tags", Type.TEXT, Shape.MAP)
_ALIASES = Field("aliases", Type.TEXT, Shape.LIST)

MODELS = Resource(
    "models",
    (
        _text("name", prefix="models/", sortable=True),
        _text("description"),
        _TAGS,
        _ALIASES,
        _time("create_time", sortable=True),
        _time("update_time", sortable=True),
        Field("latest_version", Type.INTEGER, sortable=True),
    ),
    Order("name"),
)

VERSIONS = Resource(
    "versions",
    (
        _text("model", prefix="models/", sortable=True),
        Field("model_archived", Type.BOOLEAN),
        Field("version", Type.INTEGER, sortable=True),
        _choice("state", VersionState),
        _choice("stage", STAGES),
        _text("description"),
        _TAGS,
        Field("metrics", Type.NUMBER, Shape.MAP, sortable=True),
        _ALIASES,
        _text("run", prefix="runs/"),
        Field("datasets", Type.TEXT, Shape.LIST, prefix="datasets/"),
        _text("actor"),
        _text("source"),
        _text("external_run"),
        _text("manifest_digest"),
        _text("feature_service"),
        _time("create_time", sortable=True),
        _time("finalize_time", sortable=True),
        _time("update_time", sortable=True),
    ),
    Order("create_time", descending=True),
)
#: Of the versions of one model.
VERSIONS_DEFAULT = Order("version", descending=True)

RUNS = Resource(
    "runs",
    (
        _text("name", prefix="runs/"),
        _text("display_name"),
        _choice("state", RunState),
        _text("actor"),
        _TAGS,
        Field("parameters", Type.TEXT, Shape.MAP),
        Field("metrics", Type.NUMBER, Shape.MAP),
        _text("parent", prefix="runs/"),
        _time("start_time"),
        _time("end_time"),
        _text("code.commit"),
    ),
)

DATASETS = Resource(
    "datasets",
    (
        _text("digest", prefix="datasets/"),
        _text("display_name"),
        Field("row_count", Type.INTEGER),
        _text("feature_service", prefix="featureServices/"),
        _time("create_time"),
        _time("as_of_start"),
        _time("as_of_end"),
        _text("actor"),
    ),
)

DEPLOYMENTS = Resource(
    "deployments",
    (
        _text("model", prefix="models/"),
        Field("version", Type.INTEGER),
        _text("environment"),
        _text("target"),
        _text("alias"),
        _text("actor"),
        Field("live", Type.BOOLEAN),
        _time("start_time"),
        _time("end_time"),
    ),
)

EVENTS = Resource(
    "audit events",
    (
        Field("sequence", Type.INTEGER),
        _time("time"),
        _text("actor"),
        _text("action"),
        _choice("kind", Kind),
        _text("resource"),
        _text("model", prefix="models/"),
    ),
)
