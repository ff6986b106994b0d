"""`plumbline runs …`: training runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from plumbline.cli.models import registry
from plumbline.cli.output import console, errors_for_people, print_json, print_table, when
from plumbline.registry.v1 import resources_pb2 as res

Json = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
Run = Annotated[str, typer.Argument(help="runs/…, as `plumbline runs list` shows it.")]

runs = typer.Typer(
    help="Training runs: what was tried, when, by whom, with what result.", no_args_is_help=True
)


@runs.command("list")
def list_runs(
    condition: Annotated[
        str, typer.Option("--filter", help="As in: state = FAILED AND parameters.depth = 6")
    ] = "",
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1)] = 20,
    json: Json = False,
) -> None:
    """The newest runs."""
    with errors_for_people(), registry() as client:
        found = [run for run, _ in zip(client.list_runs(condition), range(limit), strict=False)]
        if json:
            print_json(found)
            return
        print_table(
            ("RUN", "STATE", "STARTED", "ENDED", "BY", "WHAT", "REASON"),
            [
                (
                    run.name,
                    _state(run),
                    when(run.start_time),
                    when(run.end_time),
                    run.actor,
                    run.display_name,
                    run.error or run.tags.get("promotion.reason", ""),
                )
                for run in found
            ],
        )


@runs.command("show")
def show(
    name: Run,
    config: Annotated[
        bool, typer.Option("--config", help="The whole configuration alone, as the run was given it.")
    ] = False,
    environment: Annotated[
        bool, typer.Option("--environment", help="The packages alone, as a requirements file.")
    ] = False,
    json: Json = False,
) -> None:
    """A run in full: parameters, metrics, data, code, environment."""
    with errors_for_people(), registry() as client:
        run = client.get_run(name)
        if config:
            sys.stdout.write(run.config)
            return
        if environment:
            sys.stdout.write(_requirements(run))
            return
        if json:
            print_json(run)
            return
        console.print(f"[bold]{run.name}[/bold]  {_state(run)}  {run.display_name}")
        dirty = " with changes" if run.code.dirty else ""
        facts = [
            ("started", f"{when(run.start_time)} by {run.actor}"),
            ("ended", when(run.end_time)),
            ("error", run.error),
            ("code", f"{run.code.repository} {run.code.commit}{dirty}"),
            ("environment", run.environment_digest),
            ("python", f"{run.environment.python_version} {run.environment.platform}".strip()),
            ("seed", str(run.seed)),
            ("part of", run.parent),
            *(("based on", version) for version in run.base_versions),
            ("lease ends", when(run.lease_expire_time) if run.state == res.RUN_STATE_RUNNING else ""),
            *(("dataset", dataset) for dataset in run.datasets),
            *sorted(run.tags.items()),
        ]
        for key, value in facts:
            if value:
                console.print(f"  {key:<18} {value}", markup=False)
        print_table(("PARAMETER", "VALUE"), sorted(run.parameters.items()))
        print_table(("METRIC", "VALUE"), sorted(run.metrics.items()))


@runs.command("fail")
def fail(
    name: Run, reason: Annotated[str, typer.Option(help="Why; kept with the run.")], json: Json = False
) -> None:
    """Close a run whose process is gone: RUNNING → FAILED."""
    if not reason.strip():
        # Without an error a run ends FINISHED.
        raise typer.BadParameter("say why the run failed", param_hint="--reason")
    with errors_for_people(), registry() as client:
        run = client.finish_run(name, error=reason)
        print_json(run) if json else console.print(f"{run.name} {_state(run)}: {run.error}", markup=False)


def _requirements(run: res.TrainingRun) -> str:
    about = run.environment
    if not about.packages:
        return f"# {run.name} recorded no packages; their digest is {run.environment_digest or 'unknown'}\n"
    lines = "".join(f"{package}\n" for package in about.packages)
    return f"# {run.name}: Python {about.python_version} on {about.platform}\n{lines}"


def _state(run: res.TrainingRun) -> str:
    return res.RunState.Name(run.state).removeprefix("RUN_STATE_")
