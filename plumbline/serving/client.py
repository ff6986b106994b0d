"""Client of serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from plumbline import feature_columns
from plumbline.calls import Client
from plumbline.columns import decode_table, encode_mapping
from plumbline.feature_columns import FeatureTable
from plumbline.serving.errors import CLASSES
from plumbline.serving.v1 import prediction_service_pb2 as pb
from plumbline.serving.v1.prediction_service_pb2_grpc import PredictionServiceStub


@dataclass(frozen=True)
class Predictions:
    """Predictions for n rows.

    outputs: one column per output of the signature, n rows, in the order of the request.
    model_version: models/{model}/versions/{version} that answered. features: the inputs it saw, when
    they were asked for.
    """

    outputs: pa.Table
    model_version: str
    model_sha256: str
    prediction_ids: Sequence[str]
    features: FeatureTable | None
    definition_digest: str


class PredictionClient(Client):
    """Typed calls to serving: see `plumbline.calls.Client` for the arguments.

    Every method raises the errors of `plumbline.serving.errors`, and `plumbline.errors.Unavailable` when
    the server cannot be reached.
    """

    errors = CLASSES

    def __init__(self, target: str, **common: Any) -> None:
        super().__init__(target, **common)
        self._stub = PredictionServiceStub(self._channel)

    def predict(
        self,
        entities: Mapping[str, Any],
        *,
        request_data: Mapping[str, Any] | None = None,
        model: str = "",
        prediction_ids: Sequence[str] = (),
        return_features: bool = False,
    ) -> Predictions:
        """Predicts for n entities, whose features the server looks up.

        entities: by join key, n values each. request_data: what the caller alone knows, n values each.
        model: "m@champion", "m/3" or a full name; "" for the server's default.
        """
        join_keys, given = encode_mapping(entities), encode_mapping(request_data or {})
        request = pb.PredictRequest(
            model=model,
            entities=pb.EntityInput(join_keys=join_keys, request_data=given),
            prediction_ids=prediction_ids,
            return_features=return_features,
        )
        return self._predict(request)

    def predict_features(
        self,
        columns: Mapping[str, Any],
        *,
        model: str = "",
        prediction_ids: Sequence[str] = (),
        return_features: bool = False,
    ) -> Predictions:
        """Predicts for n rows of given features: every input of the signature by name, n values each."""
        request = pb.PredictRequest(
            model=model,
            features=pb.FeatureInput(columns=encode_mapping(columns)),
            prediction_ids=prediction_ids,
            return_features=return_features,
        )
        return self._predict(request)

    def get_model(self, model: str = "") -> pb.ServedModel:
        """The version that answers now, with its signature. Raises ModelNotServed, ModelNotLoaded."""
        return self._call(self._stub.GetModel, pb.GetModelRequest(model=model))

    def list_models(self) -> Sequence[pb.ServedModel]:
        """Everything the server serves."""
        return self._call(self._stub.ListModels, pb.ListModelsRequest()).models

    def _predict(self, request: pb.PredictRequest) -> Predictions:
        reply = self._call(self._stub.Predict, request)
        return Predictions(
            outputs=decode_table(reply.outputs),
            model_version=reply.model_version,
            model_sha256=reply.model_sha256,
            prediction_ids=reply.prediction_ids,
            features=feature_columns.decode(reply.features, reply.view_event_times)
            if reply.features
            else None,
            definition_digest=reply.definition_digest,
        )
