"""`plumbline features …`: what feature_service knows and serves."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from plumbline.cli.asking import Selection, chosen, described, feature_client, split
from plumbline.cli.joining import join_progress, reading, writing
from plumbline.cli.output import Json, console, errors_for_people, print_json, print_table
from plumbline.cli.parity import check_parity
from plumbline.cli.pushing import push
from plumbline.cli.values import columns_of, moment, read_rows, refuse_unknown, span
from plumbline.feature_columns import FeatureStatus
from plumbline.features.client import OnlineFeatures
from plumbline.features.matrix import FeatureMatrix
from plumbline.features.v1 import definitions_pb2 as defs
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from plumbline.types.v1 import column_pb2

Values = Annotated[list[str] | None, typer.Argument(help="Join keys and request data: name=value …")]

features = typer.Typer(help="Feature services, views and values.", no_args_is_help=True)
features.command("check-parity")(check_parity)
features.command("push")(push)


@features.command("list")
def list_features(json: Json = False) -> None:
    """Feature services and views."""
    with errors_for_people(), feature_client() as client:
        services, views = list(client.list_feature_services()), list(client.list_feature_views())
        if json:
            print_json({"feature_services": services, "feature_views": views})
            return
        print_table(
            ("FEATURE SERVICE", "FEATURES", "JOIN KEYS", "DIGEST"),
            [
                (
                    service.name,
                    sum(len(item.features) for item in service.projections),
                    ", ".join(key.name for key in service.join_keys),
                    service.digest[:19],
                )
                for service in services
            ],
        )
        console.print()
        print_table(
            ("VIEW", "KIND", "FEATURES", "JOIN KEYS", "TTL", "DIGEST"),
            [
                (
                    view.name,
                    defs.FeatureViewKind.Name(view.kind).removeprefix("FEATURE_VIEW_KIND_").lower(),
                    len(view.features),
                    ", ".join(key.name for key in view.join_keys),
                    str(view.ttl.ToTimedelta()) if view.HasField("ttl") else "none",
                    view.digest[:19],
                )
                for view in views
            ],
        )


@features.command("show")
def show(name: Annotated[str, typer.Argument(help="A feature service.")], json: Json = False) -> None:
    """A feature service: its features, types, and what a caller must send."""
    with errors_for_people(), feature_client() as client:
        service = client.get_feature_service(name)
        if json:
            print_json(service)
            return
        console.print(f"[bold]{service.name}[/bold]  {service.description}\n  {service.digest}")
        for title, fields in (("join keys", service.join_keys), ("request data", service.request_data)):
            console.print(f"  {title:<13}" + ", ".join(f"{f.name}: {_type(f)}" for f in fields), markup=False)
        print_table(
            ("VIEW", "FEATURE", "TYPE", "DESCRIPTION"),
            [
                (item.view, field.name, _type(field), field.description)
                for item in service.projections
                for field in item.features
            ],
        )


@features.command("get")
def get(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="SELECTION… [NAME=VALUE]…",
            help="A feature service, or view:feature and view:* …; then join keys and request data.",
        ),
    ],
    rows: Annotated[str | None, typer.Option(help="JSON file of objects; - reads stdin.")] = None,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="The numbers as models get them, a line an entity.")
    ] = False,
    max_age: Annotated[
        str | None, typer.Option(help="Nothing older than 90s, 15m, 24h or 7d, on top of each view's ttl.")
    ] = None,
    default: Annotated[
        list[str] | None, typer.Option(help="feature=value for cells that are not PRESENT; repeat it.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="What the store does not answer in time is UNAVAILABLE.")
    ] = False,
    full_names: Annotated[bool, typer.Option("--full-names", help="Features as view__feature.")] = False,
    json: Json = False,
) -> None:
    """The online features of one entity, or of many (--rows), with status and event time."""
    age = None if max_age is None else span(max_age, "--max-age")
    selection, values = split(words)
    names, text = chosen(selection), rows is None
    with errors_for_people(), feature_client() as client:
        service = described(client, names)
        known = [f.name for f in (*service.join_keys, *service.request_data)]
        asked = read_rows(values, rows) if known or values or rows else [{}]
        refuse_unknown(asked, known)
        options: dict[str, Any] = {
            "request_data": columns_of(asked, service.request_data, text=text),
            "max_age": age,
            "defaults": _defaults(default or [], service),
            "allow_partial": partial,
        }
        entities = columns_of(asked, service.join_keys, text=text)
        if matrix:
            _print_matrix(asked, client.get_feature_matrix(names, entities, **options), json)
            return
        found = client.get_online_features(names, entities, full_feature_names=full_names, **options)
        cells = online_cells(found)
        if json:
            print_json({"definition_digest": found.definition_digest, "rows": cells})
            return
        for row, items in zip(asked, cells, strict=True):
            if len(asked) > 1:
                console.print(f"\n[bold]{row}[/bold]")
            print_table(
                ("FEATURE", "VALUE", "STATUS", "EVENT TIME", "VIEW"),
                [(c["feature"], c["value"], c["status"], c["event_time"], c["view"]) for c in items],
            )


@features.command("join")
def join(
    selection: Selection,
    rows: Annotated[str, typer.Option(help="Parquet with the entity rows: a file or a folder.")],
    output: Annotated[str, typer.Option(help="Parquet file to write; nothing may be there yet.")],
    server_side: Annotated[
        bool,
        typer.Option("--server-side", help="The server reads and writes the files (below its data roots)."),
    ] = False,
    time: Annotated[str, typer.Option(help="Column with the time of each row.")] = "event_timestamp",
    full_names: Annotated[bool, typer.Option("--full-names", help="Columns as view__feature.")] = False,
    ignore_created: Annotated[
        bool, typer.Option("--ignore-created", help="Also rows that were created only after a row's time.")
    ] = False,
    json: Json = False,
) -> None:
    """Add to each entity row the feature values known at its time, Parquet to Parquet."""
    names = chosen(selection)
    policy = pb.KNOWN_AT_POLICY_IGNORE_CREATED if ignore_created else pb.KNOWN_AT_POLICY_CREATED_BY_THEN
    with errors_for_people(), feature_client() as client, join_progress() as on_progress:
        options: dict[str, Any] = {
            "event_timestamp_column": time,
            "full_feature_names": full_names,
            "known_at_policy": policy,
            "on_progress": on_progress,
        }
        if server_side:
            summary = client.write_historical_features(names, rows, output, **options)
        else:
            with reading(rows) as reader, writing(output) as write:
                found = client.get_historical_features(names, reader, **options)
                write(found.schema, found)
                summary = found.summary
    if json:
        print_json(summary)
        return
    console.print(f"{summary.rows_out:,} rows  {output}  {summary.definition_digest[:19]}")
    print_table(
        ("COLUMN", "VIEW", "FEATURE", "ROWS PRESENT"),
        [(item.column, item.view, item.feature, item.rows_present) for item in summary.features],
    )


@features.command("materialize")
def materialize(
    views: Annotated[list[str] | None, typer.Argument(help="Feature views; default: all.")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", help="A moment (UTC unless it says): rows since then, also those already online."
        ),
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="A moment: rows known then; default: now.")] = None,
    operation_id: Annotated[
        str, typer.Option(help="Names the run: the same id again goes on where an interrupted run stopped.")
    ] = "",
    json: Json = False,
) -> None:
    """Bring the newest rows of feature views online, each view from where it ended last."""
    begin = None if start is None else moment(start, "--from")
    until = None if end is None else moment(end, "--to")
    with errors_for_people(), feature_client() as client:
        finished = []
        for progress in client.materialize(views or (), start=begin, end=until, operation_id=operation_id):
            if not progress.view_finished:
                continue
            found = {"view": progress.view, "rows_written": progress.rows_written}
            finished.append(found | {"rows_resumed": progress.rows_resumed})
            if not json:
                done = f"{progress.views_done}/{progress.views_total}"
                before = f", {progress.rows_resumed:,} of them before" if progress.rows_resumed else ""
                console.print(f"  {progress.view:<26} {progress.rows_written:>9,} rows  ({done}){before}")
        if json:
            print_json(finished)


def _defaults(pairs: list[str], service: defs.FeatureService) -> dict[str, Any]:
    """name=value pairs, typed as the service's features are."""
    if not pairs:
        return {}
    (row,) = read_rows(pairs, None)
    fields = [
        column_pb2.Field(name=called, type=field.type)
        for item in service.projections
        for field in item.features
        for called in (field.name, f"{item.view}__{field.name}")
    ]
    refuse_unknown([row], [field.name for field in fields])
    return {called: array[0] for called, array in columns_of([row], fields, text=True).items()}


