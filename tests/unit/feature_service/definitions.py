"""A few definitions to plan by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from feature_service.digests import service_digest, view_digest
from feature_service.domain import (
    Entity,
    FeatureService,
    FeatureView,
    Field,
    Projection,
    Source,
    ValueType,
    ViewKind,
)
from feature_service.planning import Definitions

DRIVER = Field("driver_id", ValueType.INT64)
TRIPS = FeatureView(
    project="p",
    name="trips",
    kind=ViewKind.BATCH,
    join_keys=(DRIVER,),
    features=(Field("n", ValueType.INT64), Field("rate", ValueType.DOUBLE)),
    ttl=timedelta(days=2),
    source=Source("trips_src", "data/trips.parquet", "/repo/data/trips.parquet", "ts", "created"),
)
CITY = FeatureView(
    project="p",
    name="city",
    kind=ViewKind.BATCH,
    join_keys=(Field("city_id", ValueType.STRING),),
    features=(Field("rate", ValueType.DOUBLE),),
    source=Source("city_src", "data/city.parquet", "/repo/data/city.parquet", "ts"),
)
SCALED = FeatureView(
    project="p",
    name="scaled",
    kind=ViewKind.ON_DEMAND,
    join_keys=(DRIVER,),
    features=(Field("scaled", ValueType.DOUBLE),),
    online=False,
    request_data=(Field("factor", ValueType.DOUBLE),),
    inputs=(Projection("trips", "trips", TRIPS.features),),
    transformation="pandas\ndef scaled(df): ...",
)


def definitions(
    views: Iterable[FeatureView] = (TRIPS, CITY, SCALED), services: Iterable[FeatureService] = ()
) -> Definitions:
    """Definitions with digests, as the adapter makes them."""
    named = {view.name: replace(view, digest=view_digest(view)) for view in views}
    return Definitions(
        project="p",
        entities={"driver": Entity("driver", "driver_id", ValueType.INT64)},
        views=named,
        services={item.name: replace(item, digest=service_digest(item, named)) for item in services},
        push_sources={"trips_push": ("trips",)},
    )
