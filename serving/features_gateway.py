"""What serving asks of feature_service, on the event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
import pyarrow as pa

from plumbline import errors as base
from plumbline.channel import MAX_MESSAGE_BYTES, open_aio_channel
from plumbline.features import errors as features_errors
from plumbline.features.client import OnlineFeatures
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from plumbline.features.v1.feature_retrieval_service_pb2_grpc import FeatureRetrievalServiceStub
from plumbline.serving.errors import FeaturesUnavailable, SignatureMismatch, TooManyRows, TypeMismatch
from plumbline.wire import from_rpc_error
from serving import codec
from serving.domain import FeatureSet, Release

ReplyT = TypeVar("ReplyT")


class FeatureGateway:
    """Reads features and their definitions. Made on the event loop that uses it; close it at the end.

    address: "host:port". timeout: seconds for a call, unless the caller's deadline is nearer.
    max_message_bytes: the largest request or reply.
    """

    def __init__(
        self,
        address: str,
        timeout: float,
        interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._address, self._timeout = address, timeout
        self._channel = open_aio_channel(
            address, interceptors=interceptors, max_message_bytes=max_message_bytes
        )
        self._stub: Any = FeatureRetrievalServiceStub(self._channel)  # type: ignore[arg-type,unused-ignore]

    async def close(self) -> None:
        """Ends calls in flight."""
        await self._channel.close()

    async def describe(self, release: Release) -> FeatureSet:
        """The feature service of a model as it is now. Raises SignatureMismatch when there is none of
        that name, FeaturesUnavailable."""
        request = pb.GetFeatureServiceRequest(name=release.signature.feature_service)
        return codec.feature_set(await self._call(self._stub.GetFeatureService, request, release, None))

    async def lookup(
        self,
        release: Release,
        join_keys: Mapping[str, pa.Array],
        request_data: Mapping[str, pa.Array],
        remaining: float | None,
    ) -> OnlineFeatures:
        """The features of n entities, for a model. remaining: seconds to the caller's deadline.

        Raises FeaturesUnavailable, SignatureMismatch, TypeMismatch, DeadlineExceeded.
        """
        request = codec.online_request(release.signature.feature_service, join_keys, request_data)
        reply = await self._call(self._stub.GetOnlineFeatures, request, release, remaining)
        return OnlineFeatures.of(reply)

    async def _call(
        self,
        method: Callable[..., Awaitable[ReplyT]],
        request: Any,
        release: Release,
        remaining: float | None,
    ) -> ReplyT:
        timeout = self._timeout if remaining is None else max(min(self._timeout, remaining), 0.0)
        try:
            return await method(request, timeout=timeout)
        except grpc.RpcError as error:
            typed = from_rpc_error(error, features_errors.CLASSES, target=self._address)
            raise self._translated(typed, release, timeout, remaining) from error

    def _translated(
        self, error: base.PlumblineError, release: Release, timeout: float, remaining: float | None
    ) -> base.PlumblineError:
        """The same failure in the words of PredictionService."""
        message, where = error.message, {"address": self._address}
        match error:
            case base.DeadlineExceeded() if remaining is not None and remaining <= self._timeout:
                return base.DeadlineExceeded(
                    f"the deadline passed while feature_service at {self._address} was asked for features"
                )
            case base.DeadlineExceeded():
                return FeaturesUnavailable(
                    f"feature_service at {self._address} did not answer within {timeout:g} s", metadata=where
                )
            case base.Unavailable():
                return FeaturesUnavailable(f"no features: {message}", metadata=where)
            case features_errors.TypeMismatch():
                return TypeMismatch(message, metadata=error.metadata, violations=error.violations)
            case features_errors.TooManyRows():
                return TooManyRows(message, metadata=error.metadata)
            # The request was made by the model's signature: where feature_service finds a part of it
            # missing or strange, its definitions have changed under the model.
            case (
                features_errors.FeatureServiceNotFound()
                | features_errors.JoinKeyMissing()
                | features_errors.RequestDataMissing()
                | features_errors.AmbiguousFeatureName()
            ):
                column = error.metadata.get("join_key") or error.metadata.get("column") or ""
                return SignatureMismatch(
                    f"feature_service no longer fits {release.version}: {message}",
                    metadata={"model": release.version, "column": column},
                )
            case _:
                return error
