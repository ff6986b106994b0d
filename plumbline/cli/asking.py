"""Whom the feature commands ask, and for which features."""

from __future__ import annotations

from typing import Annotated

import typer

from plumbline.cli.output import address
from plumbline.features.client import FeatureClient, Features
from plumbline.features.v1 import definitions_pb2 as defs

Selection = Annotated[
    list[str], typer.Argument(help="A feature service, or references view:feature and view:* …")
]


def feature_client() -> FeatureClient:
    """A client of feature_service at PLUMBLINE_FEATURES_ADDRESS."""
    return FeatureClient(address("FEATURES", 7410))


def chosen(selection: list[str]) -> Features:
    """What the words of a `Selection` ask for."""
    return selection[0] if len(selection) == 1 and ":" not in selection[0] else selection


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """A `Selection` and the name=value pairs after it, told apart by their =."""
    selection = [word for word in words if "=" not in word]
    if not selection:
        raise typer.BadParameter("name a feature service, or references view:feature, before name=value")
    for word in selection:
        if len(selection) > 1 and ":" not in word:
            raise typer.BadParameter(f"{word!r} is neither a reference view:feature nor name=value")
    return selection, [word for word in words if "=" in word]


def described(client: FeatureClient, features: Features) -> defs.FeatureService:
    """The feature service; of references, a nameless one that has all of their views.

    Raises the errors of the client.
    """
    if isinstance(features, str):
        return client.get_feature_service(features)
    names = dict.fromkeys(reference.partition(":")[0] for reference in features)
    views = [client.get_feature_view(name) for name in names]
    return defs.FeatureService(
        projections=[defs.FeatureProjection(view=view.name, features=view.features) for view in views],
        join_keys={key.name: key for view in views for key in view.join_keys}.values(),
        request_data={item.name: item for view in views for item in view.request_data}.values(),
    )
