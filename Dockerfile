# syntax=docker/dockerfile:1
# The training image; docs/image.md tells how to build, run and check it.
# A base needs Python 3.11 as python3, with venv, and apt.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm
# cuda: torch as on PyPI, which brings CUDA, cuDNN and NCCL as wheels. cpu: torch without them.
ARG TORCH_FLAVOR=cuda

# Wheels of your own, torch without CUDA for one: --build-context wheels=FOLDER
FROM scratch AS wheels

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS base

# ---- what builds: tools, and an environment for each layer. None of it is shipped as it is.
FROM base AS tools
SHELL ["/bin/sh", "-eux", "-c"]
# hadolint ignore=DL3008
RUN apt-get update; apt-get install -y --no-install-recommends binutils; \
    rm -rf /var/lib/apt/lists/*
# Certificates of a mirror: --secret id=ca,src=FILE stands in for those of the base.
RUN --mount=type=secret,id=ca \
    mkdir /build; \
    for file in /etc/ssl/certs/ca-certificates.crt /run/secrets/ca; do \
      if [ -f "$file" ]; then cp "$file" /build/ca.crt; fi; \
    done
ARG PIP_INDEX_URL=https://pypi.org/simple
ENV PIP_INDEX_URL=$PIP_INDEX_URL UV_DEFAULT_INDEX=$PIP_INDEX_URL \
    PIP_CERT=/build/ca.crt SSL_CERT_FILE=/build/ca.crt \
    UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never UV_NO_BUILD=1
COPY image/build-requirements.lock /build/
RUN python3 -m venv /opt/tools; \
    /opt/tools/bin/pip install --no-cache-dir --require-hashes -r /build/build-requirements.lock; \
    /opt/tools/bin/uv venv --python "$(command -v python3)" /opt/venv
COPY image/split_lock.py requirements.lock /build/
ARG TORCH_FLAVOR
ARG TORCH_SHA256=""
RUN python3 /build/split_lock.py --flavor "$TORCH_FLAVOR" --torch-sha256 "$TORCH_SHA256" \
      /build/requirements.lock /build

FROM tools AS cuda
RUN /opt/tools/bin/uv pip install --python /opt/venv --no-deps --require-hashes -r /build/cuda.txt
COPY image/slim.py /build/
RUN python3 /build/slim.py /opt/venv

FROM tools AS torch-cuda
RUN /opt/tools/bin/uv pip install --python /opt/venv --no-deps --require-hashes -r /build/torch.txt

FROM tools AS torch-cpu
# Empty: only the wheels of the build context count.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN --mount=type=bind,from=wheels,target=/wheels \
    set -- --no-index; \
    if [ -n "$TORCH_INDEX_URL" ]; then set -- --default-index "$TORCH_INDEX_URL"; fi; \
    /opt/tools/bin/uv pip install --python /opt/venv --no-deps --find-links /wheels "$@" \
      -r /build/torch.txt

# hadolint ignore=DL3006
FROM torch-${TORCH_FLAVOR} AS torch
COPY image/slim.py /build/
RUN python3 /build/slim.py /opt/venv

FROM tools AS libraries
RUN /opt/tools/bin/uv pip install --python /opt/venv --no-deps --require-hashes \
      -r /build/libraries.txt
COPY image/slim.py /build/
RUN python3 /build/slim.py /opt/venv

FROM tools AS code
COPY image/slim.py /build/
COPY pyproject.toml README.md LICENSE /src/
COPY conf /src/conf
COPY naics_job /src/naics_job
WORKDIR /src
RUN /opt/tools/bin/hatchling build -t wheel -d /build/dist; \
    /opt/tools/bin/uv pip install --python /opt/venv --no-deps --no-index /build/dist/*.whl; \
    python3 /build/slim.py /opt/venv

# Base weights for runs without a hub: --build-context weights=FOLDER, as model.save_pretrained
# wrote it; without one the folder is empty.
FROM scratch AS weights

# ---- what is shipped
FROM base AS image
# tini reaps orphans and passes signals on; a base that has it needs no network here.
# hadolint ignore=DL3008
RUN if ! command -v tini; then \
      apt-get update && apt-get install -y --no-install-recommends tini \
      && rm -rf /var/lib/apt/lists/*; \
    fi; \
    install -d -m 1777 /scratch
COPY --from=cuda /opt/venv /opt/venv
COPY --from=torch /opt/venv /opt/venv
COPY --from=libraries /opt/venv /opt/venv
COPY --from=weights --chmod=755 / /opt/naics/weights/

# /scratch is the only place that is written: caches of torch, Triton, CUDA and the hub make their
# folders below HOME by themselves, so an empty volume will do. USER: names an arbitrary UID, which
# is not in /etc/passwd. NVIDIA_*: what the container toolkit mounts of the driver.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/scratch \
    TMPDIR=/scratch \
    USER=naics \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NCCL_DEBUG=WARN
WORKDIR /scratch
# Group 0 is what clusters give that choose the UID themselves.
USER 10001:0
STOPSIGNAL SIGTERM
EXPOSE 9400 29400
# For plain Docker; a cluster has its own probes. The proxy variables do not count here.
HEALTHCHECK --interval=30s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-I", "-S", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 9400, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["tini", "--", "naics-embedder"]
CMD ["launch", "--", "train", "--ckpt-path", "auto"]

# Last and small: what changes with each commit.
COPY --from=code /opt/venv /opt/venv
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="naics-train" \
      org.opencontainers.image.description="Trains hyperbolic embeddings of NAICS codes" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
