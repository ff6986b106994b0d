"""Commands to a Redis server or cluster from a thread, many in one round trip to each node."""

from __future__ import annotations

import threading
from binascii import crc_hqx
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - the name redis-py gives it
    MovedError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from feature_service.packed.redis_options import RedisOptions

SLOTS = 16384
_ClusterNode: Any = ClusterNode

#: redis-py's own types cover half of it.
_Client = Any

#: A command: the slot of its keys, and its words.
Command = tuple[int, Sequence[bytes | int]]


def slot_of(key: bytes) -> int:
    """The slot of a key that begins with a hash tag of 8 bytes, `{xxxxxxxx}`."""
    return crc_hqx(key[1:9], 0) % SLOTS


class Nodes(Protocol):
    """Where commands go. Methods raise redis.exceptions.RedisError or OSError."""

    #: Whether keys of different slots have to be in different commands.
    by_slot: bool

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """The replies, in order. The first error among them is raised, after all were sent."""

    def load(self, script: bytes) -> None:
        """Makes a script known to all nodes."""

    def scan(self, pattern: bytes) -> Iterator[list[bytes]]:
        """All keys that match, in parts."""

    def close(self) -> None:
        """Ends all connections."""


def connect(options: RedisOptions) -> Nodes:
    """Connects when first used."""
    return _Cluster(options) if options.cluster else _Server(options)


def _arguments(options: RedisOptions) -> dict[str, Any]:
    return {
        "socket_timeout": options.timeout,
        "socket_connect_timeout": options.timeout,
        # One more try at once: a restart of the server closed the connection. More would outlast a read.
        "retry": Retry(NoBackoff(), 1),
        **options.parameters,
        "decode_responses": False,
    }


class _Server:
    by_slot = False

    def __init__(self, options: RedisOptions) -> None:
        host, port = options.nodes[0]
        self._client = Redis(host=host, port=port, **_arguments(options))

    def run(self, commands: Sequence[Command]) -> list[Any]:
        return _raised(_pipelined(self._client, commands))

    def load(self, script: bytes) -> None:
        self._client.script_load(script)

    def scan(self, pattern: bytes) -> Iterator[list[bytes]]:
        yield from _scan(self._client, pattern)

    def close(self) -> None:
        self._client.close()


class _Cluster:
    by_slot = True

    def __init__(self, options: RedisOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._opened: _Client | None = None

    def run(self, commands: Sequence[Command]) -> list[Any]:
        cluster = self._cluster()
        by_node: dict[str, list[int]] = {}
        nodes: dict[str, Any] = {}
        for i, (slot, _) in enumerate(commands):
            node = cluster.nodes_manager.get_node_from_slot(slot)
            nodes[node.name] = node
            by_node.setdefault(node.name, []).append(i)
        replies: list[Any] = [None] * len(commands)
        for name, chosen in by_node.items():
            client = cluster.get_redis_connection(nodes[name])
            try:
                found = _pipelined(client, [commands[i] for i in chosen])
            except ConnectionError as error:
                # Its replica may have taken over.
                found = [error] * len(chosen)
            for i, reply in zip(chosen, found, strict=True):
                replies[i] = reply
        lost = [i for i, reply in enumerate(replies) if isinstance(reply, _MOVED)]
        if lost:
            cluster.nodes_manager.initialize()
            for i in lost:
                slot, words = commands[i]
                target = cluster.nodes_manager.get_node_from_slot(slot)
                # The cluster client follows redirections and waits for slots that are on their way.
                replies[i] = _reply_of(cluster, words, target)
        return _raised(replies)

    def load(self, script: bytes) -> None:
        cluster = self._cluster()
        for node in cluster.get_primaries():
            cluster.get_redis_connection(node).script_load(script)

    def scan(self, pattern: bytes) -> Iterator[list[bytes]]:
        cluster = self._cluster()
        for node in cluster.get_primaries():
            yield from _scan(cluster.get_redis_connection(node), pattern)

    def close(self) -> None:
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def _cluster(self) -> _Client:
        with self._lock:
            if self._opened is None:
                self._opened = RedisCluster(
                    startup_nodes=[_ClusterNode(host, port) for host, port in self._options.nodes],
                    **_arguments(self._options),
                )
            return self._opened


#: Replies that say that the slot is elsewhere, or on its way.
_MOVED = (MovedError, AskError, TryAgainError, ClusterDownError, ConnectionError)


def _pipelined(client: _Client, commands: Sequence[Command]) -> list[Any]:
    with client.pipeline(transaction=False) as pipeline:
        for _, words in commands:
            pipeline.execute_command(*words)
        found: list[Any] = pipeline.execute(raise_on_error=False)
        return found


def _reply_of(cluster: _Client, words: Sequence[bytes | int], node: _Client) -> Any:
    name, *others = words
    assert isinstance(name, bytes)
    try:
        return cluster.execute_command(name.decode(), *others, target_nodes=node)
    except ResponseError as error:
        return error


def _raised(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _scan(client: _Client, pattern: bytes) -> Iterator[list[bytes]]:
    cursor: Any = 0
    while True:
        cursor, keys = client.scan(cursor, match=pattern, count=1000)
        if keys:
            yield keys
        if not int(cursor):
            return
