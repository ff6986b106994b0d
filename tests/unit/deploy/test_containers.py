"""The part of the lock that goes into an image: complete, hashed, and nothing of other programs."""

from __future__ import annotations

import itertools
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

from deploy.docker.subset_lock import LockError, main, normal, read_lock, subset, wanted

ROOT = Path(__file__).parents[3]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text()

# What each image asks for, as its Dockerfile says: the options of subset_lock.py.
SUBSETS = {
    match[1]: match[2].split()
    for match in re.finditer(
        r"FROM packages AS (\w+)_packages\n(?:#.*\n)*RUN python3 subset_lock\.py (.*) > wanted\.txt",
        DOCKERFILE,
    )
}


def _subset(options: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    paths = ["--pyproject", str(ROOT / "pyproject.toml"), "--lock", str(ROOT / "requirements.lock")]
    assert main([*options, *paths]) == 0
    return capsys.readouterr().out


def _extras(options: list[str]) -> list[str]:
    return [value for flag, value in itertools.pairwise(options) if flag == "--extra"]


def _installed_closure(requirements: list[str]) -> set[str]:
    """What the requirements need here, by the metadata of the installed packages."""
    names: set[str] = set()
    seen: set[tuple[str, str]] = set()
    queue = [(Requirement(text), "") for text in requirements]
    while queue:
        requirement, outer = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({**default_environment(), "extra": outer}):
            continue
        name = normal(requirement.name)
        names.add(name)
        for extra in ["", *requirement.extras]:
            if (name, extra) not in seen:
                seen.add((name, extra))
                queue += [(Requirement(text), extra) for text in metadata.requires(name) or []]
    return names - {"plumbline"}


def test_the_dockerfile_names_a_subset_for_every_program() -> None:
    assert set(SUBSETS) == {"registry_service", "feature_service", "trainer", "examples"}


@pytest.mark.parametrize("program", sorted(SUBSETS))
def test_a_subset_holds_all_that_its_program_needs(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    got = {pin.name for pin in read_lock(_subset(SUBSETS[program], capsys))}
    extras = ",".join(_extras(SUBSETS[program]))
    assert _installed_closure([f"plumbline[{extras}]"]) - got == set()


@pytest.mark.parametrize("program", sorted(SUBSETS))
def test_a_subset_keeps_versions_and_hashes_of_the_lock(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = _subset(SUBSETS[program], capsys)
    assert all(block.text in LOCK and "--hash=sha256:" in block.text for block in read_lock(text))


@pytest.mark.parametrize(
    ("program", "others"),
    [
        ("registry_service", {"feast", "bentoml", "lightgbm", "duckdb", "pandas", "pytest", "mypy"}),
        ("feature_service", {"bentoml", "lightgbm", "alembic", "scikit-learn", "pytest", "ruff"}),
        ("trainer", {"feast", "bentoml", "sqlalchemy", "duckdb", "pytest", "mypy"}),
        ("examples", {"feast", "bentoml", "sqlalchemy", "lightgbm", "pytest", "mypy"}),
    ],
)
def test_a_subset_leaves_the_other_programs_packages_out(
    program: str, others: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert not {pin.name for pin in read_lock(_subset(SUBSETS[program], capsys))} & others


def test_a_package_pinned_twice_by_markers_stays_twice(capsys: pytest.CaptureFixture[str]) -> None:
    text = _subset(["--extra", "trainer"], capsys)
    assert len(re.findall(r"^numpy==", text, re.MULTILINE)) == len(
        re.findall(r"^numpy==", LOCK, re.MULTILINE)
    )


def test_an_unknown_extra_is_named() -> None:
    with pytest.raises(LockError, match="no extra 'registri'"):
        wanted(PYPROJECT, ["registri"])


def test_a_requirement_missing_from_the_lock_is_named() -> None:
    with pytest.raises(LockError, match="not in the lock: no-such-package"):
        subset(read_lock(LOCK), {"grpcio", "no-such-package"}, set())


def test_leaving_a_package_out_leaves_out_what_only_it_needs() -> None:
    lock = read_lock(
        "a==1 \\\n    --hash=sha256:1\n    # via plumbline (pyproject.toml)\n"
        "b==1 \\\n    --hash=sha256:2\n    # via a\n"
        "c==1 \\\n    --hash=sha256:3\n    # via\n    #   a\n    #   b\n"
        "d==1 \\\n    --hash=sha256:4\n    # via b\n"
    )
    assert [pin.name for pin in subset(lock, {"a"}, set())] == ["a", "b", "c", "d"]
    assert [pin.name for pin in subset(lock, {"a"}, {"b"})] == ["a", "c"]


def test_a_pin_without_hash_is_refused() -> None:
    with pytest.raises(LockError, match="a has no hash"):
        read_lock("a==1\n    # via plumbline (pyproject.toml)\n")
