"""`plumbline alias …`: which version is the champion."""

from __future__ import annotations

from typing import Annotated

import typer

from plumbline.cli.models import last, model_of, registry, version_of
from plumbline.cli.output import Json, console, errors_for_people, print_json, print_table, when
from plumbline.cli.policies import policy
from plumbline.cli.values import moment
from plumbline.registry.client import alias_name, model_name

Name = Annotated[str, typer.Argument(help="m@champion")]
Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]
Etag = Annotated[str, typer.Option(help="Only if the alias is still in this state.")]

alias = typer.Typer(help="Aliases: which version is the champion.", no_args_is_help=True)
alias.add_typer(policy, name="policy")


@alias.command("set")
def set_alias(
    name: Name,
    version: Annotated[str, typer.Argument(help="m/3, or 3")],
    reason: Reason,
    expected: Annotated[str, typer.Option(help="Only if it points at this version now.")] = "",
    json: Json = False,
) -> None:
    """Point an alias at a version."""
    model = model_of(name)
    with errors_for_people(), registry() as client:
        moved = client.set_alias(
            alias_name(name),
            version_of(model, version),
            reason=reason,
            expected_version=version_of(model, expected) if expected else "",
        )
        print_json(moved) if json else console.print(f"{moved.name} → {moved.version}", markup=False)


@alias.command("rollback")
def rollback(name: Name, reason: Reason, etag: Etag = "", json: Json = False) -> None:
    """Point an alias back at its previous holder; again, at the one before that."""
    with errors_for_people(), registry() as client:
        moved = client.rollback_alias(name, reason=reason, etag=etag)
        print_json(moved) if json else console.print(f"{moved.name} → {moved.version}", markup=False)


@alias.command("clear")
def clear(name: Name, reason: Reason, etag: Etag = "", json: Json = False) -> None:
    """Remove an alias; its history stays."""
    with errors_for_people(), registry() as client:
        event = client.clear_alias(name, reason=reason, etag=etag)
        print_json(event) if json else console.print(
            f"{event.alias} was {event.from_version}; nobody holds it"
        )


@alias.command("resolve")
def resolve(
    name: Name,
    as_of: Annotated[str, typer.Option(help="Who it was then: 2026-10-03, or 2026-10-03T17:00:00Z.")] = "",
    json: Json = False,
) -> None:
    """Who holds an alias now, or held it at a moment, since when and why."""
    then = moment(as_of, "--as-of") if as_of else None
    with errors_for_people(), registry() as client:
        found = client.resolve_alias(name, as_of=then)
        if json:
            print_json(found)
            return
        console.print(f"{found.alias.name} → {found.alias.version}", markup=False)
        facts = [
            ("since", f"{when(found.alias.update_time)} by {found.alias.actor}"),
            ("reason", found.alias.reason),
            ("manifest", found.version.manifest_digest),
            ("protected", "by a promotion policy" if found.alias.protected else ""),
        ]
        for key, value in facts:
            if value:
                console.print(f"  {key:<10} {value}", markup=False)


@alias.command("history")
def history(name: Annotated[str, typer.Argument(help="m@champion, or m")], json: Json = False) -> None:
    """Who moved an alias when, from where to where, and why; newest first."""
    with errors_for_people(), registry() as client:
        parent = alias_name(name) if "@" in name else model_name(name)
        events = list(client.list_alias_history(parent))
        if json:
            print_json(events)
            return
        print_table(
            ("WHEN", "ALIAS", "FROM", "TO", "BY", "REASON"),
            [
                (
                    when(event.time),
                    last(event.alias),
                    last(event.from_version),
                    last(event.to_version),
                    event.actor,
                    f"rollback: {event.reason}" if event.rollback else event.reason,
                )
                for event in events
            ],
        )
