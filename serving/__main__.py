"""python -m serving: settings, ports and environment, then the serving process in this one's place."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from pydantic import ValidationError

from servicekit.settings import print_settings_error
from serving.process import CannotStart, environment, listen
from serving.settings import ServingSettings


def main() -> NoReturn:
    """Exits with 2, and the reason on stderr, when it cannot start."""
    try:
        settings = ServingSettings()
    except ValidationError as error:
        print_settings_error("serving", ServingSettings, error)
        sys.exit(2)
    try:
        # gRPC binds its port itself; this finds out beforehand that it cannot.
        listen(settings.host, settings.port, settings.port_variable).close()
        http = listen(settings.host, settings.http_port, settings.http_port_variable)
        env = environment(settings, os.environ)
    except (CannotStart, OSError) as error:
        print(f"serving: {error}", file=sys.stderr)
        sys.exit(2)
    http.set_inheritable(True)
    # exec, so that BentoML and prometheus_client find their environment at import, and the process that
    # was started is the one that serves: one id to signal, nothing left behind.
    os.execve(sys.executable, [sys.executable, "-m", "serving.worker", str(http.fileno())], env)  # noqa: S606


if __name__ == "__main__":
    main()
