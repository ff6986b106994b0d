"""From a selection of features to what has to be read for it."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from feature_service.digests import service_digest
from feature_service.domain import (
    Entity,
    FeatureService,
    FeatureView,
    Field,
    KeyColumn,
    OnDemandRead,
    Output,
    Projection,
    ReadPlan,
    ViewKind,
    ViewRead,
)
from plumbline.errors import FieldViolation
from plumbline.features.errors import (
    AmbiguousFeatureName,
    EmptyRequest,
    FeatureNotFound,
    FeatureServiceNotFound,
    ViewNotFound,
)

#: A view and its version in a reference, as Feast writes it.
_VERSIONED = re.compile(r"(.+?)@(?:v(\d+)|latest)?", re.IGNORECASE)


@dataclass(frozen=True)
class Definitions:
    """All definitions at one moment, by name. push_sources: the views each feeds. versions: by view@vN, the
    versions of views that can be read; the present one of a view is the view itself."""

    project: str
    entities: Mapping[str, Entity]
    views: Mapping[str, FeatureView]
    services: Mapping[str, FeatureService]
    push_sources: Mapping[str, tuple[str, ...]]
    versions: Mapping[str, FeatureView] = field(default_factory=dict)

    def known(self) -> Mapping[str, FeatureView]:
        """The views and all their versions."""
        return ChainMap(dict(self.views), dict(self.versions))

    def readable(self, name: str) -> tuple[str, FeatureView]:
        """A view by name, view@vN or view@latest, and how it is called in replies. Raises ViewNotFound."""
        match = None if name in self.views else _VERSIONED.fullmatch(name)
        if match is None:
            return name, self.view(name)
        base = self.view(match[1])
        if match[2] is None:
            return base.name, base
        label = f"{base.name}@v{int(match[2])}"
        found = self.versions.get(label)
        if found is None:
            raise self._no_version(base, label)
        return label, found

    def _no_version(self, view: FeatureView, asked: str) -> ViewNotFound:
        labels = (item.rpartition("@v") for item in self.versions)
        numbers = sorted(int(number) for name, _, number in labels if name == view.name)
        return ViewNotFound(
            f"there is no {asked!r} in project {self.project!r}; of {view.name!r} there is "
            f"{', '.join(f'v{number}' for number in numbers) or 'no version'}. Earlier versions can be read "
            "where feature_store.yaml has enable_online_feature_view_versioning: true under registry",
            metadata={"view": asked, "project": self.project},
        )

    def view(self, name: str) -> FeatureView:
        """Raises ViewNotFound."""
        found = self.views.get(name)
        if found is None:
            raise ViewNotFound(
                f"there is no feature view {name!r} in project {self.project!r}",
                metadata={"view": name, "project": self.project},
            )
        return found

    def service(self, name: str) -> FeatureService:
        """Raises FeatureServiceNotFound."""
        found = self.services.get(name)
        if found is None:
            raise FeatureServiceNotFound(
                f"there is no feature service {name!r} in project {self.project!r}",
                metadata={"feature_service": name, "project": self.project},
            )
        return found


@dataclass(frozen=True)
class Selection:
    """A feature service by name, or references "view:feature" and "view:*"."""

    feature_service: str = ""
    references: tuple[str, ...] = ()


def plan(definitions: Definitions, selection: Selection) -> ReadPlan:
    """Resolves a selection.

    Raises EmptyRequest, FeatureServiceNotFound, ViewNotFound, FeatureNotFound. Two outputs of one name are
    not refused here, since full names may tell them apart: see `output_names`.
    """
    if selection.feature_service:
        service = definitions.service(selection.feature_service)
    elif selection.references:
        service = _nameless(definitions, selection.references)
    else:
        raise EmptyRequest(
            "the request selects no features; name a feature service or references view:feature",
            metadata={"field": "selection"},
            violations=[FieldViolation("selection", "names nothing")],
        )
    return _Planner(definitions).plan(service)


def output_names(read_plan: ReadPlan, *, full: bool, taken: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns of a reply. taken: names that the reply's other columns have.

    Raises AmbiguousFeatureName when two features, or a feature and a taken name, are called alike.
    """
    names = tuple(item.full_name if full else item.name for item in read_plan.outputs)
    seen = set(taken)
    for name, item in zip(names, read_plan.outputs, strict=True):
        if name in seen:
            hint = "rename one" if full else "ask for full_feature_names"
            raise AmbiguousFeatureName(
                f"two columns of the reply would be named {name!r} (one is of view {item.label!r}); {hint}",
                metadata={"feature": name},
            )
        seen.add(name)
    return names


