"""The real files, whole and in slices."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from examples.flights import ingest, sources, tables


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> tuple[ingest.Report, Path]:
    out = tmp_path_factory.mktemp("year")
    return ingest.ingest(sources.package_data(), out), out


@pytest.fixture(scope="module")
def february(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("february")
    assert ingest.main(["--out", str(out), "--months", "2"]) == 0
    return out


def test_every_flight_of_the_year_is_accounted_for(year: tuple[ingest.Report, Path]) -> None:
    report, out = year
    assert report.files["flights"].rows_in == 336_776
    assert report.files["flights"].rows_out == 336_776
    assert report.files["flights"].refused == {}
    assert report.ineligible == {"cancelled": 8_255, "diverted": 1_175}
    assert report.entities == 327_346
    assert report.entities + 8_255 + 1_175 == 336_776
    entities = pd.read_parquet(
        out / "entities.parquet", columns=["flight_id", "event_timestamp", "tailnum", "late"]
    )
    assert entities["flight_id"].is_unique
    assert entities["tailnum"].notna().all()
    assert entities["late"].mean() == pytest.approx(0.2371, abs=5e-5)
    assert pd.read_parquet(out / "ineligible.parquet")["tailnum"].isna().sum() == 2_512


def test_the_time_split_has_the_expected_rows(year: tuple[ingest.Report, Path]) -> None:
    entities = pd.read_parquet(year[1] / "entities.parquet", columns=["event_timestamp", "label_timestamp"])
    at = entities["event_timestamp"]
    october, november = pd.Timestamp("2013-10-01T04:00Z"), pd.Timestamp("2013-11-01T04:00Z")
    assert [
        (at < october).sum(),
        at.between(october, november, inclusive="left").sum(),
        (at >= november).sum(),
    ] == [
        244_737,
        28_618,
        53_991,
    ]
    wait = (entities["label_timestamp"] - at).dt.total_seconds() / 3600
    assert wait.median() == pytest.approx(4.8, abs=0.05)
    assert wait.max() == pytest.approx(34.7, abs=0.05)
    assert (wait > 0).all()


def test_the_known_faults_of_the_year_are_found(year: tuple[ingest.Report, Path]) -> None:
    report, out = year
    assert report.files["weather"].repaired == {"wind_speed outside 0 to 253: emptied": 1}
    assert sum(report.files["flights"].repaired.values()) == 1
    aside = pd.read_parquet(out / "rejected" / "weather.parquet")
    assert aside["wind_speed"].round(2).tolist() == [1048.36]
    weather = pd.read_parquet(out / "weather.parquet")
    assert len(weather) == 26_115
    assert weather["wind_speed"].max() < 60
    assert weather["event_timestamp"].max() == pd.Timestamp("2013-12-31T00:00Z")
    # Both hours called 01 on 3 November, at each origin.
    repeated = weather["event_timestamp"].isin(pd.to_datetime(["2013-11-03T06:00Z", "2013-11-03T07:00Z"]))
    assert repeated.sum() == 6


def test_files_have_utc_microseconds_and_one_row_a_key_and_moment(year: tuple[ingest.Report, Path]) -> None:
    report, out = year
    keys = {name: list(table.keys) for name, table in tables.WINDOW_TABLES.items()}
    keys |= {"weather": ["origin"], "tail_last_landed": ["tailnum"], "planes": ["tailnum"]}
    assert set(report.tables) == set(keys)
    for name, rows in report.tables.items():
        path = out / f"{name}.parquet"
        schema = pq.read_schema(path)
        assert pq.read_metadata(path).num_rows == rows
        assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"
        for column in ("event_timestamp", "created_timestamp"):
            assert str(schema.field(column).type) == "timestamp[us, tz=UTC]"
        stamped = pd.read_parquet(path, columns=[*keys[name], "event_timestamp"])
        assert not stamped.duplicated().any(), name
        assert stamped.notna().all(axis=None), name


def test_a_second_ingest_gives_the_same_files(february: Path, tmp_path: Path) -> None:
    ingest.main(["--out", str(tmp_path), "--months", "2"])
    ingest.main(["--out", str(tmp_path), "--months", "2"])
    written = sorted(path.relative_to(february) for path in february.rglob("*.parquet"))
    assert len(written) == 14
    for name in written:
        assert (tmp_path / name).read_bytes() == (february / name).read_bytes(), name
    # Nothing unfinished is left behind.
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        [*written, Path("ingest.json")]
    )


def test_a_slice_holds_its_months_only(february: Path, year: tuple[ingest.Report, Path]) -> None:
    counted = json.loads((february / "ingest.json").read_text())
    assert counted["months"] == [2]
    assert counted["files"]["flights"]["rows_in"] == 24_951
    assert counted["entities"] + sum(counted["ineligible"].values()) == 24_951
    sliced = pd.read_parquet(february / "entities.parquet")
    whole = pd.read_parquet(year[1] / "entities.parquet").set_index("flight_id").loc[sliced["flight_id"]]
    pd.testing.assert_frame_equal(sliced, whole.reset_index())


def test_the_table_for_people_names_counts_and_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ingest.main(["--out", str(tmp_path), "--months", "2"]) == 0
    printed = capsys.readouterr().out
    assert "24,951" in printed
    assert "weather: 1 repaired: wind_speed outside 0 to 253: emptied" in printed


@pytest.fixture
def own_files(tmp_path: Path) -> Path:
    """A small folder of CSV files of one's own, taken from the real ones."""
    folder = tmp_path / "own"
    folder.mkdir()
    raw = sources.read(sources.package_data(), [2])
    raw.flights.head(200).to_csv(folder / "flights.csv", index=False)
    raw.weather.to_csv(folder / "weather.csv", index=False)
    raw.planes.to_csv(folder / "planes.csv", index=False)
    raw.airports.to_csv(folder / "airports.csv", index=False)
    return folder


