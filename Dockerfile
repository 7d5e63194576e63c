# The one image of k8s-parsl: launcher, workers and the ceph-key Job run it, each with its own command.
#
# build   makes a virtual environment with the pinned dependencies, and a wheel of this project. Whatever is needed only
#         for that (setuptools, pip's settings, a certificate of the building site) stays behind in this stage.
# (last)  the base, the environment, the wheel; no build tools but pip, so that a workflow's own image can start FROM it:
#         `USER 0`, `RUN pip install …`, `USER 10001`.
#
# Build it with `make image`, which passes the secrets below where this machine has them; plain `docker build .` works too.
# pip.conf and ca.crt are mounted while a command runs, and so are never part of a layer.

ARG BASE=docker.io/library/python:3.11-slim

FROM ${BASE} AS build

# The locked packages first and alone: a change of the launcher's code leaves these layers as they are. What has another
# hash than the locked one, or is not locked at all, is not installed (`make lock` writes the lists).
# kubernetes/aio is a second copy of all its models, for a client that nothing here uses: 68 MB.
COPY launcher/requirements.txt launcher/requirements-build.txt /src/launcher/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt,target=/run/ca.crt \
    python3 -m venv /opt/k8s-parsl \
    && /opt/k8s-parsl/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r /src/launcher/requirements.txt \
    && /opt/k8s-parsl/bin/pip uninstall --yes --quiet setuptools \
    && /opt/k8s-parsl/bin/pip check \
    && rm -r /opt/k8s-parsl/lib/python3.*/site-packages/kubernetes/aio \
    && python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r /src/launcher/requirements-build.txt

COPY pyproject.toml README.md /src/
COPY launcher/k8s_parsl /src/launcher/k8s_parsl
RUN /opt/build/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels /src


FROM ${BASE}

# A user without rights, by number so that a cluster's runAsNonRoot can see that it is one. Parsl asks for its name.
RUN echo 'k8s-parsl:x:10001:0:k8s-parsl:/home/k8s-parsl:/usr/sbin/nologin' >> /etc/passwd \
    && mkdir -p /home/k8s-parsl /work \
    && chown 10001:0 /home/k8s-parsl /work \
    && chmod 0775 /home/k8s-parsl /work
COPY --from=build /opt/k8s-parsl /opt/k8s-parsl
# Copied and not mounted: what a mount holds is in no builder's cache key, and buildah took yesterday's layer for a new wheel.
COPY --from=build /wheels /wheels
RUN /opt/k8s-parsl/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

ENV PATH=/opt/k8s-parsl/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/home/k8s-parsl \
    USER=k8s-parsl \
    LOGNAME=k8s-parsl \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /work
USER 10001:0

ARG SOURCE=""
LABEL org.opencontainers.image.title="k8s-parsl" \
      org.opencontainers.image.description="Runs a Parsl workflow inside a Kubernetes namespace: launcher, workers and ceph-key" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}"

ENTRYPOINT ["k8s-parsl"]
