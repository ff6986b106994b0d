"""Stores of policies, approvals and deployments; `registry_service.ports` says how to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from registry_service.domain import Act, AliasRef, Deployment, Model, ModelVersion
from registry_service.filtering.search import Hit, Search
from registry_service.governance import Approval, Decision, Policy, Rules


class PolicyStore(Protocol):
    """Promotion policies, one an alias."""

    def find(self, model: Model, alias: str) -> Policy | None:
        """The policy of an alias, which nobody need hold; also one whose rules were taken away, None where
        there never was one."""

    def list(self, model: Model) -> Sequence[Policy]:
        """Those with rules, by alias (code points)."""

    def put(self, model: Model, ref: AliasRef, rules: Rules | None, description: str, act: Act) -> Policy:
        """Replaces the rules of an alias, None taking them away, under the policy's next revision."""


class ApprovalStore(Protocol):
    """Approvals of versions; what was said stays."""

    def add(
        self, version: ModelVersion, decision: Decision, *, alias: str, comment: str, act: Act
    ) -> Approval:
        """Another word about a version."""

    def of(self, version: ModelVersion) -> Sequence[Approval]:
        """All of a version, oldest first."""

    def list(self, version: ModelVersion, *, before: int | None, limit: int) -> Sequence[Approval]:
        """Newest first, those with an id below `before`."""


class DeploymentStore(Protocol):
    """Where versions run and ran."""

    def add(
        self,
        name: str,
        version: ModelVersion,
        *,
        environment: str,
        target: str,
        alias: str,
        attributes: Mapping[str, str],
        lease_expire_time: datetime | None,
        act: Act,
    ) -> Deployment:
        """One that runs from now on."""

    def get(self, name: str) -> Deployment:
        """Raises DeploymentNotFound."""

    def lock(self, name: str) -> Deployment:
        """As `get`, and lets no other transaction change it until this one ends."""

    def model_id(self, deployment: Deployment) -> int:
        """The id of the model whose version runs there."""

    def search(self, search: Search, limit: int) -> Sequence[Hit[Deployment]]:
        """Those that match, in the order asked for."""

    def renew(self, deployment: Deployment, lease_expire_time: datetime) -> Deployment:
        """Another end of the lease."""

    def end(self, deployment: Deployment, reason: str, time: datetime) -> Deployment:
        """It ran until then."""

    def expired(self, moment: datetime, limit: int) -> Sequence[str]:
        """Names of those that have not ended, but whose lease had by a moment; the oldest lease first."""
