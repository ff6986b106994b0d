"""The files of a source and the parts added to them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_service.stores import parquet

ROWS = pa.table({"a": [1, 2]})


def test_a_part_of_a_file_lies_beside_it(tmp_path: Path) -> None:
    main = tmp_path / "x.parquet"
    pq.write_table(ROWS, main)
    assert parquet.append(str(main), ROWS, "one")
    assert parquet.files_of(str(main)) == (str(main), str(tmp_path / "x.parquet.d" / "part-one.parquet"))


def test_a_part_of_a_folder_lies_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    assert parquet.files_of(str(folder)) == ()
    parquet.append(str(folder), ROWS, "one")
    assert parquet.files_of(str(folder)) == (str(folder / "part-one.parquet"),)


def test_a_part_is_written_once(tmp_path: Path) -> None:
    main = str(tmp_path / "x.parquet")
    assert parquet.append(main, ROWS, "one")
    assert not parquet.append(main, ROWS, "one")
    assert parquet.append(main, ROWS, "two")
    assert len(parquet.files_of(main)) == 2


def test_a_failed_append_leaves_nothing(tmp_path: Path) -> None:
    main = tmp_path / "x.parquet"
    pq.write_table(ROWS, main)
    with pytest.raises(pa.ArrowNotImplementedError):
        parquet.append(str(main), pa.table({"a": pa.array([None], pa.month_day_nano_interval())}), "bad")
    assert list((tmp_path / "x.parquet.d").iterdir()) == []


def test_a_source_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x\.parquet"):
        parquet.files_of(str(tmp_path / "x.parquet"))


def test_remote_sources_are_read_but_not_appended_to() -> None:
    assert parquet.files_of("s3://bucket/x.parquet") == ("s3://bucket/x.parquet",)
    with pytest.raises(ValueError, match="local"):
        parquet.append("s3://bucket/x.parquet", ROWS, "one")
