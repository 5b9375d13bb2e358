import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.types import Header, IntArray
from nnunet_rs.report.figures import PALETTE, Comparison, class_colour, overlay_picture, read_history, training_curves

NAMES = ("background", "liver", "spleen")


def comparison(shape: tuple[int, int, int] = (6, 20, 30), *, reference: bool = True) -> Comparison:
    rng = np.random.default_rng(0)
    labels: IntArray = np.zeros(shape, np.uint8)
    labels[shape[0] // 2 :, 5:15, 5:15] = 1
    labels[shape[0] // 2 :, 5:15, 18:25] = 2
    affine = ((-1.5, 0.0, 0.0, 0.0), (0.0, -1.5, 0.0, 0.0), (0.0, 0.0, 5.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    return Comparison(
        title="a case",
        image=rng.normal(size=shape).astype(np.float32),
        prediction=labels,
        reference=labels if reference else None,
        spacing=(5.0, 1.5, 1.5),
        header=Header("nifti", affine),
        names=NAMES,
        dice={"liver": 1.0, "spleen": float("nan")},
    )


def near(picture: np.ndarray, colour: tuple[float, float, float]) -> int:
    return int((np.abs(picture[..., :3] - np.array(colour)).max(axis=-1) < 0.05).sum())


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


def test_the_first_seven_classes_are_the_palette_and_further_ones_differ() -> None:
    colours = [class_colour(index) for index in range(1, 20)]
    assert len(PALETTE) == 7
    assert len(set(colours)) == 19


def test_curves_of_long_short_and_partial_histories(tmp_path: Path) -> None:
    history = [{"epoch": i, "loss": 1 / (i + 1), "dice": [0.5, None], "learning_rate": 0.01} for i in range(5)]
    for count in (5, 1, 0):
        training_curves(tmp_path / f"{count}.png", history[:count], classes=("a", "b"), title="fold 0")
        assert matplotlib.image.imread(tmp_path / f"{count}.png").shape[1] > 800


def test_a_history_cut_short_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"epoch": 0}) + "\n" + '{"epoch": 1, "lo')
    assert read_history(path) == [{"epoch": 0}]


def test_a_damaged_history_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 0}\nnonsense\n{"epoch": 2}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: line 2"):
        read_history(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_history(tmp_path / "absent.jsonl")
