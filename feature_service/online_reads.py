"""Online reads, from request message to reply bytes.

A selection that packed rows answer is served from its hot plan: its join keys become the store's keys, the
rows found become the reply. What that path does not take (on-demand views, other stores) goes through Arrow,
with the same replies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy.typing as npt

from feature_service import codec
from feature_service.catalog import Catalog
from feature_service.domain import ReadPlan
from feature_service.online.hot import Fills, HotPlan, Moment
from feature_service.online.matrix import check_numeric, matrix_reply
from feature_service.online.prepared import FoundRows, OtherLayout
from feature_service.online.request_keys import plain_keys
from feature_service.online.retrieval import OnlineFeatures, OnlineRetrieval, ReadOptions, default_values
from feature_service.packed.keys import KeyColumn
from feature_service.packed.store import PackedOnlineStore
from feature_service.packed.variable import CorruptRow
from feature_service.planning import matrix_names, output_names
from feature_service.ports import RowRead, RowReads, RowStore
from feature_service.threads import Threads
from plumbline.features.errors import StoreUnavailable
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb

Request = pb.GetOnlineFeaturesRequest | pb.GetFeatureMatrixRequest
Encode = Callable[[HotPlan, FoundRows | None, int, Moment, Fills], bytes]


@dataclass(frozen=True)
class Limits:
    """entities: in one request. slice: keys that are looked up in an embedded store before other calls get
    their turn. inline: rows that are made a reply on the event loop; more are a thread's work."""

    entities: int
    slice: int = 1_000
    inline: int = 10_000


class OnlineReads:
    """The two reads. packed: the store, None when it is of another kind."""

    def __init__(
        self,
        catalog: Catalog,
        retrieval: OnlineRetrieval,
        packed: PackedOnlineStore | None,
        threads: Threads,
        limits: Limits,
    ) -> None:
        self._catalog, self._retrieval, self._packed = catalog, retrieval, packed
        self._threads, self._limits = threads, limits

    async def features(self, request: pb.GetOnlineFeaturesRequest, remaining: float | None) -> bytes:
        """GetOnlineFeaturesResponse. remaining: seconds to the caller's deadline.

        Raises what OnlineRetrieval and Catalog.plan raise.
        """
        plan, hot = self._catalog.hot(codec.selection(request.selection), request.expected_definition_digest)
        if hot is not None and self._packed is not None:
            full = request.full_feature_names
            return await self._hot(
                self._packed,
                hot,
                request,
                remaining,
                lambda: output_names(plan, full=full),
                lambda plan, found, rows, at, fills: plan.online(
                    found, rows, at, full_names=full, fills=fills
                ),
            )
        found = await self._through_arrow(plan, request, codec.read_options(request), remaining)
        return codec.online_features(found).SerializeToString()

    async def matrix(self, request: pb.GetFeatureMatrixRequest, remaining: float | None) -> bytes:
        """GetFeatureMatrixResponse. Raises as `features`; InvalidField for a feature that is no number."""
        plan, hot = self._catalog.hot(codec.selection(request.selection), request.expected_definition_digest)
        dtype: npt.DTypeLike = codec.matrix_dtype(request)
        check_numeric(plan)
        if hot is not None and self._packed is not None:
            return await self._hot(
                self._packed,
                hot,
                request,
                remaining,
                lambda: matrix_names(plan),
                lambda plan, found, rows, at, fills: plan.matrix(found, rows, at, dtype=dtype, fills=fills),
            )
        options = replace(codec.matrix_options(request), names=matrix_names(plan))
        found = await self._through_arrow(plan, request, options, remaining)
        return matrix_reply(plan, found, dtype)

    async def _hot(
        self,
        packed: PackedOnlineStore,
        hot: HotPlan,
        request: Request,
        remaining: float | None,
        names: Callable[[], Sequence[str]],
        encode: Encode,
    ) -> bytes:
        rows, columns = self._keys(hot, request)
        max_age = codec.max_age(request)
        fills: Fills = {}
        if request.defaults:
            fills = default_values(hot.plan, names(), codec.table(request.defaults))
        lookups = hot.prepared.lookups(columns, whole=packed.rows.wants_whole)
        at = Moment(self._retrieval.now(), max_age)

        def repaired(found: FoundRows) -> bytes:
            layouts = hot.prepared.layouts
            readable = [
                packed.schemas.repaired(prefix, layout, view)
                for (prefix, *_), layout, view in zip(lookups, layouts, found, strict=True)
            ]
            return encode(hot, readable, rows, at, fills)

        try:
            found = await self._found(packed.rows, lookups, rows, remaining)
            try:
                if rows * len(lookups) > self._limits.inline:
                    return await self._threads.read(lambda: encode(hot, found, rows, at, fills), remaining)
                return encode(hot, found, rows, at, fills)
            except (OtherLayout, CorruptRow):
                # Rows of another schema; to know it, the store may have to be asked.
                return await self._threads.read(lambda: repaired(found), remaining)
        except StoreUnavailable:
            if not request.allow_partial:
                raise
            return encode(hot, None, rows, at, fills)

    def _keys(self, hot: HotPlan, request: Request) -> tuple[int, Mapping[str, KeyColumn]]:
        if not request.request_data:
            plain = plain_keys(request.entities, hot.prepared.join_keys, self._limits.entities)
            if plain is not None:
                return plain
        entities, request_data = codec.table(request.entities), codec.table(request.request_data)
        rows, arrays = self._retrieval.keys(hot.plan, entities, request_data)
        return rows, {key.column: array for key, array in arrays.items()}

    async def _found(
        self, store: RowStore, lookups: RowReads, rows: int, remaining: float | None
    ) -> FoundRows:
        if store.local and rows * len(lookups) <= self._limits.slice:
            return store.get(lookups)
        budget = self._threads.budget(remaining)
        try:
            async with asyncio.timeout(budget):
                return await (self._in_slices(store, lookups) if store.local else store.get_async(lookups))
        except TimeoutError as error:
            raise self._threads.late(budget) from error

    async def _in_slices(self, store: RowStore, lookups: RowReads) -> FoundRows:
        """On the event loop, with turns for other calls: LMDB's binding lets go of the interpreter at every
        single row, so that a thread's work takes many times as long as its share."""
        size = max(1, self._limits.slice // len(lookups))
        found: list[list[bytes | None]] = [[] for _ in lookups]
        for start in range(0, max(len(keys) for _, keys, _ in lookups), size):
            end = start + size
            # Views that share their keys still do: stores go by it.
            parts = {id(keys): keys[start:end] for _, keys, _ in lookups}
            reads = [
                RowRead(view, parts[id(keys)], None if whole is None else whole[start:end])
                for view, keys, whole in lookups
            ]
            for rows, more in zip(found, store.get(reads), strict=True):
                rows += more
            await asyncio.sleep(0)
        return found

    async def _through_arrow(
        self, plan: ReadPlan, request: Request, options: ReadOptions, remaining: float | None
    ) -> OnlineFeatures:
        entities, request_data = codec.table(request.entities), codec.table(request.request_data)
        read = self._retrieval.start(plan, entities, request_data, options)
        try:
            return await self._threads.read(read.run, remaining)
        except StoreUnavailable:
            if not options.allow_partial:
                raise
            return read.result()
