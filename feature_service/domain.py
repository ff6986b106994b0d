"""What the service speaks of: entities, views, services, and which of their features a request reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum


class ValueType(StrEnum):
    """The types a column can have; the names are those of plumbline.types.v1.ValueType."""

    UNSPECIFIED = "UNSPECIFIED"
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
    def is_list(self) -> bool:
        """Whether a value is a list."""
        return self.value.endswith("_LIST")

    @property
    def element(self) -> ValueType:
        """The type of a list's elements; the type itself when it is no list."""
        return ValueType(self.value.removesuffix("_LIST"))


class ViewKind(StrEnum):
    """How a view's values come about."""

    BATCH = "BATCH"
    STREAM = "STREAM"
    ON_DEMAND = "ON_DEMAND"


class FeatureStatus:
    """What stands behind a cell; the numbers are those of plumbline.types.v1.FeatureStatus."""

    PRESENT = 1
    NULL_VALUE = 2
    NOT_FOUND = 3
    OUTSIDE_MAX_AGE = 4
    UNAVAILABLE = 5


class KnownAt(StrEnum):
    """Which rows count for an entity row at time T, apart from event time ≤ T."""

    #: Rows whose created time is ≤ T; rows without one count from their event time.
    CREATED_BY_THEN = "CREATED_BY_THEN"
    #: All; the created time only breaks ties.
    IGNORE_CREATED = "IGNORE_CREATED"


@dataclass(frozen=True)
class Field:
    """A named, typed column."""

    name: str
    type: ValueType
    description: str = ""


Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Entity:
    """A kind of thing that features belong to, and the column that names one."""

    name: str
    join_key: str
    type: ValueType
    description: str = ""
    tags: Tags = ()


@dataclass(frozen=True)
class Source:
    """Where the rows of a view lie.

    location: as the definition writes it. path: what it resolves to on this machine; "" when the rows
    cannot be read here. columns: (column in the source, name in the view) where they differ.
    """

    name: str
    location: str
    path: str
    timestamp_column: str
    created_column: str | None = None
    columns: tuple[tuple[str, str], ...] = ()

    def column_of(self, name: str) -> str:
        """The source's column behind a name of the view."""
        return next((column for column, mapped in self.columns if mapped == name), name)


@dataclass(frozen=True)
class Projection:
    """The features taken from one view, and under which names it is joined.

    label: the view's name or its alias. key_columns: (join key, column of the entity rows) where they differ.
    """

    view: str
    label: str
    features: tuple[Field, ...]
    key_columns: tuple[tuple[str, str], ...] = ()

    def entity_column(self, join_key: str) -> str:
        """The column of the entity rows that holds a join key."""
        return next((column for key, column in self.key_columns if key == join_key), join_key)


@dataclass(frozen=True)
class FeatureView:
    """A set of features of one tuple of join keys. ttl None: rows never expire."""

    project: str
    name: str
    kind: ViewKind
    join_keys: tuple[Field, ...]
    features: tuple[Field, ...]
    ttl: timedelta | None = None
    online: bool = True
    source: Source | None = None
    description: str = ""
    tags: Tags = ()
    #: On-demand views: what they read.
    request_data: tuple[Field, ...] = ()
    inputs: tuple[Projection, ...] = ()
    transformation: str = ""
    digest: str = ""
    #: Whether it is a version of a view that another replaced: it is read as view@vN, never written.
    earlier: bool = False
    #: What the adapter that made the view needs to find it again; nobody else looks into it.
    handle: object = field(default=None, compare=False, repr=False)

    def feature(self, name: str) -> Field | None:
        """A feature by name, or None."""
        return next((item for item in self.features if item.name == name), None)


@dataclass(frozen=True)
class FeatureService:
    """A named group of features. A nameless one stands for features asked for one by one."""

    project: str
    name: str
    projections: tuple[Projection, ...]
    description: str = ""
    tags: Tags = ()
    digest: str = ""


@dataclass(frozen=True)
class KeyColumn:
    """A join key of a view and the column of the entity rows that holds it."""

    column: str
    join_key: Field


@dataclass(frozen=True)
class ViewRead:
    """One read of one view: which features, under which label, by which entity columns."""

    label: str
    view: FeatureView
    keys: tuple[KeyColumn, ...]
    features: tuple[Field, ...]


@dataclass(frozen=True)
class OnDemandRead:
    """One computation of an on-demand view. inputs: (index of the ViewRead, name of its view, feature)."""

    label: str
    view: FeatureView
    inputs: tuple[tuple[int, str, Field], ...]


@dataclass(frozen=True)
class Output:
    """One column of a reply: the feature `feature` of the ViewRead or OnDemandRead numbered `index`."""

    name: str
    full_name: str
    label: str
    feature: Field
    on_demand: bool
    index: int


@dataclass(frozen=True)
class ReadPlan:
    """A selection of features, resolved against one state of the definitions."""

    service: FeatureService
    reads: tuple[ViewRead, ...]
    on_demand: tuple[OnDemandRead, ...]
    outputs: tuple[Output, ...]
    join_keys: tuple[Field, ...]
    request_data: tuple[Field, ...]
    views: tuple[FeatureView, ...]

    @property
    def digest(self) -> str:
        """Digest of the definitions behind the selection."""
        return self.service.digest
