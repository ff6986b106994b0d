"""Packed rows in Redis or Valkey, on one server or in a cluster.

The key of a row is `{tag}` + the view's prefix + the entity key. The tag is the CRC-32 of the entity key in 8
hexadecimal digits: a cluster keeps keys of one tag on one node, so all rows of an entity are together.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from binascii import crc32
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from typing import Any

from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from feature_service.packed import redis_sync
from feature_service.packed.guard import newest, sort_key
from feature_service.packed.redis_failures import failure
from feature_service.packed.redis_options import RedisOptions
from feature_service.packed.redis_scripts import HOLD, PUT
from feature_service.packed.redis_sync import Command, slot_of
from feature_service.packed.resp import ReplyError, RespClient
from feature_service.packed.resp_cluster import RespCluster
from feature_service.ports import RowRead, RowReads

#: Views' prefixes begin below 0x80.
_NOTES = b"\xffnotes:\x00"
#: Keys in one MGET, and rows in one call of the script: nobody else is served meanwhile.
_READ, _WRITE = 1000, 100
#: Bytes of a key beside the entity key: the tag in its braces, and the view's prefix.
_AROUND = 10 + 8
#: Rows in one round trip of writes.
_SENT = 20_000
#: Expiry times beyond this, in ms, say nothing any more, and Redis refuses those it cannot add up.
_LONGEST_EXPIRY = 100 * 365 * 86_400_000


class RedisRows:
    """See ports.RowStore.

    retention: how long a row stays after its ttl; None: for good. Rows of views without a ttl stay. now: the
    seconds since 1970, by which a row's age is told.

    A row's expiry is set when it is written; `hold` sets it anew when the ttl or the retention has changed.
    """

    local = False
    wants_whole = False

    def __init__(
        self,
        options: RedisOptions,
        *,
        retention: timedelta | None = timedelta(days=1),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.address = options.address
        self._options, self._retention, self._now = options, retention, now
        self._nodes = redis_sync.connect(options)
        self._by_loop: dict[asyncio.AbstractEventLoop, RespClient | RespCluster] = {}
        self._lock = threading.Lock()
        #: The ttl by which this process last wrote rows of a view.
        self._written: dict[bytes, int | None] = {}

    def get(self, reads: RowReads) -> list[list[bytes | None]]:
        """See ports.RowStore."""
        keys = row_keys(reads)
        groups = self._grouped(keys, _READ)
        values: list[bytes | None] = [None] * len(keys)
        with self._reachable():
            commands = [(slot, (b"MGET", *[keys[i] for i in chosen])) for slot, chosen in groups]
            for (_, chosen), found in zip(groups, self._nodes.run(commands), strict=True):
                for i, value in zip(chosen, found, strict=True):
                    values[i] = value
        return _split(reads, values)

    async def get_async(self, reads: RowReads) -> list[list[bytes | None]]:
        """See ports.RowStore."""
        client = self._by_loop.get(asyncio.get_running_loop()) or self._for_this_loop()
        with self._reachable():
            if isinstance(client, RespCluster):
                return _split(reads, await client.mget(row_keys(reads)))
            words = _key_words(reads)
            parts = [words[i : i + _READ] for i in range(0, len(words), _READ)]
            if not parts:
                return _split(reads, [])
            payload = b"".join(
                chain.from_iterable((b"*%d\r\n$4\r\nMGET\r\n" % (len(part) + 1), *part) for part in parts)
            )
            replies = await client.call(payload, len(parts))
            for reply in replies:
                if isinstance(reply, ReplyError):
                    raise reply
        return _split(reads, replies[0] if len(replies) == 1 else list(chain.from_iterable(replies)))

    def put(self, view: bytes, rows: Sequence[tuple[bytes, bytes]], ttl_micros: int | None) -> int:
        """See ports.RowStore. After a failure some of the rows may have been written."""
        chosen = newest(rows)
        written = 0
        self._written[view] = ttl_micros
        with self._reachable():
            for start in range(0, len(chosen), _SENT):
                part = chosen[start : start + _SENT]
                keys = row_keys([RowRead(view, [key for key, _ in part])])
                kept = self._expiries([row for _, row in part], ttl_micros)
                calls = [
                    ([keys[i] for i in group], [word for i in group for word in (part[i][1], kept[i])])
                    for _, group in self._grouped(keys, _WRITE)
                ]
                written += sum(self._scripted(PUT, calls))
        return written

    def drop(self, view: bytes) -> None:
        """See ports.RowStore."""
        pattern = b"{????????}" + b"".join(_escaped(byte) for byte in view) + b"*"
        with self._reachable():
            for keys in self._nodes.scan(pattern):
                groups = self._grouped(keys, _READ)
                self._nodes.run([(slot, (b"UNLINK", *[keys[i] for i in chosen])) for slot, chosen in groups])

    def hold(self, ttls: Mapping[bytes, int | None]) -> None:
        """See ports.RowStore. A pass over all keys of the server, in steps, when a ttl has changed."""
        rules = {view: self._rule(ttl) for view, ttl in ttls.items()}
        changed = {
            view: ttl
            for view, ttl in ttls.items()
            if self.note(_rule_name(view)) != rules[view] or self._written.get(view, ttl) != ttl
        }
        if not changed:
            return
        with self._reachable():
            for keys in self._nodes.scan(b"{????????}*"):
                self._hold([key for key in keys if _view_of(key) in changed], changed)
        for view, ttl in changed.items():
            self._written[view] = ttl
            self.set_note(_rule_name(view), rules[view])

    def sweep(self, view: bytes, before_micros: int) -> int:
        """See ports.RowStore."""
        return 0

    def note(self, name: str) -> bytes | None:
        """See ports.RowStore."""
        key = _note_key(name)
        with self._reachable():
            (found,) = self._nodes.run([(slot_of(key), (b"GET", key))])
        value: bytes | None = found
        return value

    def set_note(self, name: str, value: bytes | None) -> None:
        """See ports.RowStore."""
        key = _note_key(name)
        words = (b"DEL", key) if value is None else (b"SET", key, value)
        with self._reachable():
            self._nodes.run([(slot_of(key), words)])

    def close(self) -> None:
        """See ports.RowStore."""
        with self._lock:
            clients, self._by_loop = self._by_loop, {}
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for loop, client in clients.items():
            if loop is here:
                client.close()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(client.close)
        self._nodes.close()

    def _for_this_loop(self) -> RespClient | RespCluster:
        options = self._options
        client = RespCluster(options) if options.cluster else RespClient(options.nodes[0], options)
        with self._lock:
            self._by_loop = {loop: kept for loop, kept in self._by_loop.items() if not loop.is_closed()}
            self._by_loop[asyncio.get_running_loop()] = client
        return client

    def _grouped(self, keys: Sequence[bytes], most: int) -> list[tuple[int, Sequence[int]]]:
        """Positions of keys that may go in one command, with their slot."""
        if not self._nodes.by_slot:
            return [(0, range(start, min(start + most, len(keys)))) for start in range(0, len(keys), most)]
        groups: dict[int, list[int]] = {}
        for i, key in enumerate(keys):
            groups.setdefault(slot_of(key), []).append(i)
        return [
            (slot, group[start : start + most])
            for slot, group in groups.items()
            for start in range(0, len(group), most)
        ]

    def _expiries(self, rows: Sequence[bytes], ttl_micros: int | None) -> list[bytes]:
        if ttl_micros is None or self._retention is None:
            return [b""] * len(rows)
        now = self._now() * 1000
        retention = self._retention / timedelta(milliseconds=1)
        left = [(sort_key(row)[0] + ttl_micros) / 1000 - now for row in rows]
        return [b"%d" % min(max(max(ms, 0) + retention, 1), _LONGEST_EXPIRY) for ms in left]

    def _rule(self, ttl_micros: int | None) -> bytes:
        """By what rows expire, as the note that says which rule those of a view have."""
        if ttl_micros is None or self._retention is None:
            return b"never"
        return b"%d+%d" % (ttl_micros, self._retention // timedelta(milliseconds=1))

    def _hold(self, keys: Sequence[bytes], ttls: Mapping[bytes, int | None]) -> None:
        never = self._retention is None
        retention = 0.0 if self._retention is None else self._retention / timedelta(milliseconds=1)
        general = [b"%d" % (self._now() * 1000), b"%d" % retention, b"%d" % _LONGEST_EXPIRY]
        calls = []
        for _, group in self._grouped(keys, _READ):
            chosen = [keys[i] for i in group]
            micros = [ttls[_view_of(key)] for key in chosen]
            kept = [b"" if ttl is None or never else b"%d" % (ttl // 1000) for ttl in micros]
            calls.append((chosen, general + kept))
        self._scripted(HOLD, calls)

    def _scripted(self, script: bytes, calls: Sequence[tuple[list[bytes], list[bytes]]]) -> list[Any]:
        """The script's results for (keys of one slot, arguments). Each script may run twice on its keys."""
        digest = hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()
        commands: list[Command] = [
            (slot_of(keys[0]), (b"EVALSHA", digest, len(keys), *keys, *words)) for keys, words in calls
        ]
        try:
            return self._nodes.run(commands)
        except NoScriptError:
            # A server that was started again, or that joined the cluster. Rows written already are written
            # once more: that changes nothing.
            self._nodes.load(script)
            return self._nodes.run(commands)

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, RedisClusterException, ReplyError, OSError) as error:
            raise failure(self.address, error) from error


