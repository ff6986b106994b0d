#!/bin/sh
# Writes the Python contracts (messages, stubs, type stubs) from protos/ below the folder given.
# usage: protos/generate.sh OUTPUT_FOLDER
set -eu
out=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "$here/../.venv/bin" && pwd)
cd "$here"
# Sorted, so that what is generated does not depend on the file system's order.
files=$(find plumbline -name '*.proto' | LC_ALL=C sort)
"$bin/python" -m grpc_tools.protoc -I . \
  --plugin="protoc-gen-mypy=$bin/protoc-gen-mypy" \
  --plugin="protoc-gen-mypy_grpc=$bin/protoc-gen-mypy_grpc" \
  --python_out="$out" --grpc_python_out="$out" \
  --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" \
  $files
# A file without a service has nothing to say in its gRPC half.
find "$out/plumbline" -name '*_pb2_grpc.py' | while read -r f; do
  grep -q 'class .*Stub' "$f" || rm -f "$f" "${f}i"
done
