# The edge. Build: docker build -t holdfast . ; run: docker run --rm -p 7999:7999 holdfast serve --listen 0.0.0.0:7999 \
#   --backend http://host.docker.internal:8000

FROM python:3.12-slim AS build
WORKDIR /src
# A compiler, should a dependency have no wheel for this platform; none of it comes along.
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/holdfast
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml README.md LICENSE ./
COPY edge edge
COPY backend_sdk backend_sdk
RUN /opt/holdfast/bin/pip install ".[edge,zmq]" \
    && /opt/holdfast/bin/pip uninstall -y pip \
    && find /opt/holdfast -name __pycache__ -type d -prune -exec rm -rf {} +

FROM python:3.12-slim
# Compiled once, while the file system can still be written.
COPY --from=build /opt/holdfast /opt/holdfast
RUN python -m pip uninstall -q -y --root-user-action ignore pip \
    && python -m compileall -q /opt/holdfast/lib \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin holdfast \
    && install -d -o holdfast -g holdfast -m 0750 /var/lib/holdfast
ENV PATH=/opt/holdfast/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOLDFAST_DATA=/var/lib/holdfast
USER 10001:10001
VOLUME /var/lib/holdfast
EXPOSE 7999 5561
STOPSIGNAL SIGTERM
ENTRYPOINT ["holdfast"]
CMD ["--help"]
