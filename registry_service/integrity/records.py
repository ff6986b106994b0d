"""Records against the events that vouch for them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry_service import states
from registry_service.audit import digest
from registry_service.domain import Dataset, Model, ModelVersion, TrainingRun, VersionState, manifest_digest
from registry_service.events import Kind
from registry_service.governance import Policy
from registry_service.integrity.findings import Finding, FindingKind, Progress, Summary
from registry_service.integrity.store import (
    IntegrityStore,
    StoredAlias,
    StoredApproval,
    StoredDeployment,
    StoredEvaluation,
    Unreadable,
    Vouched,
)
from registry_service.webhooks.domain import Webhook, state_of

BATCH = 200
_STRAYS = 1_000


@dataclass(frozen=True)
class Record:
    """state: as `registry_service.states` gives it."""

    id: int
    name: str
    state: states.State


@dataclass(frozen=True)
class Source:
    """Where the records of a kind are read, and what they are as records."""

    kind: Kind
    read: Callable[[IntegrityStore, int, int], Sequence[Any]]
    describe: Callable[[Any], Record]
    more: Callable[[IntegrityStore, Sequence[Any]], Iterator[Finding]] | None = None


def check(store: IntegrityStore, before: Mapping[str, int], summary: Summary) -> Iterator[Finding | Progress]:
    """before: the greatest ids, by kind, of records older than the chain of events."""
    total = store.record_count([source.kind for source in SOURCES])
    for source in SOURCES:
        after: int | None = 0
        while after is not None:
            after = yield from _batch(source, store, after, before, summary)
            yield Progress("records", summary.records, max(total, summary.records))
    for resource, problem in store.strays(_STRAYS):
        yield Finding(FindingKind.RECORD_UNEXPLAINED, resource, problem)


def _batch(
    source: Source, store: IntegrityStore, after: int, before: Mapping[str, int], summary: Summary
) -> Generator[Finding, None, int | None]:
    """The next records; where to go on, None at the end."""
    found = {item.id: item for item in source.read(store, after, BATCH)}
    vouched = {item.id: item for item in store.vouched(source.kind, after=after, limit=BATCH)}
    # As far as both are known.
    ends = [max(part) for part in (found, vouched) if len(part) == BATCH]
    end = min(ends) if ends else None
    ids = sorted(i for i in {*found, *vouched} if end is None or i <= end)
    here = [found[i] for i in ids if i in found]
    for record_id in ids:
        item, event = found.get(record_id), vouched.get(record_id)
        if item is None:
            if event is not None and event.state_digest:
                yield Finding(
                    FindingKind.RECORD_MISSING,
                    event.resource,
                    f"event {event.sequence} tells of it; it is gone",
                )
        elif isinstance(item, Unreadable):
            name = f"{source.kind} {record_id}" if event is None else event.resource
            yield Finding(FindingKind.RECORD_ALTERED, name, f"it cannot be read: {item.problem}")
        else:
            known = event if event is not None and event.state_digest else None
            yield from _compare(source.describe(item), known, before.get(source.kind, 0), summary)
    readable = [item for item in here if not isinstance(item, Unreadable)]
    summary.records += len(here)
    if readable:
        names = {record.id: record.name for record in map(source.describe, readable)}
        for record_id, problem in store.disagreements(source.kind, sorted(names)):
            yield Finding(FindingKind.RECORD_ALTERED, names[record_id], problem)
        if source.more is not None:
            yield from source.more(store, readable)
        if source.kind is Kind.ALIAS:
            yield from _moves(store, names, before.get("alias_event", 0))
    return end


def _compare(record: Record, event: Vouched | None, oldest: int, summary: Summary) -> Iterator[Finding]:
    if event is None:
        if record.id <= oldest:
            summary.records_before_audit += 1
        else:
            yield Finding(FindingKind.RECORD_UNEXPLAINED, record.name, "no event tells of it")
    elif digest(record.state) != event.state_digest:
        yield Finding(
            FindingKind.RECORD_ALTERED,
            record.name,
            f"it is not what event {event.sequence} left: its state has the digest {digest(record.state)}, "
            f"recorded is {event.state_digest}",
        )


def _moves(store: IntegrityStore, names: Mapping[int, str], before: int) -> Iterator[Finding]:
    for alias_id, moves, events in store.unexplained_moves(sorted(names), before):
        if moves > events:
            yield Finding(
                FindingKind.RECORD_UNEXPLAINED,
                names[alias_id],
                f"its history has {moves} moves; events tell of {events}",
            )


def _version(version: ModelVersion) -> Record:
    return Record(version.id, str(version.ref), states.of_version(version))


def _more_of_versions(store: IntegrityStore, versions: Sequence[ModelVersion]) -> Iterator[Finding]:
    kept = store.metrics([version.id for version in versions])
    for version in versions:
        right = manifest_digest(version.files)
        if version.state is VersionState.READY and version.manifest_digest != right:
            yield Finding(
                FindingKind.MANIFEST_WRONG,
                str(version.ref),
                f"its files have the manifest digest {right}; recorded is {version.manifest_digest}",
            )
        newest: dict[str, float] = {}
        for evaluation in version.evaluations:
            newest |= evaluation.metrics
        if kept.get(version.id, {}) != newest:
            yield Finding(
                FindingKind.RECORD_ALTERED,
                str(version.ref),
                "the metrics it is searched by are not the last ones of its evaluations",
            )


def _alias(alias: StoredAlias) -> Record:
    state = states.alias_state(alias.model_id, alias.name, alias.number, alias.revision)
    return Record(alias.id, f"models/{alias.model}/aliases/{alias.name}", state)


def _evaluation(item: StoredEvaluation) -> Record:
    name = f"models/{item.model}/versions/{item.number}/evaluations/{item.id}"
    return Record(item.id, name, states.evaluation_state(item.model_id, item.number, item.evaluation))


def _model(model: Model) -> Record:
    return Record(model.id, f"models/{model.name}", states.of_model(model))


def _run(run: TrainingRun) -> Record:
    return Record(run.id, f"runs/{run.name}", states.of_run(run))


def _dataset(dataset: Dataset) -> Record:
    return Record(dataset.id, f"datasets/{dataset.digest}", states.of_dataset(dataset))


def _policy(policy: Policy) -> Record:
    return Record(policy.id, str(policy.ref), states.of_policy(policy))


def _approval(item: StoredApproval) -> Record:
    name = f"models/{item.model}/versions/{item.number}/approvals/{item.id}"
    return Record(item.id, name, states.approval_state(item.model_id, item.number, item.approval))


def _deployment(item: StoredDeployment) -> Record:
    name = f"deployments/{item.deployment.name}"
    return Record(item.id, name, states.of_deployment(item.model_id, item.deployment))


def _webhook(webhook: Webhook) -> Record:
    return Record(webhook.id, webhook.resource, state_of(webhook))


SOURCES = (
    Source(Kind.MODEL, lambda store, after, limit: store.models(after=after, limit=limit), _model),
    Source(
        Kind.VERSION,
        lambda store, after, limit: store.versions(after=after, limit=limit),
        _version,
        _more_of_versions,
    ),
    Source(Kind.ALIAS, lambda store, after, limit: store.aliases(after=after, limit=limit), _alias),
    Source(Kind.RUN, lambda store, after, limit: store.runs(after=after, limit=limit), _run),
    Source(Kind.DATASET, lambda store, after, limit: store.datasets(after=after, limit=limit), _dataset),
    Source(Kind.POLICY, lambda store, after, limit: store.policies(after=after, limit=limit), _policy),
    Source(Kind.APPROVAL, lambda store, after, limit: store.approvals(after=after, limit=limit), _approval),
    Source(
        Kind.DEPLOYMENT, lambda store, after, limit: store.deployments(after=after, limit=limit), _deployment
    ),
    Source(Kind.WEBHOOK, lambda store, after, limit: store.webhooks(after=after, limit=limit), _webhook),
    Source(
        Kind.EVALUATION, lambda store, after, limit: store.evaluations(after=after, limit=limit), _evaluation
    ),
)
