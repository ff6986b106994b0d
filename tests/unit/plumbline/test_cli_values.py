"""Values typed on a command line become the types a schema declares, or an error that names them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from plumbline.cli.models import lineage_tree
from plumbline.cli.output import address
from plumbline.cli.values import columns_of, read_rows, refuse_unknown
from plumbline.registry.client import alias_name, model_name, version_name
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
    assert columns_of([{"x": text}], [field(kind)])["x"].to_pylist() == [value]


@pytest.mark.parametrize(
    "kind", [pb.VALUE_TYPE_INT64, pb.VALUE_TYPE_DOUBLE, pb.VALUE_TYPE_BOOL, pb.VALUE_TYPE_TIMESTAMP]
)
def test_a_value_that_does_not_fit_is_named(kind: pb.ValueType.ValueType) -> None:
    with pytest.raises(typer.BadParameter, match="x='noon' is not a"):
        columns_of([{"x": "noon"}], [field(kind)])


def test_rows_come_from_pairs_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"x": 1}, {"x": 2}]))
    assert read_rows(["x=1", "y=a=b"], None) == [{"x": "1", "y": "a=b"}]
    assert read_rows([], str(path)) == [{"x": 1}, {"x": 2}]
    for pairs, file in ((["x"], None), ([], None), (["x=1"], str(path))):
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
