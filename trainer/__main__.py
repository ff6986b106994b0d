"""python -m trainer --config training.yaml: trains, registers and promotes one model.

Exit codes: 0 done (also when the new version was not promoted), 1 the job failed, 2 bad configuration or
usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from trainer.config import TrainingConfig, load
from trainer.domain import Result
from trainer.errors import ConfigError
from trainer.report import as_json, print_summary
from trainer.settings import TrainerSettings

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        config = load(options.config, options.set, os.environ)
        settings = TrainerSettings()
        result = _run(config, settings, options, console)
    except ConfigError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return MISUSED
    except ValidationError as error:
        for item in error.errors():
            name = "_".join(str(part) for part in item["loc"]).upper()
            print(f"trainer: PLUMBLINE_{name}: {item['msg']} (value: {item['input']!r})", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        print("trainer: interrupted", file=sys.stderr)
        return INTERRUPTED
    if options.json:
        print(json.dumps(as_json(result), indent=2))
    if result.outcome == "failed":
        print(f"trainer: {result.error}", file=sys.stderr)
        return FAILED
    if not options.json:
        print_summary(result, Console())
    return DONE


def _run(
    config: TrainingConfig, settings: TrainerSettings, options: argparse.Namespace, console: Console
) -> Result:
    # Read by OpenMP when LightGBM is loaded. Its threads wait for each other after every tree level, by
    # default spinning: beside other busy processes that made a training of 7 s take 95 s.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # LightGBM takes seconds to import, and is not needed to say that the configuration is wrong.
    from trainer.app import Options, run_job

    return run_job(config, settings, Options(options.config, options.dry_run, options.result), console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer",
        description="Trains a model on point-in-time features, registers it and promotes it if it is better.",
        epilog="Exit codes: 0 done, 1 the job failed, 2 bad configuration or usage, 130 interrupted.",
    )
    parser.add_argument("--config", type=Path, required=True, help="the YAML file that says what is trained")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key, as training.seed=7"
    )
    parser.add_argument("--dry-run", action="store_true", help="train and judge, register nothing")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--result", type=Path, help="write the result as JSON to this file, also after a failure"
    )
    return parser


def _on_sigterm(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # A stop asked for is an end like Ctrl-C: the run is marked as failed, temporary files go.
    signal.signal(signal.SIGTERM, _on_sigterm)
    raise SystemExit(main())
