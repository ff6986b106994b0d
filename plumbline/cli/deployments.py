"""`plumbline deployments …`: what runs where."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer
from rich.markup import escape

from plumbline.cli.models import registry
from plumbline.cli.output import Json, console, errors_for_people, print_json, print_table, when
from plumbline.registry.v1 import governance_pb2 as gov
from plumbline.times import moment

Name = Annotated[str, typer.Argument(help="deployments/…, as `plumbline deployments list` shows it.")]

deployments = typer.Typer(help="Which version runs where, from when to when.", no_args_is_help=True)


@deployments.command("list")
def list_deployments(
    everything: Annotated[bool, typer.Option("--all", help="Those that have ended too.")] = False,
    condition: Annotated[str, typer.Option("--filter", help="As in: environment = production")] = "",
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1)] = 100,
    json: Json = False,
) -> None:
    """What runs now; newest first."""
    with errors_for_people(), registry() as client:
        all_of_them = client.list_deployments(condition)
        found = list(islice((item for item in all_of_them if everything or _live(item)), limit))
        if json:
            print_json(found)
            return
        print_table(
            ("DEPLOYMENT", "VERSION", "ENVIRONMENT", "TARGET", "ALIAS", "STARTED", "ENDED", "BY", "REASON"),
            [
                (
                    item.name,
                    item.version.removeprefix("models/"),
                    item.environment,
                    item.target,
                    item.alias,
                    when(item.start_time),
                    when(item.end_time),
                    item.actor,
                    item.end_reason,
                )
                for item in found
            ],
        )


@deployments.command("show")
def show(name: Name, json: Json = False) -> None:
    """A deployment in full."""
    with errors_for_people(), registry() as client:
        item = client.get_deployment(name)
        if json:
            print_json(item)
            return
        state = "runs" if _live(item) else "has ended"
        console.print(f"[bold]{item.name}[/bold]  {escape(item.version)}  {state}")
        facts = [
            ("environment", item.environment),
            ("target", item.target),
            ("alias", item.alias),
            ("started", f"{when(item.start_time)} by {item.actor}"),
            ("lease ends", when(item.lease_expire_time)),
            ("ended", when(item.end_time)),
            ("reason", item.end_reason),
            *sorted(item.attributes.items()),
        ]
        for key, value in facts:
            if value:
                console.print(f"  {key:<12} {value}", markup=False)


@deployments.command("end")
def end(
    name: Name, reason: Annotated[str, typer.Option(help="Why; kept with it.")], json: Json = False
) -> None:
    """Say that a deployment runs no longer."""
    with errors_for_people(), registry() as client:
        item = client.end_deployment(name, reason=reason)
        print_json(item) if json else console.print(f"{item.name} ended", markup=False)


def _live(item: gov.Deployment) -> bool:
    if item.HasField("end_time"):
        return False
    return not item.HasField("lease_expire_time") or moment(item.lease_expire_time) > datetime.now(UTC)
