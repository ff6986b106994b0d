"""`plumbline models …`: models and their versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Annotated

import typer

from plumbline.cli.output import actor, address, console, errors_for_people, print_json, print_table, when
from plumbline.registry.client import RegistryClient, alias_name, model_name, version_name
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.types.v1 import column_pb2

Json = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]

models = typer.Typer(help="Models and their versions.", no_args_is_help=True)


def registry() -> RegistryClient:
    """A client of the registry at PLUMBLINE_REGISTRY_ADDRESS."""
    return RegistryClient(address("REGISTRY", 7420), actor=actor())


@models.command("list")
def list_models(
    condition: Annotated[
        str, typer.Option("--filter", help='As in: name = "fraud-*" AND tags.team = risk')
    ] = "",
    order_by: Annotated[str, typer.Option("--order-by", help="As in: update_time desc")] = "",
    json: Json = False,
) -> None:
    """All models with their latest version and aliases."""
    with errors_for_people(), registry() as client:
        found = list(client.list_models(condition=condition, order_by=order_by))
        if json:
            print_json(found)
            return
        print_table(
            ("MODEL", "VERSIONS", "ALIASES", "UPDATED", "DESCRIPTION"),
            [
                (
                    model.name.removeprefix("models/"),
                    model.latest_version,
                    ", ".join(f"{last(a.name)} → {last(a.version)}" for a in model.aliases),
                    when(model.update_time),
                    model.description,
                )
                for model in found
            ],
        )


@models.command("search")
def search(
    condition: Annotated[
        str,
        typer.Argument(metavar="FILTER", help="As in: metrics.auc >= 0.75 AND NOT aliases:champion"),
    ],
    model: Annotated[str, typer.Option(help="Of one model only.")] = "-",
    order_by: Annotated[str, typer.Option("--order-by", help="As in: metrics.auc desc")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 100,
    json: Json = False,
) -> None:
    """Versions of all models that match a filter, newest first: see docs/search.md."""
    with errors_for_people(), registry() as client:
        versions = client.list_versions(
            model, condition=condition, order_by=order_by, page_size=min(limit, 1000)
        )
        found = list(islice(versions, limit))
        if json:
            print_json(found)
            return
        _print_versions(found, lambda version: f"{model_of(version.name)}/{version.version}")


@models.command("show")
def show(
    name: Annotated[str, typer.Argument(help="m (all versions), m/3 or m@champion")], json: Json = False
) -> None:
    """A model and its versions, or one version in full."""
    with errors_for_people(), registry() as client:
        resource = version_name(name)
        if resource.count("/") > 1:
            version = client.get_version(resource)
            print_json(version) if json else _print_version(version)
            return
        model, versions = client.get_model(resource), list(client.list_versions(resource))
        if json:
            print_json({"model": model, "versions": versions})
            return
        console.print(f"[bold]{model.name}[/bold]  {model.description}")
        _print_versions(versions, lambda version: str(version.version))


@models.command("rename")
def rename(
    name: Annotated[str, typer.Argument(help="m")],
    new_name: Annotated[str, typer.Argument(help="Its name from now on.")],
    json: Json = False,
) -> None:
    """Give a model another name; all it has stays."""
    with errors_for_people(), registry() as client:
        model = client.rename_model(name, new_name)
        print_json(model) if json else console.print(f"{model_name(name)} is now {model.name}", markup=False)


@models.command("archive")
def archive(name: Annotated[str, typer.Argument(help="m, or m/3")], json: Json = False) -> None:
    """Take a model, or one version, out of use; nothing is deleted."""
    with errors_for_people(), registry() as client:
        resource = version_name(name)
        gone = client.archive_version(resource) if resource.count("/") > 1 else client.archive_model(resource)
        print_json(gone) if json else console.print(f"{gone.name} is archived", markup=False)


@models.command("restore")
def restore(name: Annotated[str, typer.Argument(help="m")], json: Json = False) -> None:
    """Take an archived model back."""
    with errors_for_people(), registry() as client:
        model = client.restore_model(name)
        print_json(model) if json else console.print(f"{model.name} is back", markup=False)


def version_of(model: str, version: str) -> str:
    """models/m/versions/3 of "3" or "m/3"."""
    return version_name(f"{model}/{version}" if version.isdigit() else version)


def model_of(alias: str) -> str:
    """The model in "m@champion", or in a full name."""
    return alias_name(alias).split("/")[1]


def last(name: str) -> str:
    """The last part of a name."""
    return name.rpartition("/")[2]


def _print_versions(versions: Sequence[res.ModelVersion], name: Callable[[res.ModelVersion], str]) -> None:
    print_table(
        ("VERSION", "STATE", "ALIASES", "CREATED", "BY", "METRICS"),
        [
            (
                name(version),
                res.VersionState.Name(version.state).removeprefix("VERSION_STATE_"),
                ", ".join(version.aliases),
                when(version.create_time),
                version.actor,
                _metrics(version),
            )
            for version in versions
        ],
    )


def _print_version(version: res.ModelVersion) -> None:
    state = res.VersionState.Name(version.state).removeprefix("VERSION_STATE_")
    console.print(f"[bold]{version.name}[/bold]  {state}  {version.description}")
    facts = [
        ("aliases", ", ".join(version.aliases)),
        ("created", f"{when(version.create_time)} by {version.actor}"),
        ("run", version.run),
        ("datasets", ", ".join(version.datasets)),
        ("features", f"{version.signature.feature_service}  {version.signature.feature_service_digest}"),
        ("manifest", version.manifest_digest),
    ]
    for key, value in facts:
        console.print(f"  {key:<10} {value}", markup=False)
    print_table(
        ("FILE", "BYTES", "SHA256"), [(f.path, f.size_bytes, f.sha256) for f in version.files], title=""
    )
    print_table(
        ("INPUT", "TYPE", "FROM", "CATEGORIES"),
        [
            (
                item.name,
                column_pb2.ValueType.Name(item.type).removeprefix("VALUE_TYPE_").lower(),
                item.feature_reference or "the request",
                len(item.categories) or "",
            )
            for item in version.signature.inputs
        ],
    )
    # A champion is compared on the same rows again and again; the newest figures of each are enough.
    newest = {(item.dataset, item.split): item for item in version.evaluations}
    for (dataset, split), evaluation in newest.items():
        console.print(f"  {split:<10} {_numbers(evaluation)}  on {dataset[:21]}…", markup=False)


def _metrics(version: res.ModelVersion) -> str:
    """The metrics of the last test evaluation, or of the last one at all."""
    tests = [e for e in version.evaluations if e.split == "test"] or list(version.evaluations)
    return _numbers(tests[-1]) if tests else ""


def _numbers(evaluation: res.Evaluation) -> str:
    """ "auc 0.7520  rows 53,991"."""
    return "  ".join(
        f"{name} {value:,.0f}" if value.is_integer() and abs(value) >= 1 else f"{name} {value:.4f}"
        for name, value in sorted(evaluation.metrics.items())
    )
