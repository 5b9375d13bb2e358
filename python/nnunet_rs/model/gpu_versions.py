"""Versions of PyTorch and cuDNN whose convolutions are wrong or slow on GPUs, and GPUs that PyTorch refuses."""

from __future__ import annotations

import warnings
from functools import lru_cache

import torch

# Versions of cuDNN, as MAJOR * 10000 + MINOR * 100 + PATCH, whose convolutions in 3-D are wrong for some large inputs
# (pytorch#163539, #167024, #150700): from the first, before the second.
_WRONG_IN_HALF = (90800, 91500)
_WRONG_IN_TF32 = (91002, 91600)
_SLOW = "2.9."  # of PyTorch: several times slower in 3-D


def version_problem(dtype: torch.dtype) -> str:
    """Say what is wrong with the installed versions for computing in a number type on CUDA, and what to do; or nothing.

    float32 is computed without TF32 here, which the second range of versions would concern.
    """
    if torch.version.cuda is None:
        return ""
    try:
        cudnn = torch.backends.cudnn.version() or 0  # type: ignore[no-untyped-call]
    except RuntimeError as error:  # a GPU that this cuDNN knows no more
        return f"{' '.join(str(error).split()).partition('. ')[0]}: install a PyTorch for this GPU, or use --device cpu"
    return problem_of(torch.__version__, cudnn, dtype)


def problem_of(pytorch: str, cudnn: int, dtype: torch.dtype) -> str:
    """Say what is wrong with versions of PyTorch and cuDNN, as `version_problem`."""
    name = f"cuDNN {spelled(cudnn)} (of PyTorch {pytorch})"
    if dtype is not torch.float32 and _WRONG_IN_HALF[0] <= cudnn < _WRONG_IN_HALF[1]:
        kind = str(dtype).removeprefix("torch.")
        return (
            f"{name} computes some convolutions in 3-D wrongly in {kind}: install another PyTorch (2.13 brings a newer "
            "cuDNN), or compute with --precision float32"
        )
    if pytorch.startswith(_SLOW):
        return f"PyTorch {pytorch} is several times slower at convolutions in 3-D than others: install another version"
    return ""


def tf32_problem(cudnn: int) -> bool:
    """Whether a version of cuDNN computes some convolutions in 3-D wrongly in TF32."""
    return _WRONG_IN_TF32[0] <= cudnn < _WRONG_IN_TF32[1]


def spelled(cudnn: int) -> str:
    """Return a version of cuDNN as it is written."""
    return f"{cudnn // 10000}.{cudnn % 10000 // 100}.{cudnn % 100}"


@lru_cache(maxsize=1)
def why_no_gpu() -> str:
    """Say why PyTorch cannot use the GPU that is there, such as a driver that is too old; nothing: none is there.

    PyTorch tells it once in a process, by a warning.
    """
    if torch.version.cuda is None:
        return ""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return ""
    texts = [str(warning.message) for warning in told if "CUDA" in str(warning.message)]
    return _sentence(texts[0]) if texts else ""


def _sentence(text: str) -> str:
    """Return what PyTorch's warning says, without its advice and the place it comes from."""
    text = " ".join(text.removeprefix("CUDA initialization: ").split())
    for end in (" Please update", " (Triggered", ". Setting"):
        text = text.partition(end)[0]
    return text.rstrip(".")
