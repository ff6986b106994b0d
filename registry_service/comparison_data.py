"""What two versions were trained on, as facts to be compared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from registry_service.domain import Dataset, DefinitionRef, Signature
from registry_service.flat import Facts, flatten


def data_facts(datasets: Sequence[Dataset], other: Sequence[Dataset]) -> Facts:
    """By "dataset 1.rows": the datasets that the other side does not have, in their order, are compared one
    by one; those of both sides are equal and come as "same.{digest}"."""
    theirs = {dataset.digest for dataset in other}
    facts = {f"same.{dataset.digest}": "yes" for dataset in datasets if dataset.digest in theirs}
    own = [dataset for dataset in datasets if dataset.digest not in theirs]
    for number, dataset in enumerate(own, 1):
        facts |= {f"dataset {number}.{key}": value for key, value in _dataset(dataset).items()}
    return facts


def _dataset(dataset: Dataset) -> Facts:
    facts = {
        "digest": dataset.digest,
        "rows": str(dataset.row_count),
        "as_of_start": _moment(dataset.as_of_start),
        "as_of_end": _moment(dataset.as_of_end),
        "entity_digest": dataset.entity_digest,
    }
    facts |= {f"schema.{field.name}": field.type for field in dataset.schema}
    facts |= {f"recipe.{key}": value for key, value in flatten(dataset.recipe).items()}
    return {key: value for key, value in facts.items() if value}


def feature_facts(
    signature: Signature | None, datasets: Sequence[Dataset], other: Sequence[Dataset]
) -> Facts:
    """The digests of feature services and views, and the definitions where both sides kept them."""
    facts: dict[str, str] = {}
    kept = {_called(dataset, item.ref) for dataset in other for item in dataset.feature_definitions}
    if signature is not None and signature.feature_service:
        facts[f"signature.{signature.feature_service}"] = signature.feature_service_digest
    for dataset in datasets:
        services = () if dataset.feature_service is None else (dataset.feature_service,)
        specs = {item.ref: item.spec for item in dataset.feature_definitions}
        for ref in (*services, *dataset.feature_views):
            name = _called(dataset, ref)
            facts[f"{name}.digest"] = ref.digest
            flat = flatten(specs.get(ref, "")) if name in kept else {}
            facts |= {f"{name}.spec.{key}": value for key, value in flat.items()}
    return facts


def _called(dataset: Dataset, ref: DefinitionRef) -> str:
    kind = "service" if ref == dataset.feature_service else "view"
    return f"{kind} {ref.project}/{ref.name}"


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat()
