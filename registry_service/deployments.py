"""Use cases of deployments. Each function is one transaction of its caller's."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from plumbline.registry.errors import DeploymentEnded
from registry_service import states
from registry_service.audit import record as record_event
from registry_service.checks import check_ready
from registry_service.commands_governance import EndDeployment, RecordDeployment, RenewDeployment
from registry_service.domain import Act, Deployment
from registry_service.filtering.search import Hit, Search
from registry_service.ports import Transaction


def record(transaction: Transaction, act: Act, command: RecordDeployment) -> Deployment:
    """A deployment under a new id, running from now on. Raises ModelNotFound, VersionNotFound,
    VersionNotReady."""
    version = transaction.versions.get(command.version)
    check_ready(version)
    deployment = transaction.deployments.add(
        uuid.uuid4().hex,
        version,
        environment=command.environment,
        target=command.target,
        alias=command.alias,
        attributes=command.attributes,
        lease_expire_time=None if command.lease is None else act.time + command.lease,
        act=act,
    )
    details = {
        "version": str(command.version),
        "environment": command.environment,
        "target": command.target,
        "alias": command.alias,
    }
    return _recorded(transaction, act, "RecordDeployment", deployment, details)


def get(transaction: Transaction, name: str) -> Deployment:
    """Raises DeploymentNotFound."""
    return transaction.deployments.get(name)


def search(transaction: Transaction, asked: Search, limit: int) -> Sequence[Hit[Deployment]]:
    """A page of deployments."""
    return transaction.deployments.search(asked, limit)


def renew(transaction: Transaction, act: Act, command: RenewDeployment) -> Deployment:
    """Another lease, from now on; a sign of life, not a change. One that comes late is taken as long as the
    deployment was not closed. Raises DeploymentNotFound, DeploymentEnded."""
    deployment = transaction.deployments.lock(command.deployment)
    _check_running(deployment)
    return transaction.deployments.renew(deployment, act.time + command.lease)


def end(transaction: Transaction, act: Act, command: EndDeployment) -> Deployment:
    """It runs no longer. Raises DeploymentNotFound, DeploymentEnded."""
    deployment = transaction.deployments.lock(command.deployment)
    _check_running(deployment)
    ended = transaction.deployments.end(deployment, command.reason, act.time)
    return _recorded(transaction, act, "EndDeployment", ended, {"reason": command.reason})


def expire(transaction: Transaction, act: Act, limit: int) -> int:
    """Ends deployments whose lease has run out, as of the lease's end; how many, at most `limit`."""
    names = transaction.deployments.expired(act.time, limit)
    for name in names:
        deployment = transaction.deployments.lock(name)
        until = deployment.lease_expire_time or act.time
        reason = f"nothing was heard of it before its lease ended at {until.isoformat()}"
        ended = transaction.deployments.end(deployment, reason, until)
        _recorded(transaction, act, "ExpireDeployment", ended, {"reason": reason})
    return len(names)


def _recorded(
    transaction: Transaction, act: Act, action: str, deployment: Deployment, details: Mapping[str, Any]
) -> Deployment:
    model_id = transaction.deployments.model_id(deployment)
    subject = states.deployment_subject(model_id, deployment)
    state = states.of_deployment(model_id, deployment)
    record_event(transaction, act, action, subject, details=details, state=state)
    return deployment


def _check_running(deployment: Deployment) -> None:
    if deployment.end_time is not None:
        name = f"deployments/{deployment.name}"
        raise DeploymentEnded(
            f"{name} ended at {deployment.end_time.isoformat()}; record a new one",
            metadata={"deployment": name},
        )
