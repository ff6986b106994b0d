"""Use cases of promotion policies and approvals. Each function is one transaction of its caller's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from plumbline.errors import FieldViolation
from plumbline.registry.errors import PolicyNotFound, PolicyNotMet
from registry_service import states
from registry_service.audit import record
from registry_service.checks import check_active, check_ready, mismatch
from registry_service.commands_governance import CheckPromotion, ClearPolicy, RecordApproval, SetPolicy
from registry_service.domain import Act, AliasRef, Model, ModelVersion, VersionRef, etag
from registry_service.governance import Approval, Decision, Policy, PromotionCheck, Rules, to_document
from registry_service.ports import Transaction
from registry_service.promotion import Evidence, check


def set_policy(transaction: Transaction, act: Act, command: SetPolicy) -> Policy:
    """The alias is protected from now on; whoever holds it stays. Raises ModelNotFound, ModelArchived,
    EtagMismatch."""
    model = transaction.models.lock(command.ref.model)
    check_active(model)
    _check_tag(command.ref, transaction.policies.find(model, command.ref.alias), command.etag)
    policy = transaction.policies.put(model, command.ref, command.rules, command.description, act)
    return _recorded(transaction, act, "SetPromotionPolicy", policy, command.reason)


def clear_policy(transaction: Transaction, act: Act, command: ClearPolicy) -> Policy:
    """The policy as it was; the alias is protected no longer. Raises ModelNotFound, PolicyNotFound,
    EtagMismatch."""
    model = transaction.models.lock(command.ref.model)
    before = _policy(transaction, model, command.ref)
    _check_tag(command.ref, before, command.etag)
    cleared = transaction.policies.put(model, command.ref, None, before.description, act)
    _recorded(transaction, act, "ClearPromotionPolicy", cleared, command.reason)
    return before


def get_policy(transaction: Transaction, ref: AliasRef) -> Policy:
    """Raises ModelNotFound, PolicyNotFound."""
    return _policy(transaction, transaction.models.get(ref.model), ref)


def list_policies(transaction: Transaction, model: str) -> Sequence[Policy]:
    """By alias. Raises ModelNotFound."""
    return transaction.policies.list(transaction.models.get(model))


def check_promotion(transaction: Transaction, now: datetime, command: CheckPromotion) -> PromotionCheck:
    """What each rule of the alias says about a version at a moment; no results where the alias has no
    policy. Raises ModelNotFound, VersionNotFound, VersionNotReady."""
    model = transaction.models.get(command.ref.model)
    version = transaction.versions.get(command.version)
    check_ready(version)
    policy = transaction.policies.find(model, command.ref.alias)
    if policy is None or policy.rules is None:
        return PromotionCheck(())
    return check(policy.rules, _evidence(transaction, now, model, command.ref, version))


def require(
    transaction: Transaction, now: datetime, model: Model, ref: AliasRef, version: ModelVersion
) -> None:
    """Nothing, if the alias of a locked model may point at the version. Raises PolicyNotMet."""
    policy = transaction.policies.find(model, ref.alias)
    if policy is None or policy.rules is None:
        return
    result = check(policy.rules, _evidence(transaction, now, model, ref, version))
    if result.passed:
        return
    problems = [(item.rule, f"expected {item.expected}; found {item.actual}") for item in result.failed]
    raise PolicyNotMet(
        f"{ref} is protected, and {version.ref} does not meet its policy: "
        + "; ".join(f"{rule}: {problem}" for rule, problem in problems),
        metadata={
            "alias": str(ref),
            "version": str(version.ref),
            "rules": ",".join(rule for rule, _ in problems),
        },
        violations=[FieldViolation(rule, problem) for rule, problem in problems],
    )


def record_approval(transaction: Transaction, act: Act, command: RecordApproval) -> Approval:
    """Raises ModelNotFound, VersionNotFound, VersionNotReady."""
    version = transaction.versions.get(command.version)
    check_ready(version)
    decision = command.decision or Decision.WITHDRAWN
    approval = transaction.approvals.add(
        version, decision, alias=command.alias, comment=command.comment, act=act
    )
    details = {"decision": decision.value, "alias": command.alias, "comment": command.comment}
    subject = states.approval_subject(version, approval)
    state = states.of_approval(version, approval)
    record(transaction, act, "RecordApproval", subject, details=details, state=state)
    return approval


def approvals_page(
    transaction: Transaction, ref: VersionRef, *, before: int | None, limit: int
) -> Sequence[Approval]:
    """Newest first, those with an id below `before`. Raises ModelNotFound, VersionNotFound."""
    return transaction.approvals.list(transaction.versions.get(ref), before=before, limit=limit)


def _policy(transaction: Transaction, model: Model, ref: AliasRef) -> Policy:
    policy = transaction.policies.find(model, ref.alias)
    if policy is None or policy.rules is None:
        raise PolicyNotFound(f"{ref} has no promotion policy", metadata={"alias": str(ref)})
    return policy


def _check_tag(ref: AliasRef, policy: Policy | None, expected: str) -> None:
    has_one = policy is not None and policy.rules is not None
    actual = etag(policy.tag_name, policy.revision) if policy is not None and has_one else ""
    if expected and expected != actual:
        raise mismatch(f"the policy of {ref}", expected, actual)


def _evidence(
    transaction: Transaction, now: datetime, model: Model, ref: AliasRef, version: ModelVersion
) -> Evidence:
    present = next((alias for alias in model.aliases if alias.ref == ref), None)
    holder = None if present is None else transaction.versions.get(present.version)
    digests = {item.dataset for item in version.evaluations} | set(version.datasets)
    if holder is not None:
        digests |= {item.dataset for item in holder.evaluations}
    datasets = {dataset.digest: dataset for dataset in transaction.datasets.get_all(sorted(digests))}
    approvals = transaction.approvals.of(version)
    return Evidence(ref.alias, version, holder, datasets, approvals, now)


def _recorded(transaction: Transaction, act: Act, action: str, policy: Policy, reason: str) -> Policy:
    rules: Rules | None = policy.rules
    details = {
        "rules": None if rules is None else to_document(rules),
        "description": policy.description,
        "reason": reason,
    }
    subject, state = states.policy_subject(policy), states.of_policy(policy)
    record(transaction, act, action, subject, details=details, state=state)
    return policy
