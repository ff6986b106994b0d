"""One feature_service on a real Spark of several processes, shared by all tests; see repo.py."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Before Feast, which would point it to files of its own.
import prometheus_client  # noqa: F401
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from feature_service.app import build
from feature_service.feast_adapters.apply import apply
from plumbline.channel import open_channel
from plumbline.features.arrow_stream import CHUNK_BYTES
from plumbline.features.client import FeatureClient, selection
from plumbline.features.errors import CLASSES
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from plumbline.features.v1.feature_retrieval_service_pb2_grpc import FeatureRetrievalServiceStub
from plumbline.wire import translated
from tests.integration.feature_service.conftest import settings_for
from tests.spark.repo import write_spark_repo
from tests.support import running_server

_HAS_SPARK = importlib.util.find_spec("pyspark") is not None
_WHY = "pyspark is not installed: `make test-spark` runs these tests in an environment of their own"


class _Skipped(pytest.Item):
    """Stands for a file's tests, so that pytest counts them and says why they were not run."""

    def runtest(self) -> None:
        pytest.skip(_WHY)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.nodeid


class _SkippedFile(pytest.Module):
    """Is not imported: it needs pyspark."""

    def collect(self) -> Iterator[pytest.Item]:
        yield _Skipped.from_parent(self, name="all_tests")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Without Spark, files that say that they are skipped."""
    return None if _HAS_SPARK else _SkippedFile.from_parent(parent, path=module_path)


def pytest_configure(config: pytest.Config) -> None:
    """Feast calls its Spark support experimental at every use, and sets a filter of its own on import."""
    if _HAS_SPARK:
        importlib.import_module("feature_service.stores.spark_join")
    config.addinivalue_line(
        "filterwarnings", "ignore:The spark (data source API|offline store) is an experim"
    )


@dataclass(frozen=True)
class OnSpark:
    """The server, and where results may go."""

    repo: Path
    results: Path
    client: FeatureClient
    stub: FeatureRetrievalServiceStub

    def join(
        self,
        features: Sequence[str] | str,
        rows: pa.Table | None = None,
        *,
        rows_uri: str = "",
        result_uri: str | None = None,
        event: str = "event_timestamp",
        policy: pb.KnownAtPolicy.ValueType = pb.KNOWN_AT_POLICY_CREATED_BY_THEN,
        full_names: bool = False,
    ) -> tuple[pa.Table, pb.HistoricalFeaturesSummary]:
        """What was written to storage, and the summary. result_uri None: a place of its own.

        Raises the typed errors of the service.
        """
        target = str(self.results / uuid.uuid4().hex) if result_uri is None else result_uri
        header = pb.HistoricalFeaturesHeader(
            selection=selection(features),
            event_timestamp_column=event,
            known_at_policy=policy,
            full_feature_names=full_names,
            entity_rows_uri=rows_uri,
            result_uri=target,
        )
        with translated(CLASSES):
            replies = list(self.stub.GetHistoricalFeatures(parts(header, rows), timeout=150))
        assert not any(reply.arrow_ipc for reply in replies)
        summary = replies[-1].summary
        told = [reply.progress for reply in replies[:-1]]
        assert told[0].phase == "receiving"
        assert {step.phase for step in told[1:]} == {"joining"}
        done = [step.rows_done for step in told[1:]]
        assert done == sorted(done)
        assert all(step.rows_done <= step.rows_total == summary.rows_in for step in told)
        assert summary.result_uri == target
        return ds.dataset(target, format="parquet").to_table(), summary


def parts(
    header: pb.HistoricalFeaturesHeader, rows: pa.Table | None
) -> Iterator[pb.GetHistoricalFeaturesRequest]:
    """What a caller sends: a header and entity rows."""
    yield pb.GetHistoricalFeaturesRequest(header=header)
    if rows is not None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        data = sink.getvalue().to_pybytes()
        for start in range(0, len(data), CHUNK_BYTES):
            yield pb.GetHistoricalFeaturesRequest(arrow_ipc=data[start : start + CHUNK_BYTES])


@pytest.fixture(scope="session")
def on_spark(tmp_path_factory: pytest.TempPathFactory, redis_address: str) -> Iterator[OnSpark]:
    """A driver in this process, and two executors; Redis online."""
    repo = write_spark_repo(tmp_path_factory.mktemp("spark"), redis_address)
    apply(repo, validate_sources=False)
    results = tmp_path_factory.mktemp("results")
    roots = (str(results), str(repo), "s3://plumbline/results")
    with pytest.MonkeyPatch.context() as patch:
        # Where Feast's engine runs: the Python of Spark's executors.
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        settings = settings_for(repo, data_roots=roots, sweep_seconds=None)
        with (
            running_server(settings, build, start_seconds=170) as address,
            FeatureClient(address) as client,
            open_channel(address) as channel,
        ):
            yield OnSpark(repo, results, client, FeatureRetrievalServiceStub(channel))
