"""How unsure a network was of a segmentation: the mean entropy of its probabilities, from a few planes of each case."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.predict.probabilities import Probabilities

PLANES = 12  # read of a case, evenly spread over those with foreground
_LEAST = 1e-6  # of a probability: float16 holds zeros


def mean_entropy(probabilities: Probabilities, foreground: NDArray[np.int64]) -> float | None:
    """Average the entropy over the voxels that are foreground, or not surely background.

    Parameters
    ----------
    probabilities
        As `predict --save-probabilities` writes them.
    foreground
        Voxels of the segmentation in each plane across `probabilities.across`.

    Returns
    -------
    float or None
        0 (sure) to 1 (all classes are equally likely; of regions: each is as likely as not); None where there is no
        such voxel.
    """
    used = np.flatnonzero(foreground)
    if not used.size:
        return None
    chosen = used[np.linspace(0, used.size - 1, min(PLANES, used.size)).round().astype(int)]
    total, count = 0.0, 0
    for plane in chosen.tolist():
        values = probabilities.planes(probabilities.across, plane, plane + 1).astype(np.float32)
        values = values.reshape(values.shape[0], -1)
        if probabilities.labels.regions:
            inside = values[:, (values > 0.01).any(axis=0)]
            entropy = _binary(inside).mean(axis=0)
        else:
            inside = values[:, values[0] < 0.99]
            entropy = -(inside * np.log(np.maximum(inside, _LEAST))).sum(axis=0) / np.log(max(len(values), 2))
        total, count = total + float(entropy.sum()), count + entropy.size
    return min(max(total / count, 0.0), 1.0) if count else None


def _binary(values: NDArray[np.float32]) -> NDArray[np.float32]:
    other = 1 - values
    both: NDArray[np.float32] = -(
        values * np.log2(np.maximum(values, _LEAST)) + other * np.log2(np.maximum(other, _LEAST))
    )
    return both
