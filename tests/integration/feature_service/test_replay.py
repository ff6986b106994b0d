"""A replay time is now: for ttl, and for where materialization ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_service.app import build
from feature_service.feast_apply import apply
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
