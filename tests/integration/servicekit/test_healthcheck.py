"""The probe of containers, against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from servicekit.healthcheck import main


@pytest.fixture
def server() -> Iterator[tuple[str, health.HealthServicer]]:
    servicer = health.HealthServicer()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", servicer
    server.stop(None).wait()


def test_a_serving_server_is_well(server: tuple[str, health.HealthServicer]) -> None:
    address, servicer = server
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    assert main([address]) == 0


def test_a_server_that_does_not_serve_is_unwell_but_alive(
    server: tuple[str, health.HealthServicer], capsys: pytest.CaptureFixture[str]
) -> None:
    address, servicer = server
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert main([address]) == 1
    assert "NOT_SERVING" in capsys.readouterr().err
    assert main([address, "--live"]) == 0


def test_one_service_can_be_asked_for(
    server: tuple[str, health.HealthServicer], capsys: pytest.CaptureFixture[str]
) -> None:
    address, servicer = server
    servicer.set("plumbline.x.v1.X", health_pb2.HealthCheckResponse.SERVING)
    assert main([address, "--service", "plumbline.x.v1.X"]) == 0
    assert main([address, "--service", "plumbline.x.v1.Y"]) == 1
    assert "NOT_FOUND" in capsys.readouterr().err


def test_nobody_there_is_unwell(capsys: pytest.CaptureFixture[str]) -> None:
    # Port 1 is reserved and nobody listens on it.
    assert main(["127.0.0.1:1", "--timeout", "2"]) == 1
    assert "127.0.0.1:1 does not answer" in capsys.readouterr().err
