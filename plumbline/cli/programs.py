"""Commands that are programs of their own, with dependencies of their own: they are started, not imported."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import typer

#: Of a typer command whose arguments are the program's business.
PASSED_ON: dict[str, Any] = {
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
    "add_help_option": False,
}


def backup(context: typer.Context) -> None:
    """Save the registry to a folder while it serves: the same as `python -m registry_service backup`."""
    _run("registry_service", "backup", *context.args)


def restore(context: typer.Context) -> None:
    """Fill an empty registry from a backup: the same as `python -m registry_service restore`."""
    _run("registry_service", "restore", *context.args)


def _run(*words: str) -> None:
    command = [sys.executable, "-m", *words]
    raise SystemExit(subprocess.run(command, check=False).returncode)  # noqa: S603
