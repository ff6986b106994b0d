"""A server of the suite seen from outside: errors, health, reflection, drain, limits, traces, metrics."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from plumbline import RegistryClient
from plumbline.channel import open_aio_channel
from plumbline.errors import DeadlineExceeded, Internal, Unavailable
from plumbline.registry.errors import DatabaseUnavailable, ModelNotFound
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import model_registry_service_pb2_grpc as pb_grpc
from plumbline.registry.v1 import resources_pb2 as res
from servicekit.context import current_actor
from servicekit.logs import configure_logging
from servicekit.server import GrpcServer, Service, StartupError
from servicekit.settings import ServerSettings
from servicekit.telemetry import Telemetry, build_telemetry
from tests.support import running_server

NAME = "plumbline.registry.v1.ModelRegistryService"


class Servicer:
    """Answers by the name asked for."""

    def __init__(self) -> None:
        self.entered, self.release = asyncio.Event(), asyncio.Event()
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        if name[0].isupper():  # the methods of the service that these tests do not call
            return None
        raise AttributeError(name)

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> res.Model:  # noqa: N802
        match request.name.removeprefix("models/"):
            case "missing":
                raise ModelNotFound("no model 'missing'", metadata={"model": "missing"})
            case "broken":
                raise ValueError("the password is hunter2")
            case "away":
                self.asked += 1
                raise DatabaseUnavailable("the database is away")
            case "slow":
                self.entered.set()
                await self.release.wait()
        return res.Model(name=request.name, description=current_actor())

    async def DownloadFile(  # noqa: N802
        self, request: pb.DownloadFileRequest, context: Any
    ) -> AsyncIterator[pb.DownloadFileResponse]:
        yield pb.DownloadFileResponse(chunk=b"first")
        raise ModelNotFound("gone in the middle")

    async def UploadFile(  # noqa: N802
        self, requests: AsyncIterator[pb.UploadFileRequest], context: Any
    ) -> res.ModelFile:
        async for _ in requests:
            pass
        return res.ModelFile()


def service_of(servicer: Servicer) -> Service:
    return Service(
        NAME,
        lambda server: pb_grpc.add_ModelRegistryServiceServicer_to_server(servicer, server),  # type: ignore[arg-type]
    )


@asynccontextmanager
async def build(settings: ServerSettings, telemetry: Telemetry) -> AsyncIterator[Sequence[Service]]:
    yield [service_of(Servicer())]


@pytest.fixture(scope="module")
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture(scope="module")
def telemetry(spans: InMemorySpanExporter) -> Telemetry:
    return build_telemetry("test", processors=[SimpleSpanProcessor(spans)])


@pytest.fixture(scope="module")
def address(telemetry: Telemetry) -> Any:
    with running_server(ServerSettings(), build, telemetry) as address:
        yield address


def test_a_domain_error_arrives_as_the_same_class(address: str) -> None:
    with (
        RegistryClient(address) as client,
        pytest.raises(ModelNotFound, match="'missing'") as caught,
    ):
        client.get_model("missing")
    assert caught.value.metadata == {"model": "missing"}


def test_an_unknown_error_is_logged_whole_and_leaks_nothing(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with RegistryClient(address) as client, pytest.raises(Internal) as caught:
        client.get_model("broken")
    assert "hunter2" not in str(caught.value)
    assert "under trace" in str(caught.value)
    assert any("hunter2" in str(record.exc_info) for record in caplog.records)


@pytest.mark.parametrize("method", ["GetModel", "DownloadFile", "UploadFile"])
def test_bytes_that_are_no_message_are_the_callers_fault_and_no_traceback(
    address: str, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """One request and one reply, a stream of replies, a stream of requests."""
    path, noise = f"/{NAME}/{method}", b"\xff\xff"
    with grpc.insecure_channel(address) as channel:
        calls: dict[str, Callable[[], Any]] = {
            "GetModel": lambda: channel.unary_unary(path)(noise),
            "DownloadFile": lambda: next(channel.unary_stream(path)(noise)),
            "UploadFile": lambda: channel.stream_unary(path)(iter([noise])),
        }
        with pytest.raises(grpc.RpcError) as caught:
            calls[method]()
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == f"the 2 bytes of the request are no message of {path}"
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


def test_an_error_in_the_middle_of_a_stream_ends_it_with_its_status(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        replies = pb_grpc.ModelRegistryServiceStub(channel).DownloadFile(pb.DownloadFileRequest())
        assert next(replies).chunk == b"first"
        with pytest.raises(grpc.RpcError) as caught:
            next(replies)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_caller_may_say_who_acts(address: str) -> None:
    with RegistryClient(address, actor="ada") as client:
        assert client.get_model("m").description == "ada"
    with RegistryClient(address) as client:
        assert client.get_model("m").description == "anonymous"


def test_health_is_told_for_the_server_and_each_service(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", NAME):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_stranger_can_call_by_reflection(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert NAME in database.get_services()
        file = database.FindFileContainingSymbol(NAME)
    assert file.name == "plumbline/registry/v1/model_registry_service.proto"


def test_calls_are_counted_by_code(address: str, telemetry: Telemetry) -> None:
    with RegistryClient(address) as client:
        before = _count(telemetry, "OK")
        client.get_model("m")
        assert _count(telemetry, "OK") == before + 1


def test_a_call_continues_the_callers_trace(
    address: str, telemetry: Telemetry, spans: InMemorySpanExporter
) -> None:
    spans.clear()
    with (
        RegistryClient(address, interceptors=telemetry.client_interceptors()) as client,
        telemetry.tracer.start_as_current_span("caller") as caller,
    ):
        client.get_model("m")
    found = {span.context.trace_id for span in spans.get_finished_spans() if span.context}
    assert found == {caller.get_span_context().trace_id}
    assert len(spans.get_finished_spans()) == 3  # caller, client side, server side


def test_a_taken_port_names_the_port_and_the_variable() -> None:
    class Settings(ServerSettings):
        model_config = ServerSettings.model_config | {"env_prefix": "PLUMBLINE_THING_"}

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(StartupError, match=rf"127\.0\.0\.1:{port}.*PLUMBLINE_THING_PORT"),
            running_server(Settings(port=port), build),
        ):
            pass


async def test_a_call_in_flight_is_finished_while_the_server_drains() -> None:
    servicer, telemetry = Servicer(), build_telemetry("test")
    server = GrpcServer(ServerSettings(grace_seconds=20), [service_of(servicer)], telemetry)
    address = f"127.0.0.1:{await server.start()}"
    async with open_aio_channel(address) as channel:
        call = pb_grpc.ModelRegistryServiceStub(channel).GetModel(pb.GetModelRequest(name="models/slow"))
        pending = asyncio.ensure_future(call)
        await servicer.entered.wait()
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=NAME))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.ensure_future(server.stop())
        # Whoever balances load is told before the call in flight is done.
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        servicer.release.set()
        assert (await pending).name == "models/slow"
        await stopping
    with RegistryClient(address, timeout=2) as client, pytest.raises(Unavailable):
        client.get_model("m")


async def test_what_a_server_says_is_unavailable_is_not_asked_again_by_the_channel() -> None:
    servicer = Servicer()
    server = GrpcServer(ServerSettings(), [service_of(servicer)], build_telemetry("test"))
    address = f"127.0.0.1:{await server.start()}"
    with RegistryClient(address) as client, pytest.raises(DatabaseUnavailable, match="is away"):
        await asyncio.to_thread(client.get_model, "away")
    await server.stop(grace=0)
    assert servicer.asked == 1


async def test_every_call_of_a_client_has_a_deadline() -> None:
    server = GrpcServer(ServerSettings(), [service_of(Servicer())], build_telemetry("test"))
    address = f"127.0.0.1:{await server.start()}"
    with RegistryClient(address, timeout=0.2) as client, pytest.raises(DeadlineExceeded):
        await asyncio.to_thread(client.get_model, "slow")
    await server.stop(grace=0)


def test_log_lines_are_json_with_the_trace(capsys: pytest.CaptureFixture[str], telemetry: Telemetry) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging("thing")
        with telemetry.tracer.start_as_current_span("x") as span:
            logging.getLogger("plumbline.test").warning("half %s", "done", extra={"rows": 3})
        line = json.loads(capsys.readouterr().err)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert line["service"] == "thing"
    assert line["level"] == "WARNING"
    assert line["message"] == "half done"
    assert line["rows"] == 3
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert line["time"].endswith("Z")


def _count(telemetry: Telemetry, code: str) -> float:
    labels = {"grpc_service": NAME, "grpc_method": "GetModel", "grpc_code": code}
    return telemetry.metrics.registry.get_sample_value("grpc_server_handled_total", labels) or 0.0
