"""How to reach a Redis or Valkey: one server, or a cluster."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_PORT = 6379


@dataclass(frozen=True)
class RedisOptions:
    """nodes: host and port; of a cluster, some of its nodes. timeout: seconds to connect, and for a reply.

    parameters: redis-py's keyword arguments, as `db`, `username`, `password`, `ssl`, `ssl_ca_certs`.
    """

    nodes: tuple[tuple[str, int], ...]
    parameters: Mapping[str, Any]
    cluster: bool = False
    timeout: float = 2.0

    @classmethod
    def parse(cls, text: str, *, cluster: bool = False, timeout: float = 2.0) -> RedisOptions:
        """From Feast's connection string: `host:port,host:port,db=0,password=…`.

        A value is JSON where it is valid JSON, else text; a password always is text. Raises ValueError.
        """
        nodes: list[tuple[str, int]] = []
        parameters: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = part.partition("=")
            if not equals:
                nodes.append(_node(part))
            elif name in ("username", "password"):
                parameters[name] = value
            else:
                parameters[name] = _value(value)
        if cluster and parameters.get("db"):
            raise ValueError("connection_string: a cluster has no numbered databases, leave db out")
        timeout = float(parameters.pop("socket_timeout", timeout))
        parameters.pop("socket_connect_timeout", None)
        return cls(tuple(nodes or [("localhost", _PORT)]), parameters, cluster, timeout)

    @property
    def address(self) -> str:
        """The nodes, for people; without passwords."""
        scheme = "rediss" if self.parameters.get("ssl") else "redis"
        return f"{scheme}://{','.join(f'{host}:{port}' for host, port in self.nodes)}"

    def tls(self) -> ssl.SSLContext | None:
        """What redis-py makes of the ssl_… parameters, for a connection of our own; None without ssl."""
        given = self.parameters
        if not given.get("ssl"):
            return None
        context = ssl.create_default_context(
            cafile=given.get("ssl_ca_certs"), capath=given.get("ssl_ca_path"), cadata=given.get("ssl_ca_data")
        )
        if given.get("ssl_cert_reqs", "required") in ("none", None):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context.check_hostname = bool(given.get("ssl_check_hostname", True))
        if given.get("ssl_certfile"):
            context.load_cert_chain(
                given["ssl_certfile"], given.get("ssl_keyfile"), given.get("ssl_password")
            )
        return context


def _node(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, _PORT
    if not port.isdigit():
        raise ValueError(f"connection_string: {text!r} is not host:port")
    return host.strip("[]"), int(port)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)
