"""The process that serves, once `serving.__main__` has set its environment: python -m serving.worker FD."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import socket
import sys

import uvicorn

from servicekit.logs import configure_logging
from serving.process import metrics_folder
from serving.service import http_app
from serving.settings import ServingSettings

_log = logging.getLogger("plumbline.serving")


def main(descriptor: int) -> int:
    """Serves on a listening socket until SIGTERM or SIGINT; returns the exit code.

    0: stopped as asked; 2: could not start, with the reason on stderr.
    """
    settings = ServingSettings()
    configure_logging("serving", settings.log_level, settings.log_format)
    # Until uvicorn takes the signals over there is nothing to wait for. It raises them again once it has
    # stopped, for handlers that were there before it; by then all is done, and the exit code says so.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: sys.exit(0))
    config = uvicorn.Config(
        http_app(),
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.grace_seconds),
    )
    server = uvicorn.Server(config)
    listener = socket.socket(fileno=descriptor)
    host, port = listener.getsockname()[:2]
    _log.info("serving listens on %s:%d for HTTP", host, port)
    try:
        server.run(sockets=[listener])
    finally:
        shutil.rmtree(metrics_folder(os.environ), ignore_errors=True)
    return 0 if server.started else 2


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
