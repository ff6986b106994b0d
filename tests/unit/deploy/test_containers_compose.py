"""compose.yaml and the Dockerfiles against the programs they run: variables, ports, users, files, secrets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from deploy.local.programs import PROGRAMS
from feature_service.settings import FeatureSettings
from registry_service.settings import RegistrySettings
from serving.settings import ServingSettings
from trainer.settings import TrainerSettings

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
COMPOSE_TEXT = (DEPLOY / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILES = {name: (DEPLOY / "docker" / name).read_text() for name in ("Dockerfile", "serving.Dockerfile")}
OURS = {name: service for name, service in SERVICES.items() if "PLUMBLINE_IMAGES" in service["image"]}
SERVERS: dict[str, type[BaseSettings]] = {
    "feature-service": FeatureSettings,
    "registry-service": RegistrySettings,
    "serving": ServingSettings,
}
# What is read elsewhere than in a settings class: the flights' Feast repository, and the command line.
FEATURE_REPO_VARIABLES = set(
    re.findall(
        r"\$\{(\w+)\}|_folder\(\"(\w+)\"\)",
        (DEPLOY / "docker/feature_store.redis.yaml").read_text()
        + (ROOT / "examples/flights/feature_repo/definitions.py").read_text(),
    )
)
CLI_VARIABLES = {f"PLUMBLINE_{program}_ADDRESS" for program in ("FEATURES", "REGISTRY", "SERVING")}


def _variables(settings: type[BaseSettings]) -> set[str]:
    return {f"{settings.model_config['env_prefix']}{field}".upper() for field in settings.model_fields}


def _stage(text: str, name: str) -> str:
    """A stage's lines, up to the next one."""
    match = re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"no stage {name}"
    return match[1]


def _environment(stage: str) -> dict[str, str]:
    lines = re.findall(r"^ENV ((?:.*\\\n)*.*)", stage, re.MULTILINE)
    return dict(re.findall(r"([A-Z_]+)=(\S+)", " ".join(lines).replace("\\\n", " ")))


STAGES = {
    "feature-service": _stage(DOCKERFILES["Dockerfile"], "feature_service"),
    "registry-service": _stage(DOCKERFILES["Dockerfile"], "registry_service"),
    "serving": _stage(DOCKERFILES["serving.Dockerfile"], "serving"),
}


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_every_variable_of_a_server_is_one_of_its_settings(name: str) -> None:
    set_here = {*SERVICES[name]["environment"], *_environment(STAGES[name])}
    known = _variables(SERVERS[name]) | {v for pair in FEATURE_REPO_VARIABLES for v in pair if v}
    assert {v for v in set_here if v.startswith("PLUMBLINE_")} - known == set()


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_the_settings_take_what_image_and_compose_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [v for v in os.environ if v.startswith("PLUMBLINE_")]:
        monkeypatch.delenv(variable)
    for variable, value in {**_environment(STAGES[name]), **SERVICES[name]["environment"]}.items():
        if variable.startswith("PLUMBLINE_"):
            monkeypatch.setenv(variable, re.sub(r"\$\{[^}]*\}", "", value))
    settings = SERVERS[name]()
    assert settings.host == "0.0.0.0"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["train", "materialize", "plumbline"])
def test_jobs_are_told_where_the_servers_are(name: str) -> None:
    environment = SERVICES[name]["environment"]
    assert set(environment) == CLI_VARIABLES
    assert {"PLUMBLINE_FEATURES_ADDRESS", "PLUMBLINE_REGISTRY_ADDRESS"} <= _variables(TrainerSettings)
    for address in environment.values():
        host, _, port = address.partition(":")
        assert f":{port}" in SERVICES[host]["ports"][0]


def test_images_listen_where_the_local_stack_does() -> None:
    for program in PROGRAMS:
        stage = STAGES[program.name.replace("_", "-")]
        environment = _environment(stage)
        ports = {environment[variable]: default for variable, default in program.ports.values()}
        assert ports == {str(default): default for default in ports.values()}
        assert f"EXPOSE {' '.join(ports)}\n" in stage


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_have_no_more_rights_than_they_need(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges"]
    assert "privileged" not in service
    assert "user" not in service  # the image's own, see below


def test_databases_have_no_more_rights_than_they_need() -> None:
    for name in ("postgres", "redis"):
        service = SERVICES[name]
        assert (service["read_only"], service["cap_drop"], service["user"]) == (True, ["ALL"], name)
        assert "ports" not in service


def test_images_run_as_a_fixed_user_and_know_how_they_are() -> None:
    for stage in STAGES.values():
        assert "\nUSER 10001:10001\n" in stage
        assert "\nHEALTHCHECK " in stage
    for job in ("trainer", "examples"):
        assert "\nUSER 10001:10001\n" in _stage(DOCKERFILES["Dockerfile"], job)


def test_ports_are_published_on_this_machine_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_passwords_have_no_default() -> None:
    for match in re.finditer(r"\$\{\w*PASSWORD[^}]*\}", COMPOSE_TEXT):
        assert re.fullmatch(r"\$\{\w+(:\?[^}]+)?\}", match[0]), match[0]
    example = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / ".env.example").read_text(), re.MULTILINE))
    assert example["POSTGRES_PASSWORD"] == example["REDIS_PASSWORD"] == ""
    assert {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "PLUMBLINE_VERSION"} <= set(example)


