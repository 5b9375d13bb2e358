from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from nnunet_rs.core.types import Header, IntArray
from nnunet_rs.model.history import Epoch, History
from nnunet_rs.report.figures import CasePicture, overlay_picture, training_curves
from nnunet_rs.report.palette import class_colour

NAMES = ("background", "liver", "spleen")


def comparison(shape: tuple[int, int, int] = (6, 20, 30), *, reference: bool = True) -> CasePicture:
    rng = np.random.default_rng(0)
    labels: IntArray = np.zeros(shape, np.uint8)
    labels[shape[0] // 2 :, 5:15, 5:15] = 1
    labels[shape[0] // 2 :, 5:15, 18:25] = 2
    affine = ((-1.5, 0.0, 0.0, 0.0), (0.0, -1.5, 0.0, 0.0), (0.0, 0.0, 5.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    return CasePicture(
        title="a case",
        image=rng.normal(size=shape).astype(np.float32),
        prediction=labels,
        reference=labels if reference else None,
        spacing=(5.0, 1.5, 1.5),
        header=Header("nifti", affine),
        names=NAMES,
        dice={"liver": 1.0, "spleen": float("nan")},
    )


def near(picture: np.ndarray, colour: tuple[float, float, float], tolerance: float = 0.05) -> int:
    return int((np.abs(picture[..., :3] - np.array(colour)).max(axis=-1) < tolerance).sum())


@pytest.mark.parametrize("reference", [True, False])
def test_a_picture_shows_every_class_in_its_colour(tmp_path: Path, reference: bool) -> None:
    overlay_picture(tmp_path / "a.png", comparison(reference=reference))
    picture = matplotlib.image.imread(tmp_path / "a.png")
    assert near(picture, class_colour(1)) > 100
    assert near(picture, class_colour(2)) > 100
    assert near(picture, class_colour(3)) < 20


def test_without_reference_the_picture_is_narrower(tmp_path: Path) -> None:
    widths = []
    for reference in (True, False):
        overlay_picture(tmp_path / "a.png", comparison(reference=reference))
        widths.append(matplotlib.image.imread(tmp_path / "a.png").shape[1])
    assert widths[1] == pytest.approx(widths[0] * 2 / 3, abs=2)


@pytest.mark.parametrize("shape", [(1, 20, 30), (6, 20, 1), (3, 2, 2)])
def test_flat_volumes_have_pictures_too(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    overlay_picture(tmp_path / "a.png", comparison(shape))
    assert (tmp_path / "a.png").stat().st_size > 1000


def epoch(number: int) -> Epoch:
    return Epoch(
        number,
        10 * number,
        1 / (number + 1),
        None,
        (0.5, 0.9 if number else None),
        0.01 / (number + 1),
        1.0,
        0.1,
        0.8,
        0.1,
    )


@pytest.mark.parametrize("count", [0, 1, 5])
def test_curves_of_histories_of_any_length(tmp_path: Path, count: int) -> None:
    training_curves(tmp_path / "a.png", History(("a", "b"), tuple(map(epoch, range(count)))), "fold 0")
    assert matplotlib.image.imread(tmp_path / "a.png").shape[1] > 800


def test_curves_have_the_colours_of_their_classes(tmp_path: Path) -> None:
    training_curves(tmp_path / "a.png", History(("a", "b"), tuple(map(epoch, range(5)))))
    picture = matplotlib.image.imread(tmp_path / "a.png")
    assert near(picture, class_colour(1), 0.2) > 50  # thin lines are blended with the paper
