"""FeatureRetrievalService: decode, one use case, encode."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from feature_service import codec
from feature_service.catalog import Catalog
from feature_service.history import spool
from feature_service.history.data_roots import DataRoots
from feature_service.history.entity_rows import malformed
from feature_service.history.join import HistoricalRun, JoinRequest, Progress, Step, Summary
from feature_service.jobs import drain
from feature_service.online_reads import OnlineReads
from feature_service.threads import Threads
from feature_service.writes.materialize import Materialization
from feature_service.writes.push import Push, Pushed, PushedStream
from feature_service.writes.sampling import EntitySampling
from plumbline.errors import PlumblineError
from plumbline.features.v1 import definitions_pb2 as defs
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from plumbline.features.v1.feature_retrieval_service_pb2_grpc import FeatureRetrievalServiceServicer


@dataclass(frozen=True)
class Historical:
    """How historical reads run here. joins: as many at once as it has permits."""

    make: Callable[[JoinRequest], HistoricalRun]
    joins: asyncio.Semaphore
    temp_folder: Path | None
    max_spool_bytes: int
    max_message_bytes: int
    roots: DataRoots


class FeatureServicer(FeatureRetrievalServiceServicer):
    """The service; see the comments of its proto."""

    def __init__(
        self,
        catalog: Catalog,
        online: OnlineReads,
        push: Push,
        historical: Historical,
        make_materialization: Callable[[], Materialization],
        sampling: EntitySampling,
        threads: Threads,
    ) -> None:
        self._catalog, self._online, self._push = catalog, online, push
        self._historical, self._make_materialization, self._threads = (
            historical,
            make_materialization,
            threads,
        )
        self._sampling = sampling

    async def GetOnlineFeatures(  # type: ignore[override]  # noqa: N802 - the reply as it goes over the wire
        self, request: pb.GetOnlineFeaturesRequest, context: Any
    ) -> bytes:
        return await self._online.features(request, context.time_remaining())

    async def GetFeatureMatrix(  # type: ignore[override]  # noqa: N802 - as above
        self, request: pb.GetFeatureMatrixRequest, context: Any
    ) -> bytes:
        return await self._online.matrix(request, context.time_remaining())

    async def GetHistoricalFeatures(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.GetHistoricalFeaturesRequest], context: Any
    ) -> AsyncIterator[pb.GetHistoricalFeaturesResponse]:
        request = self._join_request(await _header(request_iterator))
        join = await asyncio.to_thread(self._historical.make, request)
        with tempfile.TemporaryDirectory(
            prefix="plumbline-rows-", dir=self._historical.temp_folder
        ) as folder:
            rows = Path(folder) / "rows.arrow"
            if request.entity_rows_uri:
                await _nothing(request_iterator)
            else:
                await spool.write(_arrow(request_iterator), rows, limit=self._historical.max_spool_bytes)
            async with (
                _permit(self._historical.joins) as give_back,
                aclosing(drain(join, lambda: join.run(rows))) as steps,
            ):
                async for reply in _replies(steps, give_back, self._historical.max_message_bytes):
                    yield reply

    async def PushFeatures(  # noqa: N802
        self, request: pb.PushFeaturesRequest, context: Any
    ) -> pb.PushFeaturesResponse:
        return codec.pushed(await self._pushed(request))

    async def PushFeaturesStream(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.PushFeaturesStreamRequest], context: Any
    ) -> pb.PushFeaturesStreamResponse:
        # The next message is read only when this one is written: gRPC's flow control makes the client wait.
        total = PushedStream()
        async for request in request_iterator:
            try:
                total.add(await self._pushed(request.push))
            except PlumblineError as error:
                raise total.at_fault(error) from error
        return codec.pushed_stream(total)

    async def SampleEntities(  # noqa: N802
        self, request: pb.SampleEntitiesRequest, context: Any
    ) -> pb.SampleEntitiesResponse:
        plan = self._catalog.plan(codec.selection(request.selection))
        found = await self._threads.write(lambda: self._sampling.draw(plan, request.count, request.seed))
        return codec.sampled(found)

    async def _pushed(self, request: pb.PushFeaturesRequest) -> Pushed:
        rows = codec.table(request.columns)
        destination, best_effort = codec.destination(request), codec.best_effort(request)
        definitions = self._catalog.definitions
        return await self._threads.write(
            lambda: self._push.push(
                definitions,
                request.target,
                rows,
                destination=destination,
                best_effort=best_effort,
                request_id=request.request_id,
            )
        )

    async def Materialize(  # noqa: N802
        self, request: pb.MaterializeRequest, context: Any
    ) -> AsyncIterator[pb.MaterializeResponse]:
        start, end = codec.moment(request, "start_time"), codec.moment(request, "end_time")
        job, definitions = self._make_materialization(), self._catalog.definitions
        run = functools.partial(job.run, definitions, request.views, start, end, request.operation_id)
        async with aclosing(drain(job, run)) as steps:
            async for step in steps:
                yield codec.materialize_progress(step)

    async def ListFeatureServices(  # noqa: N802
        self, request: pb.ListFeatureServicesRequest, context: Any
    ) -> pb.ListFeatureServicesResponse:
        found, token = self._catalog.services(request.page_size, request.page_token)
        views = self._catalog.definitions.known().values()
        return pb.ListFeatureServicesResponse(
            feature_services=[codec.feature_service(item, views) for item in found], next_page_token=token
        )

    async def GetFeatureService(  # noqa: N802
        self, request: pb.GetFeatureServiceRequest, context: Any
    ) -> defs.FeatureService:
        definitions = self._catalog.definitions
        return codec.feature_service(definitions.service(request.name), definitions.known().values())

    async def ListFeatureViews(  # noqa: N802
        self, request: pb.ListFeatureViewsRequest, context: Any
    ) -> pb.ListFeatureViewsResponse:
        found, token = self._catalog.views(request.page_size, request.page_token)
        return pb.ListFeatureViewsResponse(
            feature_views=[codec.feature_view(item, self._catalog.definitions) for item in found],
            next_page_token=token,
        )

    async def GetFeatureView(  # noqa: N802
        self, request: pb.GetFeatureViewRequest, context: Any
    ) -> defs.FeatureView:
        return codec.feature_view(self._catalog.view(request.name), self._catalog.definitions)

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
            entity_rows_uri=self._historical.roots.resolve(header.entity_rows_uri, "entity_rows_uri"),
            result_uri=self._historical.roots.resolve(header.result_uri, "result_uri"),
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


async def _nothing(requests: AsyncIterator[pb.GetHistoricalFeaturesRequest]) -> None:
    async for _ in requests:
        raise malformed("entity rows were sent, but the header has them read from entity_rows_uri")


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
    steps: AsyncIterator[Step], joined: Callable[[], None], max_message_bytes: int
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
            for reply in codec.arrow_chunks(stream.batch(step), max_message_bytes):
                yield reply
        elif isinstance(step, Summary):
            if stream is not None:
                for reply in codec.arrow_chunks(stream.end(), max_message_bytes):
                    yield reply
            yield codec.historical_summary(step)
