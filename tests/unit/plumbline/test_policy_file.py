"""Policies as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.registry import policy_file
from plumbline.registry.policy_file import format_policy, parse_policy
from plumbline.registry.v1 import governance_pb2 as gov

DOCUMENTED = "\n".join(
    line.removeprefix("    ") for line in (policy_file.__doc__ or "").splitlines() if line.startswith("    ")
)


def test_the_documented_example_is_one() -> None:
    policy = parse_policy(DOCUMENTED)
    assert policy.metrics[0] == gov.MetricRule(
        metric="auc", dataset="holdout", split="test", min=0.7, max_regression=0.005
    )
    assert policy.evaluations[0].split == "validation"
    assert (policy.approvals.count, policy.approvals.not_by_author) == (1, True)
    assert list(policy.approvals.approvers) == ["bob", "cy"]
    assert policy.max_data_age.ToTimedelta() == timedelta(days=30)
    assert dict(policy.required_tags) == {"team": "ops"}
    assert parse_policy(format_policy(policy)) == policy


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "some of the parts"),
        ("- metric: auc", "some of the parts"),
        ("metrics: [", "no YAML"),
        ("metric: auc", "part 'metric'; known are description, metrics"),
        ("name: m@champion", "part 'name'"),
        ("metrics: [{metric: auc, minimum: 0.7}]", "minimum"),
        ("metrics: [{metric: auc, min: much}]", "much"),
        ("approvals: {count: 1.5}", "1.5"),
        ("required_tags: {year: 2026}", "equired"),
        ("max_data_age: 30", "as 90s, 30m, 12h or 30d"),
        ("max_data_age: 3 weeks", "as 90s, 30m, 12h or 30d"),
    ],
)
def test_what_is_wrong_is_said(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_policy(text)


# Control characters other than line breaks do not all survive YAML.
words = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], include_characters="\n"), max_size=20
)
bounds = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def policies(draw: st.DrawFn) -> gov.PromotionPolicy:
    policy = gov.PromotionPolicy(description=draw(words), required_tags=draw(st.dictionaries(words, words)))
    for _ in range(draw(st.integers(0, 3))):
        rule = policy.metrics.add(
            metric=draw(words), dataset=draw(words), lower_is_better=draw(st.booleans())
        )
        for name in draw(st.sets(st.sampled_from(["min", "max", "max_regression"]))):
            setattr(rule, name, draw(bounds))
    if draw(st.booleans()):
        policy.approvals.MergeFrom(
            gov.ApprovalRule(count=draw(st.integers(0, 9)), approvers=draw(st.lists(words)))
        )
    if draw(st.booleans()):
        policy.max_data_age.FromTimedelta(timedelta(seconds=draw(st.integers(1, 10**8))))
    return policy


@given(policies())
def test_what_is_written_is_read_again(policy: gov.PromotionPolicy) -> None:
    text = format_policy(policy)
    if text.strip() == "{}":
        return
    assert parse_policy(text) == policy
