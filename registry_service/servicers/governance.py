# ruff: noqa: N802 - methods are named as in the contract
"""Methods about promotion policies, approvals and deployments."""

from __future__ import annotations

from typing import Any

from plumbline.registry.v1 import governance_pb2 as gov
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceServicer
from registry_service import deployments, names, policies
from registry_service.calls import Calls, Page
from registry_service.codec import governance as codec
from registry_service.filtering.fields import DEPLOYMENTS
from registry_service.listing import Listing


class PolicyMethods(ModelRegistryServiceServicer):
    """SetPromotionPolicy to ListApprovals."""

    _calls: Calls

    async def SetPromotionPolicy(
        self, request: pb.SetPromotionPolicyRequest, context: Any
    ) -> gov.PromotionPolicy:
        command = codec.set_policy(request)
        return await self._calls.change(
            request,
            gov.PromotionPolicy,
            lambda tx, act: codec.to_policy(policies.set_policy(tx, act, command)),
        )

    async def GetPromotionPolicy(
        self, request: pb.GetPromotionPolicyRequest, context: Any
    ) -> gov.PromotionPolicy:
        ref = names.alias("name", request.name)
        return codec.to_policy(await self._calls.read(lambda tx: policies.get_policy(tx, ref)))

    async def ClearPromotionPolicy(
        self, request: pb.ClearPromotionPolicyRequest, context: Any
    ) -> gov.PromotionPolicy:
        command = codec.clear_policy(request)
        return await self._calls.change(
            request,
            gov.PromotionPolicy,
            lambda tx, act: codec.to_policy(policies.clear_policy(tx, act, command)),
        )

    async def ListPromotionPolicies(
        self, request: pb.ListPromotionPoliciesRequest, context: Any
    ) -> pb.ListPromotionPoliciesResponse:
        model = names.model("parent", request.parent)
        found = await self._calls.read(lambda tx: policies.list_policies(tx, model))
        return pb.ListPromotionPoliciesResponse(policies=[codec.to_policy(policy) for policy in found])

    async def CheckPromotion(self, request: pb.CheckPromotionRequest, context: Any) -> gov.PromotionCheck:
        command, now = codec.check_promotion(request), self._calls.now()
        return codec.to_check(await self._calls.read(lambda tx: policies.check_promotion(tx, now, command)))

    async def RecordApproval(self, request: pb.RecordApprovalRequest, context: Any) -> gov.Approval:
        command = codec.record_approval(request)
        return await self._calls.change(
            request,
            gov.Approval,
            lambda tx, act: codec.to_approval(command.version, policies.record_approval(tx, act, command)),
        )

    async def ListApprovals(self, request: pb.ListApprovalsRequest, context: Any) -> pb.ListApprovalsResponse:
        ref = names.version("parent", request.parent)
        page = Page(request, request.page_size, request.page_token, (int,))
        before = page.after[0] if page.after else None
        found = await self._calls.read(
            lambda tx: policies.approvals_page(tx, ref, before=before, limit=page.limit)
        )
        items, token = page.cut(
            found, lambda item: codec.to_approval(ref, item), lambda approval: (approval.id,)
        )
        return pb.ListApprovalsResponse(approvals=items, next_page_token=token)


class DeploymentMethods(ModelRegistryServiceServicer):
    """RecordDeployment to ListDeployments."""

    _calls: Calls

    async def RecordDeployment(self, request: pb.RecordDeploymentRequest, context: Any) -> gov.Deployment:
        command = codec.record_deployment(request)
        return await self._calls.change(
            request,
            gov.Deployment,
            lambda tx, act: codec.to_deployment(deployments.record(tx, act, command)),
        )

    async def RenewDeployment(self, request: pb.RenewDeploymentRequest, context: Any) -> gov.Deployment:
        command = codec.renew_deployment(request)
        return await self._calls.write(
            lambda tx, act: codec.to_deployment(deployments.renew(tx, act, command))
        )

    async def EndDeployment(self, request: pb.EndDeploymentRequest, context: Any) -> gov.Deployment:
        command = codec.end_deployment(request)
        return await self._calls.change(
            request, gov.Deployment, lambda tx, act: codec.to_deployment(deployments.end(tx, act, command))
        )

    async def GetDeployment(self, request: pb.GetDeploymentRequest, context: Any) -> gov.Deployment:
        name = names.deployment("name", request.name)
        return codec.to_deployment(await self._calls.read(lambda tx: deployments.get(tx, name)))

    async def ListDeployments(
        self, request: pb.ListDeploymentsRequest, context: Any
    ) -> pb.ListDeploymentsResponse:
        page = Listing(request, DEPLOYMENTS)
        found = await self._calls.read(lambda tx: deployments.search(tx, page.search, page.limit))
        items, token = page.cut(found, codec.to_deployment)
        return pb.ListDeploymentsResponse(deployments=items, next_page_token=token)
