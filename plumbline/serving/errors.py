"""The errors of PredictionService: raised by the service, caught by its clients.

What each means is said beside its reason in protos/plumbline/serving/v1/errors.proto.
"""

from __future__ import annotations

from plumbline.errors import (
    DataLoss,
    ErrorClasses,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)


class ModelNotServed(NotFound):
    """The server does not serve this model, alias or version. metadata: model."""

    reason = "MODEL_NOT_SERVED"


class ModelNotLoaded(Unavailable):
    """It should be served but is not loaded yet. metadata: model."""

    reason = "MODEL_NOT_LOADED"


class EmptyRequest(InvalidArgument):
    """Empty request. metadata: field."""

    reason = "EMPTY_REQUEST"


class TooManyRows(InvalidArgument):
    """Too many rows. metadata: limit, actual."""

    reason = "TOO_MANY_ROWS"


class InputMissing(InvalidArgument):
    """An input of the signature is missing. metadata: column."""

    reason = "INPUT_MISSING"


class InputUnknown(InvalidArgument):
    """A column the signature does not know. metadata: column."""

    reason = "INPUT_UNKNOWN"


class TypeMismatch(InvalidArgument):
    """Type mismatch. metadata: column, expected, actual."""

    reason = "TYPE_MISMATCH"


class FeaturesUnavailable(Unavailable):
    """feature_service cannot be reached. metadata: address."""

    reason = "FEATURES_UNAVAILABLE"


class SignatureMismatch(FailedPrecondition):
    """What feature_service serves no longer fits the model's signature. metadata: model, column."""

    reason = "SIGNATURE_MISMATCH"


class ArtifactCorrupt(DataLoss):
    """The artifact does not have the recorded digest. metadata: model, expected, actual."""

    reason = "ARTIFACT_CORRUPT"


class InvalidPredictionId(InvalidArgument):
    """Prediction ids that are repeated, too long, or not one per row. metadata: field."""

    reason = "INVALID_PREDICTION_ID"


#: Every error above, by reason.
CLASSES = ErrorClasses(
    ModelNotServed,
    ModelNotLoaded,
    EmptyRequest,
    TooManyRows,
    InputMissing,
    InputUnknown,
    TypeMismatch,
    FeaturesUnavailable,
    SignatureMismatch,
    ArtifactCorrupt,
    InvalidPredictionId,
)