def matrix_names(read_plan: ReadPlan) -> tuple[str, ...]:
    """The columns of a matrix: those that would be called alike have their full names."""
    plain = [item.name for item in read_plan.outputs]
    return tuple(item.name if plain.count(item.name) == 1 else item.full_name for item in read_plan.outputs)


def _nameless(definitions: Definitions, references: Sequence[str]) -> FeatureService:
    """A service without a name that holds the references, grouped by view in order of appearance."""
    chosen: dict[str, dict[str, Field]] = {}
    for reference in references:
        view_name, colon, feature_name = reference.partition(":")
        if not colon or not view_name or not feature_name:
            raise FeatureNotFound(
                f"{reference!r} is not a reference; write view:feature or view:*",
                metadata={"view": view_name, "feature": feature_name},
            )
        label, view = definitions.readable(view_name)
        fields = chosen.setdefault(label, {})
        if feature_name == "*":
            fields.update((item.name, item) for item in view.features)
            continue
        found = view.feature(feature_name)
        if found is None:
            raise FeatureNotFound(
                f"view {view_name!r} has no feature {feature_name!r}; "
                f"it has {', '.join(item.name for item in view.features)}",
                metadata={"view": view_name, "feature": feature_name},
            )
        fields[feature_name] = found
    service = FeatureService(
        project=definitions.project,
        name="",
        projections=tuple(
            Projection(definitions.readable(label)[1].name, label, tuple(fields.values()))
            for label, fields in chosen.items()
        ),
    )
    return replace(service, digest=service_digest(service, definitions.known()))


class _Planner:
    """Collects the reads of one selection; a view read twice by the same columns is read once."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._reads: dict[tuple[str, tuple[tuple[str, str], ...]], ViewRead] = {}
        self._on_demand: list[OnDemandRead] = []
        self._join_keys: dict[str, Field] = {}
        self._request_data: dict[str, Field] = {}

    def plan(self, service: FeatureService) -> ReadPlan:
        outputs: list[Output] = []
        for projection in service.projections:
            _, view = self._definitions.readable(projection.view)
            on_demand = view.kind is ViewKind.ON_DEMAND
            index = self._compute(projection, view) if on_demand else self._read(projection, view)
            outputs += [
                Output(
                    item.name, f"{projection.label}__{item.name}", projection.label, item, on_demand, index
                )
                for item in projection.features
            ]
        names = {item.view for item in service.projections}
        names |= {item.view.name for item in self._reads.values()}
        return ReadPlan(
            service=service,
            reads=tuple(self._reads.values()),
            on_demand=tuple(self._on_demand),
            outputs=tuple(outputs),
            join_keys=tuple(self._join_keys.values()),
            request_data=tuple(self._request_data.values()),
            views=tuple(self._definitions.readable(name)[1] for name in sorted(names)),
        )

    def _read(self, projection: Projection, view: FeatureView) -> int:
        keys = tuple(KeyColumn(projection.entity_column(key.name), key) for key in view.join_keys)
        for key in keys:
            self._join_keys.setdefault(key.column, replace(key.join_key, name=key.column))
        identity = (projection.label, projection.key_columns)
        before = self._reads.get(identity)
        features = dict.fromkeys((*(before.features if before else ()), *projection.features))
        self._reads[identity] = ViewRead(projection.label, view, keys, tuple(features))
        return list(self._reads).index(identity)

    def _compute(self, projection: Projection, view: FeatureView) -> int:
        inputs = []
        for item in view.inputs:
            index = self._read(item, self._definitions.view(item.view))
            inputs += [(index, item.view, feature) for feature in item.features]
        for column in view.request_data:
            self._request_data.setdefault(column.name, column)
        self._on_demand.append(OnDemandRead(projection.label, view, tuple(inputs)))
        return len(self._on_demand) - 1
