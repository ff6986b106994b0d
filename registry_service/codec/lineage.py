"""Impact, comparison and export on the wire."""

from __future__ import annotations

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidField
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from registry_service.codec.governance import to_deployment
from registry_service.comparison import Change, Comparison
from registry_service.export import Format
from registry_service.impact import VersionImpact

_CHANGES = {
    Change.ADDED: pb.DIFFERENCE_KIND_ADDED,
    Change.REMOVED: pb.DIFFERENCE_KIND_REMOVED,
    Change.CHANGED: pb.DIFFERENCE_KIND_CHANGED,
}
_FORMATS = {
    int(pb.LINEAGE_FORMAT_OPENLINEAGE): Format.OPENLINEAGE,
    int(pb.LINEAGE_FORMAT_DOT): Format.DOT,
    int(pb.LINEAGE_FORMAT_JSON): Format.JSON,
}


def export_format(number: int) -> Format:
    """Raises InvalidField for one that is missing or that this version does not know."""
    found = _FORMATS.get(number)
    if found is None:
        message = f"format {number} is unknown; say OPENLINEAGE, DOT or JSON"
        raise InvalidField(
            message, metadata={"field": "format"}, violations=[FieldViolation("format", message)]
        )
    return found


def to_impact(impact: VersionImpact) -> pb.VersionImpact:
    return pb.VersionImpact(
        version=str(impact.version),
        state=res.VersionState.Value(f"VERSION_STATE_{impact.state.value}"),
        aliases=impact.aliases,
        deployments=[to_deployment(item) for item in impact.deployments],
        path=impact.path,
    )


def to_difference(comparison: Comparison) -> pb.VersionDifference:
    return pb.VersionDifference(
        left=str(comparison.left),
        right=str(comparison.right),
        differences=[
            pb.Difference(
                section=item.section,
                key=item.key,
                kind=_CHANGES[item.change],
                left=item.left,
                right=item.right,
            )
            for item in comparison.differences
        ],
        equal_sections=comparison.equal_sections,
    )
