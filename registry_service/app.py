"""The composition root: opens the database and the artifact folder and puts the service on them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Engine

from plumbline.registry.errors import DatabaseUnavailable
from plumbline.registry.v1.model_registry_service_pb2 import DESCRIPTOR
from plumbline.registry.v1.model_registry_service_pb2_grpc import add_ModelRegistryServiceServicer_to_server
from registry_service.access import needed
from registry_service.blobs import LocalBlobs
from registry_service.calls import Calls
from registry_service.changes import Changes
from registry_service.mlflow_api.serving import serving_mlflow
from registry_service.news import News
from registry_service.reading import CachedReads
from registry_service.repository.database import SqlDatabase, open_engine, patience
from registry_service.repository.freshness import open_freshness
from registry_service.repository.migration import MigrationError, migrate
from registry_service.servicers.registry import Registry
from registry_service.settings import RegistrySettings
from registry_service.threads import Threads
from registry_service.transfers import Transfers
from registry_service.writer import Writer
from servicekit.access import Gate
from servicekit.server import Service, StartupError
from servicekit.telemetry import Telemetry

_log = logging.getLogger("plumbline.registry")

_HOUSEKEEPING_SECONDS = 3600.0

# What calls left running may take once the server has drained: those still there by then were given up by
# their callers.
_CLOSE_SECONDS = 2.0


def utc_now() -> datetime:
    """The present moment, zone-aware UTC."""
    return datetime.now(UTC)


@asynccontextmanager
async def build(settings: RegistrySettings, telemetry: Telemetry) -> AsyncIterator[Sequence[Service]]:
    """The service on a migrated database and a clean artifact folder. Raises StartupError."""
    gate = _gate(settings)
    blobs = LocalBlobs(settings.artifacts_dir)
    engine = await asyncio.to_thread(_open, settings, blobs)
    freshness, looking = open_freshness(engine), Threads("news", 1)
    news = News(freshness, looking, patience(settings.busy_seconds))
    loop = asyncio.get_running_loop()

    def committed(_sequence: int) -> None:
        loop.call_soon_threadsafe(news.wake)

    database = SqlDatabase(engine, busy_seconds=settings.busy_seconds, on_commit=committed)
    changes = Changes(database, utc_now)
    transactions, writer = Threads("database", settings.database_threads), Writer(database)
    files = Threads("files", settings.file_threads)
    calls = Calls(database, changes, transactions, writer, patience(settings.busy_seconds))
    reads, transfers = CachedReads(calls, news), Transfers(blobs, files, settings.max_file_bytes)
    servicer = Registry(calls, reads, news, transfers)
    housekeeping = asyncio.create_task(_forget_old_requests(changes, writer))
    try:
        async with serving_mlflow(settings, calls, reads, transfers, telemetry, gate):
            yield [
                Service(
                    DESCRIPTOR.services_by_name["ModelRegistryService"].full_name,
                    partial(add_ModelRegistryServiceServicer_to_server, servicer),
                    polled=frozenset({"ResolveAlias"}),
                    hot=frozenset({"GetModel", "GetVersion", "ResolveAlias"}),
                    drain=news.end,
                    gate=gate,
                )
            ]
    finally:
        housekeeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await housekeeping
        workers: list[tuple[str, Threads | Writer]] = [
            ("database", writer),
            ("database", transactions),
            ("news", looking),
            ("files", files),
        ]
        for what, threads in workers:
            hanging = await asyncio.to_thread(threads.close, _CLOSE_SECONDS)
            if hanging:
                # As after a kill: what was not committed is undone, unfinished files go at the next start.
                _log.warning("%d calls still wait for the %s; stopping without them", hanging, what)
        freshness.close()
        engine.dispose()


def _gate(settings: RegistrySettings) -> Gate | None:
    if settings.tokens_file is None:
        return None
    try:
        return Gate(settings.tokens_file, needed)
    except (OSError, ValueError) as error:
        prefix = settings.model_config.get("env_prefix", "")
        raise StartupError(f"cannot read the tokens: {error}. Set {prefix}TOKENS_FILE to their file.") from error


def _open(settings: RegistrySettings, blobs: LocalBlobs) -> Engine:
    prefix = settings.model_config.get("env_prefix", "")
    try:
        engine = open_engine(
            settings.database_url, pool_size=settings.database_threads + 3, busy_seconds=settings.busy_seconds
        )
        migrate(engine)
    except (ValueError, MigrationError) as error:
        raise StartupError(f"{error}. Set {prefix}DATABASE_URL to a database that can be used.") from error
    try:
        blobs.prepare()
    except OSError as error:
        raise StartupError(
            f"cannot keep artifacts in {settings.artifacts_dir}: {error.strerror}. "
            f"Set {prefix}ARTIFACTS_DIR to a folder that can be written."
        ) from error
    return engine


async def _forget_old_requests(changes: Changes, writer: Writer) -> None:
    while True:
        try:
            count = await writer.run(changes.forget_old_requests)
            _log.debug("forgot %d old request ids", count)
        except DatabaseUnavailable:
            _log.warning("old request ids could not be removed; trying again in an hour")
        await asyncio.sleep(_HOUSEKEEPING_SECONDS)
