"""Builds the service: the one place that knows every part."""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feature_service.background import merging, refreshing, sweeping
from feature_service.catalog import Catalog
from feature_service.feast_adapters.on_demand import FeastOnDemandViews
from feature_service.feast_adapters.online_stores import OpenedStore, open_online_store
from feature_service.feast_adapters.repo import FeastRepo, load_config
from feature_service.feast_clients.calls import FeastCalls
from feature_service.feast_clients.http import FeastHttp
from feature_service.feast_clients.servicers import feast_services
from feature_service.history.data_roots import DataRoots
from feature_service.history.join import HistoricalEngine, HistoricalJoin, HistoricalRun, JoinRequest
from feature_service.online.hot import HotPlan
from feature_service.online.retrieval import OnlineRetrieval
from feature_service.online_reads import Limits, OnlineReads
from feature_service.packed.store import PackedOnlineStore
from feature_service.servicer import FeatureServicer, Historical
from feature_service.settings import FeatureSettings
from feature_service.stores.asof_join import JoinLimits
from feature_service.stores.newest import ParquetEntityKeys, ParquetNewestRows
from feature_service.threads import Threads
from feature_service.writes.checkpoints import Checkpoints, NotedLog
from feature_service.writes.materialize import Materialization
from feature_service.writes.push import Push
from feature_service.writes.sampling import EntitySampling
from plumbline.features.errors import StoreUnavailable
from plumbline.features.v1.feature_retrieval_service_pb2_grpc import (
    add_FeatureRetrievalServiceServicer_to_server,
)
from servicekit.http import serving_http
from servicekit.server import Service, StartupError
from servicekit.telemetry import Telemetry

_log = logging.getLogger("plumbline.features")

SERVICE = "plumbline.features.v1.FeatureRetrievalService"


@asynccontextmanager
async def build(
    settings: FeatureSettings, telemetry: Telemetry, worker: int | None = None
) -> AsyncIterator[Sequence[Service]]:
    """Opens the repository, yields the service, closes everything again. Raises StartupError.

    worker: the number of this process, when it is one of several on the same ports; the first one sweeps.
    """
    now = _clock(settings.replay_time)
    _prepare(settings.temp_dir)
    # Closes in the reverse order of what is put on it.
    async with AsyncExitStack() as stack:
        repo = await asyncio.to_thread(lambda: FeastRepo(load_config(settings.repo), now=now))
        catalog = await asyncio.to_thread(lambda: Catalog(repo.load(), HotPlan.of))
        store = await asyncio.to_thread(_open_store, repo, settings)
        # Packed rows are read as they are; any other store through its columns.
        packed = store if isinstance(store, PackedOnlineStore) else None
        if packed:
            stack.callback(packed.close)
        on_demand, limits = FeastOnDemandViews(), _join_limits(settings)
        make_join = await _joins(repo, on_demand, limits, stack)
        threads = _threads(settings, store.address, stack)
        make_materialization = _materializations(repo, store, packed, limits, now)
        online = OnlineRetrieval(store, on_demand, max_entities=settings.max_entities, now=now)
        skew = timedelta(seconds=settings.max_clock_skew_seconds)
        push = Push(store, max_rows=settings.max_push_rows, max_skew=skew, now=now)
        servicer = FeatureServicer(
            catalog,
            OnlineReads(catalog, online, packed, threads, Limits(settings.max_entities)),
            push,
            _historical(settings, make_join),
            make_materialization,
            EntitySampling(ParquetEntityKeys(limits), now=now),
            threads,
        )
        feast = FeastCalls(catalog, online, push, threads)
        _run_in_background(settings, worker, repo, catalog, packed, stack)
        if settings.http_port is not None:
            http = FeastHttp(
                feast,
                catalog,
                make_materialization,
                telemetry,
                max_bytes=settings.max_message_bytes,
                slow=settings.slow_call_seconds,
            )
            await _open_http(http, settings, settings.http_port, worker, stack)
        yield [
            Service(
                SERVICE,
                functools.partial(add_FeatureRetrievalServiceServicer_to_server, servicer),
                hot=frozenset({"GetOnlineFeatures", "GetFeatureMatrix"}),
            ),
            *feast_services(feast),
        ]