def test_the_example_environment_names_the_present_version() -> None:
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert f"\nPLUMBLINE_VERSION={version[1]}\n" in (DEPLOY / ".env.example").read_text()


def test_files_mounted_from_here_exist() -> None:
    sources = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if volume.startswith(".")
    }
    assert sources
    assert [source for source in sources if not (DEPLOY / source).is_file()] == []


def test_named_volumes_and_networks_are_declared_and_used() -> None:
    used = {v.partition(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if v[0] not in "./"}
    assert used == set(COMPOSE["volumes"])
    assert {n for s in SERVICES.values() for n in s.get("networks", ["default"])} == set(COMPOSE["networks"])


def test_the_redis_store_differs_from_the_examples_own_only_in_the_online_store() -> None:
    own = yaml.safe_load((ROOT / "examples/flights/feature_repo/feature_store.yaml").read_text())
    redis = yaml.safe_load((DEPLOY / "docker/feature_store.redis.yaml").read_text())
    assert redis["online_store"]["type"] == "feature_service.stores.redis.RedisOnlineStore"
    assert {k: v for k, v in redis.items() if k != "online_store"} == {
        k: v for k, v in own.items() if k != "online_store"
    }


def test_compose_replays_the_moment_that_the_local_stack_does() -> None:
    moment = SERVICES["feature-service"]["environment"]["PLUMBLINE_FEATURES_REPLAY_TIME"]
    assert f"\nPLUMBLINE_FEATURES_REPLAY_TIME={moment}\n" in (ROOT / "examples/flights/stack.env").read_text()


def test_what_the_dockerfile_copies_enters_the_build() -> None:
    allowed = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILES["Dockerfile"], re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


@pytest.mark.parametrize("name", sorted(DOCKERFILES))
def test_dockerfiles_keep_to_what_every_engine_can(name: str) -> None:
    text = DOCKERFILES[name]
    assert "<<" not in text
    assert "--link" not in text
    assert "# syntax=" not in text


def _build_images(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    shell = shutil.which("sh")
    assert shell
    return subprocess.run(
        [shell, str(DEPLOY / "docker/build_images.sh"), *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_without_an_engine_it_is_said_what_to_install(tmp_path: Path) -> None:
    for tool in ("dirname", "basename", "sed"):
        found = shutil.which(tool)
        assert found
        (tmp_path / tool).symlink_to(found)
    done = _build_images(PATH=str(tmp_path))
    assert done.returncode == 1
    assert "no container engine works here" in done.stderr
    assert "apt-get install podman" in done.stderr


def test_a_named_engine_that_is_not_installed_is_said() -> None:
    done = _build_images(ENGINE="/nowhere/podman")
    assert done.returncode == 1
    assert "/nowhere/podman (ENGINE) is not installed" in done.stderr


def _recorder(folder: Path) -> tuple[Path, Path]:
    """An engine that writes down what it is asked to do."""
    engine, record = folder / "podman", folder / "asked"
    engine.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> "{record}"\n')
    engine.chmod(0o755)
    return engine, record


def test_the_engine_gets_target_tag_and_options(tmp_path: Path) -> None:
    engine, record = _recorder(tmp_path)
    done = _build_images(
        "trainer",
        ENGINE=str(engine),
        VERSION="1.2.3",
        IMAGE_PREFIX="mine",
        PYTHON_IMAGE="mirror/python:3.11",
        CONTAINER_BUILD_OPTS="--network=host --volume=/a:/a:ro",
    )
    assert done.returncode == 0, done.stderr
    asked = record.read_text()
    for part in (
        "--format=docker --network=host --volume=/a:/a:ro",
        "--target trainer",
        "--build-arg PYTHON_IMAGE=mirror/python:3.11",
        "--label org.opencontainers.image.version=1.2.3",
        "-t mine/trainer:1.2.3 .",
    ):
        assert part in asked


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["serving", "monitor"], "", "there is no image monitor; choose from: registry_service"),
        (["trainer"], "-v /a:/a", "write every option as one word, --name=value"),
    ],
)
def test_wrong_usage_builds_nothing(arguments: list[str], options: str, message: str, tmp_path: Path) -> None:
    engine, record = _recorder(tmp_path)
    done = _build_images(*arguments, ENGINE=str(engine), CONTAINER_BUILD_OPTS=options)
    assert done.returncode == 1
    assert message in done.stderr
    assert not record.exists()
