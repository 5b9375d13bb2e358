import numpy as np
import pytest
from nnunet_rs.core.types import Header, LabelSet, Volume
from nnunet_rs.data.preprocess import prepare
from nnunet_rs.data.previous_labels import on_grid, one_hot
from nnunet_rs.plan.schema import Configuration, Normalization, Plan

LABELS = np.random.default_rng(0).integers(0, 4, (7, 9, 11)).astype(np.uint8)


def test_one_channel_per_foreground_class() -> None:
    np.testing.assert_array_equal(one_hot(np.array([[0, 1], [3, 1]], np.uint8), 4), [
        [[0, 1], [0, 1]], [[0, 0], [0, 0]], [[0, 0], [1, 0]],
    ])  # fmt: skip
    assert one_hot(LABELS, 4).dtype == np.float32


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 0.7, 1.1), (5.0, 1.5, 1.5)])
def test_on_the_grid_as_references_are(spacing: tuple[float, float, float]) -> None:
    """Preparing an image with its labels gives the same; cropped, transposed, resampled, along a coarse axis or not."""
    configuration = Configuration(
        "3d", spacing, (4, 4, 4), 2, (4, 4, 4), ((1, 1, 1),), ((3, 3, 3),), (4,), (1,), (), False, False, False,
        memory_estimate=1,
    )  # fmt: skip
    rule, labels = (Normalization("zscore", False, None),), LabelSet(("0", "1", "2", "3"), (0, 1, 2, 3))
    plan = Plan("made up", "paper", (2, 0, 1), ("MR",), labels, rule, {"3d": configuration})
    data = np.random.default_rng(1).uniform(1, 2, (1, *LABELS.shape)).astype(np.float32)
    data[:, :2] = data[:, :, -1:] = 0
    volume = Volume(data, (1.0, 1.0, 1.0), Header("itk", tuple(map(tuple, np.eye(4).tolist()))))
    prepared = prepare(volume, plan, "3d", LABELS)
    there = on_grid(LABELS, prepared.geometry, configuration)
    assert prepared.labels is not None
    np.testing.assert_array_equal(there, prepared.labels)
    assert there.dtype == np.uint8
