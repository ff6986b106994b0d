"""Random registries, each told twice: to the registry, and as plain edges that an oracle can walk."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from registry_service import deployments, versions
from registry_service.commands import CreateVersion
from registry_service.commands_governance import EndDeployment, RecordDeployment
from registry_service.domain import CodeRevision, DefinitionRef, ModelVersion, TrainingRun
from tests.contract.registry_service.desk import Desk, sha, snapshot

#: Upstream, downstream, relation.
Edge = tuple[str, str, str]

_small = st.integers(0, 7)
_some = st.lists(_small, max_size=3)

#: What happens, in order; numbers choose among what is there, whatever there is.
steps = st.lists(
    st.one_of(
        st.tuples(st.just("dataset"), st.booleans(), _some),
        st.tuples(st.just("run"), _small, _some, _some, st.booleans()),
        st.tuples(st.just("version"), _small, _some),
        st.tuples(st.just("copy"), _small),
        st.tuples(st.just("alias"), _small),
        st.tuples(st.just("deployment"), _small, st.booleans()),
    ),
    min_size=1,
    max_size=14,
)


@dataclass
class World:
    """One registry's worth of records below names of its own, and its graph."""

    desk: Desk
    prefix: str = field(default_factory=lambda: f"w{uuid.uuid4().hex[:10]}")
    edges: set[Edge] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    versions: list[ModelVersion] = field(default_factory=list)
    runs: list[TrainingRun] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    live: set[str] = field(default_factory=set)
    _count: int = 0

    def build(self, plan: Sequence[tuple[Any, ...]]) -> None:
        for what, *choices in plan:
            self._count += 1
            getattr(self, f"_{what}")(*choices)

    def edge(self, upstream: str, downstream: str, relation: str) -> None:
        self.edges.add((upstream, downstream, relation))
        self.nodes |= {upstream, downstream}

    def _dataset(self, through_service: bool, views: Sequence[int]) -> None:
        refs = [self._definition(f"view{number % 3}") for number in dict.fromkeys(v % 3 for v in views)]
        service = self._definition("service" + "".join(sorted(ref.name[-1] for ref in refs)))
        given = snapshot(
            f"{self.prefix}{self._count}",
            feature_views=tuple(refs),
            feature_service=service if through_service else None,
        )
        self.desk.dataset(given)
        name = f"datasets/{given.digest}"
        self.datasets.append(given.digest)
        self.nodes.add(name)
        for ref in refs:
            if through_service:
                self.edge(f"featureViews/{ref}", f"featureServices/{service}", "includes")
            else:
                self.edge(f"featureViews/{ref}", name, "read_from")
        if through_service:
            self.edge(f"featureServices/{service}", name, "read_from")

    def _definition(self, name: str) -> DefinitionRef:
        return DefinitionRef(self.prefix, name, f"sha256:{sha(name)}")

    def _run(self, code: int, datasets: Sequence[int], bases: Sequence[int], part: bool) -> None:
        commit = sha(f"{self.prefix}{code % 3}")[:40]
        read = _chosen(self.datasets, datasets)
        based = _chosen([version.ref for version in self.versions], bases)
        parent = self.runs[code % len(self.runs)] if part and self.runs else None
        made = self.desk.run(
            code=CodeRevision("git.example/shop", commit, dirty=False),
            datasets=read,
            base_versions=tuple(based),
            parent=parent.name if parent else "",
        )
        self.runs.append(made)
        name = f"runs/{made.name}"
        self.edge(f"codeRevisions/{commit}", name, "ran_code")
        for digest in read:
            self.edge(f"datasets/{digest}", name, "read_from")
        for ref in based:
            self.edge(str(ref), name, "based_on")
        if parent is not None:
            self.edge(f"runs/{parent.name}", name, "part_of")

    def _version(self, run: int, datasets: Sequence[int]) -> None:
        made_by = self.runs[run % len(self.runs)].name if self.runs and run else ""
        self._add(self.desk.ready(self._model(), run=made_by, datasets=_chosen(self.datasets, datasets)))

    def _copy(self, which: int) -> None:
        if not self.versions:
            return
        source = self.versions[which % len(self.versions)]
        command = CreateVersion(self._model(), "", {}, None, "", (), copy_from=source.ref)
        made = self.desk.do(versions.create, command)
        self._add(self.desk.do(versions.finalize, made.ref, ""))
        self.edge(str(source.ref), str(made.ref), "copied_from")

    def _model(self) -> str:
        name = f"{self.prefix}-{self._count % 2}"
        if f"models/{name}" not in self.nodes:
            self.desk.model(name)
            self.nodes.add(f"models/{name}")
        return name

    def _add(self, version: ModelVersion) -> None:
        self.versions.append(version)
        name = str(version.ref)
        self.edge(f"models/{version.ref.model}", name, "version_of")
        if version.run:
            self.edge(f"runs/{version.run}", name, "produced_by")
        for digest in version.datasets:
            self.edge(f"datasets/{digest}", name, "trained_on")

    def _alias(self, which: int) -> None:
        if not self.versions:
            return
        version = self.versions[which % len(self.versions)].ref
        alias = f"a{self._count}"
        self.desk.set_alias(alias, version)
        self.edge(str(version), f"models/{version.model}/aliases/{alias}", "points_at")
        self.live.add(str(version))

    def _deployment(self, which: int, ended: bool) -> None:
        if not self.versions:
            return
        version = self.versions[which % len(self.versions)].ref
        command = RecordDeployment(version, "production", "host-1", "", {}, None)
        made = self.desk.do(deployments.record, command)
        if ended:
            self.desk.do(deployments.end, EndDeployment(made.name, "replaced"))
        self.edge(str(version), f"deployments/{made.name}", "deployed_as")
        if not ended:
            self.live.add(str(version))


def _chosen(items: Sequence[Any], numbers: Iterable[int]) -> list[Any]:
    return list(dict.fromkeys(items[number % len(items)] for number in numbers)) if items else []


def distances(edges: Iterable[Edge], start: str, *, downstream: bool) -> Mapping[str, int]:
    """Of every node that is reached, by a queue."""
    beside: dict[str, list[str]] = {}
    for up, down, _ in edges:
        near, far = (up, down) if downstream else (down, up)
        beside.setdefault(near, []).append(far)
    found, waiting = {start: 0}, deque([start])
    while waiting:
        node = waiting.popleft()
        for other in beside.get(node, ()):
            if other not in found:
                found[other] = found[node] + 1
                waiting.append(other)
    return found
