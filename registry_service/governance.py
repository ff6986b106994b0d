"""Promotion policies and approvals, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from registry_service.domain import AliasRef


@dataclass(frozen=True)
class MetricRule:
    """dataset: "datasets/" and a digest, or a display name; "" for any. split: "" for any. Bounds: None where
    there is none."""

    metric: str
    dataset: str = ""
    split: str = ""
    min: float | None = None
    max: float | None = None
    max_regression: float | None = None
    lower_is_better: bool = False


@dataclass(frozen=True)
class EvaluationRule:
    """As in MetricRule."""

    dataset: str = ""
    split: str = ""


@dataclass(frozen=True)
class ApprovalRule:
    """approvers: whose word counts; empty for anybody's."""

    count: int
    not_by_author: bool = False
    approvers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """What must hold before an alias may point at a version; all of it."""

    metrics: tuple[MetricRule, ...] = ()
    evaluations: tuple[EvaluationRule, ...] = ()
    approvals: ApprovalRule | None = None
    max_data_age: timedelta | None = None
    required_tags: Mapping[str, str] | None = None

    def __bool__(self) -> bool:
        """Whether there is a rule."""
        lists = self.metrics or self.evaluations or self.required_tags
        return bool(lists) or self.approvals is not None or self.max_data_age is not None


@dataclass(frozen=True)
class Policy:
    """The rules of an alias. rules None: they were taken away; revisions go on."""

    id: int
    model_id: int
    ref: AliasRef
    rules: Rules | None
    description: str
    revision: int
    actor: str
    update_time: datetime

    @property
    def tag_name(self) -> str:
        """What its etag is of: the alias has one too."""
        return f"{self.ref}/policy"


class Decision(StrEnum):
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    WITHDRAWN = "WITHDRAWN"


@dataclass(frozen=True)
class Approval:
    """One word about a version. alias: the one it is meant for, "" for any."""

    id: int
    decision: Decision
    alias: str
    comment: str
    actor: str
    create_time: datetime


@dataclass(frozen=True)
class RuleResult:
    """Whether a rule holds; expected and actual are for people."""

    rule: str
    passed: bool
    expected: str
    actual: str


@dataclass(frozen=True)
class PromotionCheck:
    """What became of each rule."""

    results: tuple[RuleResult, ...]

    @property
    def passed(self) -> bool:
        return all(result.passed for result in self.results)

    @property
    def failed(self) -> tuple[RuleResult, ...]:
        return tuple(result for result in self.results if not result.passed)


def last_words(approvals: Iterable[Approval], alias: str) -> dict[str, Approval]:
    """The last word of each actor that is meant for an alias, or for any; in the order they were said.

    approvals: oldest first.
    """
    words: dict[str, Approval] = {}
    for approval in approvals:
        if approval.alias in ("", alias):
            words.pop(approval.actor, None)
            words[approval.actor] = approval
    return words


def to_document(rules: Rules) -> dict[str, Any]:
    """The rules as JSON values, for storing and for the audit; times in microseconds."""
    age = rules.max_data_age
    return {
        "metrics": [{**asdict(rule), **_numbers(vars(rule))} for rule in rules.metrics],
        "evaluations": [asdict(rule) for rule in rules.evaluations],
        "approvals": None
        if rules.approvals is None
        else {**asdict(rules.approvals), "approvers": list(rules.approvals.approvers)},
        "max_data_age_us": None if age is None else age // timedelta(microseconds=1),
        "required_tags": dict(rules.required_tags or {}),
    }


def from_document(document: Mapping[str, Any]) -> Rules:
    """The rules behind a document of `to_document`."""
    approvals, age = document["approvals"], document["max_data_age_us"]
    return Rules(
        metrics=tuple(MetricRule(**{**item, **_numbers(item)}) for item in document["metrics"]),
        evaluations=tuple(EvaluationRule(**item) for item in document["evaluations"]),
        approvals=None
        if approvals is None
        else ApprovalRule(**{**approvals, "approvers": tuple(approvals["approvers"])}),
        max_data_age=None if age is None else timedelta(microseconds=age),
        required_tags=document["required_tags"],
    )


def _numbers(bounds: Mapping[str, Any]) -> dict[str, float | None]:
    """The bounds as every database gives them back: some turn 1e22 into an integer, and -0.0 into 0."""
    names = ("min", "max", "max_regression")
    return {name: None if bounds[name] is None else float(bounds[name]) + 0.0 for name in names}
