"""`plumbline registry …`: the registry as a whole."""

from __future__ import annotations

import typer

from plumbline.cli.webhooks import webhook

registry_app = typer.Typer(help="The registry as a whole: webhooks, backups.", no_args_is_help=True)
registry_app.add_typer(webhook, name="webhook")
