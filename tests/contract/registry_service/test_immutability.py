"""What never changes, does not change for raw SQL either."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, exc, text

from registry_service import runs, versions
from registry_service.commands import FinishRun, RecordEvaluation
from registry_service.domain import CodeRevision, RunState
from registry_service.repository.database import begin_write
from tests.contract.registry_service.desk import Desk, definition, model_file, snapshot

OTHER = "0" * 64


@pytest.fixture
def full(desk: Desk) -> Desk:
    """Model with version 1 READY, 2 DRAFT (both with a file and a dataset), 3 ARCHIVED, and evidence."""
    desk.model()
    data = desk.dataset(snapshot("train", feature_service=definition("s"), feature_views=(definition("v"),)))
    run = desk.run(code=CodeRevision("a", "abc", dirty=False), datasets=[data.digest])
    desk.do(runs.finish, FinishRun(run.name, RunState.FINISHED, ""))
    ready = desk.ready(run=run.name, datasets=[data.digest])
    draft = desk.draft(datasets=[data.digest])
    desk.add_file(draft.ref, model_file("draft.txt"))
    desk.do(versions.archive, desk.ready(datasets=[data.digest]).ref, "")
    desk.do(versions.record_evaluation, RecordEvaluation(ready.ref, data.digest, "test", {"auc": 0.7}))
    desk.set_alias("champion", ready.ref)
    return desk


READY = "(SELECT id FROM model_version WHERE number = 1)"
DRAFT = "(SELECT id FROM model_version WHERE number = 2)"
ARCHIVED = "(SELECT id FROM model_version WHERE number = 3)"
A_FILE = "(version_id, path, sha256, media_type, create_time) SELECT"

FORBIDDEN = [
    *(
        f"UPDATE model_version SET {change} WHERE id = {version}"
        for version in (READY, ARCHIVED)
        for change in (
            "number = 9",
            "model_id = model_id + 1",
            "manifest_digest = 'sha256:0'",
            "signature = '{}'",
            "run_id = NULL, description = 'x'",
            "description = 'x'",
            """tags = '{"a": "b"}'""",
            "actor = 'mallory'",
            "create_time = finalize_time",
            "finalize_time = NULL",
            "state = 'DRAFT'",
        )
    ),
    f"UPDATE model_version SET run_id = NULL WHERE id = {READY}",
    f"UPDATE model_version SET state = 'READY' WHERE id = {ARCHIVED}",
    f"UPDATE model_version SET number = 9 WHERE id = {DRAFT}",
    f"UPDATE model_version SET state = 'READY' WHERE id = {DRAFT}",  # without a manifest
    f"UPDATE model_version SET state = 'OTHER' WHERE id = {DRAFT}",
    f"DELETE FROM model_version WHERE id = {DRAFT}",
    *(
        statement
        for version in (READY, ARCHIVED)
        for statement in (
            f"INSERT INTO version_file {A_FILE} {version}, 'new.txt', sha256, media_type, create_time "
            f"FROM version_file WHERE version_id = {DRAFT}",
            f"DELETE FROM version_file WHERE version_id = {version}",
            f"UPDATE version_file SET path = 'moved.txt' WHERE version_id = {version}",
            f"UPDATE version_file SET version_id = {DRAFT} WHERE version_id = {version}",
            f"DELETE FROM version_dataset WHERE version_id = {version}",
            f"UPDATE version_dataset SET position = 9 WHERE version_id = {version}",
        )
    ),
    f"UPDATE version_file SET version_id = {READY} WHERE version_id = {DRAFT}",
    f"UPDATE version_file SET sha256 = '{OTHER}' WHERE version_id = {DRAFT}",
    "UPDATE blob SET size_bytes = 1",
    "DELETE FROM blob",
    "UPDATE alias_event SET reason = 'because'",
    "DELETE FROM alias_event",
    "UPDATE evaluation SET split = 'train'",
    "DELETE FROM evaluation",
    "UPDATE dataset_snapshot SET row_count = 1",
    "DELETE FROM dataset_snapshot",
    "UPDATE dataset_feature_view SET position = 5",
    "DELETE FROM feature_service_member",
    "UPDATE feature_view_version SET digest = 'x'",
    "UPDATE feature_service_version SET digest = 'x'",
    "UPDATE code_revision SET commit_id = 'x'",
    "UPDATE run_input SET position = 5",
    "UPDATE training_run SET seed = 1",
    "UPDATE training_run SET state = 'RUNNING'",
    "DELETE FROM training_run",
    f"INSERT INTO version_file {A_FILE} {DRAFT}, 'x', '{OTHER}', '', create_time FROM blob",  # no such blob
]


def test_nothing_is_rewritten_behind_the_registrys_back(full: Desk, engine: Engine) -> None:
    before = _everything(engine)
    accepted = []
    for statement in FORBIDDEN:
        with begin_write(engine.connect()) as connection:
            try:
                with connection.begin():
                    touched = connection.execute(text(statement)).rowcount
                accepted.append(f"{statement} ({touched} rows)")
            except exc.IntegrityError:
                continue
    assert accepted == []
    assert _everything(engine) == before


def test_what_may_change_does(full: Desk, engine: Engine) -> None:
    allowed = [
        f"UPDATE model_version SET description = 'x', manifest_digest = '' WHERE id = {DRAFT}",
        f"UPDATE model_version SET state = 'ARCHIVED' WHERE id = {READY}",
        f"DELETE FROM version_file WHERE version_id = {DRAFT}",
        f"DELETE FROM version_dataset WHERE version_id = {DRAFT}",
    ]
    for statement in allowed:
        with begin_write(engine.connect()) as connection, connection.begin():
            assert connection.execute(text(statement)).rowcount == 1


def test_tables_of_evidence_cannot_be_emptied_at_once(full: Desk, engine: Engine, backend: str) -> None:
    if backend == "sqlite":
        pytest.skip("SQLite has no TRUNCATE")
    for table in ("alias_event", "evaluation", "version_file", "model_version", "blob"):
        with (
            pytest.raises(exc.IntegrityError),
            begin_write(engine.connect()) as connection,
            connection.begin(),
        ):
            connection.execute(text(f"TRUNCATE {table} CASCADE"))


def _everything(engine: Engine) -> dict[str, list[str]]:
    tables = (
        "model_version",
        "version_file",
        "version_dataset",
        "blob",
        "alias_event",
        "evaluation",
        "dataset_snapshot",
        "training_run",
        "code_revision",
        "feature_view_version",
    )
    with engine.connect() as connection:
        return {
            table: sorted(str(tuple(row)) for row in connection.execute(text(f"SELECT * FROM {table}")))
            for table in tables
        }
