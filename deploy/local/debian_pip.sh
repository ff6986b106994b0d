#!/bin/sh
# Unpacks Debian's python3-pip-whl below the folder given. Needs no root: apt's lists and cache are kept there too.
# usage: debian_pip.sh FOLDER
set -eu
mkdir -p "$1/state/lists/partial" "$1/cache/archives/partial"
cd "$1"
here=$(pwd)
apt() {
  # _apt may not read a private folder; what is fetched is signed either way.
  apt-get -q -o APT::Sandbox::User="$(id -un)" -o Dir::State="$here/state" -o Dir::State::status=/var/lib/dpkg/status \
    -o Dir::Cache="$here/cache" "$@"
}
apt update
apt download python3-pip-whl
dpkg-deb -x python3-pip-whl_*.deb .
ls usr/share/python-wheels/pip-*.whl
