"""The composition root: opens the database and the artifact folder and puts the service on them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Engine

from plumbline.registry.errors import DatabaseUnavailable
from plumbline.registry.v1.model_registry_service_pb2 import DESCRIPTOR
from plumbline.registry.v1.model_registry_service_pb2_grpc import add_ModelRegistryServiceServicer_to_server
from registry_service.access import needed
from registry_service.background import kept_up
from registry_service.calls import Calls
from registry_service.changes import Changes
from registry_service.collecting import Collector
from registry_service.expiry import expire_leases
from registry_service.integrity.verification import Verifications
from registry_service.mlflow_api.serving import serving_mlflow
from registry_service.news import News
from registry_service.ports import BlobStore
from registry_service.ports_blobs import Staging
from registry_service.reading import CachedReads
from registry_service.repository.database import SqlDatabase, open_engine, patience
from registry_service.repository.freshness import open_freshness
from registry_service.repository.migration import MigrationError, migrate
from registry_service.servicers.files import upload_handler
from registry_service.servicers.registry import Registry, Tools
from registry_service.settings import RegistrySettings
from registry_service.stores.opening import open_blobs
from registry_service.stores.staging import LocalStaging
from registry_service.threads import Threads
from registry_service.transfers import Transfers
from registry_service.webhooks.dispatcher import Dispatcher, forget_old_deliveries
from registry_service.webhooks.receivers import ReceiverRules
from registry_service.webhooks.sender import Sender, system_resolver
from registry_service.writer import Writer
from servicekit.access import Gate
from servicekit.server import Service, StartupError
from servicekit.telemetry import Telemetry

_log = logging.getLogger("plumbline.registry")

_HOUSEKEEPING_SECONDS = 3600.0

# Names of hosts looked up at once.
_LOOKUPS = 4

# What calls left running may take once the server has drained: those still there by then were given up by
# their callers.
_CLOSE_SECONDS = 2.0


_SERVICE = DESCRIPTOR.services_by_name["ModelRegistryService"].full_name


def utc_now() -> datetime:
    """The present moment, zone-aware UTC."""
    return datetime.now(UTC)


@asynccontextmanager
async def build(settings: RegistrySettings, telemetry: Telemetry) -> AsyncIterator[Sequence[Service]]:
    """The service on a migrated database and a clean artifact folder. Raises StartupError."""
    gate = _gate(settings)
    blobs = open_blobs(settings)
    staging = LocalStaging(settings.artifacts_dir / "incoming")
    engine = await asyncio.to_thread(_open, settings, blobs, staging)
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
    lookups = Threads("lookups", _LOOKUPS)
    sender = Sender(
        system_resolver(lookups),
        ReceiverRules(settings.webhook_allow_http, settings.webhook_allowed_networks),
        timeout=settings.webhook_timeout_seconds,
    )
    verifying = Threads("integrity", 1)
    reads, transfers = CachedReads(calls, news), Transfers(blobs, staging, files, settings.max_file_bytes)
    servicer = Registry(
        Tools(
            calls=calls,
            reads=reads,
            news=news,
            transfers=transfers,
            collector=Collector(calls, blobs, staging, files, utc_now),
            sender=sender,
            verifications=Verifications(database, blobs, verifying),
        )
    )
    dispatcher = Dispatcher(calls, news, sender, utc_now)
    tasks = [
        asyncio.create_task(kept_up(name, work))
        for name, work in (
            ("the removal of old request ids", partial(_forget_old_requests, changes, writer)),
            ("the dispatch to webhooks", dispatcher.run),
            (
                "the look at leases",
                partial(
                    expire_leases, calls, settings.expiry_seconds, grace_seconds=settings.expiry_grace_seconds
                ),
            ),
        )
    ]
    try:
        async with serving_mlflow(settings, calls, reads, transfers, telemetry, gate):
            yield [
                Service(
                    _SERVICE,
                    partial(_add_to, servicer),
                    polled=frozenset({"ResolveAlias"}),
                    hot=frozenset({"GetModel", "GetVersion", "ResolveAlias"}),
                    drain=news.end,
                    gate=gate,
                )
            ]
    finally:
        await dispatcher.stop()
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        workers: list[tuple[str, Threads | Writer]] = [
            ("database", writer),
            ("database", transactions),
            ("news", looking),
            ("files", files),
            ("lookup", lookups),
            ("verification", verifying),
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
        raise StartupError(
            f"cannot read the tokens: {error}. Set {prefix}TOKENS_FILE to their file."
        ) from error


def _add_to(servicer: Registry, server: Any) -> None:
    server.add_generic_rpc_handlers([upload_handler(servicer, _SERVICE)])
    add_ModelRegistryServiceServicer_to_server(servicer, server)


def _open(settings: RegistrySettings, blobs: BlobStore, staging: Staging) -> Engine:
    prefix = settings.model_config.get("env_prefix", "")
    try:
        engine = open_engine(
            settings.database_url, pool_size=settings.database_threads + 4, busy_seconds=settings.busy_seconds
        )
        migrate(engine)
    except (ValueError, MigrationError) as error:
        raise StartupError(f"{error}. Set {prefix}DATABASE_URL to a database that can be used.") from error
    try:
        blobs.prepare()
        staging.prepare()
    except OSError as error:
        place = settings.artifacts_url or settings.artifacts_dir
        advice = f"{prefix}ARTIFACTS_DIR to a folder that can be written"
        if settings.artifacts_url:
            advice = (
                f"{prefix}ARTIFACTS_URL to a bucket that the AWS_… variables give access to, and {advice}"
            )
        raise StartupError(f"cannot keep artifacts in {place}: {error.strerror}. Set {advice}.") from error
    return engine


async def _forget_old_requests(changes: Changes, writer: Writer) -> None:
    while True:
        try:
            count = await writer.run(changes.forget_old_requests)
            _log.debug("forgot %d old request ids", count)
            count = await writer.run(lambda tx: forget_old_deliveries(tx, utc_now()))
            _log.debug("forgot %d old deliveries", count)
        except DatabaseUnavailable:
            _log.warning("old request ids and deliveries could not be removed; trying again in an hour")
        await asyncio.sleep(_HOUSEKEEPING_SECONDS)
