from __future__ import annotations

from datetime import timedelta

import pytest

from plumbline.registry.errors import (
    AliasNotFound,
    EtagMismatch,
    ModelArchived,
    ModelNotFound,
    VersionInUse,
    VersionNotFound,
    VersionNotReady,
)
from registry_service import aliases, models, versions
from registry_service.domain import AliasRef, ModelVersion, VersionRef, VersionState, etag
from tests.contract.registry_service.conftest import TickingClock
from tests.contract.registry_service.desk import Desk

CHAMPION = AliasRef("flights", "champion")


@pytest.fixture
def three(desk: Desk) -> list[ModelVersion]:
    desk.model()
    return [desk.ready() for _ in range(3)]


def test_an_alias_moves_and_remembers_who_why_and_when(desk: Desk, three: list[ModelVersion]) -> None:
    first = desk.set_alias("champion", three[0].ref, reason="only one", actor="ann")
    second = desk.set_alias("champion", three[1].ref, reason="auc +0.01", actor="bob")
    assert desk.ask(aliases.resolve, CHAMPION, None) == (second, desk.version(three[1].ref))
    assert (second.version, second.actor, second.reason) == (three[1].ref, "bob", "auc +0.01")
    assert second.revision > first.revision
    assert desk.ask(models.get, "flights").aliases == (second,)
    newest, oldest = desk.ask(aliases.history_page, CHAMPION, before=None, limit=10)
    assert (oldest.from_version, oldest.to_version, oldest.reason) == (None, three[0].ref, "only one")
    assert (newest.from_version, newest.to_version) == (three[0].ref, three[1].ref)
    assert (newest.actor, newest.time) == ("bob", second.update_time)


def test_who_was_it_at_that_moment(desk: Desk, three: list[ModelVersion], clock: TickingClock) -> None:
    before = clock.now
    first = desk.set_alias("champion", three[0].ref)
    second = desk.set_alias("champion", three[1].ref)
    cleared = desk.clear_alias(CHAMPION)
    third = desk.set_alias("champion", three[2].ref)
    tick = timedelta(microseconds=1)
    for moment, holder in (
        (first.update_time, first),
        (second.update_time - tick, first),
        (second.update_time, second),
        (cleared.time - tick, second),
        (third.update_time, third),
        (third.update_time + timedelta(days=9), third),
    ):
        assert desk.ask(aliases.resolve, CHAMPION, moment)[0] == holder
    for moment in (before, first.update_time - tick, cleared.time, third.update_time - tick):
        with pytest.raises(AliasNotFound):
            desk.ask(aliases.resolve, CHAMPION, moment)


def test_the_past_names_a_version_that_was_archived_since(desk: Desk, three: list[ModelVersion]) -> None:
    moment = desk.set_alias("champion", three[0].ref).update_time
    desk.set_alias("champion", three[1].ref)
    desk.do(versions.archive, three[0].ref, "")
    assert desk.ask(aliases.resolve, CHAMPION, moment)[1].ref == three[0].ref


def test_an_archived_version_behind_an_alias_does_not_resolve(desk: Desk, three: list[ModelVersion]) -> None:
    """The use case refuses to make such a state; a program that did not would leave it behind."""
    desk.set_alias("champion", three[0].ref)
    with desk.database.write() as transaction:
        transaction.models.lock(three[0].ref.model)
        transaction.versions.archive(transaction.versions.get(three[0].ref), desk.clock())
    with pytest.raises(VersionNotReady):
        desk.ask(aliases.resolve, CHAMPION, None)


def test_a_version_behind_aliases_is_not_archived(desk: Desk, three: list[ModelVersion]) -> None:
    champion, shadow = desk.set_alias("champion", three[0].ref), desk.set_alias("shadow", three[0].ref)
    with pytest.raises(VersionInUse) as caught:
        desk.do(versions.archive, three[0].ref, "")
    assert caught.value.metadata == {
        "version": str(three[0].ref),
        "aliases": f"{champion.ref},{shadow.ref}",
    }
    assert f"{champion.ref}, {shadow.ref} point at {three[0].ref}" in caught.value.message
    assert desk.version(three[0].ref).state is VersionState.READY
    assert desk.ask(aliases.resolve, CHAMPION, None)[1].ref == three[0].ref

    desk.set_alias("champion", three[1].ref)
    with pytest.raises(VersionInUse, match="shadow points at"):
        desk.do(versions.archive, three[0].ref, "")
    desk.clear_alias(shadow.ref)
    assert desk.do(versions.archive, three[0].ref, "").state is VersionState.ARCHIVED


def test_a_clock_set_back_does_not_reorder_history(
    desk: Desk, three: list[ModelVersion], clock: TickingClock
) -> None:
    first = desk.set_alias("champion", three[0].ref)
    clock.now -= timedelta(hours=1)
    second = desk.set_alias("champion", three[1].ref)
    assert second.update_time >= first.update_time
    assert desk.ask(aliases.resolve, CHAMPION, first.update_time)[0] == second


