"""`plumbline alias policy …`: what must hold before an alias may move."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from plumbline.cli.models import model_of, registry, version_of
from plumbline.cli.output import FAILED, Json, console, errors_for_people, print_json, print_table, when
from plumbline.registry.client import alias_name
from plumbline.registry.policy_file import format_policy, parse_policy
from plumbline.registry.v1 import governance_pb2 as gov

Name = Annotated[str, typer.Argument(help="m@champion")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit.")]
Etag = Annotated[str, typer.Option(help="Only if the policy is still in this state.")]

policy = typer.Typer(
    help="Promotion policies: what must hold before an alias may point at a version.", no_args_is_help=True
)


@policy.command("show")
def show(
    name: Annotated[str, typer.Argument(help="m@champion, or m for all of them")], json: Json = False
) -> None:
    """The policy of an alias as YAML, as `policy set` takes it."""
    with errors_for_people(), registry() as client:
        one = "@" in name or "/aliases/" in name
        found = [client.get_promotion_policy(name)] if one else client.list_promotion_policies(name)
        if json:
            print_json(found[0] if one else found)
            return
        for item in found:
            console.print(f"# {item.name}, set {when(item.update_time)} by {item.actor}", markup=False)
            sys.stdout.write(format_policy(item))


@policy.command("set")
def set_policy(
    name: Name,
    file: Annotated[Path, typer.Argument(help="A YAML file; - reads it from standard input.")],
    reason: Reason,
    etag: Etag = "",
    json: Json = False,
) -> None:
    """Protect an alias, or replace its policy."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        given = parse_policy(text)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{file}: {error}", param_hint="FILE") from error
    given.name, given.etag = alias_name(name), etag
    with errors_for_people(), registry() as client:
        made = client.set_promotion_policy(given, reason=reason)
        print_json(made) if json else console.print(f"{made.name} is protected", markup=False)


@policy.command("clear")
def clear(name: Name, reason: Reason, etag: Etag = "", json: Json = False) -> None:
    """Take the policy of an alias away."""
    with errors_for_people(), registry() as client:
        gone = client.clear_promotion_policy(name, reason=reason, etag=etag)
        print_json(gone) if json else console.print(f"{gone.name} is protected no longer", markup=False)


@policy.command("check")
def check(name: Name, version: Annotated[str, typer.Argument(help="m/3, or 3")], json: Json = False) -> None:
    """Whether an alias may point at a version, rule by rule; exit code 1 when it may not."""
    with errors_for_people(), registry() as client:
        found = client.check_promotion(name, version_of(model_of(name), version))
    if json:
        print_json(found)
    else:
        _print_check(found)
    if not found.passed:
        raise SystemExit(FAILED)


def _print_check(found: gov.PromotionCheck) -> None:
    if not found.results:
        console.print("the alias has no policy: any READY version may have it")
        return
    print_table(
        ("RULE", "RESULT", "EXPECTED", "FOUND"),
        [
            (item.rule, "passed" if item.passed else "FAILED", item.expected, item.actual)
            for item in found.results
        ],
    )
