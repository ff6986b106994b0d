"""`plumbline features check-parity`: what is served beside the point-in-time join, through a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from feature_service.app import build
from feature_service.feast_adapters.apply import apply
from plumbline.cli.main import app
from plumbline.features.client import FeatureClient, OnlineFeatures
from plumbline.features.parity import Parity
from plumbline.features.parity_check import check_online
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from tests.integration.feature_service.conftest import settings_for
from tests.integration.feature_service.repo import ago, write_repo
from tests.support import running_server

ALL = ["trips:*", "weather:temp", "pair:visits", "world:fuel", "kinds:*", "scaled:scaled"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Everything materialized; no test writes to it."""
    repo = write_repo(tmp_path_factory.mktemp("parity"))
    apply(repo)
    with running_server(settings_for(repo), build) as found, FeatureClient(found) as client:
        list(client.materialize())
        yield found


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[str]:
    """The same, to be written to."""
    repo = write_repo(tmp_path / "repo")
    apply(repo)
    with running_server(settings_for(repo), build) as found, FeatureClient(found) as client:
        list(client.materialize())
        yield found


def run(address: str, *words: str) -> Result:
    command = ["features", "check-parity", *words]
    return CliRunner().invoke(app, command, env={"PLUMBLINE_FEATURES_ADDRESS": address})


def as_json(address: str, *words: str) -> tuple[int, dict[str, Any]]:
    done = run(address, *words, "--json")
    assert done.stdout, done.output
    return done.exit_code, json.loads(done.stdout)


def counts(feature: dict[str, Any]) -> tuple[int, ...]:
    return tuple(feature[name] for name in ("compared", "equal", "mismatch", "missing", "extra"))


def test_views_of_every_kind_are_equal(address: str) -> None:
    code, found = as_json(address, *ALL)
    assert code == 0
    assert found["equal"]
    assert len(found["features"]) == 3 + 1 + 1 + 1 + 16 + 1
    assert all(counts(f) == (found["rows"], found["rows"], 0, 0, 0) for f in found["features"].values())


@pytest.mark.parametrize("words", [["tiny"], ["tiny", "--full-names"], ["tiny", "--request", "factor=2.5"]])
def test_a_feature_service_with_request_data(address: str, words: list[str]) -> None:
    done = run(address, *words)
    assert done.exit_code == 0, done.output
    assert done.output.rstrip().endswith(": equal")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"driver_id": 1.5, "n": 1}, "driver_id=1.5 is not an int64, a whole number (row 1)"),
        ({"driver_id": True, "n": 1}, "driver_id=true is not an int64, a whole number (row 1)"),
        ({"driver_id": 1, "n": "two"}, "column n is not of one type"),
        ({"driver_id": 1, "n": 99999999999999999999}, "column n is not of one type"),
    ],
)
def test_a_log_with_a_value_of_another_type_is_refused(
    address: str, tmp_path: Path, line: dict[str, Any], said: str
) -> None:
    lines = [{"driver_id": 1, "n": 1}, line]
    moment = {"read_time": ago(0).isoformat()}
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(item | moment) + "\n" for item in lines))
    done = run(address, "trips:n", "--log", str(tmp_path / "log.jsonl"))
    assert done.exit_code == 2, done.output
    text = "".join(character for character in done.output if character not in "│\n╭╮╰╯─ ")
    assert said.replace(" ", "") in text


def test_a_selection_without_entities(address: str) -> None:
    code, found = as_json(address, "world:fuel")
    assert (code, counts(found["features"]["fuel"])) == (0, (1, 1, 0, 0, 0))


def test_each_way_to_differ_is_counted_and_shown(fresh: str) -> None:
    second = timedelta(seconds=1)
    pushed = {"event_timestamp": ago(0) - second, "created": ago(0) - second, "rate": 0.5, "tag": "p"}
    with FeatureClient(fresh) as client:

        def push(driver: int, n: int, where: pb.PushDestination.ValueType) -> None:
            rows = {name: [value] for name, value in {"driver_id": driver, "n": n, **pushed}.items()}
            client.push("trips", rows, destination=where)

        push(1, 30, pb.PUSH_DESTINATION_ONLINE)  # a value that the source does not have
        push(3, 90, pb.PUSH_DESTINATION_ONLINE)  # the source has but a row past its ttl
        push(8, 80, pb.PUSH_DESTINATION_OFFLINE)  # not brought online
        push(9, 90, pb.PUSH_DESTINATION_ONLINE_AND_OFFLINE)
    code, found = as_json(fresh, "trips:n")
    assert code == 1
    n = found["features"]["n"]
    assert counts(n) == (5, 2, 1, 1, 1)  # drivers 2 and 9 are equal, a null among them
    shown = {(e["kind"], e["entity"]["driver_id"]): (e["online"], e["offline"]) for e in n["examples"]}
    assert shown == {("mismatch", 1): (30, 3), ("extra", 3): (90, None), ("missing", 8): (None, 80)}
    done = run(fresh, "trips:n", "--examples", "1")
    assert done.exit_code == 1
    assert "n missing: driver_id=8: online None, join 80" in done.output
    assert done.output.rstrip().endswith(": different")


class WrittenMeanwhile(FeatureClient):
    """A client whose first online read is followed by a push, of a row that the join then knows of."""

    pushed = False

    def get_online_features(self, *given: Any, **options: Any) -> OnlineFeatures:
        found = super().get_online_features(*given, **options)
        if not self.pushed:
            self.pushed = True
            self.push("weather", {"city_id": ["LGA"], "event_timestamp": [ago(0.01)], "temp": [9.5]})
        return found


