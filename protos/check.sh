#!/bin/sh
# Fails when the committed Python contracts are not what protos/ generates.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
sh "$root/protos/generate.sh" "$fresh"
status=0
cd "$fresh"
for file in $(find . -type f | LC_ALL=C sort); do
  cmp -s "$file" "$root/$file" || { echo "out of date: $file"; status=1; }
done
cd "$root"
for file in $(find ./plumbline -name '*_pb2*.py*' -not -path '*/__pycache__/*' | LC_ALL=C sort); do
  [ -f "$fresh/$file" ] || { echo "no longer generated: $file"; status=1; }
done
[ $status = 0 ] || echo "run: make protos"
exit $status
