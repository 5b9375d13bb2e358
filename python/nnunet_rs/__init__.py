"""nnU-Net as a Rust-accelerated Python library: medical image segmentation that configures itself."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunet_rs.core.kernels import (
        Blend,
        foreground_statistics,
        gaussian_importance,
        logits_to_labels,
        resample_image,
        resample_labels,
        window_starts,
    )
    from nnunet_rs.predict.predictor import Predictor

__all__ = [
    "Blend",
    "Predictor",
    "foreground_statistics",
    "gaussian_importance",
    "logits_to_labels",
    "resample_image",
    "resample_labels",
    "window_starts",
]


def __getattr__(name: str) -> Any:
    # Names load with their first use: `import nnunet_rs` costs no numpy, and only Predictor costs torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "nnunet_rs.predict.predictor" if name == "Predictor" else "nnunet_rs.core.kernels"
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
