"""What a caller may ask of an online read, through the client and the command line: defaults, ages, a matrix,
and partial replies of a Redis that has stopped answering."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import redis
from typer.testing import CliRunner

from feature_service.app import build
from feature_service.feast_adapters.apply import apply
from plumbline.cli.main import app
from plumbline.features.client import FeatureClient
from plumbline.features.errors import InvalidField, StoreUnavailable
from tests.integration.feature_service.conftest import Running, settings_for
from tests.integration.feature_service.repo import ago, write_repo
from tests.support import running_server

PRESENT, NULL, NOT_FOUND, OUTSIDE, UNAVAILABLE = 1, 2, 3, 4, 5
REDIS = "  type: feature_service.stores.redis.RedisOnlineStore\n  connection_string: {address}"


def cli(address: str, *words: str) -> str:
    done = CliRunner().invoke(
        app, ["features", "get", *words], env={"PLUMBLINE_FEATURES_ADDRESS": address}, catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.output


def test_a_matrix_has_the_numbers_and_what_stands_behind_them(server: Running) -> None:
    found = server.client.get_feature_matrix(
        ["trips:n", "trips:rate"], {"driver_id": [1, 2, 404]}, max_age=timedelta(days=1000)
    )
    assert found.names == ("n", "rate")
    assert found.values.dtype == np.float64
    np.testing.assert_array_equal(found.values, [[3, 0.3], [np.nan, 0.4], [np.nan, np.nan]])
    assert found.statuses.tolist() == [[PRESENT, PRESENT], [NULL, PRESENT], [NOT_FOUND, NOT_FOUND]]
    assert found.event_times["trips"].to_pylist() == [ago(0.5), ago(1), None]
    assert found.definition_digest
    single = server.client.get_feature_matrix(["trips:rate"], {"driver_id": [1]}, dtype=np.float32)
    assert single.values.dtype == np.float32
    assert single.values.tolist() == [[np.float32(0.3)]]
    assert single.statuses.tolist() == [[PRESENT]]


def test_a_matrix_of_anything_but_numbers_is_refused(server: Running) -> None:
    with pytest.raises(InvalidField):
        server.client.get_feature_matrix(["trips:tag"], {"driver_id": [1]})
    with pytest.raises(ValueError, match="not int64"):
        server.client.get_feature_matrix(["trips:n"], {"driver_id": [1]}, dtype=np.int64)


def test_defaults_fill_what_is_not_present_and_statuses_stay(server: Running) -> None:
    asked = {"driver_id": [1, 404]}
    defaults = {"n": -1, "rate": 0.5, "tag": "none"}
    names = ["trips:n", "trips:rate", "trips:tag"]
    found = server.client.get_online_features(names, asked, defaults=defaults)
    assert found.values.to_pydict() == {"n": [3, -1], "rate": [0.3, 0.5], "tag": ["c", "none"]}
    assert found.statuses["n"].tolist() == [PRESENT, NOT_FOUND]
    filled = server.client.get_feature_matrix(names[:2], asked, defaults={"n": -1, "rate": 0.5})
    assert filled.values.tolist() == [[3, 0.3], [-1, 0.5]]
    assert filled.statuses.tolist() == [[PRESENT, PRESENT], [NOT_FOUND, NOT_FOUND]]


def test_the_command_line_asks_for_all_of_it(server: Running) -> None:
    words = ("tiny", "driver_id=404", "city_id=LGA", "factor=2", "--default", "n=7", "--json")
    cells = {cell["feature"]: cell for cell in json.loads(cli(server.address, *words))["rows"][0]}
    assert (cells["n"]["value"], cells["n"]["status"]) == (7, "NOT_FOUND")
    assert (cells["temp"]["value"], cells["temp"]["status"]) == (20.5, "PRESENT")
    aged = json.loads(cli(server.address, *words, "--max-age", "36h"))["rows"][0]
    assert {cell["feature"]: cell["status"] for cell in aged}["temp"] == "OUTSIDE_MAX_AGE"
    found = json.loads(cli(server.address, *words, "--matrix"))
    assert found["names"] == ["n", "rate", "temp", "scaled"]
    assert found["values"] == [[7.0, None, 20.5, None]]
    assert found["statuses"][0][2] == "PRESENT"
    table = cli(server.address, *words[:-1], "--matrix").split()
    assert table[:7] == ["driver_id", "city_id", "factor", "n", "rate", "temp", "scaled"]
    assert table[7:] == ["404", "LGA", "2", "7", "–", "20.5", "–"]


def test_the_command_line_takes_references_as_join_does(server: Running, tmp_path: Path) -> None:
    words = ("trips:n", "trips:rate", "scaled:scaled", "driver_id=1", "factor=2")
    (cells,) = json.loads(cli(server.address, *words, "--json"))["rows"]
    assert [(cell["feature"], cell["value"]) for cell in cells] == [("n", 3), ("rate", 0.3), ("scaled", 0.6)]
    (cells,) = json.loads(cli(server.address, *words, "--full-names", "--json"))["rows"]
    assert [cell["feature"] for cell in cells] == ["trips__n", "trips__rate", "scaled__scaled"]
    (tmp_path / "rows.json").write_text('[{"driver_id": 1}, {"driver_id": 404}]')
    wild = ("trips:*", "--rows", str(tmp_path / "rows.json"), "--default", "n=7", "--json")
    rows = json.loads(cli(server.address, *wild))["rows"]
    assert [{cell["feature"]: cell["value"] for cell in row}["n"] for row in rows] == [3, 7]
    (cells,) = json.loads(cli(server.address, "world:fuel", "--json"))["rows"]
    assert [(cell["feature"], cell["status"]) for cell in cells] == [("fuel", "PRESENT")]
    assert json.loads(cli(server.address, *words[:2], words[3], "--matrix", "--json"))["values"] == [[3, 0.3]]


@pytest.mark.parametrize(
    ("option", "told"), [(("--max-age", "soon"), "length of time"), (("--default", "nope=1"), "nope")]
)
def test_what_the_command_line_does_not_understand_is_wrong_usage(
    server: Running, option: tuple[str, str], told: str
) -> None:
    done = CliRunner().invoke(
        app,
        ["features", "get", "tiny", "driver_id=1", *option],
        env={"PLUMBLINE_FEATURES_ADDRESS": server.address, "COLUMNS": "200"},
    )
    assert done.exit_code == 2
    assert told in done.output


@pytest.fixture(scope="module")
def on_redis(redis_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    repo: Path = write_repo(tmp_path_factory.mktemp("on-redis"), REDIS.format(address=redis_address))
    apply(repo)
    with running_server(settings_for(repo), build) as address:
        with FeatureClient(address) as client:
            for _ in client.materialize(["trips"], start=ago(1000), end=ago(0.1)):
                pass
        yield address


@pytest.fixture
def paused(redis_address: str) -> Iterator[None]:
    """Redis takes commands and answers none for some seconds; at the end it answers again."""
    with redis.Redis.from_url(f"redis://{redis_address}", socket_timeout=60) as control:
        control.execute_command("CLIENT PAUSE", 4_000)
        yield
        control.ping()


NAMES = ["trips:n", "trips:rate"]


@pytest.mark.usefixtures("paused")
def test_a_store_that_is_silent_gives_a_partial_reply_within_the_deadline(on_redis: str) -> None:
    # Later than its deadline, a reply would be DeadlineExceeded.
    with FeatureClient(on_redis, timeout=0.8) as client:
        found = client.get_online_features(
            NAMES, {"driver_id": [1, 2]}, allow_partial=True, defaults={"rate": 0.5}
        )
        matrix = client.get_feature_matrix(NAMES, {"driver_id": [1, 2]}, allow_partial=True)
        assert found.statuses["n"].tolist() == [UNAVAILABLE, UNAVAILABLE]
        assert found.values.to_pydict() == {"n": [None, None], "rate": [0.5, 0.5]}
        assert matrix.statuses.tolist() == [[UNAVAILABLE] * 2] * 2
        assert np.isnan(matrix.values).all()
        with pytest.raises(StoreUnavailable, match="answer within"):
            client.get_online_features(NAMES, {"driver_id": [1, 2]})


def test_after_a_pause_reads_are_whole_again(on_redis: str) -> None:
    with FeatureClient(on_redis) as client:
        found = client.get_online_features(NAMES, {"driver_id": [1, 2]}, allow_partial=True)
        assert found.statuses["n"].tolist() == [PRESENT, NULL]
    options = ("driver_id=1", "city_id=LGA", "factor=2", "--partial", "--json")
    cells = json.loads(cli(on_redis, "tiny", *options))["rows"][0]
    assert {cell["feature"]: cell["status"] for cell in cells}["n"] == "PRESENT"