def row_keys(reads: RowReads) -> list[bytes]:
    """The keys of rows, one view's after the other's."""
    found: list[bytes] = []
    last: Sequence[bytes] | None = None
    tags: list[bytes] = []
    for view, keys, _ in reads:
        if keys is not last:
            tags, last = [b"{%08x}" % crc32(key) for key in keys], keys
        found += [tag + view + key for tag, key in zip(tags, keys, strict=True)]
    return found


def _key_words(reads: RowReads) -> list[bytes]:
    """`row_keys` as words of a command, in a third of the time that packing them afterwards takes."""
    found: list[bytes] = []
    last: Sequence[bytes] | None = None
    starts: list[bytes] = []
    ends: list[bytes] = []
    for view, keys, _ in reads:
        if keys is not last:
            last = keys
            starts = [b"$%d\r\n{%08x}" % (len(key) + _AROUND, crc32(key)) for key in keys]
            ends = [key + b"\r\n" for key in keys]
        found += [start + view + end for start, end in zip(starts, ends, strict=True)]
    return found


def _split(reads: RowReads, values: list[bytes | None]) -> list[list[bytes | None]]:
    found, start = [], 0
    for read in reads:
        found.append(values[start : start + len(read.keys)])
        start += len(read.keys)
    return found


def _view_of(key: bytes) -> bytes:
    """The view's prefix, of the key of a row."""
    return key[10:18]


def _rule_name(view: bytes) -> str:
    return f"ttl/{view.hex()}"


def _note_key(name: str) -> bytes:
    # The tag is that of the whole name, as for rows, so that one rule finds the slot of all keys.
    raw = name.encode()
    return b"{%08x}" % crc32(raw) + _NOTES + raw


def _escaped(byte: int) -> bytes:
    """A byte of a key as SCAN's pattern."""
    return (b"\\" if byte in b"*?[]\\^-" else b"") + bytes([byte])
