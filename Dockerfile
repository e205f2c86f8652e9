# Facette in a container: the service, its models, nothing that serving does not need. There is no
# configuration file inside: every setting comes from the environment, as FACETTE_SECTION_KEY.

# What serving needs, in a virtual environment of its own. This layer stays valid until a pin changes.
FROM python:3.11.15-slim-trixie@sha256:db3ff2e1800a8581e2c48a27c3995339d47bdf046da21c7627accd3d51053a93 AS serving
ENV PIP_NO_CACHE_DIR=1
COPY requirements /requirements
RUN python -m venv /opt/facette && /requirements/install /opt/facette/bin/python serve --dependencies

# The wheel, which is all of this checkout that the other stages see.
FROM serving AS wheel
WORKDIR /src
COPY . .
RUN /opt/facette/bin/python -m pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /dist .

# The models. This stage installs PyTorch, which is large; only /models leaves it.
FROM python:3.11.15-slim-trixie@sha256:db3ff2e1800a8581e2c48a27c3995339d47bdf046da21c7627accd3d51053a93 AS models
ENV PIP_NO_CACHE_DIR=1
COPY requirements /requirements
RUN /requirements/install python setup --dependencies
COPY --from=wheel /dist /dist
RUN python -m pip install --no-deps --no-index /dist/*.whl && facette export --models-dir /models

FROM serving AS build
COPY --from=wheel /dist /dist
RUN /opt/facette/bin/python -m pip install --no-deps --no-index /dist/*.whl

FROM python:3.11.15-slim-trixie@sha256:db3ff2e1800a8581e2c48a27c3995339d47bdf046da21c7627accd3d51053a93
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/facette --shell /usr/sbin/nologin facette \
    && install --directory --owner facette --group facette --mode 0750 \
        /var/lib/facette /var/lib/facette/uploads /var/cache/facette
COPY --from=build /opt/facette /opt/facette
COPY --from=models /models /opt/facette/models
# The cache folder takes compiled kernels, and uploads above one megabyte while they come in.
ENV PATH=/opt/facette/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/var/cache/facette \
    TMPDIR=/var/cache/facette \
    FACETTE_PATHS_MODELS_DIR=/opt/facette/models \
    FACETTE_PATHS_UPLOAD_DIR=/var/lib/facette/uploads
USER facette
WORKDIR /var/lib/facette
EXPOSE 8000
# A proxy named in the environment is of no use here: the request goes to this container.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["facette", "serve", "--host", "0.0.0.0", "--port", "8000"]
