"""From selections to reads, and what is refused on the way."""

from __future__ import annotations

import pytest

from feature_service.catalog import Catalog
from feature_service.domain import FeatureService, Projection
from feature_service.planning import Selection, output_names, plan
from plumbline.errors import InvalidArgument
from plumbline.features.errors import (
    AmbiguousFeatureName,
    DefinitionChanged,
    EmptyRequest,
    EntityNotFound,
    FeatureNotFound,
    FeatureServiceNotFound,
    InvalidPageToken,
    ViewNotFound,
)
from tests.unit.feature_service.definitions import CITY, SCALED, TRIPS, definitions


def refs(*references: str) -> Selection:
    return Selection(references=references)


def test_references_are_answered_in_their_order_view_by_view() -> None:
    found = plan(definitions(), refs("city:rate", "trips:n"))
    assert output_names(found, full=True) == ("city__rate", "trips__n")
    assert [item.name for item in found.join_keys] == ["city_id", "driver_id"]


def test_a_star_means_every_feature_and_repeats_nothing() -> None:
    found = plan(definitions(), refs("trips:rate", "trips:*"))
    assert output_names(found, full=False) == ("rate", "n")


def test_an_on_demand_view_brings_the_views_it_reads() -> None:
    found = plan(definitions(), refs("scaled:scaled"))
    assert output_names(found, full=False) == ("scaled",)
    assert [read.view.name for read in found.reads] == ["trips"]
    assert [item.name for item in found.request_data] == ["factor"]


def test_a_view_needed_twice_is_read_once() -> None:
    found = plan(definitions(), refs("trips:n", "scaled:scaled"))
    assert [(read.label, [f.name for f in read.features]) for read in found.reads] == [
        ("trips", ["n", "rate"])
    ]


def test_one_view_under_two_names_is_read_by_other_columns() -> None:
    both = (
        Projection("city", "origin", CITY.features, (("city_id", "from_city"),)),
        Projection("city", "destination", CITY.features, (("city_id", "to_city"),)),
    )
    found = plan(definitions(services=[FeatureService("p", "s", both)]), Selection("s"))
    assert [item.name for item in found.join_keys] == ["from_city", "to_city"]
    assert output_names(found, full=True) == ("origin__rate", "destination__rate")


def test_two_features_of_one_name_need_full_names() -> None:
    found = plan(definitions(), refs("trips:rate", "city:rate"))
    with pytest.raises(AmbiguousFeatureName) as caught:
        output_names(found, full=False)
    assert caught.value.metadata == {"feature": "rate"}
    assert output_names(found, full=True) == ("trips__rate", "city__rate")


def test_a_feature_named_as_a_column_of_the_caller_is_ambiguous() -> None:
    with pytest.raises(AmbiguousFeatureName):
        output_names(plan(definitions(), refs("trips:n")), full=False, taken=["n"])


@pytest.mark.parametrize(
    ("selection", "error", "metadata"),
    [
        (Selection(), EmptyRequest, {"field": "selection"}),
        (Selection("nope"), FeatureServiceNotFound, {"feature_service": "nope", "project": "p"}),
        (refs("nope:n"), ViewNotFound, {"view": "nope", "project": "p"}),
        (refs("trips:nope"), FeatureNotFound, {"view": "trips", "feature": "nope"}),
        (refs("trips"), FeatureNotFound, {"view": "trips", "feature": ""}),
        (refs(":n"), FeatureNotFound, {"view": "", "feature": "n"}),
    ],
)
def test_selections_of_what_is_not_there(
    selection: Selection, error: type[InvalidArgument], metadata: dict[str, str]
) -> None:
    with pytest.raises(error) as caught:
        plan(definitions(), selection)
    assert caught.value.metadata == metadata


def test_a_plan_is_made_anew_when_the_definitions_change() -> None:
    catalog = Catalog(definitions())
    before = catalog.plan(refs("trips:n"))
    assert catalog.plan(refs("trips:n")) is before
    catalog.replace(definitions((CITY,)))
    with pytest.raises(ViewNotFound):
        catalog.plan(refs("trips:n"))


def test_a_digest_the_caller_does_not_expect_is_refused() -> None:
    catalog = Catalog(definitions())
    digest = catalog.plan(refs("trips:n")).digest
    assert catalog.plan(refs("trips:n"), digest).digest == digest
    with pytest.raises(DefinitionChanged) as caught:
        catalog.plan(refs("trips:n"), "sha256:0")
    assert caught.value.metadata == {"expected": "sha256:0", "actual": digest}


def test_pages_cover_everything_once_in_order() -> None:
    catalog = Catalog(definitions((TRIPS, CITY, SCALED)))
    names, token = [], ""
    while True:
        page, token = catalog.views(1, token)
        names += [item.name for item in page]
        if not token:
            break
    assert names == ["city", "scaled", "trips"]


def test_a_page_token_of_another_list_is_refused() -> None:
    catalog = Catalog(definitions())
    _, token = catalog.views(1, "")
    with pytest.raises(InvalidPageToken):
        catalog.services(1, token)
    with pytest.raises(InvalidPageToken):
        catalog.views(1, "rubbish")


@pytest.mark.parametrize("size", [-1, 1001])
def test_a_page_size_out_of_bounds_is_refused(size: int) -> None:
    with pytest.raises(InvalidArgument, match="page_size"):
        Catalog(definitions()).views(size, "")


def test_an_unknown_entity_is_named() -> None:
    with pytest.raises(EntityNotFound) as caught:
        Catalog(definitions()).entity("nope")
    assert caught.value.metadata == {"entity": "nope"}
