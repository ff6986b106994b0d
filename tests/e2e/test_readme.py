"""Every command and every piece of code in the README does what it says."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from plumbline import PredictionClient
from tests.e2e.conftest import ROOT, Stack
from tests.support import wait_until

pytestmark = pytest.mark.timeout(300)

README = (ROOT / "README.md").read_text()
# Run by CI itself (`make test`) and by test_demo.py (`make demo`'s own command), not from within a test.
MAKES = {"make demo", "make test"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.strip() and line not in MAKES]


def local(text: str, stack: Stack) -> str:
    """The README's default ports, replaced by those of the tests' stack."""
    defaults = {
        "7410": "PLUMBLINE_FEATURES_PORT",
        "7412": "PLUMBLINE_FEATURES_HTTP_PORT",
        "7420": "PLUMBLINE_REGISTRY_PORT",
        "7422": "PLUMBLINE_REGISTRY_HTTP_PORT",
        "7430": "PLUMBLINE_SERVING_PORT",
        "7431": "PLUMBLINE_SERVING_HTTP_PORT",
    }
    return re.sub(r"localhost:(\d+)", lambda m: f"localhost:{stack.port(defaults[m[1]])}", text)


def run(command: str, stack: Stack) -> subprocess.CompletedProcess[str]:
    words = shlex.split(local(command, stack))
    if words[0] == "curl":
        return with_urllib(words)
    if words[0] == "grpcurl":
        words = with_buf(words)
    elif words[0] == ".venv/bin/plumbline":
        words = [str(Path(sys.executable).parent / "plumbline"), *words[1:]]
    return stack.run(*words)


def with_urllib(words: list[str]) -> subprocess.CompletedProcess[str]:
    """The same request without curl, which a bare machine lacks; a status of 400 or more is a failure."""
    options = argparse.ArgumentParser()
    options.add_argument("url")
    options.add_argument("-s", action="store_true")
    options.add_argument("-H", action="append", default=[])
    options.add_argument("-d")
    given = options.parse_args(words[1:])
    headers = dict(header.split(": ", 1) for header in given.H)
    body = given.d.encode() if given.d is not None else None
    try:
        with urllib.request.urlopen(urllib.request.Request(given.url, body, headers), timeout=30) as reply:
            return subprocess.CompletedProcess(words, 0, f"{reply.status} {reply.read().decode()}", "")
    except urllib.error.HTTPError as error:
        return subprocess.CompletedProcess(words, 22, "", f"{error.code} {error.read().decode()}")


def with_buf(words: list[str]) -> list[str]:
    """The same call through buf's client, a Python package that finds the schema by reflection as well."""
    *options, address, method = words[1:]
    data = options[options.index("-d") + 1] if "-d" in options else "{}"
    buf = str(Path(sys.executable).parent / "buf")
    url = f"http://{address}/{method}"
    return [buf, "curl", "--http2-prior-knowledge", "--protocol", "grpc", "--reflect", "-d", data, url]


def test_the_readme_has_commands() -> None:
    assert len(commands()) >= 12
    assert all(command in README for command in MAKES)


@pytest.mark.parametrize("command", [c for c in commands() if "alias set" not in c])
def test_the_command_works(stack: Stack, command: str) -> None:
    done = run(command, stack)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()
    assert "error" not in done.stdout.lower().split("\n")[0]


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith(".venv/bin/plumbline")])
def test_the_command_line_speaks_json(stack: Stack, command: str) -> None:
    done = run(f"{command} --json", stack)
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)


def test_moving_the_alias_moves_what_is_served(stack: Stack) -> None:
    (command,) = [c for c in commands() if "alias set" in c]
    done = run(command, stack)
    assert done.returncode == 0, done.stderr
    with PredictionClient(stack.env["PLUMBLINE_SERVING_ADDRESS"]) as serving:
        wait_until(lambda: serving.get_model().model_version == "models/flight_delay/versions/1", timeout=10)


def test_the_python_example_predicts(stack: Stack) -> None:
    (code,) = blocks("python")
    done = stack.run(sys.executable, "-W", "error", "-c", local(code, stack))
    assert done.returncode == 0, done.stderr
    assert "models/flight_delay/versions/" in done.stdout


def test_every_make_target_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`(?:STACK_ENV=\S+ )?make ([a-z-]+)`", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_file_named_exists() -> None:
    named = set(re.findall(r"`((?:docs|examples|protos|tests|deploy)/[\w./-]*)`", README))
    assert len(named) >= 6
    for name in named:
        assert (ROOT / name).exists(), name
