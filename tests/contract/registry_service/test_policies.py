"""Promotion policies and approvals: what protects an alias."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from plumbline.registry.errors import (
    AliasNotFound,
    EtagMismatch,
    ModelArchived,
    ModelNotFound,
    PolicyNotFound,
    PolicyNotMet,
    VersionNotFound,
    VersionNotReady,
)
from registry_service import aliases, models, policies, states, versions
from registry_service.audit import digest
from registry_service.commands import UpdateVersion
from registry_service.domain import AliasRef, ModelVersion, VersionRef, etag
from registry_service.events import AuditEvent
from registry_service.governance import ApprovalRule, Decision, EvaluationRule, MetricRule, Rules
from registry_service.repository.database import SqlDatabase
from tests.contract.registry_service.conftest import TickingClock
from tests.contract.registry_service.desk import snapshot
from tests.contract.registry_service.governance_desk import CHAMPION, GovernanceDesk

TAGGED = {"required_tags": {"reviewed": "yes"}}
EVERYTHING: dict[str, Any] = {
    "metrics": (
        MetricRule("auc", "holdout", "test", min=0.7, max_regression=0.01),
        MetricRule("brier", max=1e22, max_regression=-0.0, lower_is_better=True),
    ),
    "evaluations": (EvaluationRule("holdout", "validation"),),
    "approvals": ApprovalRule(1, True, ("bob", "cy")),
    "max_data_age": timedelta(days=30, microseconds=1),
    **TAGGED,
}


@pytest.fixture
def desk(engine: Engine, clock: TickingClock) -> GovernanceDesk:
    return GovernanceDesk(SqlDatabase(engine, busy_seconds=20), clock)


@pytest.fixture
def two(desk: GovernanceDesk) -> list[ModelVersion]:
    desk.model()
    holdout = desk.dataset(snapshot("holdout", as_of_end=desk.clock() - timedelta(days=3)))
    return [desk.ready(datasets=[holdout.digest]) for _ in range(2)]


def last_event(desk: GovernanceDesk) -> AuditEvent:
    with desk.database.read() as transaction:
        return transaction.audit.events(after=0, limit=999)[-1]


def tag(desk: GovernanceDesk, ref: VersionRef, tags: dict[str, str]) -> None:
    desk.do(versions.update, UpdateVersion(ref, "", None, tags, None))


def test_a_policy_is_kept_as_it_was_given(desk: GovernanceDesk, two: list[ModelVersion]) -> None:
    assert two
    policy = desk.set_policy(**EVERYTHING)
    assert policy.rules == Rules(**EVERYTHING)
    assert desk.ask(policies.get_policy, CHAMPION) == policy
    assert desk.ask(policies.list_policies, "flights") == [policy]
    event = last_event(desk)
    assert (event.action, event.subject.kind, event.subject.name) == (
        "SetPromotionPolicy",
        "policy",
        str(CHAMPION),
    )
    details = json.loads(event.details)
    assert details["reason"] == "as agreed"
    assert details["rules"]["metrics"][0]["min"] == 0.7
    assert details["rules"]["approvals"]["approvers"] == ["bob", "cy"]
    # As any reader finds it later.
    assert event.state_digest == digest(states.of_policy(desk.ask(policies.get_policy, CHAMPION)))


def test_policies_are_replaced_compared_and_taken_away(desk: GovernanceDesk, two: list[ModelVersion]) -> None:
    assert two
    with pytest.raises(EtagMismatch):
        desk.set_policy(etag="0" * 16, **TAGGED)
    first = desk.set_policy(**TAGGED)
    old = etag(first.tag_name, first.revision)
    second = desk.set_policy(etag=old, approvals=ApprovalRule(1))
    assert second.rules == Rules(approvals=ApprovalRule(1), required_tags={})
    assert (second.id, second.revision) == (first.id, 2)
    for stale in (
        lambda: desk.set_policy(etag=old, **TAGGED),
        lambda: desk.clear_policy(etag=old),
    ):
        with pytest.raises(EtagMismatch):
            stale()
    assert desk.clear_policy(etag=etag(second.tag_name, second.revision)) == second
    event = last_event(desk)
    assert event.action == "ClearPromotionPolicy"
    assert json.loads(event.details)["rules"] is None
    assert desk.ask(policies.list_policies, "flights") == []
    for gone in (lambda: desk.clear_policy(), lambda: desk.ask(policies.get_policy, CHAMPION)):
        with pytest.raises(PolicyNotFound) as caught:
            gone()
        assert caught.value.metadata == {"alias": str(CHAMPION)}
    with pytest.raises(EtagMismatch):
        desk.set_policy(etag=old, **TAGGED)
    assert desk.set_policy(**TAGGED).revision == 4


def test_policies_of_a_model_come_by_alias_and_stay_through_a_renaming(
    desk: GovernanceDesk, two: list[ModelVersion]
) -> None:
    for alias in ("z", "a", "Z"):
        desk.set_policy(AliasRef("flights", alias), **TAGGED)
    desk.do(models.rename, "flights", "planes", "")
    found = desk.ask(policies.list_policies, "planes")
    assert [str(policy.ref) for policy in found] == [f"models/planes/aliases/{name}" for name in "Zaz"]
    with pytest.raises(PolicyNotMet):
        desk.set_alias("a", VersionRef("planes", two[0].ref.number))
    with pytest.raises(ModelNotFound):
        desk.ask(policies.list_policies, "flights")


def test_a_model_that_was_archived_takes_no_policy_but_gives_one_up(
    desk: GovernanceDesk, two: list[ModelVersion]
) -> None:
    assert two
    desk.set_policy(**TAGGED)
    desk.do(models.archive, "flights", "")
    with pytest.raises(ModelArchived):
        desk.set_policy(**TAGGED)
    assert desk.clear_policy().rules == Rules(**TAGGED)


def test_an_alias_with_a_policy_is_protected(desk: GovernanceDesk, two: list[ModelVersion]) -> None:
    assert not desk.set_alias("champion", two[0].ref).protected
    desk.set_policy(**TAGGED)
    assert desk.ask(aliases.resolve, CHAMPION, None)[0].protected
    assert [alias.protected for alias in desk.ask(models.get, "flights").aliases] == [True]
    with pytest.raises(PolicyNotMet):
        desk.set_alias("champion", two[1].ref)
    desk.set_alias("shadow", two[1].ref)
    desk.clear_policy()
    assert not desk.ask(aliases.resolve, CHAMPION, None)[0].protected
    assert desk.set_alias("champion", two[1].ref).version == two[1].ref


def test_a_refusal_names_every_rule_that_failed_and_changes_nothing(
    desk: GovernanceDesk, two: list[ModelVersion]
) -> None:
    holder, candidate = (version.ref for version in two)
    desk.set_alias("champion", holder)
    holdout = two[0].datasets[0]
    desk.evaluate(holder, holdout, {"auc": 0.8})
    desk.evaluate(candidate, holdout, {"auc": 0.75})
    desk.set_policy(**EVERYTHING)
    before = last_event(desk)
    with pytest.raises(PolicyNotMet) as caught:
        desk.set_alias("champion", candidate)
    error = caught.value
    assert error.metadata == {
        "alias": str(CHAMPION),
        "version": str(candidate),
        "rules": "metrics[0],metrics[1],evaluations[0],approvals,required_tags[reviewed]",
    }
    assert "auc 0.75 on holdout, split test; 0.8 of the present holder" in error.message
    assert "no evaluation with brier" in error.message
    assert "approved by 0" in error.message
    assert [violation.field for violation in error.violations] == error.metadata["rules"].split(",")
    assert desk.ask(aliases.resolve, CHAMPION, None)[0].version == holder
    assert last_event(desk) == before
    found = desk.check(candidate)
    assert not found.passed
    assert [result.rule for result in found.results if result.passed] == ["max_data_age"]


def test_evidence_opens_the_way(desk: GovernanceDesk, two: list[ModelVersion]) -> None:
    holder, candidate = (version.ref for version in two)
    holdout = two[0].datasets[0]
    desk.set_alias("champion", holder)
    desk.evaluate(holder, holdout, {"auc": 0.8, "brier": 0.2})
    desk.set_policy(**EVERYTHING)
    desk.evaluate(candidate, holdout, {"auc": 0.79, "brier": 0.2})
    desk.evaluate(candidate, holdout, {"auc": 0.6}, split="validation")
    tag(desk, candidate, {"reviewed": "yes"})
    assert [result.rule for result in desk.check(candidate).failed] == ["approvals"]
    desk.approve(candidate, "bob")
    assert desk.check(candidate).passed
    desk.approve(candidate, "cy", Decision.REJECTED, alias="champion", comment="not yet")
    with pytest.raises(PolicyNotMet, match="rejected by cy: not yet"):
        desk.set_alias("champion", candidate)
    desk.approve(candidate, "cy", Decision.WITHDRAWN, alias="champion")
    assert desk.set_alias("champion", candidate, expected_version=holder).version == candidate


def test_conditions_come_before_the_policy(desk: GovernanceDesk, two: list[ModelVersion]) -> None:
    desk.set_alias("champion", two[0].ref)
    desk.set_policy(**TAGGED)
    with pytest.raises(EtagMismatch):
        desk.set_alias("champion", two[1].ref, must_not_exist=True)


def test_clearing_takes_out_of_service_whatever_the_policy(
    desk: GovernanceDesk, two: list[ModelVersion]
) -> None:
    desk.set_alias("champion", two[0].ref)
    desk.set_policy(**TAGGED)
    desk.clear_alias(CHAMPION)
    with pytest.raises(AliasNotFound):
        desk.ask(aliases.resolve, CHAMPION, None)
    with pytest.raises(PolicyNotMet):
        desk.set_alias("champion", two[0].ref)


def test_data_grows_old(desk: GovernanceDesk, two: list[ModelVersion], clock: TickingClock) -> None:
    desk.set_policy(max_data_age=timedelta(days=4))
    assert desk.check(two[0].ref).passed
    clock.now += timedelta(days=1)
    assert not desk.check(two[0].ref).passed
    with pytest.raises(PolicyNotMet, match="holdout, ends at"):
        desk.set_alias("champion", two[0].ref)


def test_checking_without_a_policy_and_what_is_not_there(
    desk: GovernanceDesk, two: list[ModelVersion]
) -> None:
    found = desk.check(two[0].ref)
    assert (found.passed, found.results) == (True, ())
    with pytest.raises(VersionNotFound):
        desk.check(VersionRef("flights", 9))
    with pytest.raises(ModelNotFound):
        desk.check(VersionRef("no", 1), AliasRef("no", "champion"))
    with pytest.raises(VersionNotReady):
        desk.check(desk.draft().ref)


def test_approvals_are_kept_newest_first(desk: GovernanceDesk, two: list[ModelVersion]) -> None:
    ref = two[0].ref
    first = desk.approve(ref, "bob", alias="champion", comment="fine")
    event = last_event(desk)
    assert (event.action, event.actor) == ("RecordApproval", "bob")
    assert event.subject.name == f"{ref}/approvals/{first.id}"
    assert json.loads(event.details)["decision"] == "APPROVED"
    assert event.state_digest == digest(states.of_approval(two[0], first))
    second = desk.approve(ref, "cy", Decision.REJECTED)
    desk.approve(two[1].ref, "bob")
    page = desk.ask(policies.approvals_page, ref, before=None, limit=1)
    assert page == [second]
    assert desk.ask(policies.approvals_page, ref, before=second.id, limit=9) == [first]
    with pytest.raises(VersionNotReady):
        desk.approve(desk.draft().ref, "bob")
    with pytest.raises(VersionNotFound):
        desk.ask(policies.approvals_page, VersionRef("flights", 9), before=None, limit=9)
