"""The model registry: `python -m registry_service [serve]`, and `backup` and `restore` beside it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from registry_service import jobs
from registry_service.app import build
from registry_service.backup.making import BackupOptions
from registry_service.settings import RegistrySettings
from servicekit.server import run
from servicekit.settings import read_settings


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.command in (None, "serve"):
        return run("registry_service", RegistrySettings, build)
    settings = read_settings("registry_service", RegistrySettings)
    if settings is None:
        return 2
    if options.command == "backup":
        return jobs.backup(
            settings,
            BackupOptions(options.to, options.previous, options.with_webhook_secrets, options.allow_damaged),
        )
    return jobs.restore(settings, options.source, expected_head=options.expect_head, check_only=options.check)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="registry_service",
        description="The model registry over gRPC. Settings come from PLUMBLINE_REGISTRY_… variables.",
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="serve (default)")
    backup = commands.add_parser("backup", help="save the registry to a folder, while it serves")
    backup.add_argument("--to", type=Path, required=True, help="a folder that is not there yet")
    backup.add_argument(
        "--previous", type=Path, help="an earlier backup; files it has too are shared by hard links"
    )
    backup.add_argument(
        "--with-webhook-secrets", action="store_true", help="keep the secrets that sign webhooks, too"
    )
    backup.add_argument(
        "--allow-damaged", action="store_true", help="go on without files that are damaged already"
    )
    restore = commands.add_parser("restore", help="fill an empty registry from a backup")
    restore.add_argument("--from", dest="source", type=Path, required=True, help="the folder of a backup")
    restore.add_argument(
        "--expect-head", default="", help="SEQUENCE:HASH, noted elsewhere, that the backup must end with"
    )
    restore.add_argument("--check", action="store_true", help="only look whether the backup is intact")
    return parser


if __name__ == "__main__":
    sys.exit(main())
