"""`python -m trainer` against a real feature_service and a real registry_service."""

from __future__ import annotations

import json
import platform
import signal
from datetime import timedelta
from pathlib import Path

import grpc
import lightgbm as lgb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from plumbline.features.client import FeatureClient
from plumbline.registry.v1 import governance_pb2 as gov
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub
from tests.integration.trainer.conftest import ROWS, Stack, visits_table
from tests.support import wait_until
from trainer.config import TrainingConfig, load


def _runs(stack: Stack) -> list[res.TrainingRun]:
    with grpc.insecure_channel(stack.registry) as channel:
        reply = ModelRegistryServiceStub(channel).ListRuns(pb.ListRunsRequest(), timeout=10)
    return list(reply.runs)


def test_from_rows_to_champion_and_once_more(stack: Stack) -> None:
    config, result_file = stack.config(), stack.folder / "result.json"
    process = stack.start("--config", str(config), "--json", "--result", str(result_file))
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    result = json.loads(output)
    assert result == json.loads(result_file.read_text())
    assert [step["name"] for step in result["steps"]][:2] == ["features", "split"]
    assert result["steps"][0]["rows_in"] == result["steps"][0]["rows_out"] == ROWS
    assert result["metrics"]["model"]["test"]["auc"] > result["metrics"]["shop_only"]["test"]["auc"] + 0.1

    version = stack.client.get_version("late_orders@champion")
    assert version.name == result["version"] == "models/late_orders/versions/1"
    assert version.actor == "tester"
    assert version.evaluations[-1].metrics["auc"] == result["metrics"]["model"]["test"]["auc"]
    references = {item.name: item.feature_reference for item in version.signature.inputs}
    assert references == {
        "shop": "",
        "load": "visits:load",
        "weather": "visits:weather",
        "strain": "strained:strain",
    }
    assert [f.name for f in version.signature.request_data] == ["price"]

    # What is needed to train it again.
    run = stack.client.get_run(version.run)
    kept = TrainingConfig.model_validate(yaml.safe_load(run.config))
    assert kept == load(config, [], {})
    assert run.environment.python_version == platform.python_version()
    assert any(package.startswith("lightgbm==") for package in run.environment.packages)
    record = stack.client.get_dataset(version.datasets[0])
    recipe = json.loads(record.recipe)
    assert recipe["entity_rows"]["uri"] == (stack.folder / "orders.parquet").as_uri()
    assert recipe["split"]["rows"] == result["split"]
    specs = {item.name: json.loads(item.spec) for item in record.feature_definitions}
    assert set(specs) == {record.feature_service, *record.feature_views}
    (strained,) = [spec for name, spec in specs.items() if "/strained@" in name]
    assert [f["name"] for f in strained["request_data"]] == ["price"]

    # The way back: from the model to the data and the definitions it came from.
    lineage = {node.name for node in stack.client.get_lineage(version.name).nodes}
    service, dataset = result["dataset"]["feature_service"], result["dataset"]["name"]
    assert {dataset, result["run"]} < lineage
    assert f"featureServices/shop/orders_v1@{service['digest']}" in lineage
    assert any(name.startswith("featureViews/shop/visits@sha256:") for name in lineage)

    # The file served from is the model that was judged.
    stack.client.download_file(version.name, "model.txt", stack.folder / "model.txt")
    booster = lgb.Booster(model_str=(stack.folder / "model.txt").read_text())
    assert booster.feature_name() == list(references)

    code, output, errors = stack.run("--config", str(config), "--json")
    assert code == 0, errors
    second = json.loads(output)
    assert second["version"] == "models/late_orders/versions/2"
    assert second["dataset"]["digest"] == result["dataset"]["digest"]
    assert second["promotion"]["promoted"] is False
    assert "a tie" in second["promotion"]["reason"]
    run = stack.client.get_run(second["run"])
    assert run.state == res.RUN_STATE_FINISHED
    assert run.tags["promotion.outcome"] == "kept"
    assert run.tags["promotion.reason"] == second["promotion"]["reason"]
    files = {f.path: f.sha256 for f in stack.client.get_version(second["version"]).files}
    assert files["model.txt"] == {f.path: f.sha256 for f in version.files}["model.txt"]
    assert stack.client.get_version("late_orders@champion").name == version.name


def test_a_version_that_does_not_meet_the_policy_is_registered_but_not_promoted(stack: Stack) -> None:
    stack.client.create_model("late_orders")
    policy = gov.PromotionPolicy(name="late_orders@champion", approvals=gov.ApprovalRule(count=1))
    stack.client.set_promotion_policy(policy, reason="as agreed")
    code, output, errors = stack.run("--config", str(stack.config()), "--json")
    assert code == 0, errors
    result = json.loads(output)
    assert result["promotion"]["promoted"] is False
    assert "approvals: expected approved by 1; found approved by 0" in result["promotion"]["reason"]
    run = stack.client.get_run(result["run"])
    assert (run.tags["promotion.outcome"], run.state) == ("kept", res.RUN_STATE_FINISHED)
    assert run.tags["promotion.reason"] == result["promotion"]["reason"]
    assert not stack.client.get_version(result["version"]).aliases


