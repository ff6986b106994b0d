"""What differs between two versions, section by section.

Each version is described by facts, texts by key, in sections; two descriptions are compared key by key. What
nobody recorded of either version is in no section: nothing is known to be equal there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from registry_service.comparison_data import data_facts, feature_facts
from registry_service.domain import (
    AliasRef,
    Dataset,
    ModelVersion,
    Signature,
    TrainingRun,
    VersionRef,
)
from registry_service.flat import Facts, numbered, text_facts
from registry_service.ports import Transaction

#: In the order they are told.
SECTIONS = (
    "data",
    "features",
    "signature",
    "parameters",
    "config",
    "metrics",
    "environment",
    "code",
    "files",
    "tags",
    "seed",
)


class Change(StrEnum):
    ADDED = "ADDED"
    REMOVED = "REMOVED"
    CHANGED = "CHANGED"


@dataclass(frozen=True)
class Difference:
    """left, right: "" where the fact is missing on that side, and the change is ADDED or REMOVED."""

    section: str
    key: str
    change: Change
    left: str
    right: str


@dataclass(frozen=True)
class Comparison:
    """differences: by section, in the order of SECTIONS, then key. equal_sections: those of which something
    is known, and the same of both."""

    left: VersionRef
    right: VersionRef
    differences: tuple[Difference, ...]
    equal_sections: tuple[str, ...]


@dataclass(frozen=True)
class _Side:
    """A version with the records it links to. run None: no run made it."""

    version: ModelVersion
    run: TrainingRun | None
    datasets: tuple[Dataset, ...]


def compare(
    transaction: Transaction, left: VersionRef | AliasRef, right: VersionRef | AliasRef
) -> Comparison:
    """From left to right: ADDED is what only right has. Raises ModelNotFound, VersionNotFound,
    AliasNotFound."""
    sides = _side(transaction, left), _side(transaction, right)
    described = _described(*sides), _described(*reversed(sides))
    differences: list[Difference] = []
    equal: list[str] = []
    for section in SECTIONS:
        before, after = described[0].get(section, {}), described[1].get(section, {})
        found = list(_differences(section, before, after))
        differences += found
        if (before or after) and not found:
            equal.append(section)
    return Comparison(sides[0].version.ref, sides[1].version.ref, tuple(differences), tuple(equal))


def _side(transaction: Transaction, ref: VersionRef | AliasRef) -> _Side:
    if isinstance(ref, AliasRef):
        ref = transaction.aliases.get(ref).version
    version = transaction.versions.get(ref)
    run = transaction.runs.get(version.run) if version.run else None
    # Those the version was trained on; what else its run read comes behind them.
    digests = dict.fromkeys([*version.datasets, *(run.datasets if run else ())])
    return _Side(version, run, tuple(transaction.datasets.get(digest) for digest in digests))


def _differences(section: str, left: Facts, right: Facts) -> Iterator[Difference]:
    for key in sorted(left.keys() | right.keys()):
        before, after = left.get(key), right.get(key)
        if before == after:
            continue
        change = Change.ADDED if before is None else Change.REMOVED if after is None else Change.CHANGED
        yield Difference(section, key, change, before or "", after or "")


def _described(side: _Side, other: _Side) -> Mapping[str, Facts]:
    """The facts of a side. other: what it is compared with, which decides how some facts are called."""
    version, run = side.version, side.run
    return {
        "data": data_facts(side.datasets, other.datasets),
        "features": feature_facts(version.signature, side.datasets, other.datasets),
        "signature": _signature_facts(version.signature, other.version.signature),
        "parameters": {} if run is None else run.parameters,
        "config": {} if run is None else text_facts(run.config),
        "metrics": _metric_facts(version, other.version),
        "environment": {} if run is None else _environment_facts(run, other.run),
        "code": {} if run is None else _code_facts(run),
        "files": {file.path: f"sha256:{file.sha256}" for file in version.files},
        "tags": version.tags,
        "seed": {} if run is None else {"seed": str(run.seed)},
    }


def _signature_facts(signature: Signature | None, other: Signature | None) -> Facts:
    if signature is None:
        return {}
    facts: dict[str, str] = {}
    for item in signature.inputs:
        facts[f"inputs.{item.name}.type"] = item.type
        facts[f"inputs.{item.name}.source"] = item.feature_reference or "the request"
        if item.categories:
            facts[f"inputs.{item.name}.categories"] = numbered(item.categories, "categories")
    # Where an input was added or removed the others move along; that is no difference of its own.
    theirs = {item.name for item in other.inputs} if other is not None else set()
    shared = [item.name for item in signature.inputs if item.name in theirs]
    if shared:
        facts["inputs"] = ", ".join(shared)
    for what, fields in (
        ("outputs", signature.outputs),
        ("join_keys", signature.join_keys),
        ("request_data", signature.request_data),
    ):
        facts |= {f"{what}.{field.name}": field.type for field in fields}
    return facts


def _metric_facts(version: ModelVersion, other: ModelVersion) -> Facts:
    """ "test.auc" of the last evaluation of a split; "test.auc on {digest}" for each dataset on which both
    versions were judged, where the last ones were not of the same dataset: only those compare like with like.
    """
    facts: dict[str, str] = {}
    last = {item.split: item for item in version.evaluations}
    theirs = {item.split: item.dataset for item in other.evaluations}
    both = {(item.dataset, item.split) for item in other.evaluations}
    for item in version.evaluations:
        apart = last[item.split].dataset != theirs.get(item.split)
        where = f" on {item.dataset[:12]}"
        if apart and (item.dataset, item.split) in both:
            facts |= {f"{item.split}.{name}{where}": repr(value) for name, value in item.metrics.items()}
    for split, item in last.items():
        facts |= {f"{split}.{name}": repr(value) for name, value in item.metrics.items()}
    return facts


def _environment_facts(run: TrainingRun, other: TrainingRun | None) -> Facts:
    environment = run.environment
    if environment is None or (other is not None and other.environment is None):
        # Some have the digest of their packages alone; that much can be compared.
        return {"digest": run.environment_digest} if run.environment_digest else {}
    facts = {"python": environment.python_version, "platform": environment.platform}
    for package in environment.packages:
        name, _, number = package.partition("==")
        facts[f"packages.{name}"] = number
    return facts


def _code_facts(run: TrainingRun) -> Facts:
    if run.code is None:
        return {}
    return {
        "repository": run.code.repository,
        "commit": run.code.commit,
        "dirty": "yes" if run.code.dirty else "no",
    }
