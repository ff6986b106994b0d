"""A repository of Feast on our offline store, shared by all tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from feast import FeatureStore

from feature_service.feast_adapters.apply import apply
from tests.integration.feature_service.offline_sdk.repo import definitions, write_sdk_repo


@pytest.fixture(scope="session")
def s3_folder(s3_endpoint: str) -> str:
    return "s3://plumbline/sdk/cloud"


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, s3_folder: str, s3_endpoint: str) -> FeatureStore:
    """Applied twice: the view "revised" has versions 0 and 1."""
    repo = write_sdk_repo(tmp_path_factory.mktemp("sdk"), s3_folder, s3_endpoint)
    apply(repo)
    (repo / "definitions.py").write_text(definitions(s3_folder, s3_endpoint, '"a": Int64, "b": String'))
    apply(repo)
    return FeatureStore(str(repo))


@pytest.fixture
def feasts_own(store: FeatureStore) -> Iterator[FeatureStore]:
    """The same repository with known_at: false."""
    options = store.config.offline_store
    options.known_at = False
    yield store
    options.known_at = True
