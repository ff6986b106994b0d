"""Puts the commands together."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer

from plumbline.cli.aliases import alias
from plumbline.cli.approvals import approvals, approve, reject, withdraw
from plumbline.cli.datasets import datasets
from plumbline.cli.deployments import deployments
from plumbline.cli.features import features
from plumbline.cli.lineage import diff, impact, lineage
from plumbline.cli.models import models
from plumbline.cli.output import address
from plumbline.cli.predict import predict
from plumbline.cli.registry import registry_app
from plumbline.cli.runs import runs

app = typer.Typer(
    name="plumbline",
    help="Features, models and predictions of a Plumbline suite. Servers are found through "
    "PLUMBLINE_FEATURES_ADDRESS, PLUMBLINE_REGISTRY_ADDRESS and PLUMBLINE_SERVING_ADDRESS.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(models, name="models")
app.add_typer(runs, name="runs")
app.add_typer(datasets, name="datasets")
app.add_typer(alias, name="alias")
app.add_typer(registry_app, name="registry")
app.add_typer(features, name="features")
app.add_typer(deployments, name="deployments")
models.command("diff")(diff)
for say in (approve, reject, withdraw, approvals):
    models.command(say.__name__)(say)
app.command("lineage")(lineage)
app.command("impact")(impact)
app.command("predict")(predict)


@app.command(
    "train",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def train(
    context: typer.Context,
    config: Annotated[str, typer.Option(help="The training configuration, a YAML file.")] = "",
) -> None:
    """Run the trainer: the same as `python -m trainer`, whose options it takes."""
    # The trainer is a program of its own, with its own dependencies; it is started, not imported.
    given = ["--config", config] if config else []
    env = os.environ | {
        "PLUMBLINE_FEATURES_ADDRESS": address("FEATURES", 7410),
        "PLUMBLINE_REGISTRY_ADDRESS": address("REGISTRY", 7420),
    }
    command = [sys.executable, "-m", "trainer", *given, *context.args]
    raise SystemExit(subprocess.run(command, env=env, check=False).returncode)  # noqa: S603


def main() -> None:
    """The entry point `plumbline`."""
    app()
