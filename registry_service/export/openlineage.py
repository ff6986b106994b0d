"""Lineage as OpenLineage events: what a lineage server would have been told, had it listened.

A training run is a START and, once it has ended, a COMPLETE or FAIL, at its own times; its inputs are the
snapshots it read, the feature services and views behind them, and the versions it went on from; its outputs
are the versions it made. A version that no run made is the output of a job that registered or copied it; a
deployment is a run of a service that reads its version. Ids of runs are made from ours, so that events
exported again are the same events.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from registry_service import names
from registry_service.domain import (
    Dataset,
    DefinitionRef,
    Deployment,
    Direction,
    LineageNode,
    ModelVersion,
    NodeKey,
    NodeKind,
    RunState,
    TrainingRun,
    VersionState,
)
from registry_service.export import facets
from registry_service.export.facets import NAMESPACE, Json, event, facet
from registry_service.ports import Transaction

_IDS = uuid.UUID("8f6a5f0e-6c1b-5d0a-9c53-6d1f5b0c7a11")

# A run is part of a run that is part of …: so far up the root is looked for.
_GENERATIONS = 50


def events(transaction: Transaction, nodes: Sequence[LineageNode]) -> list[str]:
    """The events about the runs, datasets, versions and deployments among some nodes, each a JSON text."""
    return [json.dumps(item, ensure_ascii=False) for node in nodes for item in _about(transaction, node)]


def _about(transaction: Transaction, node: LineageNode) -> Iterator[Json]:
    kind, name = names.node("node", node.name)
    match kind:
        case NodeKind.RUN:
            yield from _run(transaction, transaction.runs.get(str(name)))
        case NodeKind.DATASET:
            dataset = transaction.datasets.get(str(name))
            if dataset.create_time is not None:
                yield event("DatasetEvent", dataset.create_time, dataset=facets.snapshot(dataset))
        case NodeKind.MODEL_VERSION:
            version = transaction.versions.get(names.version("node", node.name))
            if not version.run:
                yield from _registration(transaction, version)
        case NodeKind.DEPLOYMENT:
            yield from _deployment(transaction.deployments.get(str(name)))


def _run(transaction: Transaction, run: TrainingRun) -> Iterator[Json]:
    inputs = _inputs(transaction.datasets.get_all(run.datasets))
    inputs += [facets.base(ref) for ref in run.base_versions]
    about: Json = {"plumbline_run": facets.own_run(run), **facets.parameters(run.parameters)}
    about |= _parent(transaction, run)
    parts = {"job": _job(_job_name(run), "TRAINING", facets.source_code(run.code)), "inputs": inputs}
    run_id = _run_id(run.name)
    yield _event("START", run.start_time, run_id, about, outputs=[], **parts)
    if run.end_time is None:
        return
    failed = run.state is RunState.FAILED
    if failed:
        about["errorMessage"] = facet(
            "ErrorMessageRunFacet/1-0-1", message=run.error, programmingLanguage="python"
        )
    outputs = [facets.model(version) for version in _made(transaction, run)]
    yield _event("FAIL" if failed else "COMPLETE", run.end_time, run_id, about, outputs=outputs, **parts)


def _registration(transaction: Transaction, version: ModelVersion) -> Iterator[Json]:
    """Of a version that no run made."""
    what, inputs = "register", _inputs(transaction.datasets.get_all(version.datasets))
    if version.copied_from is not None:
        what, inputs = "copy", [facets.base(version.copied_from)]
    parts = {"job": _job(f"{what} {version.ref.model}", "REGISTRATION", {}), "inputs": inputs}
    run_id = str(uuid.uuid5(_IDS, str(version.ref)))
    yield _event("START", version.create_time, run_id, {}, outputs=[], **parts)
    if version.finalize_time is not None:
        made = [facets.model(version)]
        yield _event("COMPLETE", version.finalize_time, run_id, {}, outputs=made, **parts)


def _deployment(deployment: Deployment) -> Iterator[Json]:
    about = {
        "plumbline_deployment": facet(
            "DeploymentFacet",
            name=f"deployments/{deployment.name}",
            environment=deployment.environment,
            target=deployment.target,
            actor=deployment.actor,
        )
    }
    job = _job(f"serve {deployment.version.model}", "SERVING", {}, processing="SERVICE")
    parts = {"job": job, "inputs": [facets.base(deployment.version)], "outputs": []}
    run_id = _run_id(deployment.name)
    yield _event("START", deployment.start_time, run_id, about, **parts)
    if deployment.end_time is not None:
        yield _event("COMPLETE", deployment.end_time, run_id, about, **parts)


def _event(kind: str, time: datetime, run_id: str, about: Json, **parts: Any) -> Json:
    run = {"runId": run_id, "facets": about}
    return event("RunEvent", time, eventType=kind, run=run, **parts)


def _job(name: str, job_type: str, more: Json, processing: str = "BATCH") -> Json:
    kind = facet(
        "JobTypeJobFacet/2-0-4", processingType=processing, integration="PLUMBLINE", jobType=job_type
    )
    return {"namespace": NAMESPACE, "name": name, "facets": {"jobType": kind, **more}}


def _job_name(run: TrainingRun) -> str:
    return run.display_name or "train"


def _run_id(name: str) -> str:
    """Our ids are random UUIDs without dashes; another one is made into a UUID by its name."""
    try:
        return str(uuid.UUID(hex=name))
    except ValueError:
        return str(uuid.uuid5(_IDS, f"runs/{name}"))


def _inputs(datasets: Sequence[Dataset]) -> list[Json]:
    """Snapshots, then the definitions behind them, each once."""
    definitions: dict[tuple[DefinitionRef, str], None] = {}
    for dataset in datasets:
        if dataset.feature_service is not None:
            definitions[dataset.feature_service, "FEATURE_SERVICE"] = None
        definitions |= dict.fromkeys((view, "FEATURE_VIEW") for view in dataset.feature_views)
    read = [facets.read_snapshot(dataset) for dataset in datasets]
    return read + [facets.definition(ref, kind) for ref, kind in definitions]


def _parent(transaction: Transaction, run: TrainingRun) -> Json:
    """Whose part a run is: facets by name."""
    if not run.parent:
        return {}
    parent = root = transaction.runs.get(run.parent)
    for _ in range(_GENERATIONS):
        if not root.parent:
            break
        root = transaction.runs.get(root.parent)
    top = _reference(root)
    return {"parent": facet("ParentRunFacet/1-2-0", **_reference(parent), root=top)}


def _reference(run: TrainingRun) -> Json:
    return {
        "run": {"runId": _run_id(run.name)},
        "job": {"namespace": NAMESPACE, "name": _job_name(run)},
    }


def _made(transaction: Transaction, run: TrainingRun) -> list[ModelVersion]:
    """The versions a run made, drafts apart: nobody can use them yet."""
    store = transaction.lineage
    edges = store.edges([NodeKey(NodeKind.RUN, run.id)], Direction.DOWNSTREAM)
    keys = sorted(edge.downstream for edge in edges if edge.relation == "produced_by")
    described = store.describe(keys)
    made = [transaction.versions.get(names.version("node", described[key][0])) for key in keys]
    return [version for version in made if version.state is not VersionState.DRAFT]
