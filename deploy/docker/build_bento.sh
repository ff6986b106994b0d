#!/bin/sh
# Builds the Bento of serving: its code and the locked packages it needs, as `bentoml containerize` takes it.
# Works without a network; prints the tag. What was built lies in BENTOML_HOME (default .plumbline/bentoml).
#
# VERSION=1.2.3   the Bento's version; default: the version in pyproject.toml and the time
set -eu
cd -- "$(dirname -- "$0")/../.."

fail() { printf 'bento: %s\n' "$*" >&2; exit 1; }

[ -x .venv/bin/bentoml ] || fail "BentoML is not installed in .venv; run: make setup"
BENTOML_HOME=${BENTOML_HOME:-$PWD/.plumbline/bentoml}
case $BENTOML_HOME in /*) ;; *) BENTOML_HOME=$PWD/$BENTOML_HOME ;; esac
BENTOML_DO_NOT_TRACK=true
export BENTOML_HOME BENTOML_DO_NOT_TRACK
mkdir -p "$BENTOML_HOME"

release=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
version=${VERSION:-$release-$(date -u +%Y%m%d%H%M%S)}

# The build context holds what goes in and nothing else: BentoML reads no other file of the repository.
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
trap 'exit 1' HUP INT TERM
for package in plumbline servicekit serving; do cp -R "$package" "$context/$package"; done
find "$context" -name __pycache__ -type d -prune -exec rm -rf {} +
# A mount point that belongs to the user the server runs as.
cat >"$context/setup.sh" <<'SETUP'
#!/bin/sh
set -eu
install -d -o bentoml -g bentoml -m 0750 /var/lib/plumbline
SETUP
chmod +x "$context/setup.sh"
.venv/bin/python deploy/docker/subset_lock.py --extra serving >"$context/requirements.lock" \
  || fail "the packages of serving cannot be told from requirements.lock"
cp deploy/docker/bentofile.yaml "$context/bentofile.yaml"

(cd "$context" && "$OLDPWD/.venv/bin/bentoml" build --quiet --version "$version" -o tag . >tag) \
  || { cat "$context/tag" >&2; fail "bentoml build failed"; }
sed -n 's/^__tag__://p' "$context/tag"
