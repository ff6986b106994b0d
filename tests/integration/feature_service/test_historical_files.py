"""Historical reads with files at either end, their limits, and callers that go away."""

from __future__ import annotations

import json
import os
import re
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from typer.testing import CliRunner

from feature_service.app import build
from feature_service.feast_adapters.apply import apply
from feature_service.stores import remote
from plumbline import wire
from plumbline.channel import channel_options
from plumbline.cli.main import app
from plumbline.features.client import FeatureClient
from plumbline.features.errors import CLASSES, InvalidField, MalformedEntityRows
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from plumbline.features.v1.feature_retrieval_service_pb2_grpc import FeatureRetrievalServiceStub
from tests.integration.feature_service.conftest import Running, settings_for
from tests.integration.feature_service.repo import DEFINITIONS, ago, write_repo
from tests.support import running_server, wait_until

MIB = 1 << 20
#: Rows in one file of the view `heavy`, and how often that file is there.
HEAVY_ROWS, HEAVY_FILES = 200_000, 150
HEAVY = """
heavy = FeatureView(
    name="heavy",
    entities=[driver],
    ttl=timedelta(0),
    schema=[Field(name="load", dtype=Float64)],
    source=FileSource(
        name="heavy_table",
        path="data/heavy",
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    ),
)
""".replace(
    'source("heavy")',
    """FileSource(
        name="heavy_table",
        path="data/heavy",
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )""",
)


@dataclass(frozen=True)
class Files:
    """A server whose messages have 1 MiB at most, and the places that it may read and write."""

    address: str
    client: FeatureClient
    local: Path
    remote: str
    scratch: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Files]:
    repo = write_repo(tmp_path_factory.mktemp("files"), definitions=DEFINITIONS + HEAVY)
    write_heavy(repo / "data" / "heavy")
    apply(repo)
    local, scratch = tmp_path_factory.mktemp("roots"), tmp_path_factory.mktemp("scratch")
    bucket = remote.at_endpoint(f"s3://plumbline/{uuid4().hex}", s3_endpoint)
    settings = settings_for(
        repo, data_roots=(str(local), bucket), temp_dir=scratch, max_message_bytes=MIB, join_memory="1GB"
    )
    with running_server(settings, build) as address, FeatureClient(address) as client:
        yield Files(address, client, local, bucket, scratch)


