"""Whom the feature commands ask, and for which features."""

from __future__ import annotations

from typing import Annotated

import typer

from plumbline.cli.output import address
from plumbline.features.client import FeatureClient, Features

Selection = Annotated[
    list[str], typer.Argument(help="A feature service, or references view:feature and view:* …")
]


def feature_client() -> FeatureClient:
    """A client of feature_service at PLUMBLINE_FEATURES_ADDRESS."""
    return FeatureClient(address("FEATURES", 7410))


def chosen(selection: list[str]) -> Features:
    """What the words of a `Selection` ask for."""
    return selection[0] if len(selection) == 1 and ":" not in selection[0] else selection
