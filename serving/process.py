"""What has to be settled before the serving process imports BentoML: ports, folders, environment."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from serving.settings import ServingSettings

#: Read by prometheus_client when it is imported; BentoML's /metrics reads the files in that folder.
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class CannotStart(Exception):
    """The message says why and what to do."""


def listen(host: str, port: int, variable: str) -> socket.socket:
    """A listening TCP socket. Raises CannotStart naming the port and the variable that moves it."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotStart(
            f"cannot listen on {host}:{port}: {reason}. Set {variable} to a free port."
        ) from error


def environment(settings: ServingSettings, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of the serving process; makes the folders it names.

    BentoML keeps to the cache folder, unless BENTOML_HOME says otherwise, and sends no usage data. The
    metrics folder is this process's own (the id survives exec); those of processes that are gone are
    removed.
    """
    home = Path(inherited.get("BENTOML_HOME") or settings.cache_dir.absolute() / "bentoml")
    metrics = settings.cache_dir.absolute() / "metrics"
    for folder in (home, metrics):
        folder.mkdir(parents=True, exist_ok=True)
    for stale in metrics.iterdir():
        if not stale.name.isdigit() or not _alive(int(stale.name)) or int(stale.name) == os.getpid():
            shutil.rmtree(stale, ignore_errors=True)
    own = metrics / str(os.getpid())
    own.mkdir()
    return {
        **inherited,
        "BENTOML_DO_NOT_TRACK": "true",
        "BENTOML_HOME": str(home),
        METRICS_VARIABLE: str(own),
    }


def metrics_folder(env: Mapping[str, str]) -> Path:
    """Where the metrics of the process with this environment are."""
    return Path(env[METRICS_VARIABLE])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
