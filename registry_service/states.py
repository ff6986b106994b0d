"""Records as their events vouch for them: everything that only an event may change.

What is computed from other records (a version's aliases, a model's latest number) is vouched for by the
events of those. Names of models are left out below models: renaming is an event of the model alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from registry_service.domain import (
    AliasRef,
    Dataset,
    Deployment,
    Evaluation,
    Model,
    ModelVersion,
    TrainingRun,
    VersionRef,
)
from registry_service.events import Kind, Subject
from registry_service.governance import Approval, Policy, to_document

State = Mapping[str, Any]


def of_model(model: Model) -> State:
    return {
        "name": model.name,
        "description": model.description,
        "tags": dict(model.tags),
        "create_time": model.create_time,
        "archive_time": model.archive_time,
    }


def of_version(version: ModelVersion) -> State:
    """With its notes, and its files by path."""
    return {
        "model": version.model_id,
        "number": version.ref.number,
        "state": version.state.value,
        "description": version.description,
        "tags": dict(version.tags),
        "stage": version.stage,
        "signature": None if version.signature is None else asdict(version.signature),
        "run": version.run,
        "datasets": list(version.datasets),
        "files": [[file.path, file.sha256, file.size_bytes, file.media_type] for file in version.files],
        "manifest_digest": version.manifest_digest,
        "source": version.source,
        "external_run": version.external_run,
        "run_link": version.run_link,
        "copied_from": version.copied_from_id,
        "create_time": version.create_time,
        "finalize_time": version.finalize_time,
        "archive_time": version.archive_time,
        "actor": version.actor,
    }


def of_alias(model_id: int, name: str, holder: VersionRef | None, revision: int) -> State:
    """holder None: cleared."""
    return alias_state(model_id, name, None if holder is None else holder.number, revision)


def alias_state(model_id: int, name: str, number: int | None, revision: int) -> State:
    """number: of the version it points at; None: cleared."""
    return {"model": model_id, "name": name, "version": number, "revision": revision}


def of_run(run: TrainingRun) -> State:
    return {
        "name": run.name,
        "display_name": run.display_name,
        "state": run.state.value,
        "parameters": dict(run.parameters),
        "metrics": dict(run.metrics),
        "tags": dict(run.tags),
        "seed": run.seed,
        "code": None if run.code is None else asdict(run.code),
        "environment_digest": run.environment_digest,
        "environment": None if run.environment is None else asdict(run.environment),
        "config": run.config,
        "parent": run.parent,
        "base_versions": list(run.base_version_ids),
        "datasets": list(run.datasets),
        "start_time": run.start_time,
        "end_time": run.end_time,
        "error": run.error,
        "actor": run.actor,
    }


def of_dataset(dataset: Dataset) -> State:
    return {
        "digest": dataset.digest,
        "display_name": dataset.display_name,
        "row_count": dataset.row_count,
        "schema": [asdict(field) for field in dataset.schema],
        "as_of_start": dataset.as_of_start,
        "as_of_end": dataset.as_of_end,
        "feature_service": str(dataset.feature_service or ""),
        "feature_views": [str(view) for view in dataset.feature_views],
        "entity_digest": dataset.entity_digest,
        "uri": dataset.uri,
        "recipe": dataset.recipe,
        "create_time": dataset.create_time,
        "actor": dataset.actor,
    }


def of_evaluation(version: ModelVersion, evaluation: Evaluation) -> State:
    return evaluation_state(version.model_id, version.ref.number, evaluation)


def evaluation_state(model_id: int, number: int, evaluation: Evaluation) -> State:
    """Of an evaluation of the model's version of that number."""
    return {
        "model": model_id,
        "version": number,
        "dataset": evaluation.dataset,
        "split": evaluation.split,
        # Not every database tells 0 from -0.
        "metrics": {name: value + 0.0 for name, value in evaluation.metrics.items()},
        "create_time": evaluation.create_time,
        "actor": evaluation.actor,
    }


def of_policy(policy: Policy) -> State:
    """rules None: taken away."""
    return {
        "model": policy.model_id,
        "alias": policy.ref.alias,
        "rules": None if policy.rules is None else to_document(policy.rules),
        "description": policy.description,
        "revision": policy.revision,
        "actor": policy.actor,
        "update_time": policy.update_time,
    }


def of_approval(version: ModelVersion, approval: Approval) -> State:
    return approval_state(version.model_id, version.ref.number, approval)


def approval_state(model_id: int, number: int, approval: Approval) -> State:
    """Of an approval of the model's version of that number."""
    return {
        "model": model_id,
        "version": number,
        "decision": approval.decision.value,
        "alias": approval.alias,
        "comment": approval.comment,
        "create_time": approval.create_time,
        "actor": approval.actor,
    }


def of_deployment(model_id: int, deployment: Deployment) -> State:
    """Without the lease: renewals are signs of life, not changes."""
    return {
        "name": deployment.name,
        "model": model_id,
        "version": deployment.version.number,
        "environment": deployment.environment,
        "target": deployment.target,
        "alias": deployment.alias,
        "attributes": dict(deployment.attributes),
        "start_time": deployment.start_time,
        "end_time": deployment.end_time,
        "end_reason": deployment.end_reason,
        "actor": deployment.actor,
    }


def difference(before: Model | ModelVersion, after: Model | ModelVersion) -> State:
    """What a change of notes did: new description and tags, where they are others."""
    changed: dict[str, Any] = {}
    if before.description != after.description:
        changed["description"] = after.description
    tags = {key: value for key, value in after.tags.items() if before.tags.get(key) != value}
    removed = sorted(set(before.tags) - set(after.tags))
    return changed | ({"tags": tags} if tags else {}) | ({"removed_tags": removed} if removed else {})


def model_subject(model: Model) -> Subject:
    return Subject(Kind.MODEL, model.id, f"models/{model.name}", model.id)


def version_subject(version: ModelVersion) -> Subject:
    return Subject(Kind.VERSION, version.id, str(version.ref), version.model_id)


def alias_subject(model: Model, alias_id: int, ref: AliasRef) -> Subject:
    return Subject(Kind.ALIAS, alias_id, str(ref), model.id)


def evaluation_subject(version: ModelVersion, evaluation_id: int) -> Subject:
    name = f"{version.ref}/evaluations/{evaluation_id}"
    return Subject(Kind.EVALUATION, evaluation_id, name, version.model_id)


def run_subject(run: TrainingRun) -> Subject:
    return Subject(Kind.RUN, run.id, f"runs/{run.name}")


def dataset_subject(dataset: Dataset) -> Subject:
    return Subject(Kind.DATASET, dataset.id, f"datasets/{dataset.digest}")


def policy_subject(policy: Policy) -> Subject:
    return Subject(Kind.POLICY, policy.id, str(policy.ref), policy.model_id)


def approval_subject(version: ModelVersion, approval: Approval) -> Subject:
    name = f"{version.ref}/approvals/{approval.id}"
    return Subject(Kind.APPROVAL, approval.id, name, version.model_id)


def deployment_subject(model_id: int, deployment: Deployment) -> Subject:
    return Subject(Kind.DEPLOYMENT, deployment.id, f"deployments/{deployment.name}", model_id)
