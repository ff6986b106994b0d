"""The files of a source and the parts added to them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_service.stores import parquet

ONE, TWO, DIGEST = "1" * 32, "2" * 32, "d" * 32
FIRST = f"pushed-{1:020d}-{ONE}-{DIGEST}.parquet"
ROWS = pa.table({"a": [1, 2]})


def test_a_part_of_a_file_lies_beside_it(tmp_path: Path) -> None:
    main = tmp_path / "x.parquet"
    pq.write_table(ROWS, main)
    assert parquet.append(str(main), ROWS, ONE, DIGEST)
    assert parquet.files_of(str(main)) == (str(main), str(tmp_path / "x.parquet.d" / FIRST))


def test_a_part_of_a_folder_lies_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    assert parquet.files_of(str(folder)) == ()
    parquet.append(str(folder), ROWS, ONE, DIGEST)
    assert parquet.files_of(str(folder)) == (str(folder / FIRST),)


def test_a_part_is_written_once(tmp_path: Path) -> None:
    main = str(tmp_path / "x.parquet")
    assert parquet.append(main, ROWS, ONE, DIGEST)
    assert not parquet.append(main, ROWS, ONE, DIGEST)
    assert parquet.append(main, ROWS, TWO, DIGEST)
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
    with pytest.raises(parquet.OtherRowsError):
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


def test_remote_sources_are_read_but_not_appended_to() -> None:
    assert parquet.files_of("s3://bucket/x.parquet") == ("s3://bucket/x.parquet",)
    with pytest.raises(ValueError, match="local"):
        parquet.append("s3://bucket/x.parquet", ROWS, ONE, DIGEST)
