# The workstation: search, train, export, score, and the kit for a board.
#
#   docker build -f docker/host.Dockerfile -t merino-edge-host .
#   docker run --rm -it -v "$PWD:/data" merino-edge-host search --target nano --max-params 64M -o arch.json
#
# A GPU for training: docker run --gpus all. Without one, a smaller torch:
#   docker build --build-arg TORCH_INDEX_URL=THE_CPU_INDEX_OF_PYTORCH ...
FROM python:3.11-slim-bookworm

# A compiler for the native decoder, and ssh for --host. Their versions are those of bookworm, and
# pinning a patch level would break with the next point release.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev openssh-client \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 merino

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# Alone, so that a change of ours does not fetch it again. An empty variable is none to pip.
ARG TORCH_INDEX_URL=""
RUN PIP_INDEX_URL="$TORCH_INDEX_URL" python -m pip install torch==2.13.0

WORKDIR /src
COPY setup.py native_build.py MANIFEST.in README.md LICENSE CHANGELOG.md ./
COPY merino_edge merino_edge
COPY jetson jetson
RUN python -m pip install "/src[host,train,eval,wheels]"

USER 1000
WORKDIR /data
ENTRYPOINT ["merino-edge"]
CMD ["--help"]