def write_heavy(folder: Path) -> None:
    """Rows that take DuckDB a minute, on a disk a moment: one file under many names."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    event = pa.array(rng.integers(0, 10**15, HEAVY_ROWS)).cast(pa.timestamp("us", tz="UTC"))
    table = pa.table({"driver_id": rng.integers(0, 50, HEAVY_ROWS), "event_timestamp": event})
    table = table.append_column("created", event).append_column("load", pa.array(rng.normal(size=HEAVY_ROWS)))
    pq.write_table(table, folder / "0.parquet")
    for index in range(1, HEAVY_FILES):
        os.link(folder / "0.parquet", folder / f"{index}.parquet")


def entities(count: int = 4) -> pa.Table:
    """Rows of drivers 1 and 2 in turn; `n` of trips is 2 for driver 1 and null for driver 2."""
    return pa.table(
        {
            "driver_id": [1, 2] * (count // 2),
            "event_timestamp": [ago(0.9)] * count,
            "note": [f"row {index}" for index in range(count)],
        }
    )


def spoilt(count: int = 70_000) -> pa.Table:
    """Rows whose last one the on-demand view `picky` fails on, after the first batch has been sent."""
    factor = pa.array([1.0] * (count - 1) + [None], pa.float64())
    return entities(count).append_column("factor", factor)


def put(uri: str, table: pa.Table) -> str:
    filesystem, path = remote.open_filesystem(uri)
    pq.write_table(table, path, filesystem=filesystem)
    return uri


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, files: Files) -> str:
    """An empty folder below a data root."""
    name = uuid4().hex
    if request.param == "s3":
        return f"{files.remote}/{name}"
    (files.local / name).mkdir()
    return str(files.local / name)


def listed(uri: str) -> list[str]:
    filesystem, path = remote.open_filesystem(uri)
    found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(item.base_name for item in found)


def test_rows_are_read_and_results_written_where_they_are_said_to_be(files: Files, place: str) -> None:
    rows = put(f"{place}/rows.parquet", entities())
    steps: list[tuple[str, int, int]] = []
    summary = files.client.write_historical_features(
        ["trips:n"],
        rows,
        f"{place}/out.parquet",
        on_progress=lambda p: steps.append((p.phase, p.rows_done, p.rows_total)),
    )
    filesystem, path = remote.open_filesystem(f"{place}/out.parquet")
    table = pq.read_table(path, filesystem=filesystem)
    assert table.drop_columns("n").equals(
        pq.read_table(f"{path.rpartition('/')[0]}/rows.parquet", filesystem=filesystem)
    )
    assert table["n"].to_pylist() == [2, None, 2, None]
    assert summary.result_uri == f"{place}/out.parquet"
    assert (summary.rows_in, summary.rows_out) == (4, 4)
    assert list(dict.fromkeys(phase for phase, *_ in steps)) == ["receiving", "joining", "sending"]
    assert steps[-1] == ("sending", 4, 4)
    assert listed(place) == ["out.parquet", "rows.parquet"]


def test_one_end_may_be_a_file_and_the_other_a_stream(files: Files, place: str) -> None:
    rows = put(f"{place}/rows.parquet", entities())
    streamed = files.client.get_historical_features(["trips:n"], rows).read_all()
    assert streamed["n"].to_pylist() == [2, None, 2, None]
    files.client.write_historical_features(["trips:n"], entities(), f"{place}/out.parquet")
    filesystem, path = remote.open_filesystem(f"{place}/out.parquet")
    assert pq.read_table(path, filesystem=filesystem).equals(streamed)


def test_what_is_there_is_never_replaced(files: Files, place: str) -> None:
    taken = put(f"{place}/taken.parquet", entities())
    with pytest.raises(InvalidField, match="exists already"):
        files.client.write_historical_features(["trips:n"], entities(), taken)
    with pytest.raises(InvalidField, match=r"entity_rows_uri.*does not exist"):
        files.client.get_historical_features(["trips:n"], f"{place}/nothing.parquet")
    assert listed(place) == ["taken.parquet"]


def test_a_join_that_fails_writes_nothing(files: Files, place: str) -> None:
    with pytest.raises(Exception, match="picky"):
        files.client.write_historical_features(["picky:picky"], spoilt(), f"{place}/out.parquet")
    assert listed(place) == []
    wait_until(lambda: not names(files.scratch), what="the temporary files are gone")


def test_files_outside_of_the_data_roots_are_refused(files: Files, tmp_path: Path) -> None:
    outside = put(str(tmp_path / "secret.parquet"), entities())
    (files.local / "link.parquet").symlink_to(outside)
    (files.local / "away").symlink_to(tmp_path)
    other_key = files.remote.rpartition("/")[0]
    for uri in (
        outside,
        f"file://{outside}",
        "secret.parquet",
        f"{files.local}/../{tmp_path.name}/secret.parquet",
        f"{files.local}/link.parquet",
        f"{files.local}/away/secret.parquet",
        str(files.local),
        f"{files.local}-more/x.parquet",
        f"{other_key}/x.parquet",
        f"{files.remote}-more/x.parquet",
        f"{files.remote}/../x.parquet",
        f"{files.remote}/%2e%2e/x.parquet",
        "s3://plumbline/x.parquet",
        "gs://plumbline/x.parquet",
    ):
        with pytest.raises(InvalidField, match=r"entity_rows_uri.*data roots"):
            files.client.get_historical_features(["trips:n"], uri)
        with pytest.raises(InvalidField, match=r"result_uri.*data roots"):
            files.client.write_historical_features(["trips:n"], entities(), uri)
    assert names(tmp_path) == ["secret.parquet"]


def test_a_server_without_data_roots_touches_no_files(server: Running, tmp_path: Path) -> None:
    rows = put(str(tmp_path / "rows.parquet"), entities())
    with pytest.raises(InvalidField, match="no data roots"):
        server.client.get_historical_features(["trips:n"], rows)
    with pytest.raises(InvalidField, match="no data roots"):
        server.client.write_historical_features(["trips:n"], entities(), str(tmp_path / "out.parquet"))


@contextmanager
def calling(files: Files, max_message_bytes: int) -> Iterator[FeatureRetrievalServiceStub]:
    with grpc.insecure_channel(files.address, channel_options(max_message_bytes)) as channel:
        yield FeatureRetrievalServiceStub(channel)


def header(reference: str, rows: str, result: str = "") -> pb.GetHistoricalFeaturesRequest:
    selected = pb.FeatureSelection(features=pb.FeatureReferences(references=[reference]))
    return pb.GetHistoricalFeaturesRequest(
        header=pb.HistoricalFeaturesHeader(selection=selected, entity_rows_uri=rows, result_uri=result)
    )


def test_rows_that_come_beside_a_uri_are_refused(files: Files) -> None:
    rows = put(f"{files.local}/{uuid4().hex}.parquet", entities())
    messages = [header("trips:n", rows), pb.GetHistoricalFeaturesRequest(arrow_ipc=b"x")]
    with calling(files, MIB) as stub, pytest.raises(grpc.RpcError) as caught:
        list(stub.GetHistoricalFeatures(iter(messages)))
    error = wire.from_rpc_error(caught.value, CLASSES)
    assert isinstance(error, MalformedEntityRows)
    assert "entity_rows_uri" in error.message


def test_no_message_is_larger_than_either_side_takes(files: Files) -> None:
    """60 MB of rows in one batch, both ways, through a server and a channel of 1 MiB a message."""
    count = 60_000
    big = pa.RecordBatch.from_pydict(
        {"driver_id": [1] * count, "event_timestamp": [ago(0.9)] * count, "text": ["x" * 1000] * count}
    )
    with FeatureClient(files.address) as client:
        found = client.get_historical_features(
            ["trips:n"], pa.RecordBatchReader.from_batches(big.schema, [big])
        )
        assert found.read_all()["n"].to_pylist() == [2] * count
    rows = put(f"{files.local}/{uuid4().hex}.parquet", pa.Table.from_batches([big]))
    with calling(files, MIB) as stub:
        replies = stub.GetHistoricalFeatures(iter([header("trips:n", rows)]))
        assert sum(len(reply.arrow_ipc) for reply in replies) > 60 * MIB * 0.9


def joining() -> list[str]:
    return [item.name for item in threading.enumerate() if item.name.startswith("plumbline-duckdb")]


def test_a_join_ends_when_its_caller_goes_away(files: Files) -> None:
    times = [ago(1) - timedelta(seconds=index) for index in range(1000)]
    rows = pa.table({"driver_id": [index % 50 for index in range(1000)], "event_timestamp": times})
    place = put(f"{files.local}/{uuid4().hex}.parquet", rows)
    out = f"{files.local}/{uuid4().hex}.parquet"
    for result in ("", out):
        with calling(files, MIB) as stub:
            call = stub.GetHistoricalFeatures(iter([header("heavy:load", place, result)]))
            phases = (reply.progress.phase for reply in call)
            assert next(phase for phase in phases if phase == "joining")
            assert joining()
            assert names(files.scratch)
            call.cancel()
            wait_until(lambda: not joining(), timeout=10, what="DuckDB has stopped")
            wait_until(lambda: not names(files.scratch), what="the temporary files are gone")
    assert not Path(out).exists()


@pytest.fixture
def command(files: Files, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("PLUMBLINE_FEATURES_ADDRESS", files.address)
    monkeypatch.setenv("COLUMNS", "500")
    return CliRunner()


def test_the_command_joins_parquet_to_parquet(command: CliRunner, tmp_path: Path) -> None:
    rows, out = put(str(tmp_path / "rows.parquet"), entities(70_000)), tmp_path / "new" / "out.parquet"
    options = ["--rows", rows, "--output", str(out)]
    done = command.invoke(app, ["features", "join", "trips:n", *options, "--full-names"])
    assert done.exit_code == 0, done.output
    assert "70,000 rows" in done.output
    table = pq.read_table(out)
    assert table.drop_columns("trips__n").equals(pq.read_table(rows))
    assert table["trips__n"].to_pylist() == [2, None] * 35_000
    assert names(out.parent) == ["out.parquet"]
    again = command.invoke(app, ["features", "join", "trips:n", *options])
    assert again.exit_code != 0
    assert "exists already" in again.output
    assert pq.read_table(out).equals(table)


def test_the_command_has_the_server_read_and_write(command: CliRunner, files: Files, place: str) -> None:
    rows = put(f"{place}/rows.parquet", entities())
    options = ["--rows", rows, "--output", f"{place}/out.parquet", "--server-side", "--json"]
    done = command.invoke(app, ["features", "join", "trips:n", *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["rows_out"] == "4"
    assert listed(place) == ["out.parquet", "rows.parquet"]


def test_the_command_says_what_is_wrong_and_writes_nothing(command: CliRunner, tmp_path: Path) -> None:
    rows = put(str(tmp_path / "rows.parquet"), spoilt())
    out = tmp_path / "out"
    for arguments, said in (
        (["picky:picky", "--rows", rows], "picky"),
        (["nope", "--rows", rows], "nope"),
        (["trips:n", "--rows", str(tmp_path / "nothing.parquet")], "nothing.parquet"),
        (["trips:n", "--rows", rows, "--time", "note"], "not a timestamp"),
        (["trips:n", "--rows", rows, "--server-side"], "data roots"),
    ):
        done = command.invoke(app, ["features", "join", *arguments, "--output", str(out / "x.parquet")])
        assert done.exit_code != 0
        assert said in done.output
        assert not out.exists() or names(out) == []


def test_the_examples_of_the_docs_run(
    command: CliRunner, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/point-in-time.md speaks of the flights; here `weather` is by city."""
    text = (Path(__file__).parents[3] / "docs" / "point-in-time.md").read_text()
    root = files.local / uuid4().hex
    root.mkdir()
    for ours, theirs in (
        ("localhost:7410", files.address),
        ("origin", "city_id"),
        ("/data/joins", str(root)),
    ):
        text = text.replace(ours, theirs)
    monkeypatch.chdir(tmp_path)
    [code] = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(compile(code, "point-in-time.md", "exec"), {})
    (root / "rows.parquet").write_bytes(Path("rows.parquet").read_bytes())
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(lines) == 2
    for line in lines:
        done = command.invoke(app, shlex.split(line)[1:])
        assert done.exit_code == 0, done.output
    assert pq.read_table("joined.parquet").num_rows == pq.read_table(root / "joined.parquet").num_rows == 2
