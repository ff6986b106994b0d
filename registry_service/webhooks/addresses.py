"""Which addresses something may be sent to: public ones, and those an operator allows by name.

The tables are IANA's registries of special-purpose addresses, read strictly: of IPv6 only the allocated
global space counts as public, less the parts that lead back to IPv4 or are meant for tests and documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_SPECIAL_4 = {
    IPv4Network(network): what
    for network, what in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "a private network"),
        ("100.64.0.0/10", "a carrier's private network"),
        ("127.0.0.0/8", "this host"),
        # Azure's own service to its virtual machines, reached from inside of them alone.
        ("168.63.129.16/32", "a cloud's service for its machines"),
        ("169.254.0.0/16", "the local link"),
        ("172.16.0.0/12", "a private network"),
        ("192.0.0.0/24", "a protocol's own address"),
        ("192.0.2.0/24", "an address for documents"),
        ("192.31.196.0/24", "a protocol's own address"),
        ("192.52.193.0/24", "a protocol's own address"),
        ("192.88.99.0/24", "a relay to IPv6"),
        ("192.168.0.0/16", "a private network"),
        ("192.175.48.0/24", "a protocol's own address"),
        ("198.18.0.0/15", "a network for measurements"),
        ("198.51.100.0/24", "an address for documents"),
        ("203.0.113.0/24", "an address for documents"),
        ("224.0.0.0/4", "many hosts at once"),
        ("240.0.0.0/4", "reserved"),
    )
}
_GLOBAL_6 = IPv6Network("2000::/3")
_SPECIAL_6 = {
    IPv6Network(network): what
    for network, what in (
        ("2001::/23", "a tunnel or a protocol's own address"),
        ("2001:db8::/32", "an address for documents"),
        ("2002::/16", "a tunnel to IPv4"),
        ("2620:4f:8000::/48", "a protocol's own address"),
        ("3ffe::/16", "reserved"),
        ("3fff::/20", "an address for documents"),
    )
}
# Only for better words: all of these are outside of the global space.
_OUTSIDE_6 = {
    IPv6Network(network): what
    for network, what in (
        ("::/128", "this host"),
        ("::1/128", "this host"),
        ("::ffff:0:0/96", "an IPv4 address written as IPv6"),
        ("64:ff9b::/96", "a translation to IPv4"),
        ("64:ff9b:1::/48", "a translation to IPv4"),
        ("fc00::/7", "a private network"),
        ("fe80::/10", "the local link"),
        ("ff00::/8", "many hosts at once"),
    )
}


def refusal(address: Address, allowed: Sequence[Network] = ()) -> str | None:
    """Why nothing is sent to the address, as "a private network"; None when it is public or allowed."""
    if any(address.version == network.version and address in network for network in allowed):
        return None
    if isinstance(address, IPv4Address):
        return _named(address, _SPECIAL_4)
    if address not in _GLOBAL_6:
        return _named(address, _OUTSIDE_6) or "reserved"
    return _named(address, _SPECIAL_6)


def _named(address: Address, networks: dict[IPv4Network, str] | dict[IPv6Network, str]) -> str | None:
    return next((what for network, what in networks.items() if address in network), None)
