"""`plumbline features push` and the client's stream of pushes, through a real server."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from plumbline.cli.main import app
from plumbline.errors import MalformedColumn
from plumbline.features.errors import RowRefused
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from tests.integration.feature_service.conftest import Running
from tests.integration.feature_service.repo import ago, kinds_row

_fresh = itertools.count(100_000, 1_000)


@pytest.fixture
def key() -> int:
    """The first of a thousand drivers that no other test uses."""
    return next(_fresh)


def trips(key: int, count: int) -> list[dict[str, Any]]:
    return [
        {"driver_id": key + i, "event_timestamp": ago(0.1), "n": i, "rate": i / 8, "tag": f"t{i}"}
        for i in range(count)
    ]


def write(folder: Path, kind: str, rows: list[dict[str, Any]]) -> str:
    path = folder / f"rows.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row, default=datetime.isoformat) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows, default=datetime.isoformat))
    return str(path)


def run(server: Running, *words: str, text: str | None = None) -> Result:
    env = {"PLUMBLINE_FEATURES_ADDRESS": server.address}
    return CliRunner().invoke(app, ["features", "push", *words], env=env, input=text)


def squeezed(text: str) -> str:
    """Without the frame and the line breaks of a usage error."""
    return "".join(character for character in text if character not in "│\n╭╮╰╯─ ")


def online(server: Running, key: int, count: int) -> list[int | None]:
    keys = list(range(key, key + count))
    found: list[int | None] = (
        server.client.get_online_features(["trips:n"], {"driver_id": keys}).values["n"].to_pylist()
    )
    return found


def offline(server: Running, key: int, count: int) -> list[int | None]:
    rows = pa.table({"driver_id": list(range(key, key + count)), "event_timestamp": [ago(-1)] * count})
    found: list[int | None] = (
        server.client.get_historical_features(["trips:n"], rows).read_all()["n"].to_pylist()
    )
    return found


@pytest.mark.parametrize("target", ["trips", "trips_push"])
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet"])
def test_rows_of_a_file_are_served(server: Running, key: int, tmp_path: Path, kind: str, target: str) -> None:
    done = run(server, target, "--rows", write(tmp_path, kind, trips(key, 3)))
    assert done.exit_code == 0, done.output
    assert done.output.startswith("3 rows written to trips, 0 refused")
    assert online(server, key, 3) == [0, 1, 2]
    assert offline(server, key, 3) == [0, 1, 2]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_many_rows_go_as_a_stream(server: Running, key: int, tmp_path: Path, kind: str) -> None:
    # More than this server takes in one push (50).
    path = write(tmp_path, kind, trips(key, 95))
    done = run(server, "trips", "--rows", path, "--part-rows", "20", "--request-id", f"many-{key}", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["rows_written"], found["rows_refused"]) == (95, 0)
    assert (found["request_id"], found["views"]) == (f"many-{key}", ["trips"])
    assert online(server, key, 95) == list(range(95))
    parts = server.repo / "data" / "trips.parquet.d"
    before = set(parts.iterdir())
    again = run(server, "trips", "--rows", path, "--part-rows", "20", "--request-id", f"many-{key}")
    assert again.exit_code == 0
    assert set(parts.iterdir()) == before


@pytest.mark.parametrize("part_rows", ["10", "4"])
def test_refused_rows_are_told_by_their_place_in_the_file(
    server: Running, key: int, tmp_path: Path, part_rows: str
) -> None:
    rows = trips(key, 10)
    rows[2]["driver_id"] = None
    rows[7]["event_timestamp"] = ago(-1)
    path = write(tmp_path, "jsonl", rows)
    words = ["trips", "--rows", path, "--best-effort", "--part-rows", part_rows]
    done = run(server, *words, "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert (found["rows_written"], found["rows_refused"]) == (8, 2)
    assert [(item["row"], item["column"]) for item in found["refused"]] == [
        (2, "driver_id"),
        (7, "event_timestamp"),
    ]
    assert online(server, key, 10) == [0, 1, None, 3, 4, 5, 6, None, 8, 9]
    shown = run(server, *words)
    assert shown.exit_code == 1
    assert "driver_id is null" in shown.output


def test_all_or_nothing_writes_nothing(server: Running, key: int, tmp_path: Path) -> None:
    rows = trips(key, 3)
    rows[1]["event_timestamp"] = ago(-1)
    done = run(server, "trips", "--rows", write(tmp_path, "json", rows))
    assert done.exit_code == 1
    assert online(server, key, 3) == [None] * 3


@pytest.mark.parametrize(("where", "expected"), [("online", (5, None)), ("offline", (None, 5))])
def test_destinations(
    server: Running, key: int, tmp_path: Path, where: str, expected: tuple[int | None, int | None]
) -> None:
    path = write(tmp_path, "json", [trips(key, 6)[5] | {"driver_id": key}])
    assert run(server, "trips", "--rows", path, "--destination", where).exit_code == 0
    assert (online(server, key, 1)[0], offline(server, key, 1)[0]) == expected


def test_stdin_and_every_type_that_text_can_say(server: Running) -> None:
    row = kinds_row(77, ago(0.1))
    base64 = {"bytes": "AP8=", "bytes_list": ["AP8=", "AP8="]}
    text = json.dumps(row | base64, default=datetime.isoformat)
    done = run(server, "kinds", "--rows", "-", "--destination", "online", text=text)
    assert done.exit_code == 0, done.output
    found = server.client.get_online_features(["kinds:*"], {"small_id": [77]}).values.to_pylist()[0]
    assert found == {name: row[name] for name in found}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"driver_id": 1}\n{"driver_id":', "line 2 is not JSON"),
        ("a.jsonl", "[1]", "line 1 is not an object"),
        ("a.json", "{", "is not JSON"),
        ("a.json", '[{"driver_id": "one"}]', "is not an int64"),
        ("a.json", '[{"driver_id": 1, "when": "soon"}]', "is not a time"),
        ("a.csv", "driver_id,n\n1,2,3\n", "line 2 has more values"),
        ("a.parquet", "no", "a.parquet"),
    ],
)
def test_files_that_cannot_be_read(server: Running, tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    done = run(server, "trips", "--rows", str(path))
    assert done.exit_code == 2, done.output
    assert squeezed(said) in squeezed(done.output)


@pytest.mark.parametrize("kind", ["json", "jsonl"])
@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("n", 2.5, "n=2.5 is not an int64, a whole number (row 3)"),
        ("n", True, "n=true is not an int64, a whole number (row 3)"),
        ("n", 99999999999999999999, "n=99999999999999999999 is not an int64, a whole number (row 3)"),
        ("tag", 7, "tag=7 is not a string, text (row 3)"),
    ],
)
def test_a_value_of_another_type_is_refused_and_nothing_is_written(
    server: Running, key: int, tmp_path: Path, kind: str, column: str, cell: Any, said: str
) -> None:
    rows = trips(key, 4)
    rows[3][column] = cell
    done = run(server, "trips", "--rows", write(tmp_path, kind, rows), "--part-rows", "2")
    assert done.exit_code == 2, done.output
    assert squeezed(f"{said}; nothing was written") in squeezed(done.output)
    assert online(server, key, 4) == [None] * 4


def test_of_a_file_that_is_not_there_nothing_is_written(server: Running, tmp_path: Path) -> None:
    for kind in ("json", "jsonl", "csv", "parquet"):
        done = run(server, "trips", "--rows", str(tmp_path / f"absent.{kind}"))
        assert done.exit_code == 2, done.output
        assert "nothingwaswritten" in squeezed(done.output)


def test_a_fault_late_in_a_file_leaves_what_came_before_written(
    server: Running, key: int, tmp_path: Path
) -> None:
    path = write(tmp_path, "jsonl", trips(key, 6))
    with Path(path).open("a") as file:
        file.write("{broken\n")
    done = run(server, "trips", "--rows", path, "--part-rows", "2")
    assert done.exit_code == 2
    assert squeezed("line 7 is not JSON") in squeezed(done.output)
    assert squeezed("parts before it may be written") in squeezed(done.output)
    assert online(server, key, 6) == list(range(6))


def test_a_target_that_is_not_there(server: Running, tmp_path: Path) -> None:
    for kind in ("json", "parquet"):
        done = run(server, "nothing", "--rows", write(tmp_path, kind, trips(1, 1)))
        assert done.exit_code in (1, 2)
        assert "nothing" in done.output


def test_an_error_in_a_stream_names_its_part_and_keeps_those_before(server: Running, key: int) -> None:
    good, bad = trips(key, 2), trips(key + 2, 1)
    bad[0]["driver_id"] = None
    parts = [columns(good), columns(bad, pa.int64()), columns(trips(key + 3, 1))]
    with pytest.raises(RowRefused, match="message 1: ") as caught:
        server.client.push_many("trips", parts)
    assert caught.value.metadata["message"] == "1"
    assert online(server, key, 4) == [0, 1, None, None]


def test_what_reading_the_parts_raises_is_raised_to_the_caller(server: Running, key: int) -> None:
    def parts() -> Iterator[Mapping[str, Any]]:
        yield columns(trips(key, 2))
        raise ValueError("no more of this")

    with pytest.raises(ValueError, match="no more of this"):
        server.client.push_many("trips", parts())
    assert online(server, key, 2) == [0, 1]


def test_columns_of_unequal_length_are_said_with_their_part(server: Running, key: int) -> None:
    with pytest.raises(MalformedColumn, match="message 0"):
        server.client.push_many("trips", [columns(trips(key, 2)) | {"n": [1]}])


def test_a_stream_tells_which_message_a_refused_row_came_in(server: Running, key: int) -> None:
    bad = trips(key + 1, 2)
    bad[1]["event_timestamp"] = ago(-1)
    reply = server.client.push_many(
        "trips", [columns(trips(key, 1)), columns(bad)], mode=pb.PUSH_MODE_BEST_EFFORT
    )
    assert (reply.messages, reply.rows_written, reply.rows_refused) == (2, 2, 1)
    assert [(item.message, item.row) for item in reply.refused] == [(1, 1)]


def test_a_view_names_the_push_sources_that_feed_it(server: Running) -> None:
    assert list(server.client.get_feature_view("trips").push_sources) == ["trips_push"]
    assert list(server.client.get_feature_view("weather").push_sources) == []


def columns(rows: list[dict[str, Any]], key_type: pa.DataType | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    if key_type is not None:
        found["driver_id"] = pa.array(found["driver_id"], key_type)
    return found
