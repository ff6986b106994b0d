"""`plumbline predict …`: ask a running serving for predictions."""

from __future__ import annotations

from typing import Annotated

import typer

from plumbline.cli.features import Values
from plumbline.cli.output import Json, address, console, errors_for_people, print_json, print_table
from plumbline.cli.values import columns_of, read_rows, refuse_unknown
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.serving.client import PredictionClient
from plumbline.serving.v1.prediction_service_pb2 import ServedModel
from plumbline.types.v1 import column_pb2


def prediction_client() -> PredictionClient:
    """A client of serving at PLUMBLINE_SERVING_ADDRESS."""
    return PredictionClient(address("SERVING", 7430))


def predict(
    values: Values = None,
    model: Annotated[str, typer.Option(help="m@champion or m/3; default: the server's.")] = "",
    rows: Annotated[str | None, typer.Option(help="JSON file of objects; - reads stdin.")] = None,
    show_features: Annotated[bool, typer.Option("--features", help="Show the features used.")] = False,
    json: Json = False,
) -> None:
    """Predict for one entity, or for many (--rows); features are looked up by the server."""
    with errors_for_people(), prediction_client() as client:
        served = client.get_model(model)
        asked = read_rows(values or [], rows)
        keys, given = served.signature.join_keys, request_fields(served)
        refuse_unknown(asked, [f.name for f in (*keys, *given)])
        result = client.predict(
            columns_of(asked, keys, text=rows is None),
            request_data=columns_of(asked, given, text=rows is None),
            model=model,
            return_features=show_features,
        )
        outputs = result.outputs.to_pylist()
        used = result.features.values.to_pylist() if result.features is not None else []
        if json:
            print_json(
                {
                    "model_version": result.model_version,
                    "model_sha256": result.model_sha256,
                    "definition_digest": result.definition_digest,
                    "predictions": [
                        {"prediction_id": pid} | output | ({"features": used[i]} if used else {})
                        for i, (pid, output) in enumerate(zip(result.prediction_ids, outputs, strict=True))
                    ],
                }
            )
            return
        names = list(result.outputs.column_names)
        print_table(
            ("ROW", *names, "PREDICTION ID"),
            [
                (i, *output.values(), pid)
                for i, (pid, output) in enumerate(zip(result.prediction_ids, outputs, strict=True))
            ],
        )
        if result.features is not None:
            statuses = {
                name: result.features.status_names(name) for name in result.features.values.column_names
            }
            print_table(
                ("ROW", "FEATURE", "VALUE", "STATUS"),
                [(i, k, v, statuses[k][i]) for i, row in enumerate(used) for k, v in row.items()],
            )
        console.print(f"[dim]{result.model_version}  sha256 {result.model_sha256[:16]}…[/dim]")


def request_fields(served: ServedModel) -> list[column_pb2.Field]:
    """What a caller sends beside the join keys: request data, and inputs that come with the request."""
    signature = served.signature
    fields = list(signature.request_data)
    known = {field.name for field in (*signature.join_keys, *fields)}
    fields.extend(
        column_pb2.Field(name=item.name, type=item.type)
        for item in signature.inputs
        if item.source == res.INPUT_SOURCE_REQUEST and item.name not in known
    )
    return fields
