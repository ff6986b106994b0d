"""What never changes, does not change for raw SQL either."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine, exc, text

from registry_service import runs, versions
from registry_service.commands import FinishRun, RecordEvaluation, StartRun
from registry_service.domain import CodeRevision, Environment, FeatureDefinition, RunState
from registry_service.repository.database import begin_write
from registry_service.tables import Base
from tests.contract.registry_service.desk import Desk, definition, model_file, sha, snapshot
from tests.contract.registry_service.raw import governance

OTHER = "0" * 64


READY = "(SELECT id FROM model_version WHERE number = 1)"
DRAFT = "(SELECT id FROM model_version WHERE number = 2)"
ARCHIVED = "(SELECT id FROM model_version WHERE number = 3)"
# All tables but those of notes, which may be taken back, and of what the registry itself forgets.
KEPT_WHOLE = set(Base.metadata.tables) - {
    "request",
    "webhook",
    "webhook_delivery",
    "model_tag",
    "version_tag",
    "version_metric",
}
A_FILE = "(version_id, path, sha256, media_type, create_time) SELECT"


@pytest.fixture
def full(desk: Desk, engine: Engine) -> Desk:
    """Model with version 1 READY, 2 DRAFT (both with a file and a dataset), 3 ARCHIVED, and evidence."""
    desk.model()
    data = desk.dataset(
        snapshot(
            "train",
            feature_service=definition("s"),
            feature_views=(definition("v"),),
            feature_definitions=(FeatureDefinition(definition("v"), "a view"),),
        )
    )
    started = StartRun(
        display_name="",
        parameters={},
        metrics={},
        tags={},
        seed=1,
        code=CodeRevision("a", "abc", dirty=False),
        environment_digest=f"sha256:{OTHER}",
        datasets=(data.digest,),
        environment=Environment("3.11", "linux", ("numpy==2",)),
    )
    run = desk.do(runs.start, started)
    desk.do(runs.finish, FinishRun(run.name, RunState.FINISHED, ""))
    ready = desk.ready(run=run.name, datasets=[data.digest])
    draft = desk.draft(datasets=[data.digest])
    desk.add_file(draft.ref, model_file("draft.txt", "draft"))
    desk.do(versions.archive, desk.ready(datasets=[data.digest]).ref, "")
    desk.do(versions.record_evaluation, RecordEvaluation(ready.ref, data.digest, "test", {"auc": 0.7}))
    desk.do(runs.start, replace(started, base_versions=(ready.ref,)))
    desk.set_alias("champion", ready.ref)
    with engine.begin() as connection:
        for statement in governance(READY):
            connection.execute(text(statement))
    return desk


FORBIDDEN = [
    *(
        f"UPDATE model_version SET {change} WHERE id = {version}"
        for version in (READY, ARCHIVED)
        for change in (
            "number = 9",
            "model_id = model_id + 1",
            "manifest_digest = 'sha256:0'",
            "signature = '{}'",
            "source = 'elsewhere'",
            "external_run = 'another'",
            "run_link = 'http://elsewhere.example'",
            "copied_from_id = id",
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
    f"UPDATE blob SET sha256 = '{OTHER}'",
    "UPDATE blob SET create_time = (SELECT MAX(time) FROM audit_event)",
    # A version refers to them.
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
    "DELETE FROM registered_model",
    "DELETE FROM alias",
    "UPDATE environment SET platform = 'x'",
    "DELETE FROM environment",
    "UPDATE feature_spec SET spec = 'x'",
    "DELETE FROM feature_spec",
    "UPDATE run_base_version SET position = 5",
    "DELETE FROM run_base_version",
    "DELETE FROM version_annotation",
    "UPDATE approval SET decision = 'APPROVED'",
    "DELETE FROM approval",
    "DELETE FROM promotion_policy",
    "DELETE FROM deployment",
    "UPDATE deployment SET end_reason = 'x' WHERE name = 'old'",
    "UPDATE deployment SET end_time = NULL WHERE name = 'old'",
    "UPDATE audit_event SET actor = 'mallory'",
    "UPDATE audit_event SET hash = previous_hash WHERE sequence = 2",
    "DELETE FROM audit_event",
    "DELETE FROM audit_event WHERE sequence = (SELECT sequence FROM audit_head)",
    "UPDATE audit_head SET sequence = sequence - 1",
    "UPDATE audit_head SET hash = ''",
    "DELETE FROM audit_head",
    "INSERT INTO audit_head (id, sequence, hash) VALUES (2, 99, '')",
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
        f"UPDATE model_version SET source = 'x', manifest_digest = '' WHERE id = {DRAFT}",
        f"UPDATE version_annotation SET description = 'x', stage = 'Staging' WHERE version_id = {READY}",
        f"INSERT INTO version_tag (version_id, key, value) VALUES ({READY}, 'a', 'b')",
        f"UPDATE version_tag SET value = 'c' WHERE version_id = {READY}",
        f"DELETE FROM version_tag WHERE version_id = {READY}",
        "UPDATE deployment SET lease_expire_time = start_time WHERE name = 'live'",
        "UPDATE promotion_policy SET rules = NULL",
        "UPDATE audit_head SET sequence = sequence + 1",
        f"UPDATE model_version SET state = 'ARCHIVED' WHERE id = {READY}",
        f"DELETE FROM version_file WHERE version_id = {DRAFT}",
        f"DELETE FROM version_dataset WHERE version_id = {DRAFT}",
        f"UPDATE blob SET mark_time = create_time WHERE sha256 = '{sha('draft')}'",
        # Nobody refers to it any more.
        f"DELETE FROM blob WHERE sha256 = '{sha('draft')}'",
    ]
    for statement in allowed:
        with begin_write(engine.connect()) as connection, connection.begin():
            assert connection.execute(text(statement)).rowcount == 1


def test_tables_of_evidence_cannot_be_emptied_at_once(full: Desk, engine: Engine, backend: str) -> None:
    if backend == "sqlite":
        pytest.skip("SQLite has no TRUNCATE")
    for table in sorted(KEPT_WHOLE):
        with (
            pytest.raises(exc.IntegrityError),
            begin_write(engine.connect()) as connection,
            connection.begin(),
        ):
            connection.execute(text(f"TRUNCATE {table} CASCADE"))


def _everything(engine: Engine) -> dict[str, list[str]]:
    with engine.connect() as connection:
        return {
            table: sorted(str(tuple(row)) for row in connection.execute(text(f"SELECT * FROM {table}")))
            for table in Base.metadata.tables
        }
