"""Back to the previous holder of an alias, by its history."""

from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from plumbline.registry.errors import (
    AliasNotFound,
    EtagMismatch,
    InvalidField,
    ModelArchived,
    NoPreviousHolder,
    VersionNotReady,
)
from registry_service import aliases, models, versions
from registry_service.domain import Alias, AliasRef, ModelVersion, VersionRef, etag
from registry_service.repository.database import SqlDatabase
from tests.contract.registry_service.conftest import TickingClock
from tests.contract.registry_service.governance_desk import CHAMPION, GovernanceDesk
from tests.contract.registry_service.test_concurrency import at_once


@pytest.fixture
def desk(engine: Engine, clock: TickingClock) -> GovernanceDesk:
    return GovernanceDesk(SqlDatabase(engine, busy_seconds=20), clock)


@pytest.fixture
def four(desk: GovernanceDesk) -> list[ModelVersion]:
    desk.model()
    return [desk.ready() for _ in range(4)]


def test_each_rollback_goes_further_back(desk: GovernanceDesk, four: list[ModelVersion]) -> None:
    a, b, c, _ = (version.ref for version in four)
    for version in (a, b, c):
        desk.set_alias("champion", version)
    assert desk.roll_back().version == b
    assert desk.roll_back().version == a
    with pytest.raises(NoPreviousHolder, match="had no holder before") as caught:
        desk.roll_back()
    assert caught.value.metadata == {"alias": str(CHAMPION)}
    assert desk.ask(aliases.resolve, CHAMPION, None)[0].version == a


def test_it_is_kept_in_history_and_audit(desk: GovernanceDesk, four: list[ModelVersion]) -> None:
    desk.set_alias("champion", four[0].ref)
    second = desk.set_alias("champion", four[1].ref)
    back = desk.roll_back(etag=etag(str(CHAMPION), second.revision), reason="drift", actor="bob")
    assert (back.version, back.actor, back.reason) == (four[0].ref, "bob", "drift")
    newest, *older = desk.ask(aliases.history_page, CHAMPION, before=None, limit=9)
    assert (newest.from_version, newest.to_version) == (four[1].ref, four[0].ref)
    assert (newest.restored_revision, newest.reason, newest.actor) == (1, "drift", "bob")
    assert [event.restored_revision for event in older] == [None, None]
    with desk.database.read() as transaction:
        event = transaction.audit.events(after=0, limit=999)[-1]
    assert (event.action, event.actor, event.subject.name) == ("RollbackAlias", "bob", str(CHAMPION))
    assert json.loads(event.details)["restored_revision"] == 1


def test_setting_after_a_rollback_puts_on_what_was_left(
    desk: GovernanceDesk, four: list[ModelVersion]
) -> None:
    a, b, c, d = (version.ref for version in four)
    for version in (a, b, c):
        desk.set_alias("champion", version)
    assert desk.roll_back().version == b
    desk.set_alias("champion", d)
    assert [desk.roll_back().version for _ in range(2)] == [b, a]
    desk.set_alias("champion", c)
    assert desk.roll_back().version == a


def test_setting_the_holder_again_is_no_other_holder(desk: GovernanceDesk, four: list[ModelVersion]) -> None:
    a, b, *_ = (version.ref for version in four)
    for version in (a, b, b, b):
        desk.set_alias("champion", version)
    assert desk.roll_back().version == a
    desk.set_alias("champion", a)
    with pytest.raises(NoPreviousHolder):
        desk.roll_back()


def test_a_clearing_between_is_no_holder(desk: GovernanceDesk, four: list[ModelVersion]) -> None:
    a, b, *_ = (version.ref for version in four)
    desk.set_alias("champion", a)
    desk.clear_alias(CHAMPION)
    with pytest.raises(AliasNotFound):
        desk.roll_back()
    desk.set_alias("champion", b)
    assert desk.roll_back().version == a
    desk.clear_alias(CHAMPION)
    desk.set_alias("champion", a)
    with pytest.raises(NoPreviousHolder):
        desk.roll_back()


def test_a_holder_archived_since_is_refused_and_the_one_before_named(
    desk: GovernanceDesk, four: list[ModelVersion]
) -> None:
    a, b, c, d = (version.ref for version in four)
    for version in (a, b, c, d):
        desk.set_alias("champion", version)
    for version in (b, c):
        desk.do(versions.archive, version, "")
    with pytest.raises(VersionNotReady, match=f"{a} held it before that") as caught:
        desk.roll_back()
    assert caught.value.metadata == {"version": str(c), "state": "ARCHIVED", "candidate": str(a)}
    desk.do(versions.archive, a, "")
    with pytest.raises(VersionNotReady, match="set the alias to another version") as caught:
        desk.roll_back()
    assert caught.value.metadata == {"version": str(c), "state": "ARCHIVED"}


