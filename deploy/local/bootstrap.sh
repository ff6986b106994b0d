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
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  if ! "$python" -c 'import ensurepip' >/dev/null 2>&1; then
    # Debian ships venv's second half as a package of its own.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
      step "python3-venv is missing; installing it with apt-get"
      run sh -c 'apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv'
    else
      fail "Python's venv module is incomplete here. On Debian: sudo apt-get install python3-venv"
    fi
  fi
  step "creating the virtual environment"
  run "$python" -m venv --clear "$venv"
fi
# LightGBM's wheel links OpenMP's runtime, which a bare Debian lacks.
if ! "$venv/bin/python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' >/dev/null 2>&1; then
  if [ "$(uname -s)" = Linux ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
      step "libgomp1 (for LightGBM) is missing; installing it with apt-get"
      run sh -c 'apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends libgomp1'
    else
      fail "LightGBM needs libgomp. On Debian: sudo apt-get install libgomp1"
    fi
  fi
fi
step "fetching the installer (uv)"
run "$venv/bin/python" -m pip install -q --disable-pip-version-check 'uv>=0.9'
# uv does not read pip's configuration; an index configured there is meant for it too.
index=$("$venv/bin/python" -m pip config get global.index-url 2>/dev/null || true)
if [ -n "$index" ] && [ -z "${UV_DEFAULT_INDEX:-}" ]; then UV_DEFAULT_INDEX=$index; export UV_DEFAULT_INDEX; fi
count=$(grep -c '^[a-zA-Z0-9].*==' requirements.lock)
step "installing $count packages, each checked by its hash"
if "$venv/bin/uv" pip sync -q --python "$venv/bin/python" --require-hashes requirements.lock >>"$log" 2>&1; then
  echo ok
else
  echo "uv could not; trying pip"
  step "installing $count packages with pip (slower)"
  run "$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
fi
step "installing plumbline itself (editable)"
run "$venv/bin/uv" pip install -q --python "$venv/bin/python" --no-deps --no-build-isolation -e .
printf '%s\n' "$wanted" >"$stamp"
echo "  done in $(($(date +%s) - begin)) s"
