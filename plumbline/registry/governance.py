"""Calls about promotion policies, approvals and deployments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from plumbline.calls import Client
from plumbline.registry.naming import alias_name, fresh_id, model_name, version_name
from plumbline.registry.v1 import governance_pb2 as gov
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub


class GovernanceCalls(Client):
    """A part of `RegistryClient`."""

    _stub: ModelRegistryServiceStub

    def set_promotion_policy(
        self, policy: gov.PromotionPolicy, *, reason: str, request_id: str | None = None
    ) -> gov.PromotionPolicy:
        """What must hold before the alias policy.name (full, or short: m@a) may move; compares the
        etag if one is set."""
        named = gov.PromotionPolicy()
        named.CopyFrom(policy)
        named.name = alias_name(policy.name)
        return self._call(
            self._stub.SetPromotionPolicy,
            pb.SetPromotionPolicyRequest(policy=named, reason=reason, request_id=fresh_id(request_id)),
        )

    def get_promotion_policy(self, name: str) -> gov.PromotionPolicy:
        """Of models/m/aliases/a (short: m@a). Raises PolicyNotFound."""
        return self._call(self._stub.GetPromotionPolicy, pb.GetPromotionPolicyRequest(name=alias_name(name)))

    def clear_promotion_policy(
        self, name: str, *, reason: str, etag: str = "", request_id: str | None = None
    ) -> gov.PromotionPolicy:
        """Takes the policy away and returns it as it was. Raises PolicyNotFound."""
        return self._call(
            self._stub.ClearPromotionPolicy,
            pb.ClearPromotionPolicyRequest(
                name=alias_name(name), etag=etag, reason=reason, request_id=fresh_id(request_id)
            ),
        )

    def list_promotion_policies(self, model: str) -> list[gov.PromotionPolicy]:
        """Of a model, by alias."""
        request = pb.ListPromotionPoliciesRequest(parent=model_name(model))
        return list(self._call(self._stub.ListPromotionPolicies, request).policies)

    def check_promotion(self, name: str, version: str) -> gov.PromotionCheck:
        """Whether the alias may point at the version, and which rules pass; changes nothing."""
        return self._call(
            self._stub.CheckPromotion,
            pb.CheckPromotionRequest(name=alias_name(name), version=version_name(version)),
        )

    def record_approval(
        self,
        version: str,
        decision: gov.ApprovalDecision.ValueType = gov.APPROVAL_DECISION_APPROVED,
        *,
        alias: str = "",
        comment: str = "",
        request_id: str | None = None,
    ) -> gov.Approval:
        """This actor's word about a READY version. alias: the last part of the one it is meant for; "" for
        any."""
        return self._call(
            self._stub.RecordApproval,
            pb.RecordApprovalRequest(
                parent=version_name(version),
                approval=gov.Approval(decision=decision, alias=alias, comment=comment),
                request_id=fresh_id(request_id),
            ),
        )

    def list_approvals(self, version: str) -> Iterator[gov.Approval]:
        """All that was said about a version, newest first."""
        request = pb.ListApprovalsRequest(parent=version_name(version))
        for page in self._pages(self._stub.ListApprovals, request):
            yield from page.approvals

    def record_deployment(
        self,
        version: str,
        environment: str,
        *,
        target: str = "",
        alias: str = "",
        attributes: Mapping[str, str] | None = None,
        lease: timedelta | None = None,
        request_id: str | None = None,
    ) -> gov.Deployment:
        """A READY version runs from now on, until it is ended or, with a lease, not renewed."""
        return self._call(
            self._stub.RecordDeployment,
            pb.RecordDeploymentRequest(
                deployment=gov.Deployment(
                    version=version_name(version),
                    environment=environment,
                    target=target,
                    alias=alias,
                    attributes=attributes,
                ),
                lease=_duration(lease),
                request_id=fresh_id(request_id),
            ),
        )

    def renew_deployment(self, name: str, lease: timedelta) -> gov.Deployment:
        """Another lease from now on. Raises DeploymentEnded."""
        return self._call(
            self._stub.RenewDeployment, pb.RenewDeploymentRequest(name=name, lease=_duration(lease))
        )

    def end_deployment(self, name: str, *, reason: str = "", request_id: str | None = None) -> gov.Deployment:
        """It runs no longer. Raises DeploymentEnded."""
        return self._call(
            self._stub.EndDeployment,
            pb.EndDeploymentRequest(name=name, reason=reason, request_id=fresh_id(request_id)),
        )

    def get_deployment(self, name: str) -> gov.Deployment:
        """deployments/{id}. Raises DeploymentNotFound."""
        return self._call(self._stub.GetDeployment, pb.GetDeploymentRequest(name=name))

    def list_deployments(self, condition: str = "") -> Iterator[gov.Deployment]:
        """All of them, newest first, page after page. condition: a filter, as in
        `live = true AND environment = production`. Raises InvalidFilter."""
        for page in self._pages(self._stub.ListDeployments, pb.ListDeploymentsRequest(filter=condition)):
            yield from page.deployments


def _duration(span: timedelta | None) -> Duration | None:
    if span is None:
        return None
    result = Duration()
    result.FromTimedelta(span)
    return result
