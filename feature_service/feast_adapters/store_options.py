"""What the service sets on the configuration of one of Feast's online stores, by the store's class."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from feast.errors import FeastExtrasDependencyImportError
from feast.infra.online_stores.sqlite import SqliteOnlineStoreConfig
from feast.repo_config import RepoConfig

try:
    from feast.infra.online_stores.redis import RedisOnlineStoreConfig
except FeastExtrasDependencyImportError:  # the redis extra is not installed, so the store cannot be Redis

    class RedisOnlineStoreConfig:  # type: ignore[no-redef]
        """Never made."""


_HOSTS = r"[A-Za-z0-9._:,\[\]-]+"
#: A URL whose user info, if any, can be told for certain: no other part of it has an @.
_URL = re.compile(rf"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)(?:[^@/?#]*@)?(?P<hosts>{_HOSTS})(?:[/?#][^@]*)?")
#: Where stores say in their configuration where they are.
_PLACES = ("connection_string", "url", "uri", "path", "host")


@dataclass(frozen=True)
class Prepared:
    """address: where the store is, for messages to people; without users and passwords. file: of a store that
    is one."""

    address: str
    file: Path | None = None


def prepare(config: RepoConfig, timeout: float) -> Prepared:
    """Readies a store. timeout: seconds to wait for Redis; other stores on the network have their own."""
    options: Any = config.online_store
    if isinstance(options, SqliteOnlineStoreConfig):
        return _sqlite(config, options)
    if isinstance(options, RedisOnlineStoreConfig):
        return _redis(options, timeout)
    return Prepared(_address(options))


def _sqlite(config: RepoConfig, options: Any) -> Prepared:
    path = Path(config.repo_path or ".") / options.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        # Readers go on while a writer writes; the mode is kept in the file.
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    return Prepared(f"{options.type}:{options.path}", path)


def _redis(options: Any, timeout: float) -> Prepared:
    options.skip_dedup = True  # the guard of FeastOnlineStore compares; Redis's own drops corrections
    nodes = takewhile(lambda part: "=" not in part, options.connection_string.split(","))
    wanted = {"socket_timeout": str(timeout), "socket_connect_timeout": str(timeout)}
    if options.redis_type == "redis":
        # The client would try again for longer than a read waits, and so hide what is wrong. A connection
        # that a restart of the store closed is made anew without it.
        wanted["retry"] = "null"
    for name, value in wanted.items():
        if f"{name}=" not in options.connection_string:
            options.connection_string += f",{name}={value}"
    return Prepared(f"{options.type}://{','.join(node for node in nodes if re.fullmatch(_HOSTS, node))}")


def _address(options: Any) -> str:
    """The store's type, and its hosts where they can be told from users and passwords."""
    kind = str(options.type)
    for place in _PLACES:
        value = getattr(options, place, None)
        if not isinstance(value, str) or not value:
            continue
        if found := _URL.fullmatch(value):
            scheme = found["scheme"]
            return f"{scheme}://{found['hosts']}" if scheme == kind else f"{kind} {scheme}://{found['hosts']}"
        if place == "host" and re.fullmatch(_HOSTS, value):
            port = getattr(options, "port", None)
            return f"{kind}://{value}:{port}" if isinstance(port, int) else f"{kind}://{value}"
        if place == "path" and "@" not in value:
            return f"{kind}:{value}"
    return kind
