"""Augmentation transforms, public: on the Rust kernels, for nnunet_rs, batchgenerators, PyTorch or a loop of one's own.

Each takes batchgenerators' dictionaries, or NumPy arrays and torch tensors; see `SeededTransform`.
"""

from nnunet_rs.data import intensity, warp
from nnunet_rs.data.intensity import *  # noqa: F403
from nnunet_rs.data.transform import Compose
from nnunet_rs.data.warp import *  # noqa: F403

__all__ = ["Compose"]
__all__ += intensity.__all__
__all__ += warp.__all__
