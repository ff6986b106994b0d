#!/bin/sh
# Makes .plumbline/spark-env hold exactly what requirements-spark.lock says, once per lock, and says where its
# Python is. Apart from .venv, since pyspark has hundreds of megabytes that hardly anybody needs. Needs .venv.
set -eu
cd -- "$(dirname -- "$0")/../.."
folder=.plumbline/spark-env
stamp="$folder/.lock-installed"
log=.plumbline/logs/spark-env.log
uv=.venv/bin/uv

# The folder counts: an environment that was moved still points at the old one.
wanted=$( (cat requirements-spark.lock pyproject.toml; pwd) | sha256sum | cut -d ' ' -f 1)
if ! { [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; }; then
  mkdir -p "$(dirname "$log")"
  # uv does not read pip's configuration; an index configured there is meant for it too.
  index=$(.venv/bin/python -m pip config get global.index-url 2>/dev/null || true)
  if [ -n "$index" ] && [ -z "${UV_DEFAULT_INDEX:-}" ]; then UV_DEFAULT_INDEX=$index; export UV_DEFAULT_INDEX; fi
  {
    "$uv" venv -q --clear --python .venv/bin/python "$folder" &&
      "$uv" pip sync -q --python "$folder/bin/python" --require-hashes requirements-spark.lock &&
      "$uv" pip install -q --python "$folder/bin/python" --no-deps --no-build-isolation -e .
  } >"$log" 2>&1 || { tail -n 20 "$log" >&2; echo "spark-env: cannot be made; the log is in $log" >&2; exit 1; }
  printf '%s\n' "$wanted" >"$stamp"
fi
echo "$PWD/$folder/bin/python"
