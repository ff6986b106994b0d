"""Several processes behind one port: the kernel gives each new connection to one of them.

One process, the parent, starts the workers and does nothing else. SIGTERM or SIGINT to it drains them all. A
worker that ends by itself ends the whole, with a reason and an exit code: what runs is what was asked for,
and whatever supervises the parent starts it again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from servicekit.logs import configure_logging
from servicekit.server import StartupError
from servicekit.settings import ServerSettings

_log = logging.getLogger("plumbline.server")

#: What ending may take beyond the grace that calls in flight have, in seconds.
_MARGIN = 10.0


def run_workers(
    name: str, settings: ServerSettings, count: int, command: Sequence[str], ports: Sequence[str]
) -> int:
    """Runs `count` processes of a command, which gets the worker's number (from 0) as its last argument, and
    waits for their end. Returns the exit code.

    ports: the settings that name ports which the workers share; a port 0 is chosen here. A worker's standard
    input is a pipe that closes with the parent. 0: stopped as asked; 2: could not start; 1: a worker ended by
    itself.
    """
    configure_logging(name, settings.log_level, settings.log_format)
    try:
        with _reserved(settings, ports) as chosen:
            environment = os.environ | chosen
            commands = [[*command, str(number)] for number in range(count)]
            return asyncio.run(_Workers(name, settings.grace_seconds).run(commands, environment))
    except StartupError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2


class _Workers:
    def __init__(self, name: str, grace: float) -> None:
        self._name, self._grace = name, grace
        self._stop = asyncio.Event()

    async def run(self, commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> int:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stop.set)
        workers: list[Process] = []
        try:
            for words in commands:
                worker = await asyncio.create_subprocess_exec(*words, stdin=PIPE, env=environment)
                workers.append(worker)
            _log.info("%s runs %d workers: %s", self._name, len(workers), [item.pid for item in workers])
            asked = asyncio.create_task(self._stop.wait())
            ends = [asyncio.create_task(worker.wait()) for worker in workers]
            await asyncio.wait([asked, *ends], return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            told = self._stop.is_set()
            ended = [worker for worker, end in zip(workers, ends, strict=True) if end.done()]
        finally:
            await self._end(workers)
        if told:
            # A worker that has not got so far as to handle SIGTERM ends by it.
            return int(any(worker.returncode not in (0, -signal.SIGTERM) for worker in workers))
        code = 1
        for worker in ended:
            # 2 is a worker's own "could not start", of which it has said the reason.
            code = 2 if worker.returncode == 2 else code
            print(
                f"{self._name}: worker {workers.index(worker)} (pid {worker.pid}) ended by itself, "
                f"{_how(worker.returncode)}; the other workers were stopped",
                file=sys.stderr,
            )
        return code

    async def _end(self, workers: Sequence[Process]) -> None:
        """Drains those that run, and kills those that take longer than they may."""
        running = [worker for worker in workers if worker.returncode is None]
        for worker in running:
            worker.send_signal(signal.SIGTERM)
        waits = [asyncio.create_task(worker.wait()) for worker in running]
        if waits:
            await asyncio.wait(waits, timeout=self._grace + _MARGIN)
        for worker, wait in zip(running, waits, strict=True):
            if not wait.done():
                _log.error("worker with pid %d does not end and is killed", worker.pid)
                worker.kill()
                await wait


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"with exit code {code}"


@contextmanager
def _reserved(settings: ServerSettings, names: Sequence[str]) -> Iterator[dict[str, str]]:
    """The environment that gives the workers the settings' shared ports, which nobody else can take
    meanwhile. Raises StartupError when one of them is taken."""
    prefix = settings.model_config.get("env_prefix", "")
    held: list[socket.socket] = []
    chosen: dict[str, str] = {}
    try:
        for name in names:
            port: int | None = getattr(settings, name)
            if port is None:
                continue
            variable = f"{prefix}{name.upper()}"
            held.append(_hold(settings.host, port, variable))
            chosen[variable] = str(held[-1].getsockname()[1])
        yield chosen
    finally:
        for item in held:
            item.close()


def _hold(host: str, port: int, variable: str) -> socket.socket:
    """A socket bound to a port, which never listens, so that connections go to the workers' alone."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Without SO_REUSEPORT, a bind fails where anybody listens, also one who would share the port.
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            address = probe.getsockname()
        holder = socket.socket(family, kind, protocol)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(address)
    except OSError as error:
        raise StartupError(
            f"cannot listen on {host}:{port}: {error.strerror}. Set {variable} to a free port."
        ) from error
    return holder
