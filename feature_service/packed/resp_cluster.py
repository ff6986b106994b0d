"""Reads from a Redis cluster: each key from the node that has its slot, all nodes at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from feature_service.packed.redis_options import RedisOptions
from feature_service.packed.redis_sync import SLOTS, slot_of
from feature_service.packed.resp import (
    MOST_CALLS,
    RedisAway,
    RedisBusy,
    RedisLate,
    ReplyError,
    RespClient,
    pack_command,
)

Node = tuple[str, int]

#: How often keys are asked for again that have moved.
_ATTEMPTS = 5


class RespCluster:
    """A cluster, for one event loop."""

    def __init__(self, options: RedisOptions) -> None:
        self._options = options
        self._clients: dict[Node, RespClient] = {}
        self._owners: list[Node | None] = []
        self._learning: asyncio.Task[None] | None = None
        self._calls = 0

    async def mget(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of keys that begin with a hash tag of 8 bytes.

        Raises RedisAway as RespClient.call does, and ReplyError.
        """
        if self._calls >= MOST_CALLS:
            raise RedisBusy
        self._calls += 1
        silent: set[Node] = set()
        try:
            async with asyncio.timeout(self._options.timeout):
                return await self._read(keys, silent)
        except TimeoutError as error:
            # A machine that is gone says nothing, and others may have taken over what it had.
            self._start_learning()
            raise RedisLate(self._options.timeout, _called(*sorted(silent))) from error
        finally:
            self._calls -= 1

    def close(self) -> None:
        """Ends all connections."""
        if self._learning is not None:
            self._learning.cancel()
        for client in self._clients.values():
            client.close()

    async def _read(self, keys: Sequence[bytes], silent: set[Node]) -> list[bytes | None]:
        """silent: gets the nodes that do not answer."""
        values: list[bytes | None] = [None] * len(keys)
        if not self._owners:
            await self._learn()
        groups: dict[int, list[int]] = {}
        for i, key in enumerate(keys):
            groups.setdefault(slot_of(key), []).append(i)
        left = list(groups.items())
        for attempt in range(_ATTEMPTS):
            left = await self._attempt(keys, left, values, silent, last=attempt == _ATTEMPTS - 1)
            if not left:
                return values
            await self._learn()
        raise RedisAway("the slots of some keys move all the time")

    async def _attempt(
        self,
        keys: Sequence[bytes],
        groups: Sequence[tuple[int, list[int]]],
        values: list[bytes | None],
        silent: set[Node],
        *,
        last: bool,
    ) -> list[tuple[int, list[int]]]:
        """Reads groups of one slot each; returns those that have to be asked for again."""
        by_node: dict[Node, list[tuple[int, list[int]]]] = {}
        for slot, chosen in groups:
            owner = self._owners[slot]
            if owner is None:
                raise RedisAway(f"no node of the cluster has slot {slot}")
            by_node.setdefault(owner, []).append((slot, chosen))
        answers = await asyncio.gather(
            *(self._from_node(node, keys, asked, silent) for node, asked in by_node.items()),
            return_exceptions=True,
        )
        again: list[tuple[int, list[int]]] = []
        for asked, answer in zip(by_node.values(), answers, strict=True):
            if isinstance(answer, RedisAway) and not isinstance(answer, RedisBusy) and not last:
                again += asked  # its replica may have taken over
                continue
            if isinstance(answer, BaseException):
                raise answer
            for (slot, chosen), reply in zip(asked, answer, strict=True):
                if isinstance(reply, ReplyError):
                    again += await self._elsewhere(keys, slot, chosen, reply, values)
                    continue
                for i, value in zip(chosen, reply, strict=True):
                    values[i] = value
        return again

    async def _from_node(
        self, node: Node, keys: Sequence[bytes], asked: Sequence[tuple[int, list[int]]], silent: set[Node]
    ) -> list[Any]:
        payload = b"".join(pack_command((b"MGET", *[keys[i] for i in chosen])) for _, chosen in asked)
        silent.add(node)
        try:
            found = await self._client(node).call(payload, len(asked))
        except RedisBusy:
            raise
        except RedisLate as error:
            raise RedisLate(self._options.timeout, _called(node)) from error
        except RedisAway as error:
            raise RedisAway(f"{_called(node)}{error}") from error
        silent.discard(node)
        return found

    async def _elsewhere(
        self,
        keys: Sequence[bytes],
        slot: int,
        chosen: list[int],
        error: ReplyError,
        values: list[bytes | None],
    ) -> list[tuple[int, list[int]]]:
        """Follows what a node says of a slot that is not, or not wholly, there."""
        kind, *rest = str(error).split(" ")
        if kind == "MOVED":
            self._owners[slot] = self._node(rest[1], self._owners[slot])
            return [(slot, chosen)]
        owner = self._owners[slot]
        assert owner is not None
        if kind in ("CLUSTERDOWN", "LOADING"):
            raise RedisAway(f"{_called(owner)}{error}")
        if kind not in ("ASK", "TRYAGAIN"):
            raise error
        # The slot is on its way to another node: each key is at the one or at the other.
        for i in chosen:
            (reply,) = await self._client(owner).call(pack_command((b"GET", keys[i])), 1)
            if isinstance(reply, ReplyError) and str(reply).startswith("ASK "):
                target = self._node(str(reply).split(" ")[2], owner)
                payload = pack_command((b"ASKING",)) + pack_command((b"GET", keys[i]))
                _, reply = await self._client(target).call(payload, 2)
            if isinstance(reply, ReplyError):
                return [(slot, chosen)]
            values[i] = reply
        return []

    async def _learn(self) -> None:
        """Asks who has which slot; many callers ask once."""
        await asyncio.shield(self._start_learning())

    def _start_learning(self) -> asyncio.Task[None]:
        if self._learning is None:
            self._learning = asyncio.get_running_loop().create_task(self._ask_for_slots())
            self._learning.add_done_callback(self._learnt)
        return self._learning

    def _learnt(self, task: asyncio.Task[None]) -> None:
        self._learning = None
        if not task.cancelled():
            task.exception()  # raised to those who wait

    async def _ask_for_slots(self) -> None:
        """Takes the first answer: a node that hangs holds nobody up."""
        why = RedisAway("no node of the cluster answers")
        nodes = dict.fromkeys([*self._options.nodes, *filter(None, self._owners), *self._clients])
        asked = [asyncio.ensure_future(self._slots_from(node)) for node in nodes]
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    owners = await answer
                except RedisAway as error:
                    why = error
                    continue
                self._owners = owners
                for node in self._clients.keys() - {*owners, *self._options.nodes}:
                    self._clients.pop(node).close()
                return
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise why

    async def _slots_from(self, node: Node) -> list[Node | None]:
        (found,) = await self._client(node).call(pack_command((b"CLUSTER", b"SLOTS")), 1)
        if isinstance(found, ReplyError):
            raise RedisAway(str(found))
        owners: list[Node | None] = [None] * SLOTS
        for first, last, (host, port, *_), *_ in found:
            owner = (host.decode() if host else node[0], int(port))
            owners[first : last + 1] = [owner] * (last + 1 - first)
        return owners

    def _node(self, address: str, known: Node | None) -> Node:
        """host:port, where an empty host is that of the node that says so."""
        host, _, port = address.rpartition(":")
        return host.strip("[]") or (known or self._options.nodes[0])[0], int(port)

    def _client(self, node: Node) -> RespClient:
        client = self._clients.get(node)
        if client is None:
            client = self._clients[node] = RespClient(node, self._options)
        return client


def _called(*nodes: Node) -> str:
    """How a message of nodes begins."""
    return "".join(f"its node {host}:{port}: " for host, port in nodes)
