"""The main job on real flights: from the package's files to live predictions, twice."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import pytest

from plumbline import RegistryClient
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from tests.e2e.conftest import Stack

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def summary(stack: Stack) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((stack.state / "demo" / "summary.json").read_text())
    return result


def test_every_step_is_told_with_its_time(summary: dict[str, Any]) -> None:
    names = [step["name"] for step in summary["steps"]]
    assert names == ["ingest", "stack", "train", "materialize", "serve", "predict"]
    assert all(step["seconds"] >= 0 for step in summary["steps"])


def test_no_flight_is_lost_on_the_way_to_the_training_set(stack: Stack, summary: dict[str, Any]) -> None:
    ingest = json.loads((stack.state / "data" / "flights" / "ingest.json").read_text())
    flights = ingest["files"]["flights"]
    assert flights["rows_in"] == flights["rows_out"] + sum(flights["refused"].values())
    assert flights["rows_out"] == ingest["entities"] + sum(ingest["ineligible"].values())
    features = next(step for step in summary["training"]["steps"] if step["rows_in"] == ingest["entities"])
    assert features["rows_out"] == ingest["entities"]
    assert summary["training"]["dataset"]["rows"] == ingest["entities"]


def test_the_model_beats_the_baselines(summary: dict[str, Any]) -> None:
    auc = {name: metrics["test"]["auc"] for name, metrics in summary["training"]["metrics"].items()}
    model = max(auc, key=lambda name: auc[name])
    assert len(auc) >= 3
    assert "schedule" not in model
    assert auc[model] > auc["schedule_only"] + 0.05


def test_the_first_version_is_champion_and_served(summary: dict[str, Any]) -> None:
    assert summary["training"]["version"] == "models/flight_delay/versions/1"
    assert summary["training"]["promotion"]["promoted"] is True
    assert summary["served"]["model_version"] == "models/flight_delay/versions/1"


def test_five_flights_are_predicted_alike_over_both_doors(summary: dict[str, Any]) -> None:
    flights = summary["predictions"]["flights"]
    assert len(flights) == 5
    for flight in flights:
        assert 0 < flight["probability_late"] < 1
        assert flight["probability_late"] == flight["probability_late_http"]
        present = [status for status in flight["statuses"].values() if status == "PRESENT"]
        assert len(present) > 20


def test_what_is_served_is_what_the_point_in_time_join_says(summary: dict[str, Any]) -> None:
    parity = summary["predictions"]["parity"]
    assert parity["cells"] >= 5 * 30
    assert parity["differences"] == []


def test_lineage_reaches_from_a_feature_view_to_the_alias(stack: Stack, summary: dict[str, Any]) -> None:
    with RegistryClient(stack.env["PLUMBLINE_REGISTRY_ADDRESS"]) as registry:
        up = registry.get_lineage(summary["training"]["version"])
        kinds = {node.kind for node in up.nodes}
        assert kinds >= {
            pb.LINEAGE_NODE_KIND_RUN,
            pb.LINEAGE_NODE_KIND_DATASET,
            pb.LINEAGE_NODE_KIND_FEATURE_SERVICE,
            pb.LINEAGE_NODE_KIND_FEATURE_VIEW,
            pb.LINEAGE_NODE_KIND_CODE_REVISION,
        }
        view = next(node.name for node in up.nodes if node.name.startswith("featureViews/flights/weather@"))
        down = registry.get_lineage(view, direction=pb.LINEAGE_DIRECTION_DOWNSTREAM)
        assert "models/flight_delay/aliases/champion" in {node.name for node in down.nodes}


def test_the_summary_is_readable(stack: Stack) -> None:
    text = (stack.state / "first-run.txt").read_text()
    for word in (
        "average precision",
        "models/flight_delay/versions/1",
        "feature view flights/weather",
        "P(late)",
    ):
        assert word in text
    assert "make stack-down" in text
    assert "Traceback" not in text
    assert "Warning" not in text


def test_a_second_run_registers_version_2_on_the_same_data(stack: Stack, summary: dict[str, Any]) -> None:
    done = stack.demo()
    assert done.returncode == 0, done.stderr
    second = json.loads((stack.state / "demo" / "summary.json").read_text())
    assert second["training"]["version"] == "models/flight_delay/versions/2"
    assert second["training"]["dataset"]["digest"] == summary["training"]["dataset"]["digest"]
    # The same data, parameters and seed make the same bytes, which beat nobody.
    assert second["training"]["manifest_digest"] == summary["training"]["manifest_digest"]
    assert second["training"]["promotion"]["promoted"] is False
    assert second["served"]["model_version"] == "models/flight_delay/versions/1"
    assert second["seconds"] < summary["seconds"]


def test_status_finds_the_stack_from_a_shell_without_its_ports(stack: Stack) -> None:
    bare = {name: value for name, value in stack.env.items() if not name.endswith(("_PORT", "_ADDRESS"))}
    done = replace(stack, env=bare).program("status")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("ready") == 3
    assert f"127.0.0.1:{stack.port('PLUMBLINE_SERVING_PORT')}" in done.stdout


def test_the_stack_comes_back_ready_after_a_stop(stack: Stack) -> None:
    assert stack.program("down").returncode == 0
    assert stack.program("status").returncode == 1
    again = stack.program("up")
    assert again.returncode == 0, again.stderr
    # Ready means predicting: the champion is there, so nobody is told to wait.
    assert stack.program("status").stdout.count("ready") == 3
    predicted = stack.run(
        sys.executable, "-m", "plumbline", "predict", "--rows", "examples/flights/rows.json"
    )
    assert predicted.returncode == 0, predicted.stderr