def _print_matrix(asked: list[dict[str, Any]], found: FeatureMatrix, json: bool) -> None:
    """Numbers; None stands for what is not there."""
    cells = [[None if math.isnan(cell) else cell for cell in row] for row in found.values.tolist()]
    if json:
        print_json(
            {
                "definition_digest": found.definition_digest,
                "names": list(found.names),
                "values": cells,
                "statuses": [[FeatureStatus(code).name for code in row] for row in found.statuses.tolist()],
            }
        )
        return
    keys = list(asked[0])
    rows = [(*(row.get(key) for key in keys), *line) for row, line in zip(asked, cells, strict=True)]
    print_table((*keys, *found.names), rows)


def online_cells(found: OnlineFeatures) -> list[list[dict[str, Any]]]:
    """Per entity, per feature: value, status, event time, view."""
    names = found.values.column_names
    columns = {name: found.values.column(name).to_pylist() for name in names}
    statuses = {name: found.status_names(name) for name in names}
    times = {view: array.to_pylist() for view, array in found.event_times.items()}
    return [
        [
            {
                "feature": name,
                "value": columns[name][row],
                "status": statuses[name][row],
                "event_time": times[found.views[name]][row] if found.views[name] in times else None,
                "view": found.views[name],
            }
            for name in names
        ]
        for row in range(found.values.num_rows)
    ]


def _type(field: column_pb2.Field) -> str:
    return column_pb2.ValueType.Name(field.type).removeprefix("VALUE_TYPE_").lower()
