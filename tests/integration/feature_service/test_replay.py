"""A replay time is now: for ttl, and for where materialization ends."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_service.app import build
from feature_service.feast_adapters.apply import apply
from plumbline.features.client import FeatureClient
from plumbline.features.errors import InvalidTimeRange
from plumbline.times import moment
from tests.integration.feature_service.conftest import settings_for
from tests.integration.feature_service.repo import ago, write_repo
from tests.support import running_server

REPLAY = ago(4.5)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_repo(tmp_path_factory.mktemp("replay"))
    apply(folder)
    return folder


@pytest.fixture
def client(repo: Path) -> Iterator[FeatureClient]:
    with (
        running_server(settings_for(repo, replay_time=REPLAY), build) as address,
        FeatureClient(address) as client,
    ):
        yield client


def test_rows_after_the_replay_time_do_not_exist_yet(client: FeatureClient) -> None:
    progress = list(client.materialize(["trips"]))
    assert moment(progress[-1].end_time) == REPLAY
    found = client.get_online_features(["trips:n"], {"driver_id": [1]})
    (event,) = found.event_times["trips"].to_pylist()
    assert event == ago(5)  # there is a younger one, of yesterday
    assert found.status_names("n") == ["PRESENT"]


def test_the_same_row_is_too_old_by_the_clock(repo: Path, client: FeatureClient) -> None:
    list(client.materialize(["trips"]))
    with running_server(settings_for(repo), build) as address, FeatureClient(address) as today:
        assert today.get_online_features(["trips:n"], {"driver_id": [1]}).status_names("n") == [
            "OUTSIDE_MAX_AGE"
        ]


def test_materialization_cannot_pass_the_replay_time(client: FeatureClient) -> None:
    with pytest.raises(InvalidTimeRange, match="lies in the future"):
        list(client.materialize(["trips"], end=ago(1)))


def test_online_is_the_join_at_that_moment(tmp_path: Path) -> None:
    """A row that happened before the replay time but was written after it is not known yet."""
    repo = write_repo(tmp_path)
    now = ago(2.5)
    second = timedelta(seconds=1)
    rows: list[tuple[int, datetime, datetime, int]] = [
        (1, ago(3), ago(3), 1),
        (1, ago(2.6), now + second, 2),  # late: written a second after now
        (2, ago(3), now, 3),  # written just now
        (3, now, now, 4),  # happens now
        (4, now + second, now + second, 5),
        (5, now - timedelta(days=2), ago(4), 6),  # exactly as old as the ttl
        (6, now - timedelta(days=2) - timedelta(microseconds=1), ago(4), 7),
    ]
    columns = dict(
        zip(("driver_id", "event_timestamp", "created", "n"), zip(*rows, strict=True), strict=True)
    )
    table = pa.table({name: list(values) for name, values in columns.items()})
    table = table.append_column("rate", pa.nulls(len(rows), pa.float64()))
    pq.write_table(table.append_column("tag", pa.nulls(len(rows), pa.string())), repo / "data/trips.parquet")
    apply(repo)
    drivers = [1, 2, 3, 4, 5, 6]
    with (
        running_server(settings_for(repo, replay_time=now), build) as address,
        FeatureClient(address) as client,
    ):
        list(client.materialize(["trips"]))
        online = client.get_online_features(["trips:n"], {"driver_id": drivers}).values["n"].to_pylist()
        entities = pa.table({"driver_id": drivers, "event_timestamp": [now] * len(drivers)})
        joined = client.get_historical_features(["trips:n"], entities).read_all()["n"].to_pylist()
    assert joined == [1, 3, 4, None, 6, None]
    assert online == joined
    later = now + 2 * second
    with (
        running_server(settings_for(repo, replay_time=later), build) as address,
        FeatureClient(address) as client,
    ):
        list(client.materialize(["trips"]))
        found = client.get_online_features(["trips:n"], {"driver_id": drivers[:4]})
        assert found.values["n"].to_pylist() == [2, 3, 4, 5]
