# Two images, from the least often changed layer to the most often changed one:
#   docker build --target operator -t scalejob/operator:0.1.0 .
#   docker build --target trainer  -t scalejob/trainer:0.1.0 .
# Everything is a pinned wheel with its hash (docker/*.lock, written by `make lock`); nothing is compiled.
# No BuildKit features, so that any builder will do.
ARG BASE=python:3.13-slim-trixie


FROM ${BASE} AS wheel
RUN python3 -m venv --without-pip /build
COPY docker/build.lock /src/docker/
RUN pip --python /build/bin/python install --no-cache-dir --require-hashes --only-binary :all: -r /src/docker/build.lock
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY trainer trainer
# A fixed time makes the wheel, and so the layer that holds it, depend on the sources only.
RUN SOURCE_DATE_EPOCH=315532800 /build/bin/python -m hatchling build -t wheel -d /wheel


# What both images share. pip stays outside of the environment in /opt/scalejob.
FROM ${BASE} AS base
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp scalejob \
 && python3 -m venv --without-pip /opt/scalejob
ENV PATH=/opt/scalejob/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp


FROM base AS operator
USER 0
COPY docker/operator.lock /opt/scalejob/
RUN pip --python /opt/scalejob/bin/python install --no-cache-dir --require-hashes --only-binary :all: -r /opt/scalejob/operator.lock
COPY --from=wheel /wheel /opt/scalejob/wheels
RUN pip --python /opt/scalejob/bin/python install --no-cache-dir --no-deps --no-index /opt/scalejob/wheels/*.whl
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["scalejob", "operator"]
LABEL org.opencontainers.image.title="ScaleJob operator" \
      org.opencontainers.image.description="Turns ScaleJob resources into Pods and follows them to their end" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"


FROM base AS trainer
USER 0
# torch and its libraries, several gigabytes: a layer of their own, rebuilt only when their lock changes.
# TORCH_INDEX takes torch from another package index, for example one of builds for CPUs only; its files have other hashes.
ARG TORCH_INDEX=
COPY docker/torch.lock /opt/scalejob/
RUN if [ -n "${TORCH_INDEX}" ]; then \
      set -- --index-url "${TORCH_INDEX}" "$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' /opt/scalejob/torch.lock)"; \
    else \
      set -- --require-hashes -r /opt/scalejob/torch.lock; \
    fi \
 && pip --python /opt/scalejob/bin/python install --no-cache-dir --only-binary :all: "$@"
COPY docker/trainer.lock /opt/scalejob/
RUN pip --python /opt/scalejob/bin/python install --no-cache-dir --no-deps --require-hashes --only-binary :all: -r /opt/scalejob/trainer.lock
COPY --from=wheel /wheel /opt/scalejob/wheels
RUN pip --python /opt/scalejob/bin/python install --no-cache-dir --no-deps --no-index /opt/scalejob/wheels/*.whl
USER 10001:10001
ENTRYPOINT ["python", "-m", "scaletrain"]
LABEL org.opencontainers.image.title="ScaleJob trainer" \
      org.opencontainers.image.description="One rank of a ScaleJob: linear models, K-Means and SVM with torch" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