def test_a_write_between_read_and_join_is_no_difference(fresh: str) -> None:
    parity = Parity()
    with WrittenMeanwhile(fresh) as client:
        entities = client.sample_entities(["weather:temp"], 10)
        check_online(client, ["weather:temp"], entities, pa.table({}), parity)
    temp = parity.features["temp"]
    assert (temp.compared, temp.equal, temp.neither) == (2, 2, 0)


def test_the_past_is_compared_at_its_replayed_moment(tmp_path: Path) -> None:
    repo = write_repo(tmp_path)
    apply(repo)
    now = ago(4.5)
    with (
        running_server(settings_for(repo, replay_time=now), build) as address,
        FeatureClient(address) as client,
    ):
        list(client.materialize(["trips", "weather"]))
        code, found = as_json(address, "tiny")
    assert code == 0
    assert datetime.fromisoformat(found["read_time"]) == now
    assert found["rows"] > 1


LOG: dict[str, list[Any]] = {
    "driver_id": [1, 1, 1, 2, 3],
    "city_id": ["JFK", "JFK", "LGA", "JFK", "LGA"],
    "factor": [2.0, 2.0, 2.0, 2.0, 2.0],
    # Before any row; of the first; of the one that was late (created 0.1 days ago); a null; past its ttl.
    "read_time": [ago(6), ago(4), ago(0.05), ago(0.5), ago(1)],
    "n": [None, 1, 3, None, None],
    "rate": [None, 0.1, 0.3, 0.4, None],
    "temp": [None, None, 20.5, -3.0, 20.5],
    "scaled": [None, 0.2, 0.6, 0.8, None],
    "score": [0.1, 0.2, 0.3, 0.4, 0.5],
}


def write_log(folder: Path, kind: str, **changes: list[Any]) -> str:
    columns = LOG | changes
    path = folder / f"log.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        path.write_text("".join(json.dumps(row, default=datetime.isoformat) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_log_is_compared_at_each_rows_own_time(address: str, tmp_path: Path, kind: str) -> None:
    code, found = as_json(address, "tiny", "--log", write_log(tmp_path, kind))
    assert (code, found["rows"], found["not_logged"]) == (0, 5, []), found
    assert {name: counts(f) for name, f in found["features"].items()} == dict.fromkeys(
        ("n", "rate", "temp", "scaled"), (5, 5, 0, 0, 0)
    )
    wrong = write_log(tmp_path, kind, n=[7, None, 2, None, None], rate=[None, 0.1, 0.3000001, 0.4, None])
    code, found = as_json(address, "tiny", "--log", wrong)
    assert (code, found["equal"]) == (1, False)
    assert counts(found["features"]["n"]) == (5, 2, 1, 1, 1)
    assert counts(found["features"]["rate"]) == (5, 4, 1, 0, 0)
    (example,) = [e for e in found["features"]["n"]["examples"] if e["kind"] == "mismatch"]
    assert (example["online"], example["offline"], example["entity"]["driver_id"]) == (2, 3, 1)
    code, found = as_json(address, "tiny", "--log", wrong, "--tolerance", "1e-5")
    assert counts(found["features"]["rate"]) == (5, 5, 0, 0, 0)


def test_features_that_were_not_logged_are_said(address: str, tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    table = pa.table(LOG).drop_columns(["temp", "scaled"]).rename_columns({"read_time": "at"})
    pq.write_table(table, path)
    code, found = as_json(address, "tiny", "--log", str(path), "--time", "at")
    assert (code, found["not_logged"]) == (0, ["temp", "scaled"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "nothing"),
        (["trips:nothing"], "nothing"),
        (["tiny", "--request", "faktor=1"], "faktor"),
        (["tiny", "--log", "/nowhere/log.parquet"], "/nowhere/log.parquet"),
        (["tiny", "--log", "/nowhere/log.jsonl"], "/nowhere/log.jsonl"),
    ],
)
def test_what_cannot_be_compared_is_no_difference(address: str, words: list[str], said: str) -> None:
    done = run(address, *words)
    assert done.exit_code == 2
    assert said in done.output


def test_a_log_that_lacks_what_the_join_needs(address: str, tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table(LOG).drop_columns(["factor", "city_id"]), path)
    done = run(address, "tiny", "--log", str(path))
    assert done.exit_code == 2
    assert "city_id, factor" in " ".join(done.output.split())


def test_a_log_without_rows_compares_nothing(address: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("")
    done = run(address, "tiny", "--log", str(path))
    assert done.exit_code == 2
    assert "nothing to compare" in done.output


def test_nobody_there_is_not_a_difference() -> None:
    assert run("127.0.0.1:1", "tiny").exit_code == 2


def test_the_same_seed_draws_the_same_entities(address: str) -> None:
    with FeatureClient(address) as client:
        one, two = (client.sample_entities("tiny", 2, seed=4) for _ in range(2))
    assert one.equals(two)
    assert one.num_rows == 2


def test_an_entity_is_drawn_once_however_many_rows_it_has(address: str) -> None:
    with FeatureClient(address) as client:
        drawn = client.sample_entities(["trips:n"], 100)
    assert sorted(drawn["driver_id"].to_pylist()) == [1, 2, 3]
