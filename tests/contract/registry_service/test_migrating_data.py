"""Migrations with data: nothing is lost or changed on the way up, down and up again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Engine, exc, text

from registry_service import aliases, datasets, models, runs, versions
from registry_service.audit import BEGINNING, event_hash
from registry_service.commands import LogRun, RecordEvaluation, UpdateModel, UpdateVersion
from registry_service.domain import (
    Alias,
    AliasEvent,
    AliasRef,
    CodeRevision,
    Dataset,
    DefinitionRef,
    Evaluation,
    Model,
    ModelFile,
    ModelVersion,
    RunState,
    TrainingRun,
    VersionRef,
    VersionState,
)
from registry_service.repository.database import SqlDatabase, open_engine
from registry_service.repository.migration import migrate
from registry_service.repository.version_rows import to_fields, to_signature
from tests.contract.registry_service.desk import Desk
from tests.contract.registry_service.first_schema import (
    ROWS,
    SCHEMA,
    SIGNATURE,
    A,
    B,
    C,
    D,
    contents,
    fill,
    moment,
)
from tests.contract.registry_service.raw import governance, webhooks

V1, V2, V3, V4 = (VersionRef("flights", number) for number in (1, 2, 3, 4))
CHAMPION, CANARY = AliasRef("flights", "champion"), AliasRef("flights", "canary")
FIRST_RUN, SECOND_RUN = "0" * 32, "1" * 32


@pytest.fixture
def old(empty_database: str) -> Iterator[Engine]:
    """A filled database of schema 0001."""
    engine = open_engine(empty_database)
    migrate(engine, "0001")
    fill(engine)
    yield engine
    engine.dispose()


def desk_on(engine: Engine, clock: Callable[[], datetime]) -> Desk:
    return Desk(SqlDatabase(engine), clock)


def readable(desk: Desk) -> dict[str, Any]:
    """What the service tells of such a database."""
    return {
        "models": desk.models(archived=True).items,
        "versions": desk.versions("flights").items,
        "champion": desk.ask(aliases.resolve, CHAMPION, None)[0],
        "canary before": desk.ask(aliases.resolve, CANARY, moment(35.5))[0].version,
        "history": desk.ask(aliases.history_page, "flights", before=None, limit=9),
        "runs": [desk.ask(runs.get, name) for name in (FIRST_RUN, SECOND_RUN)],
        "datasets": [desk.ask(datasets.get, digest) for digest in (A, B)],
    }


EXPECTED_HISTORY = [
    AliasEvent(3, 2, CANARY, 2, V3, None, "bob", "worse", moment(36)),
    AliasEvent(2, 2, CANARY, 1, None, V3, "ann", "to try", moment(35)),
    AliasEvent(1, 1, CHAMPION, 1, None, V1, "ann", "better", moment(17)),
]
EXPECTED_CHAMPION = Alias(CHAMPION, V1, 1, "ann", "better", moment(17), id=1)
WEATHER, AIRPORTS = (DefinitionRef("shop", n, f"sha256:{d}") for n, d in (("weather", A), ("airports", B)))


def expected() -> dict[str, Any]:
    def version(ref: VersionRef, state: VersionState, **facts: Any) -> ModelVersion:
        row = ROWS["model_version"][ref.number - 1]
        defaults: dict[str, Any] = {
            "signature": None,
            "run": "",
            "datasets": (),
            "files": (),
            "manifest_digest": "",
            "evaluations": (),
            "aliases": (),
            "finalize_time": None,
            "update_time": row["create_time"],
        }
        return ModelVersion(
            id=ref.number,
            ref=ref,
            state=state,
            description=row["description"],
            tags=row["tags"],
            create_time=row["create_time"],
            revision=row["revision"],
            actor="ann",
            model_id=1,
            **(defaults | facts),
        )

    return {
        "models": [
            Model(
                1,
                "flights",
                "Delays",
                {"team": "ops", "ü": "ö"},
                moment(1),
                moment(45),
                None,
                4,
                7,
                (EXPECTED_CHAMPION,),
            ),
            Model(2, "old", "", {}, moment(2), moment(3), moment(3), 0, 2),
        ],
        "versions": [
            version(V4, VersionState.ARCHIVED, archive_time=moment(45), update_time=moment(45)),
            version(
                V3,
                VersionState.ARCHIVED,
                run=FIRST_RUN,
                files=(ModelFile("model.txt", A, 10, ""),),
                manifest_digest=f"sha256:{D}",
                finalize_time=moment(34),
                archive_time=moment(37),
                update_time=moment(37),
            ),
            version(V2, VersionState.DRAFT, files=(ModelFile("draft.txt", A, 10, ""),)),
            version(
                V1,
                VersionState.READY,
                signature=to_signature(SIGNATURE),
                run=FIRST_RUN,
                datasets=(A,),
                files=(ModelFile("a/model.txt", A, 10, ""), ModelFile("ü.txt", B, 2**40, "text/plain")),
                manifest_digest=f"sha256:{C}",
                evaluations=(
                    Evaluation(B, "test", {"auc": 0.7, "n": 100.0}, moment(15), "ann"),
                    Evaluation(A, "train", {"auc": 0.125, "loss": 1e-300}, moment(16), "bob"),
                ),
                aliases=("champion",),
                finalize_time=moment(14),
                update_time=moment(14),
            ),
        ],
        "champion": EXPECTED_CHAMPION,
        "canary before": V3,
        "history": EXPECTED_HISTORY,
        "runs": [
            TrainingRun(
                1,
                FIRST_RUN,
                "nightly",
                RunState.FINISHED,
                {"depth": "6"},
                {"auc": 0.75},
                {"by": "cron"},
                -7,
                CodeRevision("git@git.example:shop.git", "abc123", dirty=True),
                f"sha256:{D}",
                (B, A),
                moment(6),
                moment(9),
                "",
                "ann",
                3,
            ),
            TrainingRun(
                2,
                SECOND_RUN,
                "",
                RunState.RUNNING,
                {},
                {},
                {},
                0,
                None,
                "",
                (),
                moment(7),
                None,
                "",
                "bob",
                1,
            ),
        ],
        "datasets": [
            Dataset(
                A,
                "train",
                1_000,
                to_fields(SCHEMA),
                moment(-900),
                moment(-1),
                DefinitionRef("shop", "flights_v1", f"sha256:{C}"),
                (AIRPORTS, WEATHER),
                B,
                "s3://bucket/train",
                id=1,
                create_time=moment(4),
                actor="ann",
            ),
            Dataset(B, "", 0, (), None, None, None, (), "", "", id=2, create_time=moment(5), actor="bob"),
        ],
    }


def test_what_the_first_release_kept_is_read_by_this_one(old: Engine, clock: Callable[[], datetime]) -> None:
    before = contents(old)
    migrate(old)
    assert readable(desk_on(old, clock)) == expected()
    metrics = {(row["version_id"], row["name"]): row["value"] for row in contents(old)["version_metric"]}
    assert metrics == {(1, "auc"): 0.125, (1, "n"): 100.0, (1, "loss"): 1e-300}
    migrate(old, "0001")
    assert contents(old) == before
    migrate(old)
    assert readable(desk_on(old, clock)) == expected()


def test_the_chain_begins_with_what_was_there(old: Engine, clock: Callable[[], datetime]) -> None:
    migrate(old)
    with SqlDatabase(old).read() as transaction:
        (event,) = transaction.audit.events(after=0, limit=9)
        head = transaction.audit.head()
    assert event.details == (
        '{"before":{"alias":2,"alias_event":3,"dataset":2,"evaluation":2,"model":2,"run":2,"version":4},"id":0}'
    )
    assert (event.sequence, event.previous_hash) == (1, BEGINNING)
    assert event.hash == event_hash(event) == head.hash
    assert head.sequence == 1


def test_changes_made_since_survive_the_way_back_and_up_again(
    old: Engine, clock: Callable[[], datetime]
) -> None:
    """But for what the first schema has no place for."""
    migrate(old)
    desk = desk_on(old, clock)
    desk.do(models.update, UpdateModel("flights", "", "Late", {"team": "sales", "new": "tag"}))
    desk.do(versions.update, UpdateVersion(V1, "", "the best", {"stage": "gold"}, None))
    desk.do(versions.update, UpdateVersion(V2, "", None, {"fresh": "ü"}, None))
    desk.do(versions.record_evaluation, RecordEvaluation(V1, A, "test", {"auc": 0.9}))
    desk.do(runs.log, LogRun(SECOND_RUN, {"depth": "3"}, {}, {}, (A,)))
    new = desk.ready(run=SECOND_RUN, datasets=[B])
    desk.set_alias("champion", new.ref)
    with old.begin() as connection:
        for statement in (*governance("1"), *webhooks("1")):
            connection.execute(text(statement))
    changed = readable(desk)
    assert new.ref.number == 5
    migrate(old, "0001")
    notes = {row["number"]: (row["description"], row["tags"]) for row in contents(old)["model_version"]}
    assert notes == {
        1: ("the best", {"stage": "gold"}),
        2: ("", {"fresh": "ü"}),
        3: ("never good", {"stage": "bad"}),
        4: ("", {}),
        5: ("", {}),
    }
    migrate(old)
    again = readable(desk_on(old, clock))
    # These count changes of notes too, and forget them on the way.
    for found in (changed, again):
        found["versions"] = [
            {**vars(version), "revision": 0, "update_time": None} for version in found["versions"]
        ]
    assert again == changed


def test_the_first_schema_guards_its_versions_after_the_way_back(
    old: Engine, clock: Callable[[], datetime]
) -> None:
    migrate(old)
    migrate(old, "0001")
    for statement in (
        "UPDATE model_version SET description = 'x' WHERE id = 1",
        "UPDATE model_version SET tags = '{}' WHERE id = 1",
        "DELETE FROM model_version WHERE id = 2",
        "UPDATE blob SET size_bytes = 1",
        "DELETE FROM blob",
    ):
        with old.connect() as connection, pytest.raises(exc.IntegrityError):
            connection.execute(text(statement))
    with old.begin() as connection:
        connection.execute(text("UPDATE model_version SET description = 'x' WHERE id = 2"))