def test_own_files_of_the_same_shape_are_taken_and_bad_rows_refused(own_files: Path, tmp_path: Path) -> None:
    flights = pd.read_csv(own_files / "flights.csv")
    flights.loc[3, "origin"] = "SFO"
    pd.concat([flights, flights.head(2)]).to_csv(own_files / "flights.csv", index=False)
    report = ingest.ingest(own_files, tmp_path / "out")
    assert report.files["flights"].rows_in == 202
    assert report.files["flights"].rows_out == 199
    assert report.files["flights"].refused == {
        "a flight with this hour, carrier, number and origin came before": 2,
        "origin is none of EWR, JFK, LGA": 1,
    }
    aside = pd.read_parquet(tmp_path / "out" / "rejected" / "flights.parquet")
    assert len(aside) == 3
    assert report.entities + sum(report.ineligible.values()) == 199


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("missing", "has neither planes.csv nor planes.csv.zip"),
        ("columns", "lacks the columns seats"),
        ("text", "cannot be read"),
        ("empty", "cannot be read"),
    ],
)
def test_unusable_files_are_named(
    own_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: str, message: str
) -> None:
    planes = own_files / "planes.csv"
    if spoil == "missing":
        planes.unlink()
    elif spoil == "columns":
        pd.read_csv(planes).drop(columns="seats").to_csv(planes, index=False)
    elif spoil == "text":
        pd.read_csv(planes).assign(seats="many").to_csv(planes, index=False)
    else:
        planes.write_text("")
    assert ingest.main(["--out", str(tmp_path / "out"), "--source", str(own_files)]) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert "planes" in printed
    assert not (tmp_path / "out").exists()


def test_a_slice_without_flights_is_an_error(
    own_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ingest.main(["--out", str(tmp_path / "out"), "--source", str(own_files), "--months", "7"]) == 1
    assert "no flights in the months [7]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "months"), [("3", [3]), ("1-3", [1, 2, 3]), ("1-2,12", [1, 2, 12]), ("2,2", [2])]
)
def test_months_are_written_as_people_write_them(text: str, months: list[int]) -> None:
    assert ingest.parse_months(text) == months


@pytest.mark.parametrize("text", ["0", "13", "3-1", "jan", "", "1-", "1,,2"])
def test_other_months_are_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ingest.main(["--out", str(tmp_path), "--months", text])
    assert "is no month or range of months" in capsys.readouterr().err


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PACKAGE", "surely_not_installed")
    with pytest.raises(sources.SourceError, match="surely_not_installed is not installed"):
        sources.package_data()


def test_half_a_file_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.parquet"
    ingest.write_parquet(pd.DataFrame({"a": [1]}), path)

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        ingest.write_parquet(pd.DataFrame({"a": [2]}), path)
    assert pd.read_parquet(path)["a"].tolist() == [1]
    assert list(tmp_path.iterdir()) == [path]
