# The locked environment and the command `storygan`, on Linux x86_64.
#
#   docker build --platform linux/amd64 -t storygan .
#   mkdir -p runs && docker run --rm --platform linux/amd64 --user "$(id -u):$(id -g)" \
#       -v "$PWD/runs:/data/runs" --entrypoint first-run storygan
#
# The second command is the first run: pictures in runs/quick. Without --entrypoint the arguments are those of `storygan`.
# With `--build-arg EXTRA=gpu` the image also contains NVIDIA's CUDA libraries, but not the driver (docs/kubeflow.md).

# Any image with Python 3.10 in /usr/local, glibc 2.28 or newer and apt-get.
ARG BASE=python:3.10-slim

FROM ${BASE} AS builder

# pyfarmhash, which TensorFlow Data Validation imports, is published as C++ source only.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1

RUN python -m venv /opt/storygan
WORKDIR /src

# The packages change less often than the project, so they have a layer of their own.
ARG EXTRA=
COPY requirements.lock requirements.gpu.lock ./
RUN /opt/storygan/bin/pip install --no-cache-dir "uv==$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements.lock)" \
    && /opt/storygan/bin/uv pip sync --python /opt/storygan/bin/python --build-constraints requirements.lock \
        requirements.lock ${EXTRA:+requirements.$EXTRA.lock}

COPY setup.py pyproject.toml README.md LICENSE ./
COPY storygan_tf ./storygan_tf
COPY storygan_cli ./storygan_cli
COPY components ./components
COPY pipeline ./pipeline
COPY serving ./serving
RUN /opt/storygan/bin/uv pip install --python /opt/storygan/bin/python --no-deps --no-build-isolation .

FROM ${BASE}

LABEL org.opencontainers.image.title="storygan" \
      org.opencontainers.image.description="StoryGAN: a sequence of pictures for a sequence of sentences" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=builder /opt/storygan /opt/storygan
COPY --chmod=755 scripts/first_run.sh /usr/local/bin/first-run

# With `docker run --user`, and on clusters that choose the user id themselves, the user may have no entry in passwd. Its name
# is therefore set below, and its home and working directory is a folder that every user may write to.
RUN useradd --uid 1000 --home-dir /data --no-create-home storygan
RUN install --directory --mode 1777 /data /data/runs

ENV PATH=/opt/storygan/bin:$PATH \
    HOME=/data \
    USER=storygan \
    LOGNAME=storygan \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# By id: a cluster that forbids root cannot check a name.
USER 1000
WORKDIR /data
VOLUME /data/runs
ENTRYPOINT ["storygan"]
CMD ["--help"]
