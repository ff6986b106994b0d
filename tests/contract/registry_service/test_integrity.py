"""What a verification finds: nothing in what the registry did, and everything that others did."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from registry_service import versions
from registry_service.commands import UpdateVersion
from registry_service.events import Head
from registry_service.integrity import chain, contents, records, verification
from registry_service.integrity.findings import FindingKind, Progress
from registry_service.stores.local import LocalBlobs
from registry_service.tables import Base
from tests.contract.registry_service.desk import Desk
from tests.contract.registry_service.tampering import (
    V1,
    Copies,
    House,
    cell_changes,
    furnish,
    rehash,
    tamper,
)

F = FindingKind
FIRST = b"the first model"
BLOB = f"blobs/{hashlib.sha256(FIRST).hexdigest()}"
READY = "(SELECT id FROM model_version WHERE number = 1 AND model_id = 1)"
COPY = "(SELECT id FROM model_version WHERE number = 2 AND model_id = 1)"
VERSION, CHAMPION = "models/flights/versions/1", "models/flights/aliases/champion"
EVALUATION = f"{VERSION}/evaluations/1"
OF = f"WHERE version_id = {READY}"
ALIAS = "(SELECT id FROM alias WHERE name = 'champion')"
MOVE = f"WHERE alias_id = {ALIAS} AND revision = 1"
SET_ALIAS = "(SELECT MIN(sequence) FROM audit_event WHERE action = 'SetAlias')"


@pytest.fixture
def house(desk: Desk, engine: Engine, fast_folder: Path) -> House:
    folder = fast_folder / "artifacts"
    blobs = LocalBlobs(folder)
    blobs.prepare()
    found = House(desk, engine, blobs, folder)
    furnish(found)
    return found


def test_what_the_registry_did_is_intact(house: House) -> None:
    findings, summary = house.verify()
    assert findings == []
    assert summary.intact
    with house.desk.database.read() as transaction:
        assert summary.head == transaction.audit.head()
        assert summary.events == transaction.audit.head().sequence
    assert (summary.records, summary.records_before_audit) == (21, 0)
    assert (summary.blobs, summary.blob_bytes) == (1, len(FIRST))


def test_an_empty_registry_is_intact(desk: Desk, engine: Engine, tmp_path: Path) -> None:
    findings, summary = House(desk, engine, LocalBlobs(tmp_path), tmp_path).verify()
    assert findings == []
    assert (summary.events, summary.records, summary.blobs) == (1, 0, 0)


RECORDS = [
    # What is changed, which finding about which resource it must give, and no other but of that resource.
    (
        "UPDATE evaluation SET metrics = '{\"auc\": 0.99}' WHERE id = 1",
        F.RECORD_ALTERED,
        EVALUATION,
    ),
    (
        "UPDATE evaluation SET split = 'x' WHERE id = 1",
        F.RECORD_ALTERED,
        EVALUATION,
    ),
    ("DELETE FROM evaluation WHERE id = 2", F.RECORD_MISSING, f"{VERSION}/evaluations/2"),
    (
        f"UPDATE version_metric SET value = 1 {OF} AND name = 'auc'",
        F.RECORD_ALTERED,
        VERSION,
    ),
    (
        f"UPDATE model_version SET signature = NULL WHERE id = {READY}",
        F.RECORD_ALTERED,
        VERSION,
    ),
    (
        f"UPDATE model_version SET actor = 'mallory' WHERE id = {READY}",
        F.RECORD_ALTERED,
        VERSION,
    ),
    (
        f"UPDATE model_version SET run_id = NULL WHERE id = {READY}",
        F.RECORD_ALTERED,
        VERSION,
    ),
    (
        f"UPDATE model_version SET copied_from_id = id WHERE id = {COPY}",
        F.RECORD_ALTERED,
        "models/flights/versions/2",
    ),
    (
        "UPDATE model_version SET state = 'DRAFT' WHERE state = 'ARCHIVED'",
        F.RECORD_ALTERED,
        "models/flights/versions/4",
    ),
    (
        f"UPDATE model_version SET manifest_digest = 'sha256:0' WHERE id = {READY}",
        F.MANIFEST_WRONG,
        VERSION,
    ),
    (
        f"UPDATE version_file SET path = 'other.txt' {OF}",
        F.MANIFEST_WRONG,
        VERSION,
    ),
    (f"DELETE FROM version_file {OF}", F.RECORD_ALTERED, VERSION),
    (
        f"DELETE FROM version_dataset {OF}",
        F.RECORD_ALTERED,
        VERSION,
    ),
    (
        f"UPDATE version_dataset SET position = 1 - position {OF}",
        F.RECORD_ALTERED,
        VERSION,
    ),
    (
        f"UPDATE version_tag SET value = 'silver' {OF}",
        F.RECORD_ALTERED,
        VERSION,
    ),
    (f"DELETE FROM version_tag {OF}", F.RECORD_ALTERED, VERSION),
    (
        f"UPDATE version_annotation SET stage = 'Production' {OF}",
        F.RECORD_ALTERED,
        VERSION,
    ),
    (
        f"DELETE FROM version_annotation {OF}",
        F.RECORD_ALTERED,
        VERSION,
    ),
    (
        "UPDATE registered_model SET description = 'x' WHERE name = 'flights'",
        F.RECORD_ALTERED,
        "models/flights",
    ),
    ("UPDATE registered_model SET name = 'fleets' WHERE name = 'flights'", F.RECORD_ALTERED, "models/fleets"),
    (
        "UPDATE registered_model SET latest_version = 3 WHERE name = 'flights'",
        F.RECORD_ALTERED,
        "models/flights",
    ),
    ("UPDATE model_tag SET value = 'x' WHERE key = 'team'", F.RECORD_ALTERED, "models/flights"),
    (
        f"UPDATE alias SET version_id = {COPY} WHERE id = {ALIAS}",
        F.RECORD_ALTERED,
        CHAMPION,
    ),
    ("DELETE FROM alias WHERE name = 'canary'", F.RECORD_MISSING, "models/flights/aliases/canary"),
    (
        f"UPDATE alias_event SET reason = 'x' {MOVE}",
        F.RECORD_ALTERED,
        CHAMPION,
    ),
    (
        f"UPDATE alias_event SET to_version_id = {COPY} {MOVE}",
        F.RECORD_ALTERED,
        CHAMPION,
    ),
    (
        f"UPDATE alias_event SET actor = 'x' {MOVE}",
        F.RECORD_ALTERED,
        CHAMPION,
    ),
    (
        f"DELETE FROM alias_event {MOVE}",
        F.RECORD_MISSING,
        CHAMPION,
    ),
    (
        "INSERT INTO alias_event (model_id, alias_id, revision, to_version_id, actor, reason, time) "
        f"SELECT model_id, alias_id, 99, to_version_id, actor, reason, time FROM alias_event {MOVE}",
        F.RECORD_UNEXPLAINED,
        CHAMPION,
    ),
    ("UPDATE dataset_snapshot SET row_count = 11 WHERE display_name = 'test'", F.RECORD_ALTERED, None),
    ("UPDATE feature_spec SET spec = 'another view' WHERE spec = 'a view'", F.RECORD_ALTERED, None),
    ("DELETE FROM feature_spec WHERE spec = 'a view'", F.RECORD_MISSING, None),
    ("INSERT INTO feature_spec (digest, spec) VALUES ('x', 'y')", F.RECORD_UNEXPLAINED, "featureViews"),
    ("DELETE FROM feature_service_member", F.RECORD_ALTERED, None),
    ("UPDATE training_run SET seed = 8 WHERE parent_id IS NULL", F.RECORD_ALTERED, None),
    ("UPDATE code_revision SET commit_id = 'def'", F.RECORD_ALTERED, None),
    ("UPDATE code_revision SET repository = 'x'", F.RECORD_UNEXPLAINED, "codeRevisions/abc123"),
    ("UPDATE environment SET packages = '[]'", F.RECORD_ALTERED, None),
    ("DELETE FROM run_base_version WHERE position = 1", F.RECORD_ALTERED, None),
    ("UPDATE approval SET actor = 'carl'", F.RECORD_ALTERED, f"{VERSION}/approvals/1"),
    ("DELETE FROM approval", F.RECORD_MISSING, f"{VERSION}/approvals/1"),
    (
        "UPDATE promotion_policy SET rules = '{}' WHERE alias = 'guarded'",
        F.RECORD_ALTERED,
        "models/flights/aliases/guarded",
    ),
    (f"UPDATE deployment SET version_id = {COPY}", F.RECORD_ALTERED, None),
    ("UPDATE webhook SET url = 'https://mallory.example'", F.RECORD_ALTERED, None),
    (
        "INSERT INTO model_version (model_id, number, state, manifest_digest, create_time, actor, revision, "
        "source, external_run, run_link) SELECT model_id, 9, 'DRAFT', '', create_time, 'x', 1, '', '', '' "
        f"FROM model_version WHERE id = {READY}; "
        "INSERT INTO version_annotation SELECT (SELECT MAX(id) FROM model_version), 1, '', '', update_time, "
        f"0 FROM version_annotation {OF}",
        F.RECORD_UNEXPLAINED,
        "models/flights/versions/9",
    ),
]


def test_records_changed_behind_the_registrys_back(house: House) -> None:
    with Copies(house.engine) as copies:
        for change, kind, resource in RECORDS:
            tamper(house.engine, *change.split("; "))
            findings, summary = house.verify(skip_blobs=True)
            found = {finding.kind for finding in findings if resource in (None, finding.resource)}
            assert kind in found, (change, findings)
            assert not summary.intact
            assert not {F.CHAIN_BROKEN, F.CHAIN_INCOMPLETE} & {finding.kind for finding in findings}, change
            copies.restore()
    assert house.verify(skip_blobs=True)[1].intact


# What nothing vouches for, and why it may be so.
OUTSIDE = {
    # Counters and moments for etags and the order of lists; every change they tell of has an event.
    ("registered_model", "revision"),
    ("registered_model", "update_time"),
    ("model_version", "revision"),
    ("version_annotation", "revision"),
    ("version_annotation", "update_time"),
    ("training_run", "revision"),
    # Signs of life, which are no changes.
    ("training_run", "lease_expire_time"),
    ("deployment", "lease_expire_time"),
    ("deployment", "revision"),
    # How far a webhook is in telling; its secret, of which not even a digest is to be kept.
    *(
        ("webhook", column)
        for column in (
            "secret",
            "update_time",
            "revision",
            "delivered_sequence",
            "attempts",
            "first_failure_time",
            "last_error",
            "next_attempt_time",
            "lease_owner",
            "lease_expire_time",
        )
    ),
    # Housekeeping of the bytes; what they are, their digest says.
    ("blob", "create_time"),
    ("blob", "mark_time"),
    # The upload's own event has it.
    ("version_file", "create_time"),
    # Order of the history of all aliases together; each alias' own order is that of its revisions.
    ("alias_event", "id"),
}
# Answers kept for two days, and what webhooks were told.
UNWATCHED = {"request", "webhook_delivery"}


def test_a_change_of_any_cell_is_found(house: House) -> None:
    """Of every column, in the last row of its table."""
    missed, needless = [], []
    with Copies(house.engine) as copies:
        for table in sorted(set(Base.metadata.tables) - UNWATCHED):
            for column, change in cell_changes(house.engine, table):
                if not copies.try_change(change):
                    continue
                intact = house.verify(skip_blobs=True)[1].intact
                if intact and (table, column) not in OUTSIDE:
                    missed.append(change)
                if not intact and (table, column) in OUTSIDE:
                    needless.append(change)
                copies.restore()
    assert missed == []
    assert needless == []


def test_an_event_of_another_actor(house: House) -> None:
    tamper(house.engine, f"UPDATE audit_event SET actor = 'mallory' WHERE sequence = {SET_ALIAS}")
    findings, _ = house.verify(skip_blobs=True)
    assert [finding.kind for finding in findings] == [F.CHAIN_BROKEN]
    sequence = int(findings[0].resource.removeprefix("auditEvents/"))
    # With its hash made right, the event behind it tells.
    rehash(house.engine, since=sequence, until=sequence)
    findings, _ = house.verify(skip_blobs=True)
    assert (F.CHAIN_BROKEN, f"auditEvents/{sequence + 1}") in {(f.kind, f.resource) for f in findings}


@pytest.mark.parametrize("column", ["node_id = node_id + 1", "model_id = model_id + 1", "model_id = NULL"])
def test_an_event_filed_under_another_record(house: House, column: str) -> None:
    tamper(house.engine, f"UPDATE audit_event SET {column} WHERE sequence = {SET_ALIAS}")
    findings, _ = house.verify(skip_blobs=True)
    assert F.CHAIN_BROKEN in {finding.kind for finding in findings}


def test_events_taken_out_of_the_middle(house: House) -> None:
    tamper(house.engine, "DELETE FROM audit_event WHERE sequence IN (4, 5)")
    findings, _ = house.verify(skip_blobs=True)
    assert (F.CHAIN_INCOMPLETE, "auditEvents/4") in {(f.kind, f.resource) for f in findings}
    assert "events 4 to 5" in findings[0].message


def test_events_taken_from_the_end(house: House) -> None:
    _, before = house.verify(skip_blobs=True)
    assert before.head is not None
    last = before.head.sequence
    tamper(house.engine, f"DELETE FROM audit_event WHERE sequence = {last}")
    findings, _ = house.verify(skip_blobs=True)
    assert (F.CHAIN_INCOMPLETE, f"auditEvents/{last}") in {(f.kind, f.resource) for f in findings}


def test_two_events_in_each_others_place(house: House) -> None:
    tamper(
        house.engine,
        "UPDATE audit_event SET sequence = -1 WHERE sequence = 6",
        "UPDATE audit_event SET sequence = 6 WHERE sequence = 7",
        "UPDATE audit_event SET sequence = 7 WHERE sequence = -1",
    )
    findings, _ = house.verify(skip_blobs=True)
    assert {"auditEvents/6", "auditEvents/7"} <= {f.resource for f in findings if f.kind is F.CHAIN_BROKEN}


def test_an_end_that_was_moved_or_taken_away(house: House) -> None:
    tamper(house.engine, "UPDATE audit_head SET hash = 'x'")
    assert [finding.kind for finding in house.verify(skip_blobs=True)[0]] == [F.CHAIN_INCOMPLETE]
    tamper(house.engine, "DELETE FROM audit_head")
    assert [finding.kind for finding in house.verify(skip_blobs=True)[0]] == [F.CHAIN_INCOMPLETE]


def test_a_chain_written_anew_is_told_by_an_anchor_alone(house: House) -> None:
    """Whoever changes a record, its event and every hash since leaves a chain that is sound in itself."""
    _, before = house.verify(skip_blobs=True)
    sequence = _scalar(house.engine, SET_ALIAS)
    tamper(house.engine, f"UPDATE audit_event SET actor = 'mallory' WHERE sequence = {sequence}")
    tamper(house.engine, f"UPDATE alias_event SET actor = 'mallory' {MOVE}")
    rehash(house.engine, since=sequence)
    findings, after = house.verify(skip_blobs=True)
    assert findings == []
    assert after.head != before.head
    findings, _ = house.verify(before.head, skip_blobs=True)
    assert [finding.kind for finding in findings] == [F.ANCHOR_MISSING]


def test_an_anchor_holds_while_the_chain_grows(house: House) -> None:
    _, before = house.verify(skip_blobs=True)
    house.desk.do(versions.update, UpdateVersion(V1, "", "even better", None, None))
    findings, after = house.verify(before.head, skip_blobs=True)
    assert findings == []
    assert after.head is not None
    assert house.verify(Head(after.head.sequence + 1, "0" * 64), skip_blobs=True)[0] != []


def test_bytes_with_a_flipped_bit_replaced_or_gone(house: House) -> None:
    path = house.blob(FIRST)
    path.chmod(0o600)
    path.write_bytes(bytes([FIRST[0] ^ 1]) + FIRST[1:])
    assert _kinds(house) == [(F.BLOB_CORRUPT, BLOB)]
    path.write_bytes(b"x" * len(FIRST))
    assert _kinds(house) == [(F.BLOB_CORRUPT, BLOB)]
    path.write_bytes(b"shorter")
    assert _kinds(house) == [(F.BLOB_CORRUPT, BLOB)]
    path.unlink()
    findings, _ = house.verify()
    assert [(f.kind, f.resource) for f in findings] == [(F.BLOB_MISSING, BLOB)]
    assert "models/flights/versions/1 'model.txt'" in findings[0].message
    assert house.verify(skip_blobs=True)[0] == []


def test_bytes_that_are_collected_meanwhile_are_no_finding(house: House) -> None:
    """Nobody refers to them any more by the time of the second look."""
    steps = verification.verify(house.desk.database, house.blobs)
    for part in steps:
        if isinstance(part, Progress) and part.stage == "records":
            break
    house.blob(FIRST).unlink()
    tamper(house.engine, "DELETE FROM version_file")
    assert [
        part
        for part in steps
        if not isinstance(part, Progress | verification.Summary)
        and part.kind in (F.BLOB_MISSING, F.BLOB_CORRUPT)
    ] == []


def test_a_row_that_cannot_be_read_is_a_finding(house: House, backend: str) -> None:
    """Whatever is in it; the others are still looked at."""
    damage = (
        "UPDATE evaluation SET metrics = 'not json' WHERE id = 1"
        if backend == "sqlite"
        else "UPDATE evaluation SET metrics = '[1]' WHERE id = 1"
    )
    tamper(house.engine, damage, "UPDATE evaluation SET split = 'x' WHERE id = 2")
    findings, _ = house.verify(skip_blobs=True)
    altered = {finding.resource for finding in findings if finding.kind is F.RECORD_ALTERED}
    assert {f"models/flights/versions/1/evaluations/{i}" for i in (1, 2)} <= altered


@pytest.mark.parametrize("time", ["infinity", "9" * 18])
def test_an_event_of_no_moment(house: House, backend: str, time: str) -> None:
    if (backend == "postgresql") != (time == "infinity"):
        pytest.skip("not a value of this database's type")
    tamper(house.engine, f"UPDATE audit_event SET time = '{time}' WHERE sequence = 5")
    findings, summary = house.verify(skip_blobs=True)
    assert [(f.kind, f.resource) for f in findings] == [(F.CHAIN_BROKEN, "auditEvents/5")]
    assert summary.head is not None
    assert summary.events == summary.head.sequence


def test_parts_of_any_size_find_the_same(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(house.engine, "UPDATE evaluation SET split = 'x'", "DELETE FROM audit_event WHERE sequence = 8")
    whole = house.verify()[0]
    for module in (chain, records, contents):
        monkeypatch.setattr(module, "BATCH", 1)
    assert house.verify()[0] == whole


def test_changes_made_meanwhile_are_no_findings(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (chain, records):
        monkeypatch.setattr(module, "BATCH", 3)
    stop = threading.Event()

    def change() -> int:
        count = 0
        while not stop.is_set():
            count += 1
            house.desk.set_alias("champion", V1, reason=f"move {count}")
            house.desk.do(versions.update, UpdateVersion(V1, "", f"note {count}", {"n": str(count)}, None))
            house.desk.model(f"m{count}")
        return count

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        try:
            events = [house.verify()[1].events for _ in range(3)]
            findings = house.verify()[0]
        finally:
            stop.set()
        assert changing.result(30) > 0
    assert findings == []
    assert events == sorted(events)
    assert house.verify()[1].intact


def test_more_findings_than_are_told_are_counted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(house.engine, "DELETE FROM model_version")
    monkeypatch.setattr(verification, "MAX_FINDINGS", 2)
    parts = list(verification.verify(house.desk.database, house.blobs, skip_blobs=True))
    assert sum(isinstance(part, verification.Finding) for part in parts) == 2
    assert isinstance(parts[-1], verification.Summary)
    assert parts[-1].findings > 3


def _kinds(house: House) -> list[tuple[FindingKind, str]]:
    return [(finding.kind, finding.resource) for finding in house.verify()[0]]


def _scalar(engine: Engine, expression: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(f"SELECT {expression}")).scalar_one())
