"""Policies, approvals and deployments on the wire."""

from __future__ import annotations

from plumbline.registry.v1 import governance_pb2 as gov
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from registry_service import commands_governance as commands
from registry_service import names
from registry_service.codec.values import from_duration, to_duration, to_timestamp
from registry_service.domain import Deployment, VersionRef, etag
from registry_service.governance import (
    Approval,
    ApprovalRule,
    Decision,
    EvaluationRule,
    MetricRule,
    Policy,
    PromotionCheck,
    Rules,
)

_DECISIONS = {
    Decision.APPROVED: gov.APPROVAL_DECISION_APPROVED,
    Decision.REJECTED: gov.APPROVAL_DECISION_REJECTED,
    Decision.WITHDRAWN: gov.APPROVAL_DECISION_WITHDRAWN,
}
_DECISIONS_BY_NUMBER = {int(number): decision for decision, number in _DECISIONS.items()}


def rollback_alias(request: pb.RollbackAliasRequest) -> commands.RollbackAlias:
    return commands.RollbackAlias(names.alias("name", request.name), request.reason, request.etag)


def set_policy(request: pb.SetPromotionPolicyRequest) -> commands.SetPolicy:
    policy = request.policy
    return commands.SetPolicy(
        ref=names.settable_alias("policy.name", policy.name),
        rules=from_rules(policy),
        description=policy.description,
        etag=policy.etag,
        reason=request.reason,
    )


def clear_policy(request: pb.ClearPromotionPolicyRequest) -> commands.ClearPolicy:
    return commands.ClearPolicy(names.alias("name", request.name), request.etag, request.reason)


def check_promotion(request: pb.CheckPromotionRequest) -> commands.CheckPromotion:
    return commands.CheckPromotion(
        names.alias("name", request.name), names.version("version", request.version)
    )


def record_approval(request: pb.RecordApprovalRequest) -> commands.RecordApproval:
    given = request.approval
    return commands.RecordApproval(
        version=names.version("parent", request.parent),
        decision=_DECISIONS_BY_NUMBER.get(given.decision),
        alias=names.alias_id("approval.alias", given.alias) if given.alias else "",
        comment=given.comment,
    )


def record_deployment(request: pb.RecordDeploymentRequest) -> commands.RecordDeployment:
    given = request.deployment
    return commands.RecordDeployment(
        version=names.version("deployment.version", given.version),
        environment=given.environment,
        target=given.target,
        alias=names.alias_id("deployment.alias", given.alias) if given.alias else "",
        attributes=dict(given.attributes),
        lease=from_duration("lease", request.lease) if request.HasField("lease") else None,
    )


def renew_deployment(request: pb.RenewDeploymentRequest) -> commands.RenewDeployment:
    name = names.deployment("name", request.name)
    return commands.RenewDeployment(name, from_duration("lease", request.lease))


def end_deployment(request: pb.EndDeploymentRequest) -> commands.EndDeployment:
    return commands.EndDeployment(names.deployment("name", request.name), request.reason)


def from_rules(policy: gov.PromotionPolicy) -> Rules:
    approvals = policy.approvals
    return Rules(
        metrics=tuple(
            MetricRule(
                metric=rule.metric,
                dataset=rule.dataset,
                split=rule.split,
                min=rule.min if rule.HasField("min") else None,
                max=rule.max if rule.HasField("max") else None,
                max_regression=rule.max_regression if rule.HasField("max_regression") else None,
                lower_is_better=rule.lower_is_better,
            )
            for rule in policy.metrics
        ),
        evaluations=tuple(EvaluationRule(rule.dataset, rule.split) for rule in policy.evaluations),
        approvals=ApprovalRule(approvals.count, approvals.not_by_author, tuple(approvals.approvers))
        if policy.HasField("approvals")
        else None,
        max_data_age=from_duration("policy.max_data_age", policy.max_data_age)
        if policy.HasField("max_data_age")
        else None,
        required_tags=dict(policy.required_tags),
    )


def to_policy(policy: Policy) -> gov.PromotionPolicy:
    """A policy whose rules were taken away has none."""
    rules = policy.rules or Rules()
    return gov.PromotionPolicy(
        name=str(policy.ref),
        metrics=[gov.MetricRule(**vars(rule)) for rule in rules.metrics],
        evaluations=[
            gov.EvaluationRule(dataset=rule.dataset, split=rule.split) for rule in rules.evaluations
        ],
        approvals=None if rules.approvals is None else gov.ApprovalRule(**vars(rules.approvals)),
        max_data_age=to_duration(rules.max_data_age),
        required_tags=rules.required_tags or {},
        description=policy.description,
        etag=etag(policy.tag_name, policy.revision),
        actor=policy.actor,
        update_time=to_timestamp(policy.update_time),
    )


def to_check(check: PromotionCheck) -> gov.PromotionCheck:
    return gov.PromotionCheck(
        passed=check.passed, results=[gov.RuleResult(**vars(result)) for result in check.results]
    )


def to_approval(version: VersionRef, approval: Approval) -> gov.Approval:
    return gov.Approval(
        name=f"{version}/approvals/{approval.id}",
        decision=_DECISIONS[approval.decision],
        alias=approval.alias,
        comment=approval.comment,
        actor=approval.actor,
        create_time=to_timestamp(approval.create_time),
    )


def to_deployment(deployment: Deployment) -> gov.Deployment:
    name = f"deployments/{deployment.name}"
    return gov.Deployment(
        name=name,
        version=str(deployment.version),
        environment=deployment.environment,
        target=deployment.target,
        alias=deployment.alias,
        attributes=deployment.attributes,
        start_time=to_timestamp(deployment.start_time),
        end_time=to_timestamp(deployment.end_time),
        lease_expire_time=to_timestamp(deployment.lease_expire_time),
        end_reason=deployment.end_reason,
        actor=deployment.actor,
        etag=etag(name, deployment.revision),
    )
