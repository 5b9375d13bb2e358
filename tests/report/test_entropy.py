from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.report.entropy import mean_entropy
from numpy.typing import NDArray

PLAIN = LabelSet(("background", "a"), (0, 1))
REGIONS = LabelSet(("background", "a"), (0, 1), (Region("whole", (1,), 1),))


@dataclass
class Saved:
    """Probabilities in memory, as those of a file are read."""

    array: NDArray[np.float16]
    labels: LabelSet
    across: int = 0

    def planes(self, axis: int, start: int, stop: int) -> NDArray[np.float16]:
        return self.array[:, start:stop]


def saved(background: list[list[float]], labels: LabelSet = PLAIN) -> Saved:
    values = np.array(background, np.float16)[:, None, :]
    return Saved(np.stack([1 - values]) if labels.regions else np.stack([values, 1 - values]), labels)


def test_entropy_is_one_where_classes_are_equally_likely() -> None:
    counts = np.array([2, 1])
    assert mean_entropy(saved([[0.5, 0.5], [0.5, 1.0]]), counts) == pytest.approx(1, abs=1e-3)
    assert mean_entropy(saved([[0.0, 0.0], [0.0, 1.0]]), counts) == pytest.approx(0, abs=1e-3)
    assert mean_entropy(saved([[0.5, 0.0], [1.0, 1.0]]), counts) == pytest.approx(0.5, abs=1e-3)
    assert mean_entropy(saved([[0.5, 0.0], [1.0, 1.0]], REGIONS), counts) == pytest.approx(0.5, abs=1e-3)


def test_planes_without_foreground_are_not_read() -> None:
    assert mean_entropy(saved([[0.5, 0.5], [0.0, 0.0]]), np.array([0, 2])) == pytest.approx(0, abs=1e-3)
    assert mean_entropy(saved([[0.5, 0.5]]), np.array([0])) is None
