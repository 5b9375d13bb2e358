# syntax=docker/dockerfile:1
#
#   docker build -t nnunet-rs .                                                            # processors alone
#   docker build -t nnunet-rs:cuda --build-arg BASE=nvidia/cuda:12.8.1-base-ubuntu24.04 .  # NVIDIA GPUs
#   docker build --target predict -t nnunet-rs:predict .                                   # predict alone, no PyTorch
#   docker run --rm -v "$PWD:/data" nnunet-rs check Task04_Hippocampus                     # add --gpus all for CUDA
#
# BASE is any Debian or Ubuntu with Python 3.10 or newer (glibc 2.36 or newer). PyTorch's own wheels bring CUDA's
# libraries; TORCH_INDEX names another place to take PyTorch from, such as the one of its builds without CUDA.
ARG BASE=ubuntu:24.04
ARG RUST=1.95

FROM rust:${RUST}-slim-bookworm AS wheel
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/maturin \
    && /opt/maturin/bin/pip install --no-cache-dir "maturin>=1.9,<2"
WORKDIR /source
COPY . .
RUN /opt/maturin/bin/maturin build --release --locked --out /wheels

# Prediction on processors, without PyTorch: a fraction of the size.
FROM ${BASE} AS predict
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/nnunet-rs
ENV PATH=/opt/nnunet-rs/bin:$PATH
RUN --mount=type=bind,source=requirements-predict.txt,target=/requirements.txt \
    --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir -r /requirements.txt \
    && pip install --no-cache-dir --no-deps /wheels/*.whl
# A volume that is mounted on .cache belongs to the user then; compiled networks are kept there.
RUN useradd --create-home --uid 10001 nnunet \
    && install --directory --owner nnunet --group nnunet /home/nnunet/.cache
USER 10001
WORKDIR /data
ENTRYPOINT ["nnunet-rs"]
CMD ["--help"]

FROM ${BASE}
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=
# gcc and Python's headers are for Triton, by which trainings on GPUs are compiled.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/nnunet-rs
ENV PATH=/opt/nnunet-rs/bin:$PATH \
    MPLCONFIGDIR=/tmp/matplotlib
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH"
# hadolint ignore=DL3013
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir /wheels/*.whl
# Results belong to this user, or to the one that `docker run --user` names.
RUN useradd --create-home --uid 10001 nnunet
USER 10001
WORKDIR /data
ENTRYPOINT ["nnunet-rs"]
CMD ["--help"]
