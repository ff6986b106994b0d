"""Use cases of dataset snapshots. Each function is one transaction of its caller's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from plumbline.registry.errors import DatasetExists
from registry_service import states
from registry_service.audit import record as record_event
from registry_service.commands import RecordDataset
from registry_service.domain import Act, Dataset
from registry_service.filtering.search import Hit, Search
from registry_service.ports import Transaction


def record(transaction: Transaction, act: Act, command: RecordDataset) -> Dataset:
    """The record, or the first record of the same snapshot; its display name and uri are the first's.

    Raises DatasetExists when the digest is known with other facts: same content cannot have them.
    """
    given = command.dataset
    texts = {
        item.ref.digest: hashlib.sha256(item.spec.encode()).hexdigest()
        for item in transaction.datasets.unknown_definitions(given.feature_definitions)
    }
    recorded, new = transaction.datasets.add(given, act)
    if new:
        facts = {"display_name": given.display_name, "row_count": given.row_count}
        return _recorded(transaction, act, recorded, facts, texts)
    for field, before, now in _facts(recorded, given):
        if before != now:
            raise DatasetExists(
                f"datasets/{given.digest} is recorded with {field} {before}, not {now}; the digest of a "
                "snapshot must cover its content",
                metadata={"dataset": f"datasets/{given.digest}", "field": field},
            )
    # Its definitions may have come without their texts at first.
    return _recorded(transaction, act, recorded, {}, texts) if texts else recorded


def get(transaction: Transaction, digest: str) -> Dataset:
    """Raises DatasetNotFound."""
    return transaction.datasets.get(digest)


def search(transaction: Transaction, asked: Search, limit: int) -> list[Hit[Dataset]]:
    """A page of datasets."""
    return transaction.datasets.search(asked, limit)


def _recorded(
    transaction: Transaction, act: Act, dataset: Dataset, facts: Mapping[str, Any], texts: Mapping[str, str]
) -> Dataset:
    """texts: the sha256 of the definitions' texts kept from now on, by the definitions' digests."""
    details = {**facts, "definitions": texts} if texts else facts
    state = states.of_dataset(dataset)
    subject = states.dataset_subject(dataset)
    record_event(transaction, act, "RecordDataset", subject, details=details, state=state)
    return dataset


def _facts(first: Dataset, second: Dataset) -> list[tuple[str, object, object]]:
    pairs: list[tuple[str, object, object]] = [
        (name, getattr(first, name), getattr(second, name))
        for name in (
            "row_count",
            "as_of_start",
            "as_of_end",
            "feature_service",
            "feature_views",
            "entity_digest",
        )
    ]
    schemas = [[(field.name, field.type) for field in dataset.schema] for dataset in (first, second)]
    return [*pairs, ("schema", schemas[0], schemas[1])]
