# The gateway as a container: `docker build -t sluice .`. The second stage holds Python, the packages and
# nothing to build with. Another Python: --build-arg BASE=…; with OpenTelemetry for traces:
# --build-arg REQUIREMENTS=requirements-traces.txt.
ARG BASE=python:3.13-slim

# hadolint ignore=DL3006 -- the tag stands in BASE
FROM ${BASE} AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/sluice
ARG REQUIREMENTS=requirements.txt
COPY requirements.txt requirements-traces.txt requirements-build.txt ./
RUN python -m pip --python /opt/sluice/bin/python install --no-cache-dir --only-binary :all: \
    --require-hashes -r "$REQUIREMENTS" -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY app app
RUN python -m pip --python /opt/sluice/bin/python install --no-cache-dir --no-deps --no-build-isolation . \
    && python -m pip --python /opt/sluice/bin/python uninstall --yes setuptools

# hadolint ignore=DL3006 -- the tag stands in BASE
FROM ${BASE}
# What installs packages has no business in a running service.
RUN find / -xdev \( -name pip -o -name 'pip-*' -o -name ensurepip -o -path '*/bin/pip*' \) \
    -prune -exec rm -rf {} +
COPY --from=build /opt/sluice /opt/sluice
ENV PATH=/opt/sluice/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

# Kubernetes' runAsNonRoot wants a number. Nothing belongs to this user, and nothing need be writable.
USER 10001:10001
WORKDIR /opt/sluice
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
ENTRYPOINT ["sluice"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Sluice" \
      org.opencontainers.image.description="A WebSocket-to-REST/SSE gateway for exchange market data" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
