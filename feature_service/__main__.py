"""feature_service: `python -m feature_service [serve]` and `python -m feature_service apply --repo DIR`."""

from __future__ import annotations

import argparse
import functools
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
from servicekit.settings import read_settings
from servicekit.workers import run_workers


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="feature_service", description="Features over gRPC.")
    commands = parser.add_subparsers(dest="command")
    serve_parser = commands.add_parser(
        "serve", help="serve (default); settings come from PLUMBLINE_FEATURES_… variables"
    )
    for taker in (parser, serve_parser):
        taker.add_argument(
            "--workers",
            type=int,
            default=argparse.SUPPRESS,
            help="processes that share the ports; instead of PLUMBLINE_FEATURES_WORKERS",
        )
    serve_parser.add_argument("--worker", type=int, default=None, help=argparse.SUPPRESS)
    apply_parser = commands.add_parser("apply", help="write a repository's definitions to its registry")
    apply_parser.add_argument("--repo", type=Path, default=None, help="the folder with feature_store.yaml")
    options = parser.parse_args(arguments)
    os.environ.setdefault("FEAST_USAGE", "False")  # no calls home
    _quieten_feast()
    if options.command == "apply":
        return _apply(options.repo)
    worker: int | None = getattr(options, "worker", None)
    if worker is None and "workers" in options:
        os.environ["PLUMBLINE_FEATURES_WORKERS"] = str(options.workers)
    return _serve(worker)


def _serve(worker: int | None) -> int:
    if worker is None:
        settings = read_settings("feature_service", FeatureSettings)
        if settings is None:
            return 2
        if settings.workers > 1:
            command = [sys.executable, "-m", "feature_service", "serve", "--worker"]
            return run_workers("feature_service", settings, settings.workers, command, ("port", "http_port"))
    # Feast takes seconds to import, and is not needed to say that a setting is wrong or to print help.
    from feature_service.app import build

    _quieten_feast()
    return run("feature_service", FeatureSettings, functools.partial(build, worker=worker), worker)


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
