"""Who holds the alias: the new version, if it is better than the present holder on the same test rows, and
meets the alias's promotion policy, where it has one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plumbline.registry.errors import AliasNotFound, EtagMismatch, PolicyNotMet
from trainer import codec
from trainer.config import PromotionRule
from trainer.domain import Input, Metrics, Promotion
from trainer.errors import PromotionContended
from trainer.ports import Registry
from trainer.register import MODEL_FILE

#: Times the comparison is made anew after somebody else moved the alias.
ATTEMPTS = 5

#: Metrics of a model, given its inputs and file, on the test rows of this job; None when they lack an input.
Score = Callable[[tuple[Input, ...], Path], Metrics | None]


@dataclass(frozen=True)
class Candidate:
    """The version to be promoted. dataset: where its test metrics come from, datasets/{digest}."""

    model: str
    version: str
    dataset: str
    test: Metrics


@dataclass(frozen=True)
class Verdict:
    """Whether the alias is to move, and why, with both values."""

    move: bool
    reason: str


def decide(
    rule: PromotionRule, metric: str, greater: bool, new: float, old: float | None, holder: str
) -> Verdict:
    """Compares the values of a metric. old: None when the holder cannot be compared. greater: is better."""
    if old is None:
        what = f"{holder} has inputs that this dataset lacks, so the two cannot be compared on the same rows"
        return Verdict(rule.not_comparable == "move", f"{what}; not_comparable is {rule.not_comparable!r}")
    gain = new - old if greater else old - new
    values = f"{metric} {new:.6f} against {old:.6f} of {holder} on the same test rows"
    if gain == 0:
        return Verdict(rule.on_tie == "move", f"{values}: a tie, on_tie is {rule.on_tie!r}")
    if gain > rule.min_improvement:
        return Verdict(True, f"{values}: better by {gain:.6f}")
    if gain > 0:
        return Verdict(
            False, f"{values}: better by {gain:.6f}, which is not more than {rule.min_improvement:g}"
        )
    return Verdict(False, f"{values}: worse by {-gain:.6f}")


class Promoter:
    """Moves an alias by compare-and-set, deciding again whenever somebody else was faster."""

    def __init__(
        self, registry: Registry, rule: PromotionRule, metric: str, greater: bool, score: Score
    ) -> None:
        self._registry, self._rule, self._score = registry, rule, score
        self._metric, self._greater = metric, greater
        self._values: dict[str, float | None] = {}

    def promote(self, candidate: Candidate) -> Promotion:
        """Compares, and moves the alias or leaves it, also because its policy refuses the version. Raises
        PromotionContended after ATTEMPTS lost races."""
        alias = f"models/{candidate.model}/aliases/{self._rule.alias}"
        new = candidate.test[self._metric]
        for _ in range(ATTEMPTS):
            try:
                resolved = self._registry.resolve_alias(alias)
            except AliasNotFound:
                reason = f"{self._metric} {new:.6f} on the test rows: the first to hold this alias"
                moved, reason = self._set(alias, candidate.version, reason, etag="")
                if moved is not None:
                    return Promotion(alias, self._metric, moved, reason, new)
                continue
            holder = resolved.alias.version
            old = self._value(holder, codec.inputs(resolved.version.signature), candidate.dataset)
            verdict = decide(self._rule, self._metric, self._greater, new, old, holder)
            moved, reason = False, verdict.reason
            if verdict.move:
                moved, reason = self._set(alias, candidate.version, reason, resolved.alias.etag)
            if moved is not None:
                return Promotion(alias, self._metric, moved, reason, new, old, holder)
        raise PromotionContended(
            f"{alias} was moved by others {ATTEMPTS} times while {candidate.version} was compared with its "
            "holder; the version is registered: move the alias by hand or run the job again"
        )

    def _set(self, alias: str, version: str, reason: str, etag: str) -> tuple[bool | None, str]:
        """Whether the alias moved, None when somebody else was faster; and why."""
        try:
            self._registry.set_alias(alias, version, reason=reason, etag=etag, must_not_exist=not etag)
        except EtagMismatch:
            return None, reason
        except PolicyNotMet as refusal:
            return False, f"{reason}; but {refusal.message}"
        return True, reason

    def _value(self, version: str, inputs: tuple[Input, ...], dataset: str) -> float | None:
        """The holder's metric on the rows of this job, recorded as evidence; a version is scored once."""
        if version not in self._values:
            with tempfile.TemporaryDirectory(prefix="plumbline-trainer-") as folder:
                target = Path(folder) / MODEL_FILE
                self._registry.download_file(version, MODEL_FILE, target)
                metrics = self._score(inputs, target)
            if metrics is not None:
                self._registry.record_evaluation(version, codec.evaluation(dataset, "test", metrics))
            self._values[version] = None if metrics is None else metrics[self._metric]
        return self._values[version]
