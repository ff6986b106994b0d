"""The files of a source and the parts added to them."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_service.stores import parquet, remote
from feature_service.stores.parts import OtherRowsError

ONE, TWO, DIGEST = "1" * 32, "2" * 32, "d" * 32
FIRST = f"pushed-{1:020d}-{ONE}-{DIGEST}.parquet"
ROWS = pa.table({"a": [1, 2]})


def test_a_part_of_a_file_lies_beside_it(tmp_path: Path) -> None:
    main = tmp_path / "x.parquet"
    pq.write_table(ROWS, main)
    assert parquet.append(str(main), ROWS, ONE, DIGEST).added
    assert parquet.files_of(str(main)) == (str(main), str(tmp_path / "x.parquet.d" / FIRST))


def test_a_part_of_a_folder_lies_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    assert parquet.files_of(str(folder)) == ()
    parquet.append(str(folder), ROWS, ONE, DIGEST)
    assert parquet.files_of(str(folder)) == (str(folder / FIRST),)


def test_a_part_is_for_whoever_may_read_the_source(tmp_path: Path) -> None:
    """A server that adds rows under one user leaves a source that others read whole."""
    main = tmp_path / "x.parquet"
    before = os.umask(0o027)
    try:
        pq.write_table(ROWS, main)
        part = parquet.append(str(main), ROWS, ONE, DIGEST).part
    finally:
        os.umask(before)
    assert part is not None
    assert (os.stat(part).st_mode, main.stat().st_mode) == (0o100640, 0o100640)


def test_a_part_is_written_once(tmp_path: Path) -> None:
    main = str(tmp_path / "x.parquet")
    assert parquet.append(main, ROWS, ONE, DIGEST).added
    again = parquet.append(main, ROWS, ONE, DIGEST)
    assert (again.added, again.part, again.later) == (False, str(tmp_path / "x.parquet.d" / FIRST), ())
    later = parquet.append(main, ROWS, TWO, DIGEST)
    assert later.added
    assert parquet.append(main, ROWS, ONE, DIGEST).later == (later.part,)
    assert len(parquet.files_of(main)) == 2


def test_parts_are_numbered_in_the_order_they_are_added(tmp_path: Path) -> None:
    """Whatever their identities are, the file listed last was added last."""
    main = str(tmp_path / "x.parquet")
    for identity in ("f" * 32, "0" * 32, "7" * 32):
        parquet.append(main, ROWS, identity, DIGEST)
    assert [name[-73:-41] for name in map(str, parquet.files_of(main))] == ["f" * 32, "0" * 32, "7" * 32]


def test_one_identity_does_not_add_other_rows(tmp_path: Path) -> None:
    main = str(tmp_path / "x.parquet")
    parquet.append(main, ROWS, ONE, DIGEST)
    with pytest.raises(OtherRowsError):
        parquet.append(main, ROWS, ONE, "e" * 32)
    assert len(parquet.files_of(main)) == 1


def test_a_failed_append_leaves_nothing(tmp_path: Path) -> None:
    main = tmp_path / "x.parquet"
    pq.write_table(ROWS, main)
    with pytest.raises(pa.ArrowNotImplementedError):
        parquet.append(
            str(main), pa.table({"a": pa.array([None], pa.month_day_nano_interval())}), ONE, DIGEST
        )
    assert list((tmp_path / "x.parquet.d").iterdir()) == []


def test_a_source_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x\.parquet"):
        parquet.files_of(str(tmp_path / "x.parquet"))


def test_what_a_writer_has_not_finished_is_not_read(tmp_path: Path) -> None:
    for name in ("a.parquet", "sub/b.parquet", "_temporary/0/c.parquet", ".d.parquet", "sub/_e.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(ROWS, tmp_path / name)
    (tmp_path / "_SUCCESS").touch()
    assert parquet.files_of(str(tmp_path)) == (str(tmp_path / "a.parquet"), str(tmp_path / "sub/b.parquet"))


def test_a_glob_is_read_but_not_appended_to(tmp_path: Path) -> None:
    for name in ("a1.parquet", "a2.parquet", "b1.parquet"):
        pq.write_table(ROWS, tmp_path / name)
    assert parquet.files_of(f"{tmp_path}/a*.parquet") == (
        str(tmp_path / "a1.parquet"),
        str(tmp_path / "a2.parquet"),
    )
    with pytest.raises(ValueError, match="several files"):
        parquet.append(f"{tmp_path}/a*.parquet", ROWS, ONE, DIGEST)
    with pytest.raises(FileNotFoundError):
        parquet.files_of(f"{tmp_path}/c*.parquet")


def test_partition_columns_are_those_of_folders_below_the_source() -> None:
    files = [
        "/run=9/x/year=2024/month=1/a.parquet",
        "/run=9/x/year=2025/month=2/b.parquet",
        "/run=9/x/p.parquet",
    ]
    assert parquet.partition_columns("/run=9/x", files) == ("year", "month")
    assert parquet.partition_columns("/run=9/x/", files) == ("year", "month")
    assert parquet.partition_columns("/run=9/x/year=2024", files[:1]) == ("month",)
    assert parquet.partition_columns("/run=9/x/p.parquet", files[2:]) == ()
    with pytest.raises(ValueError, match="different columns"):
        parquet.partition_columns("/run=9/x", [*files, "/run=9/x/day=1/c.parquet"])


def test_an_endpoint_of_its_own_is_part_of_the_uri() -> None:
    assert remote.at_endpoint("s3://b/x", None) == "s3://b/x"
    assert remote.at_endpoint("s3://b/x", "http://localhost:9000") == "s3+http://localhost:9000/b/x"
    assert remote.at_endpoint("s3://b/x", "minio.example/") == "s3+https://minio.example/b/x"
    assert remote.at_endpoint("/data/x", "http://localhost:9000") == "/data/x"


@pytest.mark.parametrize("uri", ["s3+http://localhost:9000", "s3+http:///b/x", "nope://b/x"])
def test_a_uri_of_no_use_is_said(uri: str) -> None:
    with pytest.raises(ValueError, match=uri.partition(":")[0].replace("+", r"\+")):
        remote.open_filesystem(uri)
