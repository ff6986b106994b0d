"""Rollbacks, policies, approvals and deployments in the words of the tests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from registry_service import deployments, policies, versions
from registry_service.commands import RecordEvaluation
from registry_service.commands_governance import (
    CheckPromotion,
    ClearPolicy,
    EndDeployment,
    RecordApproval,
    RecordDeployment,
    RenewDeployment,
    RollbackAlias,
    SetPolicy,
)
from registry_service.domain import Alias, AliasRef, Deployment, Evaluation, VersionRef
from registry_service.governance import Approval, Decision, Policy, PromotionCheck, Rules
from registry_service.rollback import roll_back
from tests.contract.registry_service.desk import Desk

CHAMPION = AliasRef("flights", "champion")


class GovernanceDesk(Desk):
    """Works on models/flights and its champion unless told otherwise."""

    def roll_back(
        self, ref: AliasRef = CHAMPION, *, etag: str = "", reason: str = "worse", actor: str = "ann"
    ) -> Alias:
        return self.do(roll_back, RollbackAlias(ref, reason, etag), actor=actor)

    def set_policy(self, ref: AliasRef = CHAMPION, *, etag: str = "", **rules: Any) -> Policy:
        command = SetPolicy(ref, Rules(**rules), rules.pop("description", ""), etag, "as agreed")
        return self.do(policies.set_policy, command)

    def clear_policy(self, ref: AliasRef = CHAMPION, *, etag: str = "") -> Policy:
        return self.do(policies.clear_policy, ClearPolicy(ref, etag, "no more"))

    def check(self, version: VersionRef, ref: AliasRef = CHAMPION) -> PromotionCheck:
        return self.ask(policies.check_promotion, self.clock(), CheckPromotion(ref, version))

    def approve(
        self,
        version: VersionRef,
        actor: str,
        decision: Decision = Decision.APPROVED,
        *,
        alias: str = "",
        comment: str = "",
    ) -> Approval:
        command = RecordApproval(version, decision, alias, comment)
        return self.do(policies.record_approval, command, actor=actor)

    def evaluate(
        self, version: VersionRef, dataset: str, metrics: Mapping[str, float], split: str = "test"
    ) -> Evaluation:
        return self.do(versions.record_evaluation, RecordEvaluation(version, dataset, split, metrics))

    def deploy(
        self, version: VersionRef, *, environment: str = "production", lease: timedelta | None = None
    ) -> Deployment:
        command = RecordDeployment(version, environment, "host-1", "champion", {"zone": "a"}, lease)
        return self.do(deployments.record, command)

    def renew(self, deployment: Deployment, lease: timedelta) -> Deployment:
        return self.do(deployments.renew, RenewDeployment(deployment.name, lease))

    def end(self, deployment: Deployment, reason: str = "replaced") -> Deployment:
        return self.do(deployments.end, EndDeployment(deployment.name, reason))
