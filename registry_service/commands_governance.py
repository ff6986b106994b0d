"""What callers ask for about policies, approvals and deployments, checked as `registry_service.commands`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from registry_service import validation
from registry_service.domain import AliasRef, VersionRef
from registry_service.governance import ApprovalRule, Decision, MetricRule, Rules
from registry_service.validation import Violations

MAX_RULES = 100
MAX_APPROVALS = 100


@dataclass(frozen=True)
class RollbackAlias:
    ref: AliasRef
    reason: str
    etag: str

    def __post_init__(self) -> None:
        _check_reason(self.reason)


@dataclass(frozen=True)
class SetPolicy:
    """etag: "" for no condition."""

    ref: AliasRef
    rules: Rules
    description: str
    etag: str
    reason: str

    def __post_init__(self) -> None:
        found = Violations()
        found.text("reason", self.reason, required=True)
        found.text("policy.description", self.description)
        _check_rules(found, self.rules)
        found.check()


@dataclass(frozen=True)
class ClearPolicy:
    """etag: "" for no condition."""

    ref: AliasRef
    etag: str
    reason: str

    def __post_init__(self) -> None:
        _check_reason(self.reason)


@dataclass(frozen=True)
class CheckPromotion:
    ref: AliasRef
    version: VersionRef

    def __post_init__(self) -> None:
        found = Violations()
        if self.version.model != self.ref.model:
            found.add("version", f"is of model {self.version.model!r}, the alias of {self.ref.model!r}")
        found.check()


@dataclass(frozen=True)
class RecordApproval:
    """alias: "" for any. decision None: not given, or unknown to this version of the contract."""

    version: VersionRef
    decision: Decision | None
    alias: str
    comment: str

    def __post_init__(self) -> None:
        found = Violations()
        if self.decision is None:
            found.add("approval.decision", "must be APPROVED, REJECTED or WITHDRAWN")
        found.text("approval.comment", self.comment)
        found.check()


@dataclass(frozen=True)
class RecordDeployment:
    """alias: "" for by number. lease None: never ends by itself."""

    version: VersionRef
    environment: str
    target: str
    alias: str
    attributes: Mapping[str, str]
    lease: timedelta | None

    def __post_init__(self) -> None:
        found = Violations()
        found.text("deployment.environment", self.environment, validation.MAX_SHORT_TEXT, required=True)
        found.text("deployment.target", self.target)
        found.texts("deployment.attributes", self.attributes)
        found.lease("lease", self.lease)
        found.check()


@dataclass(frozen=True)
class RenewDeployment:
    """deployment: its id."""

    deployment: str
    lease: timedelta

    def __post_init__(self) -> None:
        found = Violations()
        found.lease("lease", self.lease)
        found.check()


@dataclass(frozen=True)
class EndDeployment:
    """deployment: its id."""

    deployment: str
    reason: str

    def __post_init__(self) -> None:
        found = Violations()
        found.text("reason", self.reason)
        found.check()


def _check_reason(reason: str) -> None:
    found = Violations()
    found.text("reason", reason, required=True)
    found.check()


def _check_rules(found: Violations, rules: Rules) -> None:
    if not rules:
        found.add("policy", "has no rule; ClearPromotionPolicy takes a policy away")
    found.count("policy.metrics", rules.metrics, MAX_RULES)
    found.count("policy.evaluations", rules.evaluations, MAX_RULES)
    for index, metric in enumerate(rules.metrics[:MAX_RULES]):
        _check_metric(found, f"policy.metrics[{index}]", metric)
    for index, evaluation in enumerate(rules.evaluations[:MAX_RULES]):
        _check_where(found, f"policy.evaluations[{index}]", evaluation.dataset, evaluation.split)
    if rules.approvals is not None:
        _check_approvals(found, "policy.approvals", rules.approvals)
    if rules.max_data_age is not None and rules.max_data_age <= timedelta(0):
        found.add("policy.max_data_age", f"is {rules.max_data_age.total_seconds():g} s; it must be above 0")
    found.texts("policy.required_tags", rules.required_tags or {})


def _check_metric(found: Violations, field: str, rule: MetricRule) -> None:
    found.text(f"{field}.metric", rule.metric, validation.MAX_KEY, required=True)
    _check_where(found, field, rule.dataset, rule.split)
    bounds = {"min": rule.min, "max": rule.max, "max_regression": rule.max_regression}
    given = {name: value for name, value in bounds.items() if value is not None}
    if not given:
        found.add(field, "has no bound; give min, max or max_regression")
    for name, value in given.items():
        if not math.isfinite(value):
            found.add(f"{field}.{name}", f"is {value}; it must be a finite number")
    if rule.min is not None and rule.max is not None and rule.min > rule.max:
        found.add(f"{field}.min", f"is {rule.min!r}, above max, {rule.max!r}: no version could pass")
    if rule.max_regression is not None and rule.max_regression < 0:
        found.add(f"{field}.max_regression", f"is {rule.max_regression!r}; it must be 0 or more")
    if rule.lower_is_better and rule.max_regression is None:
        found.add(f"{field}.lower_is_better", "is set without max_regression, which alone it is for")


def _check_where(found: Violations, field: str, dataset: str, split: str) -> None:
    found.text(f"{field}.dataset", dataset, validation.MAX_SHORT_TEXT)
    found.text(f"{field}.split", split, validation.MAX_KEY)


def _check_approvals(found: Violations, field: str, rule: ApprovalRule) -> None:
    found.range(f"{field}.count", rule.count, 1, MAX_APPROVALS)
    found.count(f"{field}.approvers", rule.approvers, validation.MAX_LINKS)
    found.unique(f"{field}.approvers", rule.approvers)
    for index, approver in enumerate(rule.approvers[: validation.MAX_LINKS]):
        found.text(f"{field}.approvers[{index}]", approver, validation.MAX_SHORT_TEXT, required=True)
    if rule.approvers and rule.count > len(rule.approvers):
        found.add(f"{field}.count", f"is {rule.count}, but only {len(rule.approvers)} may approve")
