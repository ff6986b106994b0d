"""plumbline.serving.v1.PredictionService: decode, call, encode."""

from __future__ import annotations

from typing import Any

from plumbline.serving.v1 import prediction_service_pb2 as pb
from plumbline.serving.v1 import prediction_service_pb2_grpc as rpc
from serving import codec
from serving.models import ModelTable
from serving.predict import Predict


class PredictionServicer(rpc.PredictionServiceServicer):
    """The gRPC face of the models in service."""

    def __init__(self, predict: Predict, models: ModelTable) -> None:
        self._predict, self._models = predict, models

    async def Predict(self, request: pb.PredictRequest, context: Any) -> pb.PredictResponse:  # noqa: N802
        asked = codec.prediction_request(request, context.time_remaining())
        return codec.predict_response(await self._predict(asked))

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.ServedModel:  # noqa: N802
        self._models.loaded(request.model)
        return codec.served_model(self._models.find(request.model))

    async def ListModels(  # noqa: N802
        self, request: pb.ListModelsRequest, context: Any
    ) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=[codec.served_model(slot) for slot in self._models.slots])
