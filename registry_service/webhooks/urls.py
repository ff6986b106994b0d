"""The URL of a receiver: which are taken at all, whatever their host resolves to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import urlsplit

MAX_URL = 2_000

#: Below these only 443 and, where http is allowed, 80: mail, shells and the like have nothing to receive.
_FIRST_FREE_PORT = 1024

_PRINTABLE = re.compile(r"[!-~]+")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


@dataclass(frozen=True)
class Endpoint:
    """Where to send. host: a name, or an address without brackets. target: path and query."""

    secure: bool
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """As in the header Host: the port only where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme and authority: what may be told where the path may hold a secret."""
        return f"{'https' if self.secure else 'http'}://{self.authority}"


def parse_url(url: str, *, allow_http: bool) -> Endpoint:
    """Raises ValueError with what is wrong, completing "url …"; it does not repeat the URL, whose path
    or query may be a secret."""
    if not url:
        raise ValueError("is required")
    if len(url) > MAX_URL:
        raise ValueError(f"has {len(url)} characters; at most {MAX_URL} are taken")
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise ValueError("holds a blank, a backslash or a character that is not ASCII; write it encoded")
    scheme = url.partition(":")[0].lower()
    if scheme != "https" and not (scheme == "http" and allow_http):
        raise ValueError("must begin with https://" + (" or http://" if allow_http else ""))
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError("cannot be understood: its host or port is malformed") from error
    if "@" in parts.netloc:
        raise ValueError("holds a user name or password; the receiver knows the sender by the signature")
    if "#" in url:
        raise ValueError("has a fragment (#…), which is never sent")
    bracketed = "[" in parts.netloc
    written = f"[{host}]" if bracketed else host
    if not re.fullmatch(re.escape(written) + r"(:[0-9]{1,5})?", parts.netloc, re.IGNORECASE):
        raise ValueError("cannot be understood: its host or port is malformed")
    _check_host(host, bracketed=bracketed)
    if port is None:
        port = 443 if scheme == "https" else 80
    if port < _FIRST_FREE_PORT and port != 443 and not (port == 80 and scheme == "http"):
        raise ValueError(f"has the port {port}; use {443 if scheme == 'https' else 80}, or one from 1024 on")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(secure=scheme == "https", host=host, port=port, target=target)


def _check_host(host: str, *, bracketed: bool) -> None:
    if not host:
        raise ValueError("has no host")
    if bracketed:
        try:
            IPv6Address(host)
        except AddressValueError as error:
            raise ValueError("has brackets around something that is no IPv6 address") from error
        if "%" in host:
            raise ValueError("has an address with a zone, which means something on one machine alone")
        return
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # Resolvers read 127.1, 0x7f000001 or 2130706433 as addresses too.
        try:
            IPv4Address(host)
        except AddressValueError as error:
            raise ValueError("has a host that looks like an address; write it as 203.0.113.7") from error
        return
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("has a host that is no name: letters, digits, '-' and '.', none at its end")
