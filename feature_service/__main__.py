"""feature_service: `python -m feature_service [serve]` and `python -m feature_service apply --repo DIR`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path

# Feast makes a folder for multi-process metrics of its own and points prometheus_client there, unless that
# is imported first.
import prometheus_client  # noqa: F401

from feature_service.settings import FeatureSettings
from servicekit.server import StartupError, run


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="feature_service", description="Features over gRPC.")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="serve (default); settings come from PLUMBLINE_FEATURES_… variables")
    apply_parser = commands.add_parser("apply", help="write a repository's definitions to its registry")
    apply_parser.add_argument("--repo", type=Path, default=None, help="the folder with feature_store.yaml")
    options = parser.parse_args(arguments)
    os.environ.setdefault("FEAST_USAGE", "False")  # no calls home
    _quieten_feast()
    return _apply(options.repo) if options.command == "apply" else _serve()


def _serve() -> int:
    # Feast takes seconds to import, and is not needed to say that a setting is wrong or to print help.
    from feature_service.app import build

    _quieten_feast()
    return run("feature_service", FeatureSettings, build)


def _apply(repo: Path | None) -> int:
    from feature_service.feast_adapters.apply import apply

    _quieten_feast()
    folder = repo or FeatureSettings().repo
    try:
        changes = apply(folder)
    except StartupError as error:
        print(f"feature_service apply: {error}", file=sys.stderr)
        return 2
    for change in changes:
        print(f"{change.what} {change.kind} {change.name}")
    if not changes:
        print("nothing changed")
    return 0


def _quieten_feast() -> None:
    """No warnings of Feast's for the user. Said again once Feast is imported: it sets filters of its own."""
    for module in ("feast", "pandas", "ibis", "pydantic", "google"):
        warnings.filterwarnings("ignore", module=rf"{module}(\..*)?")
    logging.getLogger("feast").setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
