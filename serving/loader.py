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

        Raises SignatureMismatch, ArtifactCorrupt, FailedPrecondition, FeaturesUnavailable (a version that
        this machine never served waits until it is known that its features are there), and what the
        registry raises.
        """
        check_inputs(release)
        if release.signature.feature_service:
            await self._check_features(release)
        predictor = await self._off_loop(lambda: self._open(release))
        await self._off_loop(lambda: self._cache.remember(ref, release))
        return LoadedModel(release, predictor, datetime.now(UTC))

    async def load_last(self, ref: ModelRef, but: Release | None = None) -> LoadedModel | None:
        """What `ref` was served by when this machine last served it, from disk alone; None when that is
        not known, or is `but`. Its features were checked when it was first loaded. Raises ArtifactCorrupt."""
        release = await self._off_loop(lambda: self._cache.last_served(ref))
        if release is None or release == but:
            return None
        predictor = await self._off_loop(lambda: self._open(release))
        return LoadedModel(release, predictor, datetime.now(UTC))

    async def _check_features(self, release: Release) -> None:
        try:
            served = await self._definitions.describe(release)
        except NO_ANSWER as error:
            # What was served here passed this check then: it answers from given features meanwhile.
            if not await self._off_loop(lambda: self._cache.was_served(release)):
                raise
            _log.warning("%s was served before and is not checked again: %s", release.version, error)
            return
        check_features(release, served)
        if served.digest != release.signature.feature_service_digest:
            _log.warning(
                "%s fits feature service %s, whose definitions changed since it was trained",
                release.version,
                served.name,
                extra={"trained": release.signature.feature_service_digest, "served": served.digest},
            )

    def _open(self, release: Release) -> Predictor:
        return Predictor(release, self._cache.read(release, self._registry.download))

    async def _off_loop(self, work: Callable[[], ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
