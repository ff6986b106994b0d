from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from plumbline.registry.errors import DatabaseUnavailable
from registry_service import models
from registry_service.repository.database import SqlDatabase, begin_write, open_engine
from tests.contract.registry_service.desk import Desk


def test_a_database_held_by_another_program_is_unavailable_to_writers_only(
    desk: Desk, engine: Engine, database_url: str, backend: str, clock: Callable[[], datetime]
) -> None:
    desk.model("flights")
    impatient = open_engine(database_url, busy_seconds=0.3)
    hasty = Desk(SqlDatabase(impatient, busy_seconds=0.3), clock)
    with begin_write(engine.connect()) as connection, connection.begin():
        if backend == "postgresql":
            connection.execute(text("LOCK TABLE registered_model IN EXCLUSIVE MODE"))
        with pytest.raises(DatabaseUnavailable) as caught:
            hasty.draft("flights")
        assert "registered_model" not in caught.value.message
        assert hasty.ask(models.get, "flights").latest_version == 0
    assert hasty.draft("flights").ref.number == 1
    impatient.dispose()


def test_a_writer_waits_for_its_turn(desk: Desk, engine: Engine) -> None:
    desk.model("flights")
    drafted = threading.Event()

    def draft() -> None:
        desk.draft("flights")
        drafted.set()

    with desk.database.write() as transaction:
        transaction.models.lock("flights")
        waiting = threading.Thread(target=draft)
        waiting.start()
        assert not drafted.wait(0.2)
    assert drafted.wait(20)
    waiting.join()


def test_connections_the_server_closed_are_replaced(
    desk: Desk, postgres_server: str, engine: Engine, backend: str
) -> None:
    if backend == "sqlite":
        pytest.skip("a file closes no connections")
    desk.model("flights")
    admin = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        statement = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
        connection.execute(statement, {"name": engine.url.database})
    admin.dispose()
    assert desk.draft("flights").ref.number == 1


def test_an_error_in_the_middle_undoes_everything(desk: Desk) -> None:
    def fail() -> None:
        with desk.database.write() as transaction:
            transaction.models.add("half", "", {}, desk.clock())
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert desk.models(archived=True).items == []


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite://", "sqlite:///:memory:"])
def test_other_databases_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sqlite:///"):
        open_engine(url)
