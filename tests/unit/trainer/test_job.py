"""The whole job against services in memory."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from plumbline.errors import PlumblineError, Unavailable
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.types.v1 import column_pb2 as types_pb
from tests.support import wait_until
from tests.unit.trainer.conftest import ROWS, Bench, entity_table, fake_features, feature_table
from tests.unit.trainer.fakes import digest_of
from trainer.config import TrainingConfig
from trainer.entities import ROW_NUMBER
from trainer.errors import ConfigError, DataRefused, JoinBroken, TrainerError

_VERSION = "models/late_things/versions/1"
_ALIAS = "models/late_things/aliases/champion"


def test_from_rows_to_champion(bench: Bench) -> None:
    result = bench.job().run()

    registry = bench.registry
    version, run = registry.versions[_VERSION], registry.runs["runs/1"]
    assert (result.outcome, result.version, result.version_number) == ("finished", _VERSION, 1)
    assert version.state == res.VERSION_STATE_READY
    assert registry.aliases[_ALIAS].version == _VERSION
    assert bench.reporter.steps == [
        "features",
        "split",
        "matrix",
        "train",
        "baselines",
        "register",
        "promote",
    ]

    # What was trained, by whom, on what.
    assert run.state == res.RUN_STATE_FINISHED
    assert (run.code.repository, run.code.commit, run.code.dirty) == ("shop", "0123abc", False)
    assert run.parameters["training.parameters.num_leaves"] == "7"
    assert run.parameters["split.valid_start"] == "2024-01-07T00:00:00Z"
    assert (version.run, list(version.datasets), list(run.datasets)) == (
        run.name,
        [*registry.datasets],
        [*registry.datasets],
    )
    assert version.tags["feast.feature_service"] == "service"

    # The signature: inputs in order, where each comes from, what the numbers of a category stand for.
    inputs = [
        (i.name, i.type, i.source, i.feature_reference, list(i.categories)) for i in version.signature.inputs
    ]
    assert inputs == [
        ("shop", types_pb.VALUE_TYPE_STRING, res.INPUT_SOURCE_REQUEST, "", ["Bergen", "Oslo", "Ålesund"]),
        ("signal", types_pb.VALUE_TYPE_DOUBLE, res.INPUT_SOURCE_FEATURE, "things:signal", []),
        ("noise", types_pb.VALUE_TYPE_INT64, res.INPUT_SOURCE_FEATURE, "things:noise", []),
        ("kind", types_pb.VALUE_TYPE_STRING, res.INPUT_SOURCE_FEATURE, "things:kind", ["cold", "warm"]),
    ]
    assert [(o.name, o.type) for o in version.signature.outputs] == [
        ("probability", types_pb.VALUE_TYPE_DOUBLE)
    ]
    assert version.signature.feature_service_digest == digest_of("first")
    assert [key.name for key in version.signature.join_keys] == ["thing", "shop"]

    # The files.
    assert [(f.path, f.media_type) for f in version.files] == [
        ("model.txt", "text/plain"),
        ("metrics.json", "application/json"),
        ("environment.txt", "text/plain"),
    ]
    assert registry.files[_VERSION, "model.txt"].startswith(b"tree\n")
    assert registry.files[_VERSION, "environment.txt"] == b"numpy==2\n"

    # How good it is.
    model, base, without = result.evaluated
    assert model.test["auc"] > without.test["auc"] + 0.05 > base.test["auc"] == 0.5
    assert [(e.split, e.metrics["auc"]) for e in version.evaluations] == [
        ("validation", model.valid["auc"]),
        ("test", model.test["auc"]),
    ]
    assert run.metrics["test.auc"] == model.test["auc"]
    assert run.metrics["without_features.test.auc"] == without.test["auc"]
    metrics = json.loads(registry.files[_VERSION, "metrics.json"])
    assert metrics["metrics"]["model"]["test"]["auc"] == model.test["auc"]


def test_the_dataset_on_record_is_the_snapshot_on_disk(bench: Bench) -> None:
    result = bench.job().run()
    (dataset,) = bench.registry.datasets.values()
    assert result.dataset is not None
    assert dataset.name == f"datasets/{result.dataset.digest}"
    assert dataset.row_count == ROWS
    assert dataset.feature_service == f"featureServices/shop/service@{digest_of('first')}"
    assert list(dataset.feature_views) == [f"featureViews/shop/things@{digest_of('vfirst')}"]
    assert dataset.as_of_start.ToJsonString() == "2024-01-01T00:00:00Z"
    assert dataset.uri == Path(result.snapshot).absolute().as_uri()
    table = pq.read_table(result.snapshot)
    assert [f.name for f in dataset.schema] == table.schema.names
    assert table.equals(
        pa.Table.from_arrays([*entity_table().columns, *feature_table().columns], names=table.schema.names)
    )
    assert [path.name for path in Path(result.snapshot).parent.iterdir()] == [Path(result.snapshot).name]


def test_what_is_needed_to_train_again_is_on_record(bench: Bench) -> None:
    result = bench.job(training={"num_boost_round": 9, "threads": 1, "seed": 5}).run()
    run = bench.registry.runs["runs/1"]
    config = TrainingConfig.model_validate(yaml.safe_load(run.config))
    assert (config.training.num_boost_round, config.training.seed) == (9, 5)
    # Defaults are written out: they may be others in a later version.
    assert config.as_yaml() == run.config
    assert "early_stopping_rounds: 50" in run.config
    assert (run.environment.python_version, run.environment.platform) == ("3.11.7", "Linux-6")
    assert list(run.environment.packages) == ["numpy==2"]

    (dataset,) = bench.registry.datasets.values()
    recipe = json.loads(dataset.recipe)
    assert recipe["entity_rows"] == {
        "path": str(bench.folder / "entities.parquet"),
        "uri": (bench.folder / "entities.parquet").as_uri(),
        "event_timestamp": "event_timestamp",
        "label": "late",
        "label_timestamp": "known_at",
        "row_id": ["row"],
        "rows": ROWS,
        "digest": f"sha256:{dataset.entity_digest}",
    }
    assert recipe["features"]["digest"] == digest_of("first")
    assert recipe["split"]["at"] == {
        "valid_start": "2024-01-07T00:00:00Z",
        "test_start": "2024-01-09T00:00:00Z",
    }
    assert recipe["split"]["rows"] == result.split
    service, view = dataset.feature_definitions
    assert service.name == dataset.feature_service
    assert view.name == dataset.feature_views[0]
    assert [f["name"] for f in json.loads(view.spec)["features"]] == ["signal", "noise", "kind"]
    assert json.loads(service.spec)["projections"][0]["view"] == "things"


def test_a_view_that_changes_after_the_join_stops_the_job(bench: Bench) -> None:
    bench.features.view_definition = "second"
    with pytest.raises(JoinBroken, match="definition of 'things' changed while"):
        bench.job().run()


def test_the_label_never_leaves_the_job(bench: Bench) -> None:
    bench.job().run()
    assert bench.features.sent is not None
    assert bench.features.sent.schema.names == ["event_timestamp", "thing", "shop", ROW_NUMBER]


def test_the_digest_does_not_depend_on_how_the_rows_came(bench: Bench) -> None:
    first = bench.job(dry_run=True).run()
    bench.features.batch_rows = 37
    pq.write_table(entity_table(), bench.folder / "entities.parquet", row_group_size=11)
    second = bench.job(dry_run=True).run()
    bench.features.definition = "second"
    third = bench.job(dry_run=True).run()
    assert first.dataset
    assert second.dataset
    assert third.dataset
    assert first.dataset.digest == second.dataset.digest
    # The same rows by other definitions: another dataset, of the same entity rows.
    assert third.dataset.digest != first.dataset.digest
    assert third.dataset.entity_digest == first.dataset.entity_digest


def test_a_second_run_makes_the_same_model_and_leaves_the_champion(bench: Bench) -> None:
    bench.job().run()
    result = bench.job().run()
    files = bench.registry.files
    assert files[_VERSION, "model.txt"] == files["models/late_things/versions/2", "model.txt"]
    assert len(bench.registry.datasets) == 1
    assert result.promotion
    assert not result.promotion.promoted
    assert "a tie" in result.promotion.reason
    # The registry has the reason, though nothing moved; so it has where something did.
    first, second = bench.registry.runs["runs/1"], bench.registry.runs["runs/2"]
    assert (first.tags["promotion.outcome"], second.tags["promotion.outcome"]) == ("moved", "kept")
    assert first.tags["promotion.alias"] == second.tags["promotion.alias"] == _ALIAS
    assert first.tags["promotion.reason"] == bench.registry.aliases[_ALIAS].reason
    assert second.tags["promotion.reason"] == result.promotion.reason
    assert first.state == second.state == res.RUN_STATE_FINISHED
    assert bench.registry.aliases[_ALIAS].version == _VERSION


def test_a_champion_with_fewer_inputs_is_compared_on_the_same_rows(bench: Bench) -> None:
    first = bench.job(inputs={"entity_columns": ["shop"], "exclude": ["signal", "kind"]}).run()
    result = bench.job().run()
    assert result.promotion
    assert result.promotion.promoted
    # The champion's model file, read back and fed by its own signature, is as good as when it was trained.
    assert result.promotion.champion == first.evaluated[0].test["auc"]


def test_a_champion_with_inputs_that_are_gone_is_not_compared(bench: Bench) -> None:
    bench.job().run()
    bench.features = fake_features(feature_table().drop_columns(["kind"]))
    result = bench.job().run()
    assert result.promotion
    assert not result.promotion.promoted
    assert "cannot be compared" in result.promotion.reason


def test_a_dry_run_registers_nothing(bench: Bench) -> None:
    result = bench.job(dry_run=True).run()
    assert (result.outcome, result.version, result.promotion) == ("dry_run", "", None)
    assert len(result.evaluated) == 3
    assert not bench.registry.runs
    assert not bench.registry.datasets


@pytest.mark.parametrize(
    "method",
    [
        "record_dataset",
        "log_run",
        "create_model",
        "create_version",
        "upload_file",
        "finalize_version",
        "record_evaluation",
    ],
)
def test_a_failure_anywhere_leaves_a_failed_run_and_no_ready_version(bench: Bench, method: str) -> None:
    bench.registry.fail_at, bench.registry.failure = method, Unavailable("the registry went away")
    with pytest.raises(Unavailable):
        bench.job().run()
    run = bench.registry.runs["runs/1"]
    assert run.state == res.RUN_STATE_FAILED
    assert run.error == "Unavailable: the registry went away"
    assert all(v.state == res.VERSION_STATE_ARCHIVED for v in bench.registry.versions.values())
    assert not bench.registry.aliases


def test_an_interrupted_job_is_a_failed_run(bench: Bench) -> None:
    bench.registry.fail_at, bench.registry.failure = "upload_file", KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bench.job().run()
    assert bench.registry.runs["runs/1"].error == "KeyboardInterrupt"


def test_a_registry_that_is_gone_is_told_but_does_not_hide_the_first_error(bench: Bench) -> None:
    def lose_rows(table: pa.Table) -> pa.Table:
        bench.registry.fail_at = "finish_run"
        return table.slice(1)

    bench.features.tamper = lose_rows
    with pytest.raises(JoinBroken):
        bench.job().run()
    assert bench.reporter.warnings == ["runs/1 could not be marked as failed: the registry is out of order"]


def test_a_failed_promotion_takes_nothing_back(bench: Bench) -> None:
    bench.registry.fail_at = "set_alias"
    with pytest.raises(PlumblineError, match="out of order"):
        bench.job().run()
    run = bench.registry.runs["runs/1"]
    assert run.state == res.RUN_STATE_FINISHED
    assert run.tags["promotion.outcome"] == "failed"
    assert run.tags["promotion.reason"] == "PlumblineError: the registry is out of order"
    assert bench.registry.versions[_VERSION].state == res.VERSION_STATE_READY


def test_a_promotion_that_could_not_be_told_is_told_once_more(bench: Bench) -> None:
    """The alias moved, then the registry was gone for one call: the run says "moved" all the same."""
    registry = bench.registry
    log_run = registry.log_run

    def refuse_once(name: str, **added: Any) -> res.TrainingRun:
        if "promotion.outcome" in added["tags"]:
            registry.log_run = log_run  # type: ignore[method-assign]
            raise Unavailable("the registry went away")
        return log_run(name, **added)

    registry.log_run = refuse_once  # type: ignore[method-assign]
    job = bench.job()
    with pytest.raises(Unavailable):
        job.run()
    assert registry.runs["runs/1"].state == res.RUN_STATE_FINISHED
    assert registry.runs["runs/1"].tags["promotion.outcome"] == "moved"
    assert job.result.promotion is not None
    assert registry.versions[_VERSION].state == res.VERSION_STATE_READY


def test_runs_that_never_ended_are_named_at_the_start(bench: Bench) -> None:
    def left_running(name: str, days: int, actor: str = "", display_name: str = "train late_things") -> None:
        run = res.TrainingRun(name=name, state=res.RUN_STATE_RUNNING, actor=actor, display_name=display_name)
        run.start_time.FromDatetime(datetime.now(UTC) - timedelta(days=days))
        bench.registry.runs[name] = run

    left_running("runs/forgotten", 2)
    left_running("runs/under_way", 0)
    left_running("runs/of_somebody_else", 2, actor="ann")
    left_running("runs/of_something_else", 2, display_name="train other")
    bench.job().run()
    (warning,) = bench.reporter.warnings
    assert "plumbline runs fail runs/forgotten --reason" in warning


def test_runs_with_a_lease_end_by_themselves(bench: Bench) -> None:
    bench.job().run()
    run = bench.registry.runs["runs/1"]
    run.state, run.error = res.RUN_STATE_RUNNING, ""
    run.start_time.FromDatetime(datetime.now(UTC) - timedelta(days=2))
    bench.job().run()
    assert bench.reporter.warnings == []


def test_the_registry_hears_of_a_job_while_it_runs(bench: Bench) -> None:
    def wait_for_a_sign(table: pa.Table) -> pa.Table:
        wait_until(lambda: len(bench.registry.renewals) >= 2, what="two renewals")
        return table

    bench.features.tamper = wait_for_a_sign
    bench.job(lease=timedelta(milliseconds=60)).run()
    assert set(bench.registry.renewals) == {"runs/1"}
    assert bench.registry.runs["runs/1"].state == res.RUN_STATE_FINISHED
    assert "trainer-lease" not in {thread.name for thread in threading.enumerate()}


def test_an_archived_model_is_refused(bench: Bench) -> None:
    model = bench.registry.create_model("late_things")
    model.archive_time.GetCurrentTime()
    with pytest.raises(TrainerError, match="'late_things' is archived"):
        bench.job().run()


def _replaced(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    return table.set_column(
        table.schema.names.index(name), name, pa.array(values, table.schema.field(name).type)
    )


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda t: t.slice(1), "another order"),
        (lambda t: t.slice(0, ROWS - 1), "3,000 rows were sent to feature_service and 2,999 came back"),
        (lambda t: pa.concat_tables([t, t.slice(0, 1)]), "at least 3,001 came back|another order"),
        (lambda t: t.take(pa.array([1, 0, *range(2, ROWS)])), "another order"),
        (lambda t: t.drop_columns([ROW_NUMBER]), f"columns {ROW_NUMBER} that it was sent"),
        (lambda t: t.drop_columns(["signal", "noise", "kind"]), "added no feature"),
        (lambda t: t.rename_columns([*t.schema.names[:-1], "sort"]), "lists other features"),
    ],
)
def test_a_join_that_is_not_what_was_asked_for_stops_the_job(
    bench: Bench, tamper: object, message: str
) -> None:
    bench.features.tamper = tamper  # type: ignore[assignment]
    with pytest.raises(JoinBroken, match=message):
        bench.job().run()
    # Unfinished files, whose names begin with a dot, are gone too.
    assert list((bench.folder / "snapshots").glob("*")) == []


def test_definitions_that_change_during_the_join_stop_the_job(bench: Bench) -> None:
    def change(table: pa.Table) -> pa.Table:
        bench.features.definition = "second"
        return table

    bench.features.tamper = change
    with pytest.raises(JoinBroken, match="changed while the features were read"):
        bench.job().run()


def test_a_feature_named_as_an_entity_column_is_refused(bench: Bench) -> None:
    bench.features = fake_features(feature_table().rename_columns(["late", "noise", "kind"]))
    with pytest.raises(DataRefused, match="the features late have names of columns"):
        bench.job().run()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["thing"]), "no column 'thing', which the feature service 'service' needs"),
        (lambda t: t.drop_columns(["late"]), "no column 'late', which the configuration names"),
        (lambda t: t.slice(0, 0), "has no row"),
        (lambda t: t.set_column(5, "known_at", pc.cast(t["known_at"], pa.int64())), "'known_at' is int64"),
        (lambda t: _replaced(t, "late", [None, *t["late"].to_pylist()[1:]]), "'late' is null in 1 of 3,000"),
        (lambda t: _replaced(t, "late", [2, *t["late"].to_pylist()[1:]]), r"'late' is 2 in row 0 \(1 such"),
        (lambda t: _replaced(t, "late", [1] * ROWS), "have the label 1; two classes are needed"),
        (
            lambda t: _replaced(t, "row", [1, *t["row"].to_pylist()[1:]]),
            r"1 row ids come more than once.*'1'",
        ),
        (
            lambda t: _replaced(t, "known_at", [None, *t["known_at"].to_pylist()[1:]]),
            "'known_at' is null in 1",
        ),
        (lambda t: t.slice(0, 100), "no row falls into valid"),
    ],
)
def test_rows_that_cannot_be_learnt_from(bench: Bench, change: object, message: str) -> None:
    table = change(entity_table())  # type: ignore[operator]
    bench.write_entities(table)
    bench.features = fake_features(feature_table().slice(0, max(table.num_rows, 1)))
    with pytest.raises(DataRefused, match=message):
        bench.job().run()


def test_a_file_that_is_no_parquet_or_not_there(bench: Bench) -> None:
    (bench.folder / "entities.parquet").write_text("row,late")
    with pytest.raises(DataRefused, match="is not a Parquet file"):
        bench.job().run()
    (bench.folder / "entities.parquet").unlink()
    with pytest.raises(DataRefused, match="cannot read"):
        bench.job().run()


def test_an_empty_feature_stops_the_job_unless_told_otherwise(bench: Bench) -> None:
    empty = feature_table().set_column(1, "noise", pa.nulls(ROWS, pa.int64()))
    bench.features = fake_features(empty)
    with pytest.raises(DataRefused, match="noise: no value in any training row"):
        bench.job().run()
    assert bench.job(checks={"missing_input": "warn"}).run().warnings[0].startswith("noise: no value")


def test_a_constant_feature_is_a_warning_unless_told_otherwise(bench: Bench) -> None:
    bench.features = fake_features(feature_table().set_column(1, "noise", pa.array(np.full(ROWS, 4))))
    assert bench.job().run().warnings[0] == "noise: one and the same value in all training rows"
    with pytest.raises(DataRefused, match="noise: one and the same value"):
        bench.job(checks={"constant_input": "fail"}).run()


def test_a_baseline_of_unknown_inputs_is_a_mistake_of_the_configuration(bench: Bench) -> None:
    with pytest.raises(ConfigError, match=r"baselines\.other: price not among the inputs"):
        bench.job(baselines=[{"name": "other", "inputs": ["price"]}]).run()


def test_regression_end_to_end(bench: Bench) -> None:
    training = {"objective": "regression", "num_boost_round": 20, "early_stopping_rounds": 5, "threads": 1}
    result = bench.job(training=training).run()
    assert result.promotion
    assert result.promotion.metric == "rmse"
    assert result.evaluated[0].test["rmse"] < result.evaluated[1].test["rmse"]
    assert bench.registry.versions[_VERSION].signature.outputs[0].name == "prediction"
