from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from plumbline.registry.errors import (
    DatasetExists,
    DatasetNotFound,
    InvalidField,
    RunEnded,
    RunNotFound,
)
from registry_service import datasets, runs
from registry_service.commands import FinishRun, LogRun
from registry_service.domain import CodeRevision, Field, RunState, TrainingRun
from tests.contract.registry_service.desk import Desk, definition, sha, snapshot


def _log(desk: Desk, run: TrainingRun, **added: Any) -> TrainingRun:
    nothing: dict[str, Any] = {"parameters": {}, "metrics": {}, "tags": {}, "datasets": ()}
    return desk.do(runs.log, LogRun(run=run.name, **(nothing | added)))


def test_a_run_comes_back_as_it_was_started(desk: Desk) -> None:
    data = desk.dataset(snapshot("train"))
    code = CodeRevision("https://git.example/shop", "4f2a91c0", dirty=True)
    run = desk.run(
        code=code, datasets=[data.digest], parameters={"depth": "7"}, metrics={"auc": 0.5}, seed=-(2**63)
    )
    assert desk.ask(runs.get, run.name) == run
    assert (run.state, run.code, run.datasets) == (RunState.RUNNING, code, (data.digest,))
    assert (run.parameters, run.metrics, run.seed) == ({"depth": "7"}, {"auc": 0.5}, -(2**63))
    assert (run.end_time, run.error, run.actor) == (None, "", "ann")


@pytest.mark.parametrize("code", [None, CodeRevision("notebooks", "", dirty=True)])
def test_code_without_a_commit_is_kept_as_it_is(desk: Desk, code: CodeRevision | None) -> None:
    assert desk.run(code=code).code == code


def test_one_commit_run_clean_and_dirty(desk: Desk) -> None:
    clean, dirty = CodeRevision("a", "abc", dirty=False), CodeRevision("b", "abc", dirty=True)
    assert [desk.run(code=code).code for code in (clean, dirty, clean)] == [clean, dirty, clean]


def test_log_adds_and_keeps_what_was_there(desk: Desk) -> None:
    first, second = desk.dataset(snapshot("a")), desk.dataset(snapshot("b"))
    run = desk.run(parameters={"depth": "7"}, metrics={"auc": 0.5}, datasets=[first.digest])
    after = _log(
        desk,
        run,
        parameters={"rounds": "90", "depth": "7"},
        metrics={"auc": 0.7, "ap": 0.4},
        tags={"host": "n1"},
        datasets=(second.digest, first.digest, second.digest),
    )
    assert after.parameters == {"depth": "7", "rounds": "90"}
    assert after.metrics == {"auc": 0.7, "ap": 0.4}
    assert (after.tags, after.datasets) == ({"host": "n1"}, (first.digest, second.digest))
    assert after.revision > run.revision


def test_a_parameter_is_not_rewritten(desk: Desk) -> None:
    run = desk.run(parameters={"depth": "7"})
    with pytest.raises(InvalidField) as caught:
        _log(desk, run, parameters={"depth": "8", "new": "x"})
    assert [violation.field for violation in caught.value.violations] == ["parameters[depth]"]
    assert desk.ask(runs.get, run.name) == run


def test_limits_hold_for_the_sum_of_what_was_logged(desk: Desk) -> None:
    run = desk.run()
    _log(desk, run, tags={f"a{i}": "" for i in range(60)})
    with pytest.raises(InvalidField, match="tags has 120 entries"):
        _log(desk, run, tags={f"b{i}": "" for i in range(60)})


@pytest.mark.parametrize(("state", "error"), [(RunState.FINISHED, ""), (RunState.FAILED, "no rows")])
def test_a_run_ends_once(desk: Desk, state: RunState, error: str) -> None:
    run = desk.run()
    ended = desk.do(runs.finish, FinishRun(run.name, state, error))
    assert (ended.state, ended.error) == (state, error)
    assert ended.end_time is not None
    assert ended.end_time > run.start_time
    for change in (
        lambda: desk.do(runs.finish, FinishRun(run.name, RunState.FINISHED, "")),
        lambda: _log(desk, run, metrics={"auc": 1.0}),
    ):
        with pytest.raises(RunEnded) as caught:
            change()
        assert caught.value.metadata == {"run": f"runs/{run.name}", "state": state.value}
    assert desk.ask(runs.get, run.name) == ended


