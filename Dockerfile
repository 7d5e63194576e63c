# The image of k8s-parsl: the launcher and the ceph-key Job run it, and a workflow that names no image. It holds
#
# /opt/k8s-parsl          the launcher's virtual environment: without pip, so that no build installs into it, and without Parsl
# /opt/workflow-env       the workflow's: Parsl and pip, and first on PATH. A workflow's own image can start FROM this one with
#                         `USER 0`, `RUN pip install …`, `USER 10001:0`: the launcher does not see those packages.
# /opt/k8s-parsl-runtime  what an init container takes into images that know nothing of ours: standard library and Parsl only
#
# build   makes all three. What only the build needs (setuptools, pip's settings, a certificate of the building site)
#         stays behind in this stage.
# (last)  the base and these three; no build tools but the workflow's pip.
#
# Build it with `make image`, which passes the secrets below where this machine has them; plain `docker build .` works too.
# pip.conf and ca.crt are mounted while a command runs, and so are never part of a layer. A line of output that begins with
# `==` is what tools/image.py tells of a long command.

ARG BASE=docker.io/library/python:3.11-slim

FROM ${BASE} AS build

# The locked packages first and alone: a change of our own code leaves these layers as they are. What has another hash than
# the locked one, or is not locked at all, is not installed (`make lock` writes the lists).
# kubernetes/aio is a second copy of all its models, for a client that nothing here uses: 68 MB.
COPY launcher/requirements.txt launcher/requirements-build.txt /src/launcher/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt,target=/run/ca.crt \
    echo "== installing the launcher's locked packages" \
    && python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r /src/launcher/requirements-build.txt \
    && python3 -m venv --without-pip /opt/k8s-parsl \
    && /opt/build/bin/pip --python /opt/k8s-parsl install \
        --no-cache-dir --require-hashes --only-binary :all: -r /src/launcher/requirements.txt \
    && /opt/build/bin/pip --python /opt/k8s-parsl check \
    && rm -r /opt/k8s-parsl/lib/python3.*/site-packages/kubernetes/aio

COPY runtime/requirements.txt /src/runtime/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt,target=/run/ca.crt \
    echo "== installing the workflow's locked packages: Parsl" \
    && python3 -m venv /opt/workflow-env \
    && /opt/workflow-env/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r /src/runtime/requirements.txt \
    && /opt/workflow-env/bin/pip uninstall --yes --quiet setuptools \
    && /opt/workflow-env/bin/pip check

# Into a pod the runtime comes by `cp`, which changes its files' times: so byte code that is valid for any file times. And all
# of it readable by every user, for any umask of the build.
COPY pyproject.toml README.md /src/
COPY launcher/k8s_parsl /src/launcher/k8s_parsl
COPY runtime/pyproject.toml /src/runtime/
COPY runtime/k8s_parsl_runtime /src/runtime/k8s_parsl_runtime
COPY runtime/k8s_parsl /src/runtime/k8s_parsl
RUN echo "== building k8s-parsl and its runtime" \
    && /opt/build/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels /src /src/runtime \
    && mkdir /opt/k8s-parsl-runtime \
    && cp -r /src/runtime/k8s_parsl_runtime /src/runtime/k8s_parsl /opt/k8s-parsl-runtime/ \
    && ln -s k8s_parsl_runtime/start.py /opt/k8s-parsl-runtime/start.py \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/k8s-parsl-runtime/k8s_parsl_runtime /opt/k8s-parsl-runtime/k8s_parsl \
    && chmod -R a+rX,go-w /opt/k8s-parsl-runtime


FROM ${BASE}

# A user without rights, by number so that a cluster's runAsNonRoot can see that it is one. Parsl asks for its name.
RUN echo 'k8s-parsl:x:10001:0:k8s-parsl:/home/k8s-parsl:/usr/sbin/nologin' >> /etc/passwd \
    && mkdir -p /home/k8s-parsl /work \
    && chown 10001:0 /home/k8s-parsl /work \
    && chmod 0775 /home/k8s-parsl /work \
    && ln -s /opt/k8s-parsl/bin/k8s-parsl /usr/local/bin/k8s-parsl
COPY --from=build /opt/workflow-env /opt/workflow-env
COPY --from=build /opt/k8s-parsl /opt/k8s-parsl
# Copied and not mounted: what a mount holds is in no builder's cache key, and buildah took yesterday's layer for a new wheel.
COPY --from=build /wheels /wheels
COPY --from=build /opt/k8s-parsl-runtime /opt/k8s-parsl-runtime
RUN /opt/workflow-env/bin/pip --python /opt/k8s-parsl install --no-cache-dir --no-deps --no-index /wheels/*.whl

ENV PATH=/opt/workflow-env/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
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
