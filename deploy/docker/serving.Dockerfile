# The image of serving, from a Bento that build_bento.sh made. The context is the Bento's folder:
#
#     docker build -f deploy/docker/serving.Dockerfile -t plumbline/serving .plumbline/bentoml/bentos/plumbline_serving/VERSION
#
# `bentoml containerize` takes the same Bento. This recipe has no compiler in what it makes (half the size), checks
# every package by its hash, and has the user, paths and probe of the suite's other images (see Dockerfile).
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim

FROM ${PYTHON_IMAGE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv --without-pip /opt/venv
COPY env/python/requirements.txt /build/
RUN python3 -m pip --python /opt/venv/bin/python install -q --require-hashes --only-binary :all: \
    -r /build/requirements.txt

FROM ${PYTHON_IMAGE} AS code
COPY src /opt/plumbline
RUN chmod -R a+rX,go-w /opt/plumbline && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/plumbline

FROM ${PYTHON_IMAGE} AS serving
# LightGBM's wheel links OpenMP's runtime, which the base image lacks.
RUN apt-get update -q && apt-get install -y -q --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 plumbline \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/plumbline --shell /usr/sbin/nologin plumbline \
 && install -d -o plumbline -g plumbline -m 0750 /var/lib/plumbline
COPY --from=packages /opt/venv /opt/venv
COPY --from=code /opt/plumbline /opt/plumbline
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/plumbline \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    BENTOML_DO_NOT_TRACK=true \
    PLUMBLINE_SERVING_HOST=0.0.0.0 \
    PLUMBLINE_SERVING_PORT=7430 \
    PLUMBLINE_SERVING_HTTP_PORT=7431 \
    PLUMBLINE_SERVING_CACHE_DIR=/var/lib/plumbline/serving/models
WORKDIR /opt/plumbline
VOLUME /var/lib/plumbline
STOPSIGNAL SIGTERM
LABEL org.opencontainers.image.vendor="Plumbline" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
EXPOSE 7430 7431
# Alive, also while there is no model yet; /readyz says whether it can predict.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
  CMD python -m servicekit.healthcheck --live "127.0.0.1:$PLUMBLINE_SERVING_PORT"
ENTRYPOINT ["python", "-m", "serving"]
