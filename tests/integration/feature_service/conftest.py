"""A real server over a small repository, shared by all tests of a worker."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from feature_service.app import build
from feature_service.feast_adapters.apply import apply
from feature_service.settings import FeatureSettings
from plumbline.channel import open_channel
from plumbline.features.client import FeatureClient
from plumbline.features.v1.feature_retrieval_service_pb2_grpc import FeatureRetrievalServiceStub
from tests.integration.feature_service.repo import ago, write_repo
from tests.support import running_server


@dataclass(frozen=True)
class Running:
    """A server, its repository and ways to call it. http: the URL that Feast's clients are given."""

    address: str
    http: str
    repo: Path
    client: FeatureClient
    stub: FeatureRetrievalServiceStub
    channel: grpc.Channel


def settings_for(repo: Path, **others: object) -> FeatureSettings:
    """Settings of a server in this process."""
    return FeatureSettings.model_validate(
        {
            "repo": repo,
            "port": 0,
            "metrics_port": None,
            "http_port": None,
            "refresh_seconds": 0.1,
            "join_threads": 1,
        }
        | others
    )


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Applied and materialized up to two and a half hours ago. Tests push under keys of their own."""
    repo = write_repo(tmp_path_factory.mktemp("tiny"))
    apply(repo)
    http_port = unused_port()
    limits = {"max_entities": 100, "max_push_rows": 50, "temp_dir": tmp_path_factory.mktemp("scratch")}
    limits |= {"http_port": http_port, "max_message_bytes": 1 << 22}
    with (
        running_server(settings_for(repo, **limits), build) as address,
        FeatureClient(address) as client,
        open_channel(address) as channel,
    ):
        for _ in client.materialize(start=ago(1000), end=ago(0.1)):
            pass
        stub = FeatureRetrievalServiceStub(channel)
        yield Running(address, f"http://127.0.0.1:{http_port}", repo, client, stub, channel)


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    return unused_port()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
