"""From a release in the registry to a model that can answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

from plumbline.errors import DeadlineExceeded, Internal, Unavailable
from serving.cache import ModelCache
from serving.compatibility import check_features, check_inputs
from serving.domain import FeatureSet, ModelRef, Release
from serving.models import LoadedModel
from serving.predictor import Predictor

_log = logging.getLogger("plumbline.loader")
ResultT = TypeVar("ResultT")

#: A server that is away, hangs or is broken: whichever it is, it has said nothing about what was asked.
NO_ANSWER = (Unavailable, DeadlineExceeded, Internal)


class Registry(Protocol):
    """Where releases come from; see RegistryGateway. Calls block."""

    def resolve(self, ref: ModelRef) -> Release: ...

    def download(self, release: Release, target: Path) -> None: ...


class Definitions(Protocol):
    """What features there are; see FeatureGateway."""

    async def describe(self, release: Release) -> FeatureSet: ...


class Loader:
    """Resolves and loads models without holding up the event loop. executor: for what blocks."""

    def __init__(
        self, registry: Registry, definitions: Definitions, cache: ModelCache, executor: Executor
    ) -> None:
        self._registry, self._definitions = registry, definitions
        self._cache, self._executor = cache, executor

    async def resolve(self, ref: ModelRef) -> Release:
        """What a name stands for now. Raises what the registry raises."""
        return await self._off_loop(lambda: self._registry.resolve(ref))

    async def load(self, ref: ModelRef, release: Release) -> LoadedModel:
        """A version checked against the present features, verified, read and warmed up; then noted as
        what `ref` is served by.

        Raises SignatureMismatch, ArtifactCorrupt, FailedPrecondition, FeaturesUnavailable (a version is
        not served before it is known that its features are there), and what the registry raises.
        """
        check_inputs(release)
        if release.signature.feature_service:
            served = await self._definitions.describe(release)
            check_features(release, served)
            if served.digest != release.signature.feature_service_digest:
                _log.warning(
                    "%s fits feature service %s, whose definitions changed since it was trained",
                    release.version,
                    served.name,
                    extra={"trained": release.signature.feature_service_digest, "served": served.digest},
                )
        predictor = await self._off_loop(lambda: self._open(release))
        await self._off_loop(lambda: self._cache.remember(ref, release))
        return LoadedModel(release, predictor, datetime.now(UTC))

    async def load_last(self, ref: ModelRef) -> LoadedModel | None:
        """What `ref` was served by when this machine last served it, from disk alone; None when that is
        not known. Its features were checked when it was first loaded. Raises ArtifactCorrupt."""
        release = await self._off_loop(lambda: self._cache.last_served(ref))
        if release is None:
            return None
        predictor = await self._off_loop(lambda: self._open(release))
        return LoadedModel(release, predictor, datetime.now(UTC))

    def _open(self, release: Release) -> Predictor:
        return Predictor(release, self._cache.read(release, self._registry.download))

    async def _off_loop(self, work: Callable[[], ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
