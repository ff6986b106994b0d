"""`plumbline registry webhook …`: who is told of changes."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from plumbline.cli.models import registry
from plumbline.cli.output import Json, console, errors_for_people, print_json, print_table, when
from plumbline.registry.naming import model_name
from plumbline.registry.v1 import webhooks_pb2 as res

webhook = typer.Typer(help="Webhooks: changes told to other servers, signed.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="webhooks/…, or the id alone.")]
Url = Annotated[str, typer.Option(help="https://…, a public address.")]
Actions = Annotated[
    list[str] | None,
    typer.Option("--action", help="An action, as SetAlias; may be given again. None: all actions."),
]
SecretFile = Annotated[
    Path | None,
    typer.Option(help="A file whose first line signs; else PLUMBLINE_WEBHOOK_SECRET, else a new one."),
]


@webhook.command("create")
def create(
    url: Annotated[str, typer.Argument(help="https://…, a public address.")],
    action: Actions = None,
    model: Annotated[str, typer.Option(help="Only what is about this model.")] = "",
    description: Annotated[str, typer.Option(help="For people.")] = "",
    secret_file: SecretFile = None,
    json: Json = False,
) -> None:
    """Tell a server of every change from now on. A secret that is made up is shown this once."""
    given = _given_secret(secret_file)
    secret = given or _new_secret()
    with errors_for_people(), registry() as client:
        made = client.create_webhook(
            res.Webhook(
                url=url,
                actions=action or [],
                model=model_name(model) if model else "",
                description=description,
                secret=secret,
            )
        )
        if json:
            # Only one that was made up here is not known yet.
            made.secret = "" if given else secret
            print_json(made)
            return
        console.print(made.name)
        if not given:
            console.print(f"secret {secret}", markup=False)
            console.print("Keep it where the receiver finds it: it is not shown again.")


@webhook.command("list")
def list_webhooks(json: Json = False) -> None:
    """All webhooks and how far each is."""
    with errors_for_people(), registry() as client:
        found = list(client.list_webhooks())
        if json:
            print_json(found)
            return
        print_table(
            ("WEBHOOK", "STATE", "URL", "ACTIONS", "MODEL", "TOLD UP TO", "DESCRIPTION"),
            [
                (
                    item.name,
                    _state(item),
                    item.url,
                    ", ".join(item.actions) or "all",
                    item.model.removeprefix("models/") or "all",
                    item.delivered_sequence,
                    item.last_error or item.description,
                )
                for item in found
            ],
        )


@webhook.command("show")
def show(name: Name, json: Json = False) -> None:
    """One webhook; never its secret."""
    with errors_for_people(), registry() as client:
        found = client.get_webhook(name)
        print_json(found) if json else _print(found)


@webhook.command("update")
def update(
    name: Name,
    url: Url = "",
    action: Actions = None,
    all_actions: Annotated[bool, typer.Option("--all-actions", help="Tell of every action.")] = False,
    model: Annotated[str, typer.Option(help="A model, or - for all.")] = "",
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    pause: Annotated[bool, typer.Option("--pause", help="Send nothing; changes wait.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Send what waits, and go on.")] = False,
    secret_file: Annotated[Path | None, typer.Option(help="A file whose first line signs.")] = None,
    json: Json = False,
) -> None:
    """Change what is named, and nothing else; what waits is tried again at once."""
    if pause and resume:
        raise typer.BadParameter("either --pause or --resume")
    if action and all_actions:
        raise typer.BadParameter("either --action or --all-actions")
    changed, fields = res.Webhook(name=name if "/" in name else f"webhooks/{name}"), list[str]()
    if url:
        changed.url = url
        fields.append("url")
    if action or all_actions:
        changed.actions.extend(action or [])
        fields.append("actions")
    if model:
        changed.model = "" if model == "-" else model_name(model)
        fields.append("model")
    if description is not None:
        changed.description = description
        fields.append("description")
    if pause or resume:
        changed.state = res.WEBHOOK_STATE_PAUSED if pause else res.WEBHOOK_STATE_ACTIVE
        fields.append("state")
    if secret_file is not None:
        changed.secret = _given_secret(secret_file)
        fields.append("secret")
    if not fields:
        raise typer.BadParameter("name what to change, as --url or --pause")
    with errors_for_people(), registry() as client:
        found = client.update_webhook(changed, fields=fields)
        print_json(found) if json else _print(found)


@webhook.command("delete")
def delete(name: Name, json: Json = False) -> None:
    """Tell it nothing any more, also not what waits."""
    with errors_for_people(), registry() as client:
        gone = client.delete_webhook(name)
        print_json(gone) if json else console.print(f"{gone.name} deleted")


@webhook.command("test")
def send_test(name: Name, json: Json = False) -> None:
    """Send a test message now; exit code 1 when it is not accepted."""
    with errors_for_people(), registry() as client:
        outcome = client.test_webhook(name)
        if json:
            print_json(outcome)
        elif outcome.delivered:
            console.print(f"accepted ({outcome.status})")
        else:
            console.print(f"[red]not accepted[/red] {outcome.error}")
        raise SystemExit(0 if outcome.delivered else 1)


@webhook.command("deliveries")
def deliveries(
    name: Name,
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1)] = 20,
    json: Json = False,
) -> None:
    """What was sent, and what became of it; newest first."""
    with errors_for_people(), registry() as client:
        found = [item for item, _ in zip(client.list_webhook_deliveries(name), range(limit), strict=False)]
        if json:
            print_json(found)
            return
        print_table(
            ("WHEN", "EVENT", "ATTEMPT", "OUTCOME", "REASON"),
            [
                (
                    when(item.time),
                    item.sequence,
                    item.attempt,
                    "accepted" if item.delivered else "given up" if item.given_up else "failed",
                    item.error,
                )
                for item in found
            ],
        )


def _print(found: res.Webhook) -> None:
    console.print(f"[bold]{found.name}[/bold]  {_state(found)}  {found.description}")
    facts = [
        ("url", found.url),
        ("actions", ", ".join(found.actions) or "all"),
        ("model", found.model or "all"),
        ("told up to", f"event {found.delivered_sequence}"),
        ("last error", found.last_error),
        ("next attempt", when(found.next_attempt_time)),
        ("changed", f"{when(found.update_time)} by {found.actor}"),
    ]
    for key, value in facts:
        if value:
            console.print(f"  {key:<12} {value}", markup=False)


def _state(found: res.Webhook) -> str:
    return res.WebhookState.Name(found.state).removeprefix("WEBHOOK_STATE_")


def _given_secret(path: Path | None) -> str:
    """Never an argument: those are seen by everybody on the machine."""
    if path is None:
        return os.environ.get("PLUMBLINE_WEBHOOK_SECRET", "")
    try:
        return path.read_text().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}", param_hint="--secret-file") from error


def _new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
