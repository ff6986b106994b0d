"""Feast's other online stores: what the service sets on them, where it says they are, and what their failures
are to a caller."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from feature_service.domain import FeatureView
from feature_service.feast_adapters.apply import apply
from feature_service.feast_adapters.online import FeastOnlineStore
from feature_service.feast_adapters.online_stores import open_online_store
from feature_service.feast_adapters.repo import FeastRepo, load_config
from feature_service.ports import NewRows
from plumbline.features.errors import SourceUnreadable, StoreUnavailable
from tests.contract.feature_service.stores_of_others import DocumentOnlineStore
from tests.integration.feature_service.conftest import unused_port
from tests.integration.feature_service.repo import write_repo

_HERE = "tests.contract.feature_service.stores_of_others"
_DOCUMENTS = f"  type: {_HERE}.DocumentOnlineStore"


def opened(folder: Path, yaml: str) -> tuple[FeastOnlineStore, FeatureView]:
    """The store and a view of it."""
    apply(write_repo(folder, yaml))
    repo = FeastRepo(load_config(folder))
    store = open_online_store(repo.config, timeout=5)
    assert isinstance(store, FeastOnlineStore)
    return store, repo.load().views["trips"]


def read(store: FeastOnlineStore, view: FeatureView) -> None:
    store.read(view, view.features, [pa.array([1])])


@pytest.mark.parametrize(
    ("name", "options", "address"),
    [
        ("DocumentOnlineStore", {}, "mongodb://db:27017"),
        (
            "DocumentOnlineStore",
            {"connection_string": "mongodb://user:secret@h1:1,h2:2/?ssl=true&x=secret"},
            "mongodb://h1:1,h2:2",
        ),
        ("DocumentOnlineStore", {"connection_string": "mongodb://user:sec/ret@db:27017"}, ""),
        ("DocumentOnlineStore", {"connection_string": "host=db password=secret"}, ""),
        ("VectorOnlineStore", {}, "http://localhost"),
        ("VectorOnlineStore", {"path": None, "host": None}, ""),
        ("VectorOnlineStore", {"path": "data/vectors.db"}, ":data/vectors.db"),
        ("SqlOnlineStore", {"host": "db.internal"}, "://db.internal:5432"),
    ],
)
def test_a_store_is_left_as_it_was_configured_and_its_address_tells_no_secret(
    tmp_path: Path, name: str, options: dict[str, str | None], address: str
) -> None:
    lines = [f"  type: {_HERE}.{name}"]
    lines += [f"  {key}: {'null' if value is None else value}" for key, value in options.items()]
    folder = tmp_path / "repo"
    apply(write_repo(folder, "\n".join(lines)))
    config = load_config(folder)
    before, files = config.online_store.model_dump(), set(folder.rglob("*"))
    store = open_online_store(config, timeout=5)
    assert isinstance(store, FeastOnlineStore)
    assert config.online_store.model_dump() == before
    assert set(folder.rglob("*")) == files
    kind = f"{_HERE}.{name}"
    shown = f"{kind} {address}" if "://" in address and address[0] != ":" else f"{kind}{address}"
    assert store.address == shown


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:1,password=a,b", "redis://127.0.0.1:1"),
        ("redis://:secret@host:1", "redis://"),
        ("127.0.0.1:1,127.0.0.1:2,db=0", "redis://127.0.0.1:1,127.0.0.1:2"),
    ],
)
def test_the_address_of_redis_has_no_password(tmp_path: Path, text: str, address: str) -> None:
    write_repo(tmp_path, f"  type: redis\n  connection_string: {text}")
    assert FeastOnlineStore(load_config(tmp_path), timeout=5).address == address


class _Refused(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(501)  # of those that Feast tries again, its HTTP client's error is seen
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def refusing() -> Iterator[int]:
    """The port of an HTTP server that answers 501."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refused) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_remote_store_makes_no_file_and_is_unavailable_when_away(tmp_path: Path, refusing: int) -> None:
    for port, said in ((unused_port(), "cannot be reached: .*refused"), (refusing, "failed: RuntimeError: ")):
        folder = tmp_path / str(port)
        yaml = f"  type: remote\n  path: http://127.0.0.1:{port}\n  connection_retries: 0"
        store, view = opened(folder, yaml)
        assert store.address == f"remote http://127.0.0.1:{port}"
        assert not (folder / "http:").exists()
        with pytest.raises(StoreUnavailable, match=f"remote http://127.0.0.1:{port} {said}") as caught:
            read(store, view)
        assert caught.value.metadata == {"store": store.address}


def test_an_outage_that_a_driver_tells_in_its_own_class_is_unavailable(tmp_path: Path) -> None:
    store, view = opened(tmp_path, f"  type: {_HERE}.SqlOnlineStore\n  port: {unused_port()}")
    with pytest.raises(StoreUnavailable, match=r"SqlOnlineStore://127.0.0.1:\d+ failed: OperationalError: "):
        read(store, view)


class DriverError(Exception):
    """As every driver has one."""


def raising(error: Exception) -> Callable[[], None]:
    def fails() -> None:
        raise error

    return fails


@pytest.fixture
def documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Reads from a store that raises what it is given."""
    store, view = opened(tmp_path, _DOCUMENTS)

    def failing(error: Exception) -> None:
        monkeypatch.setattr(DocumentOnlineStore, "fails", staticmethod(raising(error)))
        read(store, view)

    return failing


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DriverError("no primary"), "failed: DriverError: no primary"),
        (DriverError("at mongodb://u:secret@db:1: away"), "failed: DriverError: at mongodb://db:1: away"),
        (DriverError("x" * 5_000), "failed: DriverError: x+\\.\\.\\.$"),
        (TimeoutError("too slow"), "cannot be reached: too slow"),
        (sqlite3.OperationalError("database is locked"), "failed: OperationalError: database is locked"),
    ],
)
def test_a_failure_of_the_store_is_told_with_its_name_and_cause(
    documents: Callable[[Exception], None], error: Exception, said: str
) -> None:
    with pytest.raises(StoreUnavailable, match=f"mongodb://db:27017 {said}") as caught:
        documents(error)
    assert caught.value.__cause__ is error
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_write_that_fails_is_told_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, view = opened(tmp_path, _DOCUMENTS)
    values = [pa.array([1]), pa.array([0.5]), pa.array(["a"])]
    rows = NewRows((pa.array([1]),), tuple(values), np.array([10], np.int64), None)
    assert store.write(view, rows) == 1

    def refuses(*_: Any) -> None:
        raise DriverError("read only")

    monkeypatch.setattr(DocumentOnlineStore, "online_write_batch", refuses)
    with pytest.raises(StoreUnavailable, match="mongodb://db:27017 failed: DriverError: read only"):
        store.write(view, rows)


@pytest.mark.parametrize(
    "error", [TypeError("no"), KeyError("no"), ValueError("no"), psycopg.ProgrammingError("no")]
)
def test_a_mistake_in_code_is_none_of_the_store(
    documents: Callable[[Exception], None], error: Exception
) -> None:
    with pytest.raises(type(error)) as caught:
        documents(error)
    assert caught.value is error


def test_a_table_that_is_not_there_is_told_as_sqlite_does(documents: Callable[[Exception], None]) -> None:
    with pytest.raises(SourceUnreadable, match=r"view trips has no table .*apply the definitions"):
        documents(psycopg.errors.UndefinedTable("relation does not exist"))
