"""The composition root: what serving is made of, and in which order it starts and stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from plumbline.channel import CLIENT_MIN_MESSAGE_BYTES
from plumbline.registry.client import RegistryClient
from plumbline.serving.v1.prediction_service_pb2_grpc import add_PredictionServiceServicer_to_server
from servicekit.server import GrpcServer, Service
from servicekit.telemetry import Telemetry
from serving.cache import ModelCache
from serving.features_gateway import FeatureGateway
from serving.loader import Loader
from serving.metrics import PredictionMetrics
from serving.models import LoadedModel, ModelTable, Slot
from serving.predict import Predict
from serving.registry_gateway import RegistryGateway
from serving.servicer import PredictionServicer
from serving.settings import ServingSettings
from serving.watcher import Watcher

_log = logging.getLogger("plumbline.serving")

SERVICE_NAME = "plumbline.serving.v1.PredictionService"


@dataclass(frozen=True)
class App:
    """What answers: the use case both transports share, the models behind it, the gRPC services, and
    an event that is set once every configured model answers."""

    predict: Predict
    models: ModelTable
    services: Sequence[Service]
    loaded: asyncio.Event


@asynccontextmanager
async def building(settings: ServingSettings, telemetry: Telemetry) -> AsyncIterator[App]:
    """Everything but the transports: models load and follow their aliases while this is open."""
    async with AsyncExitStack() as stack:
        registry = stack.enter_context(
            RegistryClient(
                settings.registry_address,
                actor="serving",
                timeout=settings.registry_timeout,
                interceptors=telemetry.client_interceptors(),
            )
        )
        features = FeatureGateway(
            settings.features_address,
            settings.features_timeout,
            telemetry.aio_client_interceptors(),
            max(settings.max_message_bytes, CLIENT_MIN_MESSAGE_BYTES),
        )
        stack.push_async_callback(features.close)
        executor = ThreadPoolExecutor(2 * len(settings.model_refs), thread_name_prefix="load")
        stack.callback(executor.shutdown, wait=False, cancel_futures=True)

        metrics = PredictionMetrics(telemetry.metrics.registry)
        loaded = asyncio.Event()

        def on_change(slot: Slot, previous: LoadedModel | None) -> None:
            metrics.changed(slot, previous)
            if models.ready:
                loaded.set()

        models = ModelTable(settings.model_refs, on_change, metrics.noted)
        for slot in models.slots:
            metrics.noted(slot)
        loader = Loader(RegistryGateway(registry), features, ModelCache(settings.cache_dir), executor)
        watcher = Watcher(
            models,
            loader,
            poll_seconds=settings.poll_seconds,
            retry_seconds=settings.retry_seconds,
            on_answer=metrics.registry_answered,
        )
        predict = Predict(
            models, features, metrics, max_rows=settings.max_rows, inline_rows=settings.inline_rows
        )
        servicer = PredictionServicer(predict, models)
        services = [Service(SERVICE_NAME, partial(add_PredictionServiceServicer_to_server, servicer))]
        async with _background(watcher.run(), "watcher"):
            yield App(predict, models, services, loaded)


@asynccontextmanager
async def build(settings: ServingSettings, telemetry: Telemetry) -> AsyncIterator[Sequence[Service]]:
    """The gRPC services alone, as `servicekit.server` runs them."""
    async with building(settings, telemetry) as app:
        yield app.services


@asynccontextmanager
async def serving_grpc(
    settings: ServingSettings, telemetry: Telemetry, app: App
) -> AsyncIterator[GrpcServer]:
    """The gRPC server; its health is SERVING once every model answers. Raises StartupError when the port
    is taken. On the way out calls in flight get `grace_seconds`."""
    server = GrpcServer(settings, app.services, telemetry)
    await server.start(serving=False)

    async def report() -> None:
        await app.loaded.wait()
        await server.set_serving(True)

    try:
        async with _background(report(), "health"):
            yield server
    finally:
        await server.stop()


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_report_failure)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _report_failure(task: asyncio.Task[None]) -> None:
    """A task that nobody awaits must not die in silence."""
    if not task.cancelled() and task.exception() is not None:
        _log.critical("the task %r ended; restart the server", task.get_name(), exc_info=task.exception())
