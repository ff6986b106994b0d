"""A feature_service of packed rows in a dictionary, and requests to it by both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from feature_service.arrow_types import arrow_type
from feature_service.catalog import Catalog
from feature_service.domain import (
    FeatureService,
    FeatureView,
    Field,
    Projection,
    ReadPlan,
    ValueType,
    ViewKind,
)
from feature_service.online.hot import HotPlan
from feature_service.online.retrieval import OnlineRetrieval
from feature_service.online_reads import Limits, OnlineReads
from feature_service.packed.keys import EntityKeys, view_prefix
from feature_service.packed.layout import RowLayout
from feature_service.packed.store import PackedOnlineStore
from feature_service.planning import Definitions, Selection
from feature_service.ports import RowReads
from feature_service.threads import Threads
from plumbline import columns
from plumbline.features.errors import StoreUnavailable
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from tests.unit.feature_service.definitions import definitions

NOW = datetime(2024, 5, 1, 12, 0, 0, 7, UTC)
NOW_MICROS = int(NOW.timestamp()) * 1_000_000 + 7
DAY = 86_400_000_000
SCALARS: dict[ValueType, st.SearchStrategy[Any]] = {
    ValueType.DOUBLE: st.floats(allow_nan=False),
    ValueType.FLOAT: st.floats(width=32, allow_nan=False),
    ValueType.INT64: st.integers(-(2**63), 2**63 - 1),
    ValueType.INT32: st.integers(-(2**31), 2**31 - 1),
    ValueType.BOOL: st.booleans(),
    ValueType.STRING: st.text(max_size=5),
    ValueType.BYTES: st.binary(max_size=5),
    ValueType.TIMESTAMP: st.integers(-(2**50), 2**50),
}
TYPES: dict[ValueType, st.SearchStrategy[Any]] = SCALARS | {
    ValueType(f"{kind}_LIST"): st.lists(values, max_size=3) for kind, values in SCALARS.items()
}
WIDTHS = st.sampled_from([pa.int64(), pa.int32()])
NUMBERS = [kind for kind in SCALARS if kind not in (ValueType.STRING, ValueType.BYTES)]


class MemoryRows:
    """A RowStore of what was put in by hand; away: nobody answers."""

    address, local, wants_whole, away = "memory", True, True, False

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.notes: dict[str, bytes] = {}
        self.on_get: Callable[[], None] = lambda: None

    def get(self, reads: RowReads) -> list[list[bytes | None]]:
        if self.away:
            raise StoreUnavailable("away")
        self.on_get()
        return [
            [self.rows.get(key) for key in whole or [prefix + key for key in keys]]
            for prefix, keys, whole in reads
        ]

    async def get_async(self, reads: RowReads) -> list[list[bytes | None]]:
        if self.away:
            await asyncio.Event().wait()
        return self.get(reads)

    def note(self, name: str) -> bytes | None:
        return self.notes.get(name)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a read does not ask for {name}")


class NoOnDemand:
    """No view is computed here."""

    def compute(self, view: FeatureView, inputs: pa.Table) -> Mapping[str, pa.Array]:
        raise AssertionError("nothing is computed")


class World:
    """Definitions, their rows, and both ways to read them."""

    def __init__(self, views: Sequence[FeatureView], projections: Sequence[Projection], pool: Any) -> None:
        self.rows = MemoryRows()
        service = FeatureService("p", "s", tuple(projections))
        named = definitions(views, [service])
        self.definitions: Definitions = named
        store = PackedOnlineStore(self.rows)
        retrieval = OnlineRetrieval(store, NoOnDemand(), max_entities=50, now=lambda: NOW)
        threads = Threads(pool, pool, 0.2, "memory")
        self.catalog = Catalog(named, HotPlan.of)
        self.hot = OnlineReads(self.catalog, retrieval, store, threads, Limits(50))
        self.arrow = OnlineReads(self.catalog, retrieval, None, threads, Limits(50))

    def store(self, view: FeatureView, key: int, event: int, values: Sequence[Any]) -> None:
        arrays = [
            (pa.array([value], pa.list_(pa.int64()) if item.type.is_list else pa.int64())).cast(
                arrow_type(item.type)
            )
            if item.type.element is ValueType.TIMESTAMP
            else pa.array([value], arrow_type(item.type))
            for value, item in zip(values, view.features, strict=True)
        ]
        (row,) = RowLayout(view.features).pack(arrays, np.array([event]), None)
        (entity,) = EntityKeys(view.join_keys).encode([[key]] if view.join_keys else [])
        self.rows.rows[view_prefix(view.project, view.name) + entity] = row

    def plan(self) -> ReadPlan:
        return self.catalog.plan(Selection("s"))

    def both(self, request: Any, remaining: float | None = None) -> tuple[Any, Any]:
        """The same request answered by either path, parsed; the first is the packed one."""
        matrix = isinstance(request, pb.GetFeatureMatrixRequest)
        kind = pb.GetFeatureMatrixResponse if matrix else pb.GetOnlineFeaturesResponse

        async def ask(reads: OnlineReads) -> Any:
            call: Any = reads.matrix if matrix else reads.features
            data = await call(request, remaining)
            message = kind.FromString(data)
            # Nothing was written that the library would not write.
            assert len(message.SerializeToString()) == len(data)
            return message

        async def main() -> tuple[Any, Any]:
            return await ask(self.hot), await ask(self.arrow)

        return asyncio.run(main())


def view(name: str, kinds: Sequence[ValueType], ttl: timedelta | None, *, keyed: bool = True) -> FeatureView:
    return FeatureView(
        project="p",
        name=name,
        kind=ViewKind.BATCH,
        join_keys=(Field("id", ValueType.INT64),) if keyed else (),
        features=tuple(Field(f"f{i}", kind) for i, kind in enumerate(kinds)),
        ttl=ttl,
    )


@st.composite
def worlds(draw: Any, kinds: Sequence[ValueType]) -> tuple[list[FeatureView], list[Projection], list[Any]]:
    """Views, what is read of them, and (view, key, event, values) of their rows."""
    count = draw(st.integers(1, 3))
    views, projections, rows = [], [], []
    alike = draw(st.lists(st.sampled_from(list(kinds)), min_size=1, max_size=4))
    for i in range(count):
        own = draw(st.one_of(st.just(alike), st.lists(st.sampled_from(list(kinds)), min_size=1, max_size=4)))
        ttl = draw(st.sampled_from([None, timedelta(days=2)]))
        found = view(f"v{i}", own, ttl, keyed=draw(st.integers(0, 4)) > 0)
        chosen = draw(st.lists(st.sampled_from(found.features), min_size=1, unique=True))
        views.append(found)
        projections.append(Projection(found.name, found.name, tuple(chosen)))
        for key in range(3) if found.join_keys else (0,):
            age = draw(st.sampled_from([None, -DAY, -1, 0, 1, DAY, 2 * DAY, 2 * DAY + 1, 40 * DAY]))
            if age is not None:
                values = [draw(st.one_of(st.none(), TYPES[kind], TYPES[kind])) for kind in own]
                rows.append((found, key, NOW_MICROS - age, values))
    return views, projections, rows


@st.composite
def requests(draw: Any, kind: Any) -> Any:
    ids = draw(st.lists(st.sampled_from([0, 1, 2, 3, None]), min_size=1, max_size=20))
    if draw(st.booleans()):
        ids = [item or 0 for item in ids]
    request = kind(entities=columns.encode_mapping({"id": pa.array(ids, draw(WIDTHS))}))
    request.selection.feature_service = "s"
    if draw(st.booleans()):
        request.max_age.FromTimedelta(timedelta(days=1))
    return request


def ask(ids: Sequence[int], **others: Any) -> pb.GetOnlineFeaturesRequest:
    return pb.GetOnlineFeaturesRequest(
        selection=pb.FeatureSelection(feature_service="s"),
        entities=columns.encode_mapping({"id": pa.array(ids, pa.int64())}),
        **others,
    )
