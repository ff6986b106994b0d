"""FeatureRetrievalService: decode, one use case, encode."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from feature_service import codec, spool
from feature_service.catalog import Catalog
from feature_service.data_roots import DataRoots
from feature_service.domain import KnownAt, ReadPlan
from feature_service.entity_rows import EntityRows, ParquetEntityRows, SpooledRows, malformed
from feature_service.history import HistoricalJoin, Progress, Step, Summary
from feature_service.jobs import drain
from feature_service.materialize import Materialization
from feature_service.parquet_result import ParquetResult
from feature_service.push import Push
from feature_service.retrieval import OnlineRetrieval
from plumbline.features.errors import StoreUnavailable
from plumbline.features.v1 import definitions_pb2 as defs
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from plumbline.features.v1.feature_retrieval_service_pb2_grpc import FeatureRetrievalServiceServicer

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class JoinRequest:
    """What a historical join is made for."""

    plan: ReadPlan
    event_column: str
    known_at: KnownAt
    full_names: bool


@dataclass(frozen=True)
class Historical:
    """How historical reads run here. joins: as many at once as it has permits."""

    make: Callable[[JoinRequest], HistoricalJoin]
    joins: asyncio.Semaphore
    temp_folder: Path | None
    max_spool_bytes: int
    roots: DataRoots

    async def rows(self, uri: str, sent: AsyncIterator[bytes], folder: Path) -> EntityRows:
        """The entity rows at a URI, or when it is empty, those that are sent, by way of a file in folder.

        Raises InvalidField, MalformedEntityRows, EntityRowsTooLarge.
        """
        if uri:
            async for _ in sent:
                raise malformed("entity rows were sent, but the header has them read from entity_rows_uri")
            place = self.roots.resolve(uri, "entity_rows_uri")
            return await asyncio.to_thread(ParquetEntityRows, place)
        target = folder / "rows.arrow"
        await spool.write(sent, target, limit=self.max_spool_bytes)
        return SpooledRows(target)

    async def result(self, uri: str) -> ParquetResult | None:
        """Where the result goes; None for an empty URI: back. Raises InvalidField."""
        if not uri:
            return None
        place = self.roots.resolve(uri, "result_uri")
        return await asyncio.to_thread(ParquetResult, place, self.temp_folder)


class Threads:
    """Runs blocking calls: reads, which give up after `timeout` seconds, and writes, which do not."""

    def __init__(
        self, readers: ThreadPoolExecutor, writers: ThreadPoolExecutor, timeout: float, store: str
    ) -> None:
        self._readers, self._writers, self._timeout, self._store = readers, writers, timeout, store

    async def read(self, call: Callable[[], ResultT]) -> ResultT:
        """Raises StoreUnavailable when the call takes longer than the timeout."""
        try:
            running = asyncio.get_running_loop().run_in_executor(self._readers, call)
            return await asyncio.wait_for(running, self._timeout)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"the online store {self._store} did not answer within {self._timeout} s",
                metadata={"store": self._store},
            ) from error

    async def write(self, call: Callable[[], ResultT]) -> ResultT:
        """As long as it takes: half a write helps nobody."""
        return await asyncio.get_running_loop().run_in_executor(self._writers, call)


class FeatureServicer(FeatureRetrievalServiceServicer):
    """The service; see the comments of its proto."""

    def __init__(
        self,
        catalog: Catalog,
        online: OnlineRetrieval,
        push: Push,
        historical: Historical,
        make_materialization: Callable[[], Materialization],
        threads: Threads,
    ) -> None:
        self._catalog, self._online, self._push = catalog, online, push
        self._historical, self._make_materialization, self._threads = (
            historical,
            make_materialization,
            threads,
        )

    async def GetOnlineFeatures(  # noqa: N802
        self, request: pb.GetOnlineFeaturesRequest, context: Any
    ) -> pb.GetOnlineFeaturesResponse:
        plan = self._catalog.plan(codec.selection(request.selection), request.expected_definition_digest)
        entities, request_data = codec.table(request.entities), codec.table(request.request_data)
        max_age = codec.max_age(request)
        found = await self._threads.read(
            lambda: self._online.read(
                plan, entities, request_data, full_names=request.full_feature_names, max_age=max_age
            )
        )
        return codec.online_features(found)

    async def GetHistoricalFeatures(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.GetHistoricalFeaturesRequest], context: Any
    ) -> AsyncIterator[pb.GetHistoricalFeaturesResponse]:
        header = await _header(request_iterator)
        join = self._historical.make(self._join_request(header))
        with tempfile.TemporaryDirectory(
            prefix="plumbline-rows-", dir=self._historical.temp_folder
        ) as folder:
            result = await self._historical.result(header.result_uri)
            rows = await self._historical.rows(header.entity_rows_uri, _arrow(request_iterator), Path(folder))
            async with (
                _permit(self._historical.joins) as give_back,
                aclosing(drain(join, lambda: join.run(rows, result))) as steps,
            ):
                async for reply in _replies(steps, give_back):
                    yield reply

    async def PushFeatures(  # noqa: N802
        self, request: pb.PushFeaturesRequest, context: Any
    ) -> pb.PushFeaturesResponse:
        rows = codec.table(request.columns)
        destination, best_effort = codec.destination(request), codec.best_effort(request)
        definitions = self._catalog.definitions
        done = await self._threads.write(
            lambda: self._push.push(
                definitions,
                request.target,
                rows,
                destination=destination,
                best_effort=best_effort,
                request_id=request.request_id,
            )
        )
        return codec.pushed(done)

    async def Materialize(  # noqa: N802
        self, request: pb.MaterializeRequest, context: Any
    ) -> AsyncIterator[pb.MaterializeResponse]:
        start, end = codec.moment(request, "start_time"), codec.moment(request, "end_time")
        job, definitions = self._make_materialization(), self._catalog.definitions
        async with aclosing(drain(job, lambda: job.run(definitions, request.views, start, end))) as steps:
            async for step in steps:
                yield codec.materialize_progress(step)

    async def ListFeatureServices(  # noqa: N802
        self, request: pb.ListFeatureServicesRequest, context: Any
    ) -> pb.ListFeatureServicesResponse:
        found, token = self._catalog.services(request.page_size, request.page_token)
        views = self._catalog.definitions.views.values()
        return pb.ListFeatureServicesResponse(
            feature_services=[codec.feature_service(item, views) for item in found], next_page_token=token
        )

    async def GetFeatureService(  # noqa: N802
        self, request: pb.GetFeatureServiceRequest, context: Any
    ) -> defs.FeatureService:
        definitions = self._catalog.definitions
        return codec.feature_service(definitions.service(request.name), definitions.views.values())

    async def ListFeatureViews(  # noqa: N802
        self, request: pb.ListFeatureViewsRequest, context: Any
    ) -> pb.ListFeatureViewsResponse:
        found, token = self._catalog.views(request.page_size, request.page_token)
        return pb.ListFeatureViewsResponse(
            feature_views=[codec.feature_view(item) for item in found], next_page_token=token
        )

    async def GetFeatureView(  # noqa: N802
        self, request: pb.GetFeatureViewRequest, context: Any
    ) -> defs.FeatureView:
        return codec.feature_view(self._catalog.view(request.name))

    async def ListEntities(  # noqa: N802
        self, request: pb.ListEntitiesRequest, context: Any
    ) -> pb.ListEntitiesResponse:
        found, token = self._catalog.entities(request.page_size, request.page_token)
        return pb.ListEntitiesResponse(entities=[codec.entity(item) for item in found], next_page_token=token)

    async def GetEntity(self, request: pb.GetEntityRequest, context: Any) -> defs.Entity:  # noqa: N802
        return codec.entity(self._catalog.entity(request.name))

    def _join_request(self, header: pb.HistoricalFeaturesHeader) -> JoinRequest:
        return JoinRequest(
            plan=self._catalog.plan(codec.selection(header.selection), header.expected_definition_digest),
            event_column=header.event_timestamp_column or codec.DEFAULT_EVENT_COLUMN,
            known_at=codec.known_at(header),
            full_names=header.full_feature_names,
        )


async def _header(
    requests: AsyncIterator[pb.GetHistoricalFeaturesRequest],
) -> pb.HistoricalFeaturesHeader:
    async for request in requests:
        if request.WhichOneof("part") == "header":
            return request.header
        break
    raise malformed("the first message must be a header that selects features")


async def _arrow(requests: AsyncIterator[pb.GetHistoricalFeaturesRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") == "header":
            raise malformed("a second header was sent; after the first come Arrow bytes only")
        yield request.arrow_ipc


@asynccontextmanager
async def _permit(semaphore: asyncio.Semaphore) -> AsyncIterator[Callable[[], None]]:
    """Holds the semaphore until the function it gives is called, or to the end at the latest."""
    await semaphore.acquire()
    held = [semaphore]

    def give_back() -> None:
        if held:
            held.pop().release()

    try:
        yield give_back
    finally:
        give_back()


async def _replies(
    steps: AsyncIterator[Step], joined: Callable[[], None]
) -> AsyncIterator[pb.GetHistoricalFeaturesResponse]:
    """joined: called when the join is done and only its result is to be sent, at the pace of the reader."""
    stream: spool.ArrowStream | None = None
    async for step in steps:
        if isinstance(step, Progress):
            yield codec.historical_progress(step)
        elif isinstance(step, pa.Schema):
            joined()
            stream = spool.ArrowStream(step)
        elif stream is not None and isinstance(step, pa.RecordBatch):
            for reply in codec.arrow_chunks(stream.batch(step)):
                yield reply
        elif isinstance(step, Summary):
            for reply in codec.arrow_chunks(stream.end() if stream is not None else b""):
                yield reply
            yield codec.historical_summary(step)
