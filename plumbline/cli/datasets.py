"""`plumbline datasets …`: snapshots of rows that models were trained on."""

from __future__ import annotations

import json as json_module
from itertools import islice
from typing import Annotated

import typer

from plumbline.cli.models import registry
from plumbline.cli.output import Json, console, errors_for_people, print_json, print_table, when
from plumbline.registry.client import RegistryClient
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.types.v1 import column_pb2

_DIGITS = 64

datasets = typer.Typer(
    help="Snapshots of rows: how many, of which features, as of when, made how.", no_args_is_help=True
)


@datasets.command("list")
def list_datasets(
    condition: Annotated[str, typer.Option("--filter", help="As in: row_count > 1000")] = "",
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1)] = 20,
    json: Json = False,
) -> None:
    """The newest snapshots."""
    with errors_for_people(), registry() as client:
        found = list(islice(client.list_datasets(condition), limit))
        if json:
            print_json(found)
            return
        print_table(
            ("DATASET", "ROWS", "AS OF", "RECORDED", "BY", "DESCRIPTION"),
            [
                (
                    item.name.removeprefix("datasets/")[:16],
                    f"{item.row_count:,}",
                    _as_of(item),
                    when(item.create_time),
                    item.actor,
                    item.display_name,
                )
                for item in found
            ],
        )


@datasets.command("show")
def show(
    name: Annotated[str, typer.Argument(help="datasets/…, or its digest, or the first 8 or more digits")],
    recipe: Annotated[bool, typer.Option("--recipe", help="How it was made, alone.")] = False,
    json: Json = False,
) -> None:
    """A snapshot in full: columns, features, how it was made."""
    with errors_for_people(), registry() as client:
        item = client.get_dataset(_whole(client, name))
        if json:
            print_json(item)
            return
        if recipe:
            typer.echo(_indented(item.recipe))
            return
        console.print(f"[bold]{item.name}[/bold]", markup=True)
        facts = [
            ("what", item.display_name),
            ("rows", f"{item.row_count:,}"),
            ("as of", _as_of(item)),
            ("features", item.feature_service),
            *(("view", view) for view in item.feature_views),
            ("entity rows", item.entity_digest),
            ("kept at", item.uri),
            ("recorded", f"{when(item.create_time)} by {item.actor}"),
        ]
        for key, value in facts:
            if value:
                console.print(f"  {key:<12} {value}", markup=False)
        print_table(
            ("COLUMN", "TYPE"),
            [
                (f.name, column_pb2.ValueType.Name(f.type).removeprefix("VALUE_TYPE_").lower())
                for f in item.schema
            ],
        )
        for definition in item.feature_definitions:
            console.print(definition.name.partition("@")[0], markup=False, style="bold")
            console.print(_indented(definition.spec), markup=False)
        if item.recipe:
            console.print("[bold]recipe[/bold]")
            console.print(_indented(item.recipe), markup=False)


def _whole(client: RegistryClient, name: str) -> str:
    """The name of the dataset whose digest is given, or begins so."""
    digest = name.removeprefix("datasets/")
    if not 8 <= len(digest) < _DIGITS:
        return f"datasets/{digest}"
    begins = (item.name for item in client.list_datasets() if item.name.startswith(f"datasets/{digest}"))
    found = list(islice(begins, 2))
    if len(found) == 2:
        raise typer.BadParameter(f"{digest} begins the digests of {' and '.join(found)}; give more of it")
    return found[0] if found else f"datasets/{digest}"


def _as_of(item: res.Dataset) -> str:
    start, end = when(item.as_of_start), when(item.as_of_end)
    return f"{start} … {end}" if start or end else ""


def _indented(text: str) -> str:
    """JSON for people; another text as it is."""
    try:
        return json_module.dumps(json_module.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
