#!/bin/sh
# Makes .venv hold exactly what requirements.lock says, once per lock; says nothing when it does already.
# Uses the package index pip is configured with. Works as a newcomer's first command: needs python3 alone.
set -eu
cd -- "$(dirname -- "$0")/../.."
python=${PYTHON:-python3}
venv=.venv
stamp="$venv/.lock-installed"
log=.plumbline/logs/setup.log

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

command -v "$python" >/dev/null 2>&1 || fail "$python not found. Install Python 3.11 or 3.12, or set PYTHON=/path/to/python3."
"$python" - <<'PY' || fail "Python 3.11 or 3.12 is needed, $python is $("$python" -V 2>&1). Set PYTHON=/path/to/python3.11."
import sys
sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PY

# A link would make this checkout's packages those of another, and the other way round.
[ ! -L "$venv" ] || fail "$venv is a link to $(readlink "$venv"). Remove it; a virtual environment of its own is made here."
# The folder counts: a moved or copied .venv still points at the old one.
wanted=$( (cat requirements.lock pyproject.toml; pwd) | "$python" -c 'import hashlib,sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0

mkdir -p "$(dirname "$log")"
: >"$log"
begin=$(date +%s)
step() { printf '  %-58s' "$1"; printf '\n== %s\n' "$1" >>"$log"; }
run() {
  if "$@" >>"$log" 2>&1; then echo ok; else
    echo failed; tail -n 20 "$log" >&2; fail "the step above failed; the whole log is in $log"
  fi
}

echo "Setting up .venv (once; about 1 GB)"
pip="$venv/bin/python -m pip"
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  step "creating the virtual environment"
  if "$python" -c 'import ensurepip' >/dev/null 2>&1; then
    run "$python" -m venv --clear "$venv"
  else
    # Debian keeps pip for virtual environments in a package of its own, python3-venv. Its wheel is taken out
    # of the Debian archive without installing anything, so that it needs no root and changes no system.
    run "$python" -m venv --clear --without-pip "$venv"
    command -v apt-get >/dev/null 2>&1 || fail "Python's venv module is incomplete here; install your system's python3-venv."
    step "taking pip out of Debian's python3-pip-whl"
    run sh deploy/local/debian_pip.sh .plumbline/pip
    wheel=$(ls .plumbline/pip/usr/share/python-wheels/pip-*.whl | head -n 1)
    pip="env PYTHONPATH=$wheel $venv/bin/python -m pip"
  fi
fi
"$venv/bin/python" -c 'import ctypes, sys; sys.platform == "linux" and ctypes.CDLL("libgomp.so.1")' >/dev/null 2>&1 ||
  fail "LightGBM needs libgomp, which comes with gcc. On Debian: apt-get install libgomp1"
step "fetching the installer (uv)"
run $pip install -q --disable-pip-version-check pip 'uv>=0.9'
# uv does not read pip's configuration; an index configured there is meant for it too.
index=$($pip config get global.index-url 2>/dev/null || true)
if [ -n "$index" ] && [ -z "${UV_DEFAULT_INDEX:-}" ]; then UV_DEFAULT_INDEX=$index; export UV_DEFAULT_INDEX; fi
count=$(grep -c '^[a-zA-Z0-9].*==' requirements.lock)
step "installing $count packages, each checked by its hash"
if "$venv/bin/uv" pip sync -q --python "$venv/bin/python" --require-hashes requirements.lock >>"$log" 2>&1; then
  echo ok
else
  echo "uv could not; trying pip"
  step "installing $count packages with pip (slower)"
  run $pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
fi
step "installing plumbline itself (editable)"
run "$venv/bin/uv" pip install -q --python "$venv/bin/python" --no-deps --no-build-isolation -e .
printf '%s\n' "$wanted" >"$stamp"
echo "  done in $(($(date +%s) - begin)) s"
