"""Whether a version meets the rules of an alias, from the evidence recorded about it. No rule passes for
want of evidence: what is missing is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from registry_service.domain import Dataset, Evaluation, ModelVersion
from registry_service.governance import (
    Approval,
    ApprovalRule,
    Decision,
    EvaluationRule,
    MetricRule,
    PromotionCheck,
    RuleResult,
    Rules,
    last_words,
)


@dataclass(frozen=True)
class Evidence:
    """What is known. holder: whom the alias points at, None for nobody. datasets: by digest, all that the two
    versions were trained or evaluated on. approvals: of the version, oldest first."""

    alias: str
    version: ModelVersion
    holder: ModelVersion | None
    datasets: Mapping[str, Dataset]
    approvals: Sequence[Approval]
    now: datetime


def check(rules: Rules, evidence: Evidence) -> PromotionCheck:
    """The result of every rule, in the order of the contract."""
    results = [_metric(f"metrics[{i}]", rule, evidence) for i, rule in enumerate(rules.metrics)]
    results += [_evaluation(f"evaluations[{i}]", rule, evidence) for i, rule in enumerate(rules.evaluations)]
    if rules.approvals is not None:
        results.append(_approvals(rules.approvals, evidence))
    if rules.max_data_age is not None:
        results.append(_data_age(rules.max_data_age, evidence))
    tags = evidence.version.tags
    for key, value in sorted((rules.required_tags or {}).items()):
        actual = f"tag {key} is {tags[key]!r}" if key in tags else f"no tag {key}"
        expected = f"tag {key} is {value!r}"
        results.append(RuleResult(f"required_tags[{key}]", tags.get(key) == value, expected, actual))
    return PromotionCheck(tuple(results))


def _metric(name: str, rule: MetricRule, evidence: Evidence) -> RuleResult:
    where = _where(rule.dataset, rule.split)
    bounds = [
        text
        for given, text in (
            (rule.min, f">= {rule.min!r}"),
            (rule.max, f"<= {rule.max!r}"),
            (rule.max_regression, f"at most {rule.max_regression!r} worse than the present holder"),
        )
        if given is not None
    ]
    expected = f"{rule.metric} {' and '.join(bounds)}{where}"
    found = _last(evidence.version, evidence, rule.dataset, rule.split, rule.metric)
    if found is None:
        return RuleResult(name, False, expected, f"no evaluation with {rule.metric}{where}")
    value = found.metrics[rule.metric]
    actual = f"{rule.metric} {value!r}{_place(found, evidence)}"
    passed = (rule.min is None or value >= rule.min) and (rule.max is None or value <= rule.max)
    if rule.max_regression is None:
        return RuleResult(name, passed, expected, actual)
    kept, compared = _against_holder(rule, rule.max_regression, value, found, evidence)
    return RuleResult(name, passed and kept, expected, f"{actual}; {compared}")


def _against_holder(
    rule: MetricRule, allowed: float, value: float, found: Evaluation, evidence: Evidence
) -> tuple[bool, str]:
    """Whether it is no worse than allowed on the very dataset and split of `found`, and what was compared."""
    holder = evidence.holder
    if holder is None:
        return True, "there is no present holder"
    theirs = _last(holder, evidence, f"datasets/{found.dataset}", found.split, rule.metric)
    if theirs is None:
        return False, f"the present holder {holder.ref} has no such evaluation to compare with"
    before = theirs.metrics[rule.metric]
    # In decimals, as people read them: 0.8 and 0.79 differ by 0.01, not by a little more.
    worse = _decimal(value) - _decimal(before) if rule.lower_is_better else _decimal(before) - _decimal(value)
    return worse <= _decimal(allowed), f"{before!r} of the present holder {holder.ref}"


def _evaluation(name: str, rule: EvaluationRule, evidence: Evidence) -> RuleResult:
    where = _where(rule.dataset, rule.split)
    found = _last(evidence.version, evidence, rule.dataset, rule.split)
    if found is None:
        return RuleResult(name, False, f"an evaluation{where}", f"no evaluation{where}")
    actual = f"evaluated{_place(found, evidence)} at {found.create_time.isoformat()}"
    return RuleResult(name, True, f"an evaluation{where}", actual)


def _approvals(rule: ApprovalRule, evidence: Evidence) -> RuleResult:
    author = evidence.version.actor
    words = [
        word
        for actor, word in last_words(evidence.approvals, evidence.alias).items()
        if (not rule.approvers or actor in rule.approvers) and not (rule.not_by_author and actor == author)
    ]
    approved = [word.actor for word in words if word.decision is Decision.APPROVED]
    rejected = [word for word in words if word.decision is Decision.REJECTED]
    expected = f"approved by {rule.count}"
    if rule.approvers:
        expected += f" of {', '.join(rule.approvers)}"
    if rule.not_by_author:
        expected += f", the author {author} not counted"
    actual = f"approved by {len(approved)}" + (f" ({', '.join(approved)})" if approved else "")
    for word in rejected:
        actual += f"; rejected by {word.actor}" + (f": {word.comment}" if word.comment else "")
    return RuleResult("approvals", len(approved) >= rule.count and not rejected, expected, actual)


def _data_age(most: timedelta, evidence: Evidence) -> RuleResult:
    expected = f"data that ends at most {_span(most)} ago"
    digests = evidence.version.datasets
    ends = [(end, digest) for digest in digests if (end := evidence.datasets[digest].as_of_end) is not None]
    if not ends:
        what = "none of its datasets says when it ends (as_of_end)" if digests else "it has no datasets"
        return RuleResult("max_data_age", False, expected, what)
    end, digest = max(ends)
    age = evidence.now - end
    actual = f"the newest, {_title(evidence.datasets[digest])}, ends at {end.isoformat()}, {_span(age)} ago"
    return RuleResult("max_data_age", age <= most, expected, actual)


def _last(
    version: ModelVersion, evidence: Evidence, dataset: str, split: str, metric: str = ""
) -> Evaluation | None:
    """The last evaluation that fits, and has the metric."""
    for item in reversed(version.evaluations):
        names = ("", f"datasets/{item.dataset}", evidence.datasets[item.dataset].display_name)
        if dataset in names and split in ("", item.split) and (not metric or metric in item.metrics):
            return item
    return None


def _where(dataset: str, split: str) -> str:
    return (f" on {dataset}" if dataset else "") + (f", split {split}" if split else "")


def _place(evaluation: Evaluation, evidence: Evidence) -> str:
    return _where(_title(evidence.datasets[evaluation.dataset]), evaluation.split)


def _title(dataset: Dataset) -> str:
    return dataset.display_name or f"datasets/{dataset.digest}"


def _decimal(value: float) -> Decimal:
    """The number as it is written."""
    return Decimal(repr(value))


def _span(span: timedelta) -> str:
    """As "400d", "2d 23h", "1m 5s": its two greatest units, which is enough for people."""
    rest, parts = abs(int(span.total_seconds())), []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        parts.append((count, unit))
    first = next((i for i, (count, _) in enumerate(parts) if count), len(parts) - 1)
    shown = [f"{count}{unit}" for count, unit in parts[first : first + 2] if count] or ["0s"]
    return ("-" if span < timedelta(0) else "") + " ".join(shown)