async def _joins(
    repo: FeastRepo, on_demand: FeastOnDemandViews, limits: JoinLimits, stack: AsyncExitStack
) -> Callable[[JoinRequest], HistoricalRun]:
    """Joins on this machine, or on the repository's cluster."""
    spark = await asyncio.to_thread(_spark, repo)
    if spark is None:
        return lambda request: HistoricalJoin(request, on_demand, limits)
    stack.push_async_callback(asyncio.to_thread, spark.close)
    return spark.join


def _threads(settings: FeatureSettings, store: str, stack: AsyncExitStack) -> Threads:
    """store: its address, for people."""
    writers = ThreadPoolExecutor(2, thread_name_prefix="plumbline-push")
    stack.callback(writers.shutdown, wait=True)
    pool = ThreadPoolExecutor(settings.online_threads, thread_name_prefix="plumbline-online")
    # A read that still waits for a store that is away must not keep the process.
    stack.callback(pool.shutdown, wait=False, cancel_futures=True)
    return Threads(pool, writers, settings.store_timeout_seconds, store)


def _materializations(
    repo: FeastRepo,
    store: OpenedStore,
    packed: PackedOnlineStore | None,
    limits: JoinLimits,
    now: Callable[[], datetime],
) -> Callable[[], Materialization]:
    """Makes runs, of which one at a time goes on."""
    checkpoints = Checkpoints(repo.config.project, packed.rows if packed else None)
    turn = threading.Lock()
    return lambda: Materialization(
        store, ParquetNewestRows(limits), NotedLog(checkpoints, repo), checkpoints, turn, now=now
    )


def _historical(settings: FeatureSettings, make_join: Callable[[JoinRequest], HistoricalRun]) -> Historical:
    return Historical(
        make_join,
        asyncio.Semaphore(settings.max_joins),
        settings.temp_dir,
        settings.max_spool_bytes,
        settings.max_message_bytes,
        DataRoots(settings.data_roots),
    )


def _run_in_background(
    settings: FeatureSettings,
    worker: int | None,
    repo: FeastRepo,
    catalog: Catalog,
    packed: PackedOnlineStore | None,
    stack: AsyncExitStack,
) -> None:
    """Follows the registry, removes expired rows, merges what pushes added."""
    # A replay takes no row away; of several workers, one does.
    kept = packed if settings.replay_time is None and not worker else None
    jobs = [refreshing(repo, catalog, kept, settings.refresh_seconds)]
    if kept and settings.sweep_seconds:
        jobs.append(sweeping(kept, catalog, settings.sweep_seconds))
    if settings.merge_seconds and not worker:
        jobs.append(merging(catalog, settings.merge_seconds))
    for job in jobs:
        stack.push_async_callback(_cancelled, asyncio.create_task(job))


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _open_http(
    http: FeastHttp, settings: FeatureSettings, port: int, worker: int | None, stack: AsyncExitStack
) -> None:
    stack.push_async_callback(http.close)
    variable, shared = "PLUMBLINE_FEATURES_HTTP_PORT", worker is not None
    await stack.enter_async_context(serving_http(http.app(), settings, port, variable, shares_port=shared))


def _join_limits(settings: FeatureSettings) -> JoinLimits:
    folder = str(settings.temp_dir) if settings.temp_dir else None
    return JoinLimits(settings.join_memory, settings.join_threads, folder)


def _open_store(repo: FeastRepo, settings: FeatureSettings) -> OpenedStore:
    replaying = settings.replay_time is not None
    try:
        return open_online_store(repo.config, timeout=settings.store_timeout_seconds, keep_expired=replaying)
    except StoreUnavailable as error:
        raise StartupError(str(error)) from error


def _spark(repo: FeastRepo) -> HistoricalEngine | None:
    """Joins on a cluster, where feature_store.yaml says `offline_store: {type: spark}`."""
    if repo.config.offline_store.type != "spark":
        return None
    # Its libraries are hundreds of megabytes, and only there where the extra is installed.
    module = importlib.import_module("feature_service.stores.spark_join")
    found: HistoricalEngine = module.SparkHistory(repo.config)
    return found


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
