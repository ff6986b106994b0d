"""The process that serves, once `serving.__main__` has set its environment: python -m serving.worker FD."""

from __future__ import annotations

import math
import os
import shutil
import signal
import socket
import sys

import uvicorn

from serving.process import metrics_folder
from serving.service import http_app
from serving.settings import ServingSettings


def main(descriptor: int) -> int:
    """Serves on a listening socket until SIGTERM or SIGINT; returns the exit code.

    0: stopped as asked; 2: could not start, with the reason on stderr.
    """
    settings = ServingSettings()
    # uvicorn raises the signal again once it has stopped, for handlers that were there before it; by
    # then all is done, and the exit code is to say so.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: None)
    config = uvicorn.Config(
        http_app(),
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.grace_seconds),
    )
    server = uvicorn.Server(config)
    try:
        server.run(sockets=[socket.socket(fileno=descriptor)])
    finally:
        shutil.rmtree(metrics_folder(os.environ), ignore_errors=True)
    return 0 if server.started else 2


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
