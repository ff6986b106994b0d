"""One feature_service on a real Spark of several processes, shared by all tests; see repo.py."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

# Before Feast, which would point it to files of its own.
import prometheus_client  # noqa: F401
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from feature_service.app import build
from feature_service.feast_apply import apply
from plumbline.channel import open_channel
from plumbline.columns import encode_table
from plumbline.features.client import FeatureClient
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from plumbline.features.v1.feature_retrieval_service_pb2_grpc import FeatureRetrievalServiceStub
from tests.integration.feature_service.conftest import settings_for
from tests.spark.repo import write_spark_repo
from tests.support import running_server

# This suite has an environment of its own: `make test-spark`.
collect_ignore_glob = [] if importlib.util.find_spec("pyspark") else ["test_*.py"]


@dataclass(frozen=True)
class OnSpark:
    """The server, and where results may go."""

    repo: Path
    results: Path
    client: FeatureClient
    stub: FeatureRetrievalServiceStub
