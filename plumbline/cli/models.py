"""`plumbline models …`, `plumbline alias …`: the registry."""

from __future__ import annotations

from typing import Annotated

import typer

from plumbline.cli.output import actor, address, console, errors_for_people, print_json, print_table, when
from plumbline.registry.client import RegistryClient, alias_name, model_name, version_name
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.types.v1 import column_pb2

Json = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]

models = typer.Typer(help="Models and their versions.", no_args_is_help=True)
alias = typer.Typer(help="Aliases: which version is the champion.", no_args_is_help=True)


def registry() -> RegistryClient:
    """A client of the registry at PLUMBLINE_REGISTRY_ADDRESS."""
    return RegistryClient(address("REGISTRY", 7420), actor=actor())


@models.command("list")
def list_models(json: Json = False) -> None:
    """All models with their latest version and aliases."""
    with errors_for_people(), registry() as client:
        found = list(client.list_models())
        if json:
            print_json(found)
            return
        print_table(
            ("MODEL", "VERSIONS", "ALIASES", "UPDATED", "DESCRIPTION"),
            [
                (
                    model.name.removeprefix("models/"),
                    model.latest_version,
                    ", ".join(f"{_last(a.name)} → {_last(a.version)}" for a in model.aliases),
                    when(model.update_time),
                    model.description,
                )
                for model in found
            ],
        )


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
        print_table(
            ("VERSION", "STATE", "ALIASES", "CREATED", "BY", "METRICS"),
            [
                (
                    version.version,
                    res.VersionState.Name(version.state).removeprefix("VERSION_STATE_"),
                    ", ".join(version.aliases),
                    when(version.create_time),
                    version.actor,
                    _metrics(version),
                )
                for version in versions
            ],
        )


@alias.command("set")
def set_alias(
    name: Annotated[str, typer.Argument(help="m@champion")],
    version: Annotated[str, typer.Argument(help="m/3, or 3")],
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")],
    expected: Annotated[str, typer.Option(help="Only if it points at this version now.")] = "",
    json: Json = False,
) -> None:
    """Point an alias at a version."""
    model = name.partition("@")[0]
    with errors_for_people(), registry() as client:
        moved = client.set_alias(
            alias_name(name),
            _version_of(model, version),
            reason=reason,
            expected_version=_version_of(model, expected) if expected else "",
        )
        print_json(moved) if json else console.print(f"{moved.name} → {moved.version}")


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
                (when(e.time), _last(e.alias), _last(e.from_version), _last(e.to_version), e.actor, e.reason)
                for e in events
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


def _version_of(model: str, version: str) -> str:
    return version_name(f"{model}/{version}" if version.isdigit() else version)


def _last(name: str) -> str:
    return name.rpartition("/")[2]
