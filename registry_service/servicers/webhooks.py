# ruff: noqa: N802 - methods are named as in the contract
"""Methods about webhooks."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import webhooks_pb2 as res
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceServicer
from registry_service import names
from registry_service.calls import Calls, Page
from registry_service.codec import webhooks as codec
from registry_service.webhooks import registration
from registry_service.webhooks.dispatcher import send_test
from registry_service.webhooks.sender import Sender


class WebhookMethods(ModelRegistryServiceServicer):
    """CreateWebhook to ListWebhookDeliveries."""

    _calls: Calls
    _sender: Sender

    async def CreateWebhook(self, request: pb.CreateWebhookRequest, context: Any) -> res.Webhook:
        command = codec.create_webhook(request, self._sender.rules)
        return await self._calls.change(
            request, res.Webhook, lambda tx, act: codec.to_webhook(registration.create(tx, act, command))
        )

    async def GetWebhook(self, request: pb.GetWebhookRequest, context: Any) -> res.Webhook:
        name = names.webhook("name", request.name)
        return codec.to_webhook(await self._calls.read(lambda tx: registration.get(tx, name)))

    async def ListWebhooks(self, request: pb.ListWebhooksRequest, context: Any) -> pb.ListWebhooksResponse:
        page = Page(request, request.page_size, request.page_token, (int,))
        after = page.after[0] if page.after else 0
        found = await self._calls.read(lambda tx: registration.list_page(tx, after=after, limit=page.limit))
        items, token = page.cut(found, codec.to_webhook, lambda webhook: (webhook.id,))
        return pb.ListWebhooksResponse(webhooks=items, next_page_token=token)

    async def UpdateWebhook(self, request: pb.UpdateWebhookRequest, context: Any) -> res.Webhook:
        command = codec.update_webhook(request, self._sender.rules)
        return await self._calls.change(
            request, res.Webhook, lambda tx, act: codec.to_webhook(registration.update(tx, act, command))
        )

    async def DeleteWebhook(self, request: pb.DeleteWebhookRequest, context: Any) -> res.Webhook:
        name = names.webhook("name", request.name)
        return await self._calls.change(
            request,
            res.Webhook,
            lambda tx, act: codec.to_webhook(registration.delete(tx, act, name, request.etag)),
        )

    async def TestWebhook(self, request: pb.TestWebhookRequest, context: Any) -> res.WebhookDelivery:
        name = names.webhook("name", request.name)
        webhook = await self._calls.read(lambda tx: registration.get_usable(tx, name))
        return codec.to_delivery(webhook, await send_test(self._sender, webhook, datetime.now(UTC)))

    async def ListWebhookDeliveries(
        self, request: pb.ListWebhookDeliveriesRequest, context: Any
    ) -> pb.ListWebhookDeliveriesResponse:
        name = names.webhook("parent", request.parent)
        page = Page(request, request.page_size, request.page_token, (int,))
        before = page.after[0] if page.after else None
        webhook, found = await self._calls.read(
            lambda tx: registration.deliveries_page(tx, name, before=before, limit=page.limit)
        )
        items, token = page.cut(found, partial(codec.to_delivery, webhook), lambda item: (item.id,))
        return pb.ListWebhookDeliveriesResponse(deliveries=items, next_page_token=token)
