"""Rules against evidence, without a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.registry.errors import InvalidField
from registry_service.commands_governance import CheckPromotion, RecordApproval, RecordDeployment, SetPolicy
from registry_service.domain import AliasRef, Dataset, Evaluation, ModelVersion, VersionRef, VersionState
from registry_service.governance import (
    Approval,
    ApprovalRule,
    Decision,
    EvaluationRule,
    MetricRule,
    RuleResult,
    Rules,
    from_document,
    to_document,
)
from registry_service.promotion import Evidence, check

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOLDOUT, OTHER, OLD = "a" * 64, "b" * 64, "c" * 64


def dataset(digest: str, name: str, end: datetime | None = None) -> Dataset:
    return Dataset(digest, name, 1, (), None, end, None, (), "", "")


DATASETS = {
    HOLDOUT: dataset(HOLDOUT, "holdout", NOW - timedelta(days=3)),
    OTHER: dataset(OTHER, "", NOW - timedelta(days=9)),
    OLD: dataset(OLD, "old"),
}


def evaluated(digest: str, split: str, **metrics: float) -> Evaluation:
    return Evaluation(digest, split, metrics, NOW, "ann")


def version(number: int, *evaluations: Evaluation, **facts: Any) -> ModelVersion:
    defaults: dict[str, Any] = {
        "id": number,
        "ref": VersionRef("m", number),
        "state": VersionState.READY,
        "description": "",
        "tags": {},
        "signature": None,
        "run": "",
        "datasets": (),
        "files": (),
        "manifest_digest": "",
        "evaluations": evaluations,
        "aliases": (),
        "create_time": NOW,
        "finalize_time": NOW,
        "revision": 1,
        "actor": "ann",
    }
    return ModelVersion(**(defaults | facts))


def said(actor: str, decision: Decision, alias: str = "", comment: str = "") -> Approval:
    return Approval(1, decision, alias, comment, actor, NOW)


def result(
    rules: Rules,
    candidate: ModelVersion,
    holder: ModelVersion | None = None,
    approvals: Sequence[Approval] = (),
) -> RuleResult:
    """Of the only rule."""
    evidence = Evidence("champion", candidate, holder, DATASETS, approvals, NOW)
    (found,) = check(rules, evidence).results
    return found


def metric(candidate: ModelVersion, holder: ModelVersion | None = None, **rule: Any) -> RuleResult:
    return result(Rules(metrics=(MetricRule("auc", **rule),)), candidate, holder)


@pytest.mark.parametrize(
    ("rule", "passed"),
    [
        ({"min": 0.75}, True),
        ({"min": 0.7500001}, False),
        ({"max": 0.75}, True),
        ({"max": 0.7499}, False),
        ({"min": 0.7, "max": 0.8}, True),
        ({"min": 0.7, "split": "test"}, True),
        ({"min": 0.7, "split": "train"}, False),
        ({"min": 0.7, "dataset": "holdout"}, True),
        ({"min": 0.7, "dataset": f"datasets/{HOLDOUT}"}, True),
        ({"min": 0.7, "dataset": HOLDOUT}, False),
        ({"min": 0.7, "dataset": f"datasets/{OTHER}"}, False),
    ],
)
def test_bounds_are_inclusive_and_hold_where_asked(rule: Mapping[str, Any], passed: bool) -> None:
    assert metric(version(1, evaluated(HOLDOUT, "test", auc=0.75)), **rule).passed is passed


def test_the_last_evaluation_that_has_the_metric_counts() -> None:
    better = evaluated(HOLDOUT, "test", auc=0.9)
    worse, apart = evaluated(HOLDOUT, "test", auc=0.6), evaluated(HOLDOUT, "test", brier=0.1)
    found = metric(version(1, better, worse, apart), min=0.7)
    assert not found.passed
    assert (found.expected, found.actual) == ("auc >= 0.7", "auc 0.6 on holdout, split test")


def test_what_is_missing_is_said() -> None:
    found = metric(version(1), min=0.7, dataset="holdout", split="test")
    assert (found.rule, found.passed) == ("metrics[0]", False)
    assert found.actual == "no evaluation with auc on holdout, split test"


@pytest.mark.parametrize(
    ("mine", "theirs", "allowed", "lower", "passed"),
    [
        (0.79, 0.8, 0.01, False, True),
        (0.7899, 0.8, 0.01, False, False),
        (0.8, 0.79, 0.01, True, True),
        (0.81, 0.79, 0.01, True, False),
        (0.9, 0.8, 0.0, False, True),
        (0.8, 0.8, 0.0, True, True),
        (0.3, 0.1 + 0.2, 0.0, False, False),
    ],
)
def test_no_worse_than_the_holder_on_the_same_rows(
    mine: float, theirs: float, allowed: float, lower: bool, passed: bool
) -> None:
    holder = version(1, evaluated(HOLDOUT, "test", auc=theirs), evaluated(OTHER, "test", auc=0.5))
    candidate = version(2, evaluated(HOLDOUT, "test", auc=mine))
    found = metric(candidate, holder, max_regression=allowed, lower_is_better=lower)
    assert found.passed is passed
    assert f"{theirs!r} of the present holder models/m/versions/1" in found.actual


def test_a_holder_that_was_not_evaluated_there_cannot_be_compared() -> None:
    holder = version(1, evaluated(OTHER, "test", auc=0.5), evaluated(HOLDOUT, "train", auc=0.5))
    candidate = version(2, evaluated(HOLDOUT, "test", auc=0.9))
    found = metric(candidate, holder, max_regression=0.1)
    assert not found.passed
    assert found.actual.endswith(
        "the present holder models/m/versions/1 has no such evaluation to compare with"
    )
    assert metric(candidate, None, max_regression=0.0).passed
    assert not metric(candidate, None, max_regression=0.0, min=0.95).passed


def test_required_evaluations() -> None:
    candidate = version(1, evaluated(HOLDOUT, "test", auc=1.0))
    for rule, passed in (
        (EvaluationRule(), True),
        (EvaluationRule("holdout", "test"), True),
        (EvaluationRule("", "validation"), False),
    ):
        assert result(Rules(evaluations=(rule,)), candidate).passed is passed
    assert not result(Rules(evaluations=(EvaluationRule(),)), version(2)).passed


def test_the_newest_dataset_tells_the_age_of_the_data() -> None:
    young, old = Rules(max_data_age=timedelta(days=3)), Rules(max_data_age=timedelta(days=2, hours=23))
    candidate = version(1, datasets=(OTHER, HOLDOUT, OLD))
    assert result(young, candidate).passed
    found = result(old, candidate)
    assert not found.passed
    assert found.expected == "data that ends at most 2d 23h ago"
    assert found.actual == "the newest, holdout, ends at 2026-05-29T00:00:00+00:00, 3d ago"
    assert "as_of_end" in result(old, version(1, datasets=(OLD,))).actual
    assert result(old, version(1)).actual == "it has no datasets"


def test_tags_must_have_just_the_value() -> None:
    rules = Rules(required_tags={"team": "ops"})
    assert result(rules, version(1, tags={"team": "ops", "x": "y"})).passed
    assert result(rules, version(1, tags={"team": "dev"})).actual == "tag team is 'dev'"
    found = result(rules, version(1))
    assert (found.rule, found.passed, found.actual) == ("required_tags[team]", False, "no tag team")


APPROVED, REJECTED, WITHDRAWN = Decision.APPROVED, Decision.REJECTED, Decision.WITHDRAWN


@pytest.mark.parametrize(
    ("rule", "words", "passed"),
    [
        (ApprovalRule(1), [said("bob", APPROVED)], True),
        (ApprovalRule(1), [said("ann", APPROVED)], True),
        (ApprovalRule(1, not_by_author=True), [said("ann", APPROVED)], False),
        (ApprovalRule(2), [said("bob", APPROVED), said("bob", APPROVED)], False),
        (ApprovalRule(2), [said("bob", APPROVED), said("cy", APPROVED)], True),
        (ApprovalRule(1, approvers=("cy",)), [said("bob", APPROVED)], False),
        # The last word of each.
        (ApprovalRule(1), [said("bob", APPROVED), said("bob", WITHDRAWN)], False),
        (ApprovalRule(1), [said("bob", REJECTED), said("bob", APPROVED)], True),
        # A rejection stands against any number of approvals, until it is taken back.
        (ApprovalRule(1), [said("bob", APPROVED), said("cy", REJECTED)], False),
        (ApprovalRule(1), [said("bob", APPROVED), said("cy", REJECTED), said("cy", WITHDRAWN)], True),
        # If it is of somebody whose word counts.
        (ApprovalRule(1, approvers=("bob",)), [said("bob", APPROVED), said("cy", REJECTED)], True),
        (ApprovalRule(1, not_by_author=True), [said("bob", APPROVED), said("ann", REJECTED)], True),
        # Words for other aliases are not heard.
        (ApprovalRule(1), [said("bob", APPROVED, "champion")], True),
        (ApprovalRule(1), [said("bob", APPROVED, "shadow")], False),
        (ApprovalRule(1), [said("bob", APPROVED), said("bob", REJECTED, "shadow")], True),
        (ApprovalRule(1), [said("bob", APPROVED), said("bob", REJECTED, "champion")], False),
    ],
)
def test_whose_word_counts(rule: ApprovalRule, words: list[Approval], passed: bool) -> None:
    assert result(Rules(approvals=rule), version(1), approvals=words).passed is passed


def test_a_rejection_is_told_with_its_comment() -> None:
    words = [said("bob", APPROVED), said("cy", REJECTED, comment="unfair to night flights")]
    found = result(Rules(approvals=ApprovalRule(1, True, ("bob", "cy"))), version(1), approvals=words)
    assert found.expected == "approved by 1 of bob, cy, the author ann not counted"
    assert found.actual == "approved by 1 (bob); rejected by cy: unfair to night flights"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ann", "bob", "cy"]),
            st.sampled_from(list(Decision)),
            st.sampled_from(["", "champion", "shadow"]),
        ),
        max_size=8,
    ),
    st.booleans(),
    st.sets(st.sampled_from(["ann", "bob"])),
    st.integers(1, 3),
)
def test_approvals_as_an_oracle_counts_them(
    words: list[tuple[str, Decision, str]], not_by_author: bool, approvers: set[str], count: int
) -> None:
    last = {}
    for actor in {word[0] for word in words}:
        heard = [decision for who, decision, alias in words if who == actor and alias != "shadow"]
        may = (not approvers or actor in approvers) and not (not_by_author and actor == "ann")
        if heard and may:
            last[actor] = heard[-1]
    expected = list(last.values()).count(APPROVED) >= count and REJECTED not in last.values()
    rule = ApprovalRule(count, not_by_author, tuple(sorted(approvers)))
    found = result(
        Rules(approvals=rule), version(1), approvals=[said(who, what, alias) for who, what, alias in words]
    )
    assert found.passed is expected


numbers = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))


@given(
    st.lists(
        st.builds(MetricRule, st.text(), st.text(), st.text(), numbers, numbers, numbers, st.booleans())
    ),
    st.one_of(st.none(), st.builds(ApprovalRule, st.integers(1, 9), st.booleans(), st.just(("a", "b")))),
    st.one_of(st.none(), st.timedeltas()),
)
def test_rules_come_back_from_their_document(
    metrics: list[MetricRule], approvals: ApprovalRule | None, age: timedelta | None
) -> None:
    rules = Rules(tuple(metrics), (EvaluationRule("d", "s"),), approvals, age, {"a": "b"})
    assert from_document(to_document(rules)) == rules
    assert to_document(from_document(to_document(rules))) == to_document(rules)


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        (Rules(), "policy"),
        (Rules(metrics=(MetricRule("auc"),)), "policy.metrics[0]"),
        (Rules(metrics=(MetricRule("", min=0.0),)), "policy.metrics[0].metric"),
        (Rules(metrics=(MetricRule("auc", min=float("nan")),)), "policy.metrics[0].min"),
        (Rules(metrics=(MetricRule("auc", min=1.0, max=0.5),)), "policy.metrics[0].min"),
        (Rules(metrics=(MetricRule("auc", max_regression=-0.1),)), "policy.metrics[0].max_regression"),
        (
            Rules(metrics=(MetricRule("auc", min=0.5, lower_is_better=True),)),
            "policy.metrics[0].lower_is_better",
        ),
        (Rules(metrics=(MetricRule("auc", min=0.5),) * 101), "policy.metrics"),
        (Rules(evaluations=(EvaluationRule("x" * 300),)), "policy.evaluations[0].dataset"),
        (Rules(approvals=ApprovalRule(0)), "policy.approvals.count"),
        (Rules(approvals=ApprovalRule(2, approvers=("a",))), "policy.approvals.count"),
        (Rules(approvals=ApprovalRule(1, approvers=("a", "a"))), "policy.approvals.approvers"),
        (Rules(approvals=ApprovalRule(1, approvers=("",))), "policy.approvals.approvers[0]"),
        (Rules(max_data_age=timedelta(0)), "policy.max_data_age"),
        (Rules(required_tags={"": "x"}), "policy.required_tags"),
    ],
)
def test_policies_that_could_not_work_are_refused(rules: Rules, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        SetPolicy(AliasRef("m", "a"), rules, "", "", "why")
    assert [violation.field for violation in caught.value.violations] == [field]


def test_requests_that_are_wrong_whatever_the_state() -> None:
    ref = VersionRef("m", 1)
    with pytest.raises(InvalidField, match="reason is required"):
        SetPolicy(AliasRef("m", "a"), Rules(max_data_age=timedelta(1)), "", "", "")
    with pytest.raises(InvalidField, match="is of model 'm'"):
        CheckPromotion(AliasRef("other", "a"), ref)
    with pytest.raises(InvalidField, match="decision must be"):
        RecordApproval(ref, None, "", "")
    with pytest.raises(InvalidField, match="environment is required"):
        RecordDeployment(ref, "", "", "", {}, None)
    with pytest.raises(InvalidField, match="lease is 0 s"):
        RecordDeployment(ref, "production", "", "", {}, timedelta(0))