def test_the_snapshot_holds_what_was_known_when(stack: Stack) -> None:
    code, output, errors = stack.run("--config", str(stack.config()), "--dry-run", "--json")
    assert code == 0, errors
    known = {(row["shop"], row["event_timestamp"]): row for row in visits_table().to_pylist()}
    rows = pq.read_table(json.loads(output)["dataset"]["path"]).to_pylist()
    assert [row["order"] for row in rows] == list(range(ROWS))
    for row in rows[:: ROWS // 50]:
        then = known[row["shop"], row["event_timestamp"].replace(minute=0)]
        assert row["load"] == then["load"]
        assert row["weather"] == then["weather"]
        assert row["strain"] == pytest.approx(row["price"] * then["load"])
        assert row["event_timestamp"] - then["event_timestamp"] < timedelta(hours=1)
    assert _runs(stack) == []


def test_what_it_prints_is_for_people(stack: Stack) -> None:
    code, output, errors = stack.run("--config", str(stack.config()))
    assert code == 0, errors
    assert "registered  models/late_orders/versions/1" in output
    assert "models/late_orders/aliases/champion now points at it" in output
    assert "4,000 rows, 3 features" in errors


def test_one_job_is_one_trace(stack: Stack) -> None:
    code, _, errors = stack.run("--config", str(stack.config()))
    assert code == 0, errors
    spans = [span for span in stack.spans.get_finished_spans() if span.context is not None]
    assert {span.name.rsplit("/", 1)[-1] for span in spans} >= {
        "StartRun",
        "UploadFile",
        "SetAlias",
        "FinishRun",
    }
    assert len({span.context.trace_id for span in spans if span.context}) == 1
    assert all(span.parent is not None for span in spans)


def test_an_unknown_feature_service_fails_the_run(stack: Stack) -> None:
    result_file = stack.folder / "result.json"
    config = stack.config(features={"service": "nobody"})
    code, _, errors = stack.run("--config", str(config), "--result", str(result_file))
    assert code == 1
    assert "nobody" in errors
    assert "Traceback" not in errors
    (run,) = _runs(stack)
    assert run.state == res.RUN_STATE_FAILED
    assert "nobody" in run.error
    written = json.loads(result_file.read_text())
    assert (written["outcome"], written["run"]) == ("failed", run.name)
    assert "nobody" in written["error"]


def test_a_join_key_of_the_wrong_type_fails_the_run_with_the_servers_words(stack: Stack) -> None:
    path = stack.folder / "orders.parquet"
    orders = pq.read_table(path)
    place = orders.schema.names.index("shop")
    pq.write_table(orders.set_column(place, "shop", orders["order"]), path)
    code, _, errors = stack.run("--config", str(stack.config()))
    assert code == 1
    assert "shop" in errors
    assert "Traceback" not in errors
    (run,) = _runs(stack)
    assert run.error.startswith("TypeMismatch: ")
    assert list((stack.folder / "snapshots").glob("*")) == []


@pytest.mark.parametrize("which", ["PLUMBLINE_FEATURES_ADDRESS", "PLUMBLINE_REGISTRY_ADDRESS"])
def test_a_server_that_is_not_there_is_named(stack: Stack, which: str) -> None:
    code, _, errors = stack.run("--config", str(stack.config()), **{which: "127.0.0.1:1"})
    assert code == 1
    assert "127.0.0.1:1" in errors
    assert "Traceback" not in errors
    assert [run.state for run in _runs(stack)] == ([res.RUN_STATE_FAILED] if "FEATURES" in which else [])


def test_bad_configuration_and_usage_end_with_2(stack: Stack) -> None:
    config = str(stack.config())
    code, _, errors = stack.run("--config", config, "--set", "training.speed=9")
    assert (code, "training.speed: unknown key" in errors) == (2, True)
    code, _, errors = stack.run("--config", config, PLUMBLINE_TRAINER_TRACE_SAMPLE_RATIO="7")
    assert (code, "PLUMBLINE_TRAINER_TRACE_SAMPLE_RATIO" in errors) == (2, True)
    assert stack.run("--colour")[0] == 2
    # Found only once the features are known; the run that had begun is closed.
    code, _, errors = stack.run("--config", config, "--set", "inputs.exclude=[sunshine]")
    assert (code, "inputs.exclude: sunshine not among the features" in errors) == (2, True)
    assert [run.state for run in _runs(stack)] == [res.RUN_STATE_FAILED]


@pytest.mark.parametrize(
    ("stop", "code", "error"),
    [(signal.SIGTERM, 130, "KeyboardInterrupt"), (signal.SIGKILL, -9, "given up: nothing was heard of it")],
)
def test_a_stop_asked_for_closes_the_run_and_a_kill_lets_its_lease_run_out(
    stack: Stack, stop: signal.Signals, code: int, error: str
) -> None:
    endless = {"num_boost_round": 10_000_000, "early_stopping_rounds": 10_000_000, "threads": 1}
    snapshots = Path(stack.folder / "snapshots")
    config = str(stack.config(training=endless))
    process = stack.start("--config", config, PLUMBLINE_TRAINER_LEASE_SECONDS="3")
    try:
        wait_until(lambda: bool(list(snapshots.glob("[0-9a-f]*.parquet"))), 60, "a snapshot")
        process.send_signal(stop)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    wait_until(lambda: _runs(stack)[0].state != res.RUN_STATE_RUNNING, 30, "the end of the run")
    (run,) = _runs(stack)
    assert run.state == res.RUN_STATE_FAILED
    assert run.error.startswith(error)


def test_rows_of_many_messages_come_back_whole(stack: Stack) -> None:
    """Batches longer than a message of the wire: Arrow must not take the end of a message for the end."""
    orders = pa.concat_tables([pq.read_table(stack.folder / "orders.parquet")] * 40).combine_chunks()
    sent = orders.select(["order", "event_timestamp", "shop", "price"])
    with FeatureClient(stack.features) as features:
        joined = features.get_historical_features("orders_v1", sent)
        table = joined.read_all()
    assert joined.summary.rows_out == table.num_rows == 40 * ROWS
    assert table.nbytes > 4 * 1024 * 1024
    assert table.select(sent.schema.names).equals(sent)
