#!/bin/sh
# Builds the container images with whichever engine is here: docker, podman or buildah.
#
#   sh deploy/docker/build_images.sh [NAME ...]     all, or some of: registry_service feature_service trainer examples serving
#
# ENGINE=podman                 which engine to use
# VERSION=1.2.3                 the images' tag; default: the version in pyproject.toml
# IMAGE_PREFIX=plumbline        images are called IMAGE_PREFIX/NAME:VERSION
# PYTHON_IMAGE=python:3.11-slim the base, for instance a mirror's or one with a digest
# CONTAINER_BUILD_OPTS=...      more options of "ENGINE build", each one word: --network=host --volume=/ca.crt:/ca.crt:ro
set -eu
cd -- "$(dirname -- "$0")/../.."
all="registry_service feature_service trainer examples serving"

fail() { printf 'container: %s\n' "$*" >&2; exit 1; }

engine=${ENGINE:-}
if [ -z "$engine" ]; then
  for name in docker podman buildah; do
    # A docker client without its daemon cannot build: then the next one is tried.
    if command -v "$name" >/dev/null 2>&1 && "$name" info >/dev/null 2>&1; then engine=$name; break; fi
  done
fi
[ -n "$engine" ] || fail "no container engine works here. Install one: apt-get install podman (or docker.io and start dockerd), or name it: ENGINE=/path/to/docker make container"
command -v "$engine" >/dev/null 2>&1 || fail "the engine $engine (ENGINE) is not installed; on Debian: apt-get install podman"
kind=$(basename -- "$engine")
case $kind in
  docker) options="" ;;
  # The OCI format has no room for HEALTHCHECK and would drop it.
  podman | buildah) options="--format=docker" ;;
  *) fail "ENGINE is $engine; it must be docker, podman or buildah" ;;
esac

names=${*:-$all}
for name in $names; do
  case " $all " in *" $name "*) ;; *) fail "there is no image $name; choose from: $all" ;; esac
done
for option in ${CONTAINER_BUILD_OPTS:-}; do
  case $option in --*) ;; *) fail "CONTAINER_BUILD_OPTS: $option; write every option as one word, --name=value" ;; esac
done
version=${VERSION:-$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)}
prefix=${IMAGE_PREFIX:-plumbline}
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
dirty=false
[ -z "$(git status --porcelain 2>/dev/null)" ] || dirty=true

# build IMAGE DOCKERFILE CONTEXT [options]
build() {
  tag=$1 file=$2 context=$3
  shift 3
  # The options are words without spaces, checked above.
  # shellcheck disable=SC2086
  "$engine" build -q $options ${CONTAINER_BUILD_OPTS:-} "$@" ${PYTHON_IMAGE:+--build-arg "PYTHON_IMAGE=$PYTHON_IMAGE"} \
    --label "org.opencontainers.image.version=$version" --label "org.opencontainers.image.revision=$revision" \
    -f "$file" -t "$tag" "$context" >/dev/null
}

for name in $names; do
  image="$prefix/$name:$version"
  begin=$(date +%s)
  echo "building $image"
  if [ "$name" = serving ]; then
    bento=$(VERSION="$version-$(date -u +%Y%m%d%H%M%S)" sh deploy/docker/build_bento.sh)
    build "$image" deploy/docker/serving.Dockerfile \
      "${BENTOML_HOME:-.plumbline/bentoml}/bentos/$(printf %s "$bento" | tr : /)"
  else
    set -- --target "$name"
    if [ "$name" = trainer ]; then
      set -- "$@" --build-arg "CODE_COMMIT=$revision" --build-arg "CODE_DIRTY=$dirty"
    fi
    build "$image" deploy/docker/Dockerfile . "$@"
  fi
  echo "built    $image in $(($(date +%s) - begin)) s"
done
