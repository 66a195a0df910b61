# The board: a Jetson Nano with JetPack 4.6.1 or later (L4T 32.7), Python 3.6.
#
#   make wheelhouse                                                    # on the workstation
#   docker build -f docker/board.Dockerfile -t merino-edge-board .
#   docker run --rm --runtime nvidia -v "$PWD/bundle:/bundle:ro" merino-edge-board run /bundle --prompt "The sheep"
#
# TensorRT, CUDA and cuDNN are not in it: NVIDIA's runtime mounts those of the host when a container
# starts (--runtime nvidia). So `import tensorrt` fails while an image is built, and that is no error.
FROM nvcr.io/nvidia/l4t-base:r32.7.1

# Python 3.6 of Ubuntu 18.04, which TensorRT's module is for; pip comes out of the wheelhouse.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-distutils \
 && rm -rf /var/lib/apt/lists/*

# Without the first, numpy 1.19.5 ends in "Illegal instruction"; without the second, Python 3.6 takes
# ASCII for the encoding of everything.
ENV OPENBLAS_CORETYPE=ARMV8 \
    LANG=C.UTF-8 \
    MERINO_EDGE_STORE=/var/lib/merino-edge \
    MERINO_EDGE_CACHE=/var/cache/merino-edge/engines \
    CUDA_CACHE_PATH=/var/cache/merino-edge/cuda

COPY dist/board-kit/wheelhouse /opt/wheelhouse
RUN PYTHONPATH=/opt/wheelhouse/pip-21.3.1-py3-none-any.whl \
    python3 -m pip install --no-index --find-links /opt/wheelhouse --no-cache-dir \
    --ignore-installed --no-deps --require-hashes -r /opt/wheelhouse/requirements.txt

# The GPU's device files belong to the group video.
RUN useradd --create-home --uid 1000 --groups video merino \
 && mkdir -p /var/lib/merino-edge /var/cache/merino-edge \
 && chown merino:merino /var/cache/merino-edge
USER 1000
WORKDIR /data
ENTRYPOINT ["merino-edge"]
CMD ["--help"]
