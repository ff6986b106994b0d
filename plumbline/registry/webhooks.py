"""Calls about webhooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf import field_mask_pb2

from plumbline.calls import Client
from plumbline.registry.naming import fresh_id
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import webhooks_pb2 as res
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub

# The registry waits for the receiver up to a minute, as it is set.
_TEST_SECONDS = 70.0


class WebhookCalls(Client):
    """A part of `RegistryClient`."""

    _stub: ModelRegistryServiceStub

    def create_webhook(self, webhook: res.Webhook, *, request_id: str | None = None) -> res.Webhook:
        """url and secret are required; tells what happens from now on. Raises InvalidField for a receiver
        that nothing is ever sent to."""
        request = pb.CreateWebhookRequest(webhook=webhook, request_id=fresh_id(request_id))
        return self._call(self._stub.CreateWebhook, request)

    def get_webhook(self, name: str) -> res.Webhook:
        """webhooks/{id}, without its secret. Raises WebhookNotFound."""
        return self._call(self._stub.GetWebhook, pb.GetWebhookRequest(name=webhook_name(name)))

    def list_webhooks(self) -> Iterator[res.Webhook]:
        """All of them, oldest first, page after page."""
        for page in self._pages(self._stub.ListWebhooks, pb.ListWebhooksRequest()):
            yield from page.webhooks

    def update_webhook(
        self, webhook: res.Webhook, *, fields: Sequence[str] = (), request_id: str | None = None
    ) -> res.Webhook:
        """Writes the `fields` named, or all but the secret; compares the etag if one is set."""
        request = pb.UpdateWebhookRequest(
            webhook=webhook,
            update_mask=field_mask_pb2.FieldMask(paths=fields),
            request_id=fresh_id(request_id),
        )
        return self._call(self._stub.UpdateWebhook, request)

    def delete_webhook(self, name: str, *, etag: str = "", request_id: str | None = None) -> res.Webhook:
        """What it was not told yet is never told."""
        request = pb.DeleteWebhookRequest(name=webhook_name(name), etag=etag, request_id=fresh_id(request_id))
        return self._call(self._stub.DeleteWebhook, request)

    def test_webhook(self, name: str) -> res.WebhookDelivery:
        """Sends one signed test message now; what became of it is the answer, not an error."""
        request = pb.TestWebhookRequest(name=webhook_name(name))
        return self._call(self._stub.TestWebhook, request, timeout=_TEST_SECONDS)

    def list_webhook_deliveries(self, name: str) -> Iterator[res.WebhookDelivery]:
        """Attempts, newest first: those of 30 days, at most 1,000 or so."""
        request = pb.ListWebhookDeliveriesRequest(parent=webhook_name(name))
        for page in self._pages(self._stub.ListWebhookDeliveries, request):
            yield from page.deliveries


def webhook_name(text: str) -> str:
    """webhooks/{id} of the id alone; full names stay."""
    return text if text.startswith("webhooks/") else f"webhooks/{text}"