def test_it_is_compared_and_needs_a_reason(desk: GovernanceDesk, four: list[ModelVersion]) -> None:
    first = desk.set_alias("champion", four[0].ref)
    desk.set_alias("champion", four[1].ref)
    with pytest.raises(EtagMismatch):
        desk.roll_back(etag=etag(str(CHAMPION), first.revision))
    with pytest.raises(InvalidField, match="reason is required"):
        desk.roll_back(reason=" ")
    with pytest.raises(AliasNotFound):
        desk.roll_back(AliasRef("flights", "shadow"))
    desk.do(models.archive, "flights", "")
    with pytest.raises(ModelArchived):
        desk.roll_back()
    assert desk.ask(aliases.resolve, CHAMPION, None)[0].version == four[1].ref


def test_no_policy_is_asked(desk: GovernanceDesk, four: list[ModelVersion]) -> None:
    for version in four[:2]:
        desk.set_alias("champion", version.ref)
    desk.set_policy(required_tags={"reviewed": "yes"})
    assert desk.roll_back().version == four[0].ref


#: A number of a version is set, "back" rolls back, "clear" clears.
moves = st.lists(st.one_of(st.integers(0, 3), st.sampled_from(["back", "back", "clear"])), max_size=14)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=moves)
def test_holders_are_a_pile(desk: GovernanceDesk, asked: list[int | str]) -> None:
    """The oracle is the pile itself."""
    model = f"m-{uuid.uuid4().hex}"
    desk.model(model)
    refs: list[VersionRef] = [desk.ready(model).ref for _ in range(4)]
    ref, pile, cleared = AliasRef(model, "a"), list[VersionRef](), True
    for move in asked:
        if move == "back":
            if cleared:
                with pytest.raises(AliasNotFound):
                    desk.roll_back(ref)
            elif len(pile) < 2:
                with pytest.raises(NoPreviousHolder):
                    desk.roll_back(ref)
            else:
                pile.pop()
                assert desk.roll_back(ref).version == pile[-1]
        elif move == "clear":
            if not cleared:
                desk.clear_alias(ref)
            cleared = True
        else:
            version = refs[int(move)]
            desk.set_alias("a", version)
            cleared = False
            if pile[-1:] != [version]:
                pile.append(version)


def test_sixteen_writers_with_one_etag_and_one_winner(desk: GovernanceDesk) -> None:
    """Half of them set, half of them roll back; round after round from the state the last one left."""
    desk.model()
    refs = [desk.ready().ref for _ in range(9)]
    for ref in refs[:8]:
        alias = desk.set_alias("champion", ref)
    pile = refs[:8]
    for _ in range(5):
        tag = etag(str(CHAMPION), alias.revision)

        def move(number: int, tag: str = tag) -> Alias | None:
            try:
                if number % 2:
                    return desk.roll_back(etag=tag)
                return desk.set_alias("champion", refs[8], etag=tag)
            except EtagMismatch:
                return None

        moved = at_once(16, move)
        (winner,) = [number for number, won in enumerate(moved) if won is not None]
        if winner % 2:
            pile.pop()
        elif pile[-1] != refs[8]:
            pile.append(refs[8])
        alias = desk.ask(aliases.resolve, CHAMPION, None)[0]
        assert alias == moved[winner]
        assert alias.version == pile[-1]
    events = desk.ask(aliases.history_page, CHAMPION, before=None, limit=99)
    assert [event.revision for event in events] == list(range(13, 0, -1))


def test_rollbacks_without_a_condition_take_turns(desk: GovernanceDesk) -> None:
    desk.model()
    refs = [desk.ready().ref for _ in range(6)]
    for ref in refs:
        desk.set_alias("champion", ref)

    def back(_: int) -> int:
        try:
            return desk.roll_back().version.number
        except NoPreviousHolder:
            return 0

    at_once(8, back)
    assert desk.ask(aliases.resolve, CHAMPION, None)[0].version == refs[0]
    events = desk.ask(aliases.history_page, CHAMPION, before=None, limit=99)
    assert [event.to_version for event in events[:5]] == refs[:5]
    assert all(event.restored_revision for event in events[:5])
