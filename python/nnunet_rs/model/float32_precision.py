"""Products of float32 computed as float32, not in TF32 or bfloat16, whatever the host program has set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from nnunet_rs.core.restored import Restored

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Settings:
    """What PyTorch computes products of float32 in, by its older names and (since 2.9) by its newer ones."""

    products: str | None  # highest, high, medium; None: it was set by the newer names
    convolutions: bool | None  # whether cuDNN takes TF32; None as before
    newer: tuple[str, ...]  # of _newer, in its order


@contextmanager
def full_float32() -> Iterator[None]:
    """Let matrix products and convolutions of float32 be computed in float32 within the block, on every device."""
    with _SETTINGS():
        _write(_FULL)
        yield


def _newer() -> list[Any]:
    """Return what has a setting `fp32_precision`: none before PyTorch 2.9."""
    found = [
        getattr(getattr(torch.backends, backend, None), operation, None)
        for backend in ("mkldnn", "cudnn")
        for operation in ("matmul", "conv")
    ]
    found.append(torch.backends.cuda.matmul)
    return [item for item in found if hasattr(item, "fp32_precision")]


def _read() -> _Settings:
    return _Settings(
        products=_known(torch.get_float32_matmul_precision),
        convolutions=_known(lambda: torch.backends.cudnn.allow_tf32),
        newer=tuple(item.fp32_precision for item in _newer()),
    )


def _known(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except RuntimeError:  # what PyTorch raises where older and newer names contradict each other
        return None


def _write(settings: _Settings) -> None:
    if settings.products is not None:
        torch.set_float32_matmul_precision(settings.products)
    if settings.convolutions is not None:
        torch.backends.cudnn.allow_tf32 = settings.convolutions
    for item, value in zip(_newer(), settings.newer, strict=False):
        item.fp32_precision = value


_FULL = _Settings("highest", False, ("ieee",) * 8)
_SETTINGS = Restored(_read, _write)