def test_unknown_runs_and_datasets(desk: Desk) -> None:
    run = desk.run()
    with pytest.raises(RunNotFound):
        desk.ask(runs.get, "0" * 32)
    with pytest.raises(RunNotFound):
        desk.do(runs.finish, FinishRun("0" * 32, RunState.FINISHED, ""))
    with pytest.raises(DatasetNotFound):
        _log(desk, run, datasets=(sha("?"),))
    with pytest.raises(DatasetNotFound):
        desk.run(datasets=[sha("?")])
    with pytest.raises(DatasetNotFound):
        desk.ask(datasets.get, sha("?"))
    assert desk.runs().items == [run]


def test_lists_are_newest_first_and_go_on_behind_a_row(desk: Desk) -> None:
    started = [desk.run() for _ in range(4)]
    recorded = [desk.dataset(snapshot(name)) for name in "abcd"]
    first_runs = desk.runs(limit=2)
    first_data = desk.datasets(limit=2)
    desk.run()
    desk.dataset(snapshot("later"))
    assert first_runs.items + desk.runs(after=first_runs.end).items == started[::-1]
    assert first_data.items + desk.datasets(after=first_data.end).items == recorded[::-1]


FULL = snapshot(
    "train",
    row_count=336_776,
    schema=(Field("wind", "DOUBLE", "m/s"), Field("late", "BOOL")),
    as_of_start=datetime(2013, 1, 1, 5, 0, 0, 1, tzinfo=UTC),
    as_of_end=datetime(2013, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    feature_service=definition("delays"),
    feature_views=(definition("weather"), definition("carrier")),
    entity_digest=sha("entities"),
    uri="s3://lake/train",
)


def test_a_dataset_comes_back_to_the_microsecond(desk: Desk) -> None:
    recorded = desk.dataset(FULL)
    assert replace(recorded, id=0, create_time=None, actor="") == FULL
    assert (recorded.actor, desk.ask(datasets.get, FULL.digest)) == ("ann", recorded)


def test_times_far_from_now_are_exact_too(desk: Desk) -> None:
    start, end = datetime(1, 1, 1, 0, 0, 0, 3, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 7, tzinfo=UTC)
    recorded = desk.dataset(snapshot("odd", as_of_start=start, as_of_end=end))
    assert (recorded.as_of_start, recorded.as_of_end) == (start, end)


def test_the_same_snapshot_again_is_the_first_record(desk: Desk) -> None:
    first = desk.dataset(FULL)
    other_words = replace(
        FULL,
        display_name="other",
        uri="",
        schema=tuple(replace(field, description="?") for field in FULL.schema),
    )
    assert desk.dataset(other_words) == first
    assert desk.datasets().items == [first]


def test_one_digest_with_other_facts_is_refused(desk: Desk) -> None:
    first = desk.dataset(FULL)
    assert FULL.as_of_end is not None
    other_facts: list[tuple[str, Any]] = [
        ("row_count", 1),
        ("schema", (Field("wind", "FLOAT"), Field("late", "BOOL"))),
        ("as_of_end", FULL.as_of_end - timedelta(microseconds=1)),
        ("feature_service", None),
        ("feature_service", definition("delays", "2")),
        ("feature_views", (definition("carrier"), definition("weather"))),
        ("entity_digest", sha("others")),
    ]
    for field, value in other_facts:
        with pytest.raises(DatasetExists) as caught:
            desk.dataset(replace(FULL, **{field: value}))
        assert caught.value.metadata == {"dataset": f"datasets/{FULL.digest}", "field": field}
        assert desk.ask(datasets.get, FULL.digest) == first
