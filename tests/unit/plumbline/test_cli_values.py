"""Values typed on a command line become the types a schema declares, or an error that names them."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.text import Text

from plumbline.cli.asking import split
from plumbline.cli.lineage import lineage_tree
from plumbline.cli.output import address
from plumbline.cli.values import columns_of, read_rows, refuse_unknown
from plumbline.registry.client import alias_name, model_name, version_name
from plumbline.registry.naming import node_name
from plumbline.registry.v1 import model_registry_service_pb2 as registry_pb
from plumbline.types.v1 import column_pb2 as pb


def field(kind: pb.ValueType.ValueType) -> pb.Field:
    return pb.Field(name="x", type=kind)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (pb.VALUE_TYPE_INT64, "7", 7),
        (pb.VALUE_TYPE_DOUBLE, "7.5", 7.5),
        (pb.VALUE_TYPE_BOOL, "true", True),
        (pb.VALUE_TYPE_STRING, "7", "7"),
        (pb.VALUE_TYPE_STRING, "", ""),
        (pb.VALUE_TYPE_INT64, "", None),
        (pb.VALUE_TYPE_TIMESTAMP, "2013-07-01T12:00:00Z", datetime(2013, 7, 1, 12, tzinfo=UTC)),
        (pb.VALUE_TYPE_TIMESTAMP, "2013-07-01T08:00:00-04:00", datetime(2013, 7, 1, 12, tzinfo=UTC)),
        (pb.VALUE_TYPE_TIMESTAMP, "2013-07-01T12:00:00", datetime(2013, 7, 1, 12, tzinfo=UTC)),
    ],
)
def test_a_value_is_read_as_declared(kind: pb.ValueType.ValueType, text: str, value: Any) -> None:
    assert columns_of([{"x": text}], [field(kind)], text=True)["x"].to_pylist() == [value]


@pytest.mark.parametrize(
    "kind", [pb.VALUE_TYPE_INT64, pb.VALUE_TYPE_DOUBLE, pb.VALUE_TYPE_BOOL, pb.VALUE_TYPE_TIMESTAMP]
)
def test_a_value_that_does_not_fit_is_named(kind: pb.ValueType.ValueType) -> None:
    with pytest.raises(typer.BadParameter, match="x='noon' is not a"):
        columns_of([{"x": "noon"}], [field(kind)], text=True)


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        (pb.VALUE_TYPE_INT64, 7, 7),
        (pb.VALUE_TYPE_INT64, 2.0, 2),
        (pb.VALUE_TYPE_INT64, -(2**63), -(2**63)),
        (pb.VALUE_TYPE_DOUBLE, 7, 7.0),
        (pb.VALUE_TYPE_DOUBLE, "Infinity", math.inf),
        (pb.VALUE_TYPE_BOOL, False, False),
        (pb.VALUE_TYPE_STRING, "7", "7"),
        (pb.VALUE_TYPE_BYTES, "AP8=", b"\x00\xff"),
        (pb.VALUE_TYPE_TIMESTAMP, "2013-07-01", datetime(2013, 7, 1, tzinfo=UTC)),
        (pb.VALUE_TYPE_TIMESTAMP_LIST, ["2013-07-01"], [datetime(2013, 7, 1, tzinfo=UTC)]),
        (pb.VALUE_TYPE_INT64_LIST, [1, 2], [1, 2]),
        (pb.VALUE_TYPE_INT64, None, None),
    ],
)
def test_json_that_says_a_value_is_taken(kind: pb.ValueType.ValueType, cell: Any, value: Any) -> None:
    assert columns_of([{"x": cell}], [field(kind)], text=False)["x"].to_pylist() == [value]


@pytest.mark.parametrize(
    ("kind", "cell", "said"),
    [
        (pb.VALUE_TYPE_INT64, 2.5, "x=2.5 is not an int64, a whole number"),
        (pb.VALUE_TYPE_INT64, True, "x=true is not an int64"),
        (pb.VALUE_TYPE_INT64, "7", 'x="7" is not an int64'),
        (pb.VALUE_TYPE_INT64, "", 'x="" is not an int64'),
        (pb.VALUE_TYPE_INT64, 99999999999999999999, "x=99999999999999999999 is not an int64"),
        (pb.VALUE_TYPE_INT64, 1e18, "x=1e[+]18 is not an int64"),
        (pb.VALUE_TYPE_INT32, 2**31, "x=2147483648 is not an int32"),
        (pb.VALUE_TYPE_DOUBLE, True, "x=true is not a double"),
        (pb.VALUE_TYPE_DOUBLE, 2**53 + 1, "is not a double"),
        (pb.VALUE_TYPE_FLOAT, 1e39, "is not a float"),
        (pb.VALUE_TYPE_BOOL, 1, "x=1 is not a bool"),
        (pb.VALUE_TYPE_STRING, 7, "x=7 is not a string, text"),
        (pb.VALUE_TYPE_STRING, "\ud800", r'x="\\ud800" is not a string'),
        (pb.VALUE_TYPE_BYTES, "no base64!", "is not bytes, as base64"),
        (pb.VALUE_TYPE_TIMESTAMP, 20131230, "x=20131230 is not a timestamp"),
        (pb.VALUE_TYPE_INT64_LIST, [1, 2.5], r"x=\[1, 2.5\] is not a list of int64"),
        (pb.VALUE_TYPE_INT64_LIST, "[1]", "is not a list of int64"),
        (pb.VALUE_TYPE_INT64_LIST, [None], "is not a list of int64"),
    ],
)
def test_json_that_does_not_is_refused_with_its_row(
    kind: pb.ValueType.ValueType, cell: Any, said: str
) -> None:
    with pytest.raises(typer.BadParameter, match=rf"{said}.* \(row 41\)$"):
        columns_of([{"x": None}, {"x": cell}], [field(kind)], text=False, start=40)


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        (pb.VALUE_TYPE_INT64, "2.5"),
        (pb.VALUE_TYPE_INT64, "9223372036854775808"),
        (pb.VALUE_TYPE_INT64, "9" * 5_000),
        (pb.VALUE_TYPE_INT64, "1_000"),
        (pb.VALUE_TYPE_DOUBLE, "1e999"),
        (pb.VALUE_TYPE_FLOAT, "1e39"),
        (pb.VALUE_TYPE_BOOL, "yes"),
        (pb.VALUE_TYPE_TIMESTAMP, "2013-12-30T17:00:00.123456789Z"),
        (pb.VALUE_TYPE_INT64_LIST, "[true]"),
        (pb.VALUE_TYPE_INT64_LIST, "1, 2"),
    ],
)
def test_text_that_does_not_is_refused(kind: pb.ValueType.ValueType, cell: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"^x='.* is not an? .*\(row 0\)$") as caught:
        columns_of([{"x": cell}], [field(kind)], text=True)
    assert len(caught.value.message) < 150


def test_words_are_a_selection_and_values() -> None:
    assert split(["trips:n", "trips:rate", "when=2013-07-01T12:00"]) == (
        ["trips:n", "trips:rate"],
        ["when=2013-07-01T12:00"],
    )
    assert split(["flights"]) == (["flights"], [])
    for words, said in ((["a=1"], "before name=value"), (["flights", "origin"], "'flights' is neither")):
        with pytest.raises(typer.BadParameter, match=said):
            split(words)


def test_rows_come_from_pairs_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"x": 1}, {"x": 2}]))
    assert read_rows(["x=1", "y=a=b"], None) == [{"x": "1", "y": "a=b"}]
    assert read_rows([], str(path)) == [{"x": 1}, {"x": 2}]
    absent = str(tmp_path / "absent.json")
    for pairs, file in ((["x"], None), ([], None), (["x=1"], str(path)), ([], absent)):
        with pytest.raises(typer.BadParameter):
            read_rows(pairs, file)


def test_a_server_is_where_its_address_or_its_port_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PLUMBLINE_REGISTRY_ADDRESS", "PLUMBLINE_REGISTRY_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert address("REGISTRY", 7420) == "127.0.0.1:7420"
    monkeypatch.setenv("PLUMBLINE_REGISTRY_PORT", "9")
    assert address("REGISTRY", 7420) == "127.0.0.1:9"
    monkeypatch.setenv("PLUMBLINE_REGISTRY_ADDRESS", "elsewhere:1")
    assert address("REGISTRY", 7420) == "elsewhere:1"


def test_a_misspelt_name_is_an_error() -> None:
    with pytest.raises(typer.BadParameter, match="'orgin' is not asked for; known are: origin"):
        refuse_unknown([{"orgin": 1}], ["origin"])


def test_short_names_stand_for_full_ones() -> None:
    assert model_name("m") == model_name("models/m") == "models/m"
    assert version_name("m/3") == "models/m/versions/3"
    assert version_name("m@champion") == alias_name("m@champion") == "models/m/aliases/champion"
    assert version_name("m") == "models/m"


def test_nodes_are_named_in_short_or_in_full() -> None:
    assert node_name("m/3") == "models/m/versions/3"
    assert node_name("m@champion") == "models/m/aliases/champion"
    assert node_name("m") == "models/m"
    for full in ("runs/3", "datasets/ab", "featureViews/p/v@sha256:00", "models/m@x", "deployments/1"):
        assert node_name(full) == full


def test_names_are_no_markup() -> None:
    node = registry_pb.LineageNode(name="models/[bold]m", label="model [red]m[/red]")
    tree = lineage_tree(node.name, registry_pb.GetLineageResponse(nodes=[node]))
    assert Text.from_markup(str(tree.label)).plain == "model [red]m[/red]  models/[bold]m"


def test_a_node_that_two_paths_reach_is_drawn_once() -> None:
    graph = registry_pb.GetLineageResponse(
        nodes=[
            registry_pb.LineageNode(name="v", distance=0),
            registry_pb.LineageNode(name="run", distance=1),
            registry_pb.LineageNode(name="data", distance=1, label="3 rows"),
        ],
        edges=[
            registry_pb.LineageEdge(upstream="run", downstream="v", relation="produced_by"),
            registry_pb.LineageEdge(upstream="data", downstream="v", relation="trained_on"),
            registry_pb.LineageEdge(upstream="data", downstream="run", relation="read_from"),
            registry_pb.LineageEdge(upstream="view", downstream="data", relation="read_from"),
        ],
        truncated=True,
    )
    tree = lineage_tree("v", graph)
    assert [str(child.label) for child in tree.children][:1] == ["[dim]produced_by[/dim] run"]
    below_run = [str(child.label) for child in tree.children[0].children]
    assert below_run == ["[dim]read_from[/dim] 3 rows  [dim]data[/dim]"]
    assert "(above)" in str(tree.children[1].label)
    assert "depth limit" in str(tree.children[-1].label)