@pytest.mark.parametrize("condition", ["etag", "must_not_exist", "expected_version"])
def test_a_move_happens_only_if_its_condition_holds(
    desk: Desk, three: list[ModelVersion], condition: str
) -> None:
    first = desk.set_alias("champion", three[0].ref, must_not_exist=True)
    held = {
        "etag": etag(str(CHAMPION), first.revision),
        "must_not_exist": True,
        "expected_version": three[0].ref,
    }[condition]
    if condition == "must_not_exist":
        with pytest.raises(EtagMismatch):
            desk.set_alias("champion", three[1].ref, must_not_exist=True)
        assert desk.ask(aliases.resolve, CHAMPION, None)[0] == first
        return
    second = desk.set_alias("champion", three[1].ref, **{condition: held})
    with pytest.raises(EtagMismatch) as caught:
        desk.set_alias("champion", three[2].ref, **{condition: held})
    assert caught.value.metadata["resource"] == str(CHAMPION)
    assert caught.value.metadata["expected"] == str(held)
    assert caught.value.metadata["actual"] in (str(three[1].ref), etag(str(CHAMPION), second.revision))
    assert desk.ask(aliases.resolve, CHAMPION, None)[0] == second
    assert len(desk.ask(aliases.history_page, CHAMPION, before=None, limit=9)) == 2


def test_conditions_on_an_alias_that_is_not_there(desk: Desk, three: list[ModelVersion]) -> None:
    with pytest.raises(EtagMismatch):
        desk.set_alias("champion", three[0].ref, etag="0" * 16)
    with pytest.raises(EtagMismatch):
        desk.set_alias("champion", three[0].ref, expected_version=three[1].ref)
    with pytest.raises(AliasNotFound):
        desk.ask(aliases.resolve, CHAMPION, None)


def test_an_etag_from_before_a_clearing_stays_stale(desk: Desk, three: list[ModelVersion]) -> None:
    old = desk.set_alias("champion", three[0].ref)
    desk.clear_alias(CHAMPION)
    desk.set_alias("champion", three[0].ref, must_not_exist=True)
    with pytest.raises(EtagMismatch):
        desk.set_alias("champion", three[1].ref, etag=etag(str(CHAMPION), old.revision))


def test_clearing_keeps_the_history(desk: Desk, three: list[ModelVersion]) -> None:
    holder = desk.set_alias("champion", three[0].ref)
    with pytest.raises(EtagMismatch):
        desk.clear_alias(CHAMPION, etag="0" * 16)
    event = desk.clear_alias(CHAMPION, etag=etag(str(CHAMPION), holder.revision), reason="recall")
    assert (event.from_version, event.to_version, event.reason) == (three[0].ref, None, "recall")
    assert desk.ask(models.get, "flights").aliases == ()
    assert desk.version(three[0].ref).aliases == ()
    assert desk.ask(aliases.history_page, "flights", before=None, limit=1) == [event]
    for again in (lambda: desk.clear_alias(CHAMPION), lambda: desk.ask(aliases.resolve, CHAMPION, None)):
        with pytest.raises(AliasNotFound) as caught:
            again()
        assert caught.value.metadata == {"model": "flights", "alias": "champion"}


def test_only_ready_versions_of_a_living_model_can_be_pointed_at(desk: Desk) -> None:
    desk.model()
    draft = desk.draft()
    with pytest.raises(VersionNotReady) as caught:
        desk.set_alias("champion", draft.ref)
    assert caught.value.metadata == {"version": str(draft.ref), "state": "DRAFT"}
    with pytest.raises(VersionNotFound):
        desk.set_alias("champion", VersionRef("flights", 7))
    with pytest.raises(ModelNotFound):
        desk.set_alias("champion", VersionRef("nope", 1))
    ready = desk.ready()
    desk.do(models.archive, "flights", "")
    with pytest.raises(ModelArchived):
        desk.set_alias("champion", ready.ref)


def test_history_goes_page_by_page_while_moves_go_on(desk: Desk, three: list[ModelVersion]) -> None:
    for number in (0, 1, 2, 0, 1):
        desk.set_alias("champion", three[number].ref)
    desk.set_alias("shadow", three[0].ref)
    seen = desk.ask(aliases.history_page, CHAMPION, before=None, limit=2)
    desk.set_alias("champion", three[2].ref)
    seen += desk.ask(aliases.history_page, CHAMPION, before=seen[-1].sequence, limit=9)
    assert [event.to_version.number for event in seen if event.to_version] == [2, 1, 3, 2, 1]
    assert len(desk.ask(aliases.history_page, "flights", before=None, limit=99)) == 7


def test_history_of_what_never_was(desk: Desk, three: list[ModelVersion]) -> None:
    assert three
    assert desk.ask(aliases.history_page, "flights", before=None, limit=9) == []
    with pytest.raises(AliasNotFound):
        desk.ask(aliases.history_page, CHAMPION, before=None, limit=9)
    with pytest.raises(ModelNotFound):
        desk.ask(aliases.history_page, "nope", before=None, limit=9)


def test_aliases_of_a_version_come_in_order(desk: Desk, three: list[ModelVersion]) -> None:
    for alias in ("z", "a", "m"):
        desk.set_alias(alias, three[0].ref)
    assert desk.version(three[0].ref).aliases == ("a", "m", "z")
    assert [alias.ref.alias for alias in desk.ask(models.get, "flights").aliases] == ["a", "m", "z"]
