"""Builds the service: the one place that knows every part."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feature_service.catalog import Catalog
from feature_service.data_roots import DataRoots
from feature_service.feast_calls import FeastCalls
from feature_service.feast_on_demand import FeastOnDemandViews
from feature_service.feast_online import FeastOnlineStore
from feature_service.feast_repo import FeastRepo, load_config
from feature_service.feast_servicers import feast_services
from feature_service.history import HistoricalJoin
from feature_service.http import FeastHttp
from feature_service.materialize import Materialization
from feature_service.push import Push
from feature_service.retrieval import OnlineRetrieval
from feature_service.servicer import FeatureServicer, Historical, JoinRequest, Threads
from feature_service.settings import FeatureSettings
from feature_service.stores.asof_join import JoinLimits
from feature_service.stores.newest import ParquetNewestRows
from plumbline.features.v1.feature_retrieval_service_pb2_grpc import (
    add_FeatureRetrievalServiceServicer_to_server,
)
from servicekit.http import serving_http
from servicekit.server import Service, StartupError
from servicekit.telemetry import Telemetry

_log = logging.getLogger("plumbline.features")

SERVICE = "plumbline.features.v1.FeatureRetrievalService"


@asynccontextmanager
async def build(settings: FeatureSettings, telemetry: Telemetry) -> AsyncIterator[Sequence[Service]]:
    """Opens the repository, yields the service, closes everything again. Raises StartupError."""
    now = _clock(settings.replay_time)
    _prepare(settings.temp_dir)
    repo = await asyncio.to_thread(lambda: FeastRepo(load_config(settings.repo), now=now))
    catalog = Catalog(await asyncio.to_thread(repo.load))
    store = await asyncio.to_thread(
        lambda: FeastOnlineStore(repo.config, timeout=settings.store_timeout_seconds)
    )
    on_demand = FeastOnDemandViews()
    limits = JoinLimits(
        settings.join_memory, settings.join_threads, str(settings.temp_dir) if settings.temp_dir else None
    )
    materializing = threading.Lock()
    pool = ThreadPoolExecutor(settings.online_threads, thread_name_prefix="plumbline-online")
    writers = ThreadPoolExecutor(2, thread_name_prefix="plumbline-push")

    def make_join(request: JoinRequest) -> HistoricalJoin:
        return HistoricalJoin(
            request.plan,
            on_demand,
            limits,
            event_column=request.event_column,
            known_at=request.known_at,
            full_names=request.full_names,
        )

    def make_materialization() -> Materialization:
        return Materialization(store, ParquetNewestRows(limits), repo, materializing, now=now)

    online = OnlineRetrieval(store, on_demand, max_entities=settings.max_entities, now=now)
    push = Push(
        store,
        max_rows=settings.max_push_rows,
        max_skew=timedelta(seconds=settings.max_clock_skew_seconds),
        now=now,
    )
    threads = Threads(pool, writers, settings.store_timeout_seconds, store.address)
    servicer = FeatureServicer(
        catalog,
        online,
        push,
        Historical(
            make_join,
            asyncio.Semaphore(settings.max_joins),
            settings.temp_dir,
            settings.max_spool_bytes,
            DataRoots(settings.data_roots),
        ),
        make_materialization,
        threads,
    )
    feast = FeastCalls(catalog, online, push, threads)
    http = FeastHttp(
        feast, catalog, make_materialization, telemetry.metrics, max_bytes=settings.max_message_bytes
    )
    refresh = asyncio.create_task(_refresh(repo, catalog, settings.refresh_seconds))
    try:
        async with AsyncExitStack() as stack:
            if settings.http_port is not None:
                stack.push_async_callback(http.close)
                await stack.enter_async_context(
                    serving_http(http.app(), settings, settings.http_port, "PLUMBLINE_FEATURES_HTTP_PORT")
                )
            yield [
                Service(SERVICE, functools.partial(add_FeatureRetrievalServiceServicer_to_server, servicer)),
                *feast_services(feast),
            ]
    finally:
        refresh.cancel()
        with suppress(asyncio.CancelledError):
            await refresh
        # A read that still waits for a store that is away must not keep the process.
        pool.shutdown(wait=False, cancel_futures=True)
        writers.shutdown(wait=True)


def _prepare(temp_dir: Path | None) -> None:
    if temp_dir is None:
        return
    try:
        temp_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(
            f"PLUMBLINE_FEATURES_TEMP_DIR: {temp_dir} cannot be made: {error.strerror}. Name a folder that "
            "this process may write to."
        ) from error


def _clock(replay_time: datetime | None) -> Callable[[], datetime]:
    """The present, or the moment that a replay takes for it."""
    if replay_time is None:
        return lambda: datetime.now(UTC)
    fixed = replay_time.astimezone(UTC)
    _log.warning("replaying: %s is taken as now", fixed.isoformat())
    return lambda: fixed


async def _refresh(repo: FeastRepo, catalog: Catalog, seconds: float) -> None:
    """Puts changed definitions in force, for as long as the server runs, whatever goes wrong in between."""
    while True:
        await asyncio.sleep(seconds)
        try:
            if await asyncio.to_thread(repo.changed):
                catalog.replace(await asyncio.to_thread(repo.load))
        except Exception:  # noqa: BLE001 - the outermost frame of its task, which must outlive any fault
            _log.exception("cannot read the registry; the definitions read before stay in force")
