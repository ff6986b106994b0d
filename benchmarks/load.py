"""A closed-loop load generator for gRPC and HTTP, in a process of its own: python -m benchmarks.load

Jobs come as JSON lines on stdin, results go out as JSON lines on stdout. Each of `clients` has a connection
of its own and sends its next request when the answer to the last has arrived; requests are bytes made before,
and replies are not parsed, so that the client costs the same whoever answers. Requests are sent in the order
of their file, each once before any is sent again.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Literal, Self

import grpc
import uvloop

from benchmarks.http_client import HttpConnection, HttpFailed


@dataclass(frozen=True)
class Job:
    """What to send, to whom, for how long.

    requests: a file of frames, see `write_requests`; for HTTP each is a whole request, head and body, and
    method is not used. The first request is sent once before the warm-up: its reply is the one shown.
    """

    address: str
    method: str
    requests: str
    clients: int
    seconds: float
    warm_up: float
    protocol: Literal["grpc", "http"] = "grpc"


@dataclass(frozen=True)
class Result:
    """calls: answered within the time. p50, p99, longest: ms. client_us: this process's CPU time a call.

    reply: the bytes of one reply, in hex; they come beside the requests, as a file.
    """

    calls: int
    rps: float
    p50: float
    p99: float
    longest: float
    client_us: float
    reply: str


def write_requests(path: Path, requests: list[bytes]) -> None:
    """u32 little-endian length and bytes, of each."""
    path.write_bytes(b"".join(len(item).to_bytes(4, "little") + item for item in requests))


def read_requests(path: Path) -> Iterator[bytes]:
    """As written by `write_requests`."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def _reply_file(job: Job) -> Path:
    return Path(f"{job.requests}.reply")


class LoadGenerator:
    """The process, kept from job to job."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, job: Job) -> Result:
        """Raises RuntimeError when a call fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise RuntimeError(found["error"])
        return Result(**found | {"reply": _reply_file(job).read_bytes().hex()})

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


@contextmanager
def load_generator() -> Iterator[LoadGenerator]:
    """One, ended at the end."""
    found = LoadGenerator()
    try:
        yield found
    finally:
        found.close()


class _GrpcClients:
    """Channels to one server. Options keep each client on a connection of its own."""

    def __init__(self, job: Job) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 * 1024**2)]
        self._channels = [grpc.aio.insecure_channel(job.address, options) for _ in range(job.clients)]
        self.calls: list[Any] = [channel.unary_unary(job.method) for channel in self._channels]

    async def __aenter__(self) -> Self:
        for channel in self._channels:
            async with asyncio.timeout(60):
                await channel.channel_ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels:
            await channel.close()


class _HttpClients:
    """Connections to one server, kept alive."""

    def __init__(self, job: Job) -> None:
        self._host, _, port = job.address.partition(":")
        self._port, self._count = int(port), job.clients
        self.calls: list[Any] = []

    async def __aenter__(self) -> Self:
        self.calls = [await HttpConnection.open(self._host, self._port) for _ in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self.calls:
            connection.close()


async def measure(job: Job) -> Result:
    """Runs a job in this process."""
    requests = list(read_requests(Path(job.requests)))
    order = cycle([*requests[1:], requests[0]])
    async with _HttpClients(job) if job.protocol == "http" else _GrpcClients(job) as clients:
        reply: bytes = await clients.calls[0](requests[0], timeout=60)
        _reply_file(job).write_bytes(reply)
        await _drive(clients.calls, order, job.warm_up)
        gc.collect()
        start, cpu = time.perf_counter(), time.process_time()
        found = await _drive(clients.calls, order, job.seconds)
        elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
    found.sort()
    count = len(found)
    return Result(
        calls=count,
        rps=count / elapsed,
        p50=found[count // 2] * 1e3,
        p99=found[min(int(count * 0.99), count - 1)] * 1e3,
        longest=found[-1] * 1e3,
        client_us=cpu / count * 1e6,
        reply="",
    )


async def _drive(calls: list[Any], order: Iterator[bytes], seconds: float) -> list[float]:
    taken: list[float] = []
    clock = time.perf_counter
    end = clock() + seconds

    async def client(call: Any) -> None:
        now = clock()
        while now < end:
            await call(next(order), timeout=60)
            done = clock()
            taken.append(done - now)
            now = done

    await asyncio.gather(*map(client, calls))
    return taken


def main() -> None:
    """Until stdin ends."""
    for line in sys.stdin:
        job = Job(**json.loads(line))
        try:
            answer: dict[str, Any] = asdict(uvloop.run(measure(job)))
        except grpc.aio.AioRpcError as error:
            answer = {"error": f"{job.address}{job.method}: {error.code().name}: {error.details()}"}
        except (OSError, TimeoutError, HttpFailed) as error:
            answer = {"error": f"{job.address} ({job.protocol}): {type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
