"""Which receivers this registry sends to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from registry_service.webhooks.addresses import Address, Network, refusal
from registry_service.webhooks.urls import Endpoint, parse_url


@dataclass(frozen=True)
class ReceiverRules:
    """allowed: networks that may be sent to though they are not public."""

    allow_http: bool = False
    allowed: tuple[Network, ...] = ()

    def endpoint(self, url: str) -> Endpoint:
        """Raises ValueError, completing "url …", for one that nothing is ever sent to."""
        endpoint = parse_url(url, allow_http=self.allow_http)
        try:
            address = ip_address(endpoint.host)
        except ValueError:
            return endpoint
        if why := self.refusal([address]):
            raise ValueError(f"has an address that is not a public one ({why})")
        return endpoint

    def refusal(self, addresses: Sequence[Address]) -> str | None:
        """Why nothing is sent to a host of these addresses: one that is not public is enough."""
        return next((why for address in addresses if (why := refusal(address, self.allowed))), None)
