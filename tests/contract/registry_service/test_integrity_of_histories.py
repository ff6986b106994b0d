"""Whatever the registry is asked to do, in whatever order, it stays intact; a change past it is found."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings
from sqlalchemy import Engine

from plumbline.errors import PlumblineError
from registry_service import aliases, models, runs, versions
from registry_service.commands import (
    ClearAlias,
    CreateVersion,
    FinishRun,
    LogRun,
    RecordEvaluation,
    SetAlias,
    UpdateModel,
    UpdateVersion,
    UploadFile,
)
from registry_service.domain import AliasRef, RunState, VersionRef
from registry_service.integrity.findings import Finding
from registry_service.integrity.verification import verify
from registry_service.stores.local import LocalBlobs
from tests.contract.registry_service.desk import Desk, model_file, sha, snapshot
from tests.contract.registry_service.tampering import Copies, cell_changes, training

NAMES = ("a", "b")
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
TAGS = st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=3)
# Of every size and sign, also those that databases are tempted to round.
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([-0.0, 5e-324, 1e308, 1e16, 0.1])
METRICS = st.dictionaries(st.sampled_from(["auc", "loss", "ü"]), NUMBERS, min_size=1)
MODELS = st.sampled_from(NAMES)
REFS = st.builds(VersionRef, MODELS, st.integers(1, 3))
ALIASES = st.builds(AliasRef, MODELS, st.sampled_from(["x", "y"]))
DATA = snapshot("data").digest

STEPS: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just(models.update), st.builds(UpdateModel, MODELS, st.just(""), st.none() | TEXTS, TAGS)),
    st.tuples(st.just(models.archive), MODELS, st.just("")),
    st.tuples(st.just(models.restore), MODELS, st.just("")),
    st.tuples(st.just(models.rename), MODELS, MODELS | st.just("c"), st.just("")),
    st.tuples(
        st.just(versions.create),
        st.builds(CreateVersion, MODELS, TEXTS, TAGS, st.none(), st.just(""), st.sampled_from([(), (DATA,)])),
    ),
    st.tuples(
        st.just(versions.create),
        st.builds(CreateVersion, MODELS, TEXTS, TAGS, st.none(), st.just(""), st.just(()), st.just(""), REFS),
    ),
    st.tuples(st.just(versions.update), st.builds(UpdateVersion, REFS, st.just(""), TEXTS, TAGS, st.none())),
    st.tuples(st.just(versions.add_file), st.builds(UploadFile, REFS, st.just(model_file()))),
    st.tuples(st.just(versions.finalize), REFS, st.just("")),
    st.tuples(st.just(versions.archive), REFS, st.just("")),
    st.tuples(
        st.just(versions.record_evaluation),
        st.builds(RecordEvaluation, REFS, st.just(DATA), st.just("test"), METRICS),
    ),
    st.builds(
        lambda ref, number: (
            aliases.set_alias,
            SetAlias(ref, VersionRef(ref.model, number), "why"),
        ),
        ALIASES,
        st.integers(1, 3),
    ),
    st.tuples(st.just(aliases.clear), st.builds(ClearAlias, ALIASES, st.just("why"), st.just(""))),
    st.tuples(st.just(runs.start), st.just(training(DATA))),
    st.tuples(
        st.just(runs.log),
        st.builds(LogRun, st.just("RUN"), TAGS, METRICS, TAGS, st.just((sha("other"),))),
    ),
    st.tuples(
        st.just(runs.finish), st.builds(FinishRun, st.just("RUN"), st.just(RunState.FINISHED), st.just(""))
    ),
)
# Cells of evidence that every history has.
CELLS = (
    ("audit_event", "actor"),
    ("audit_event", "details"),
    ("audit_event", "hash"),
    ("registered_model", "name"),
    ("model_version", "actor"),
    ("version_file", "sha256"),
    ("dataset_snapshot", "row_count"),
    ("training_run", "seed"),
)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, min_size=5, max_size=25), cell=st.sampled_from(CELLS))
def test_a_history_is_intact_until_somebody_changes_it(
    desk: Desk, engine: Engine, tmp_path_factory: Any, steps: list[tuple[Any, ...]], cell: tuple[str, str]
) -> None:
    blobs = LocalBlobs(tmp_path_factory.getbasetemp())
    with Copies(engine) as beginning:
        try:
            run = _begin(desk)
            for use_case, *arguments in steps:
                _try(desk, use_case, [_of_run(argument, run) for argument in arguments])
            assert _findings(desk, blobs) == []
            changes = [change for column, change in cell_changes(engine, cell[0]) if column == cell[1]]
            assert changes
            assert all(beginning.try_change(change) for change in changes)
            assert _findings(desk, blobs)
        finally:
            beginning.restore()


def _begin(desk: Desk) -> str:
    """Two models with a READY version each, data, and a run, whose id this is."""
    for name in ("data", "other"):
        desk.dataset(snapshot(name))
    for name in NAMES:
        desk.model(name)
        desk.ready(name)
    return desk.do(runs.start, training(DATA)).name


def _of_run(argument: Any, run: str) -> Any:
    return replace(argument, run=run) if getattr(argument, "run", "") == "RUN" else argument


def _try(desk: Desk, use_case: Any, arguments: list[Any]) -> None:
    """What is refused changes nothing."""
    with contextlib.suppress(PlumblineError):
        desk.do(use_case, *arguments)


def _findings(desk: Desk, blobs: LocalBlobs) -> list[Finding]:
    return [part for part in verify(desk.database, blobs, skip_blobs=True) if isinstance(part, Finding)]
