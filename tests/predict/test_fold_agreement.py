"""How far folds agree: every voxel counts once, whatever the windows, by whichever engine."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_rs.cli import main
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.model.device import choose_compute
from nnunet_rs.predict.engines.torch_engine import DeviceEngine, TorchEngine
from nnunet_rs.predict.fold_agreement import FoldAgreement, FoldCounts
from nnunet_rs.predict.folder import FolderOptions, predict_folder
from nnunet_rs.predict.predictor import Predictor
from nnunet_rs.predict.sliding_window import WindowOptions, sliding_window_scores
from nnunet_rs.predict.window_grid import sliding_window_grid
from nnunet_rs.report.predictions import fold_dice, read_predictions
from numpy.typing import NDArray

LABELS = LabelSet(("background", "a", "b"), (0, 1, 2))
REGIONS = LabelSet(
    ("background", "a", "b"), (0, 1, 2), (Region("all", (1, 2), 1), Region("b", (2,), 2), Region("c", (1,), 1))
)
NETWORKS: tuple[Callable[[Any], Any], ...] = (lambda x: x, lambda x: -x, lambda x: x * x - 0.5)  # a voxel at a time


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def expected(image: NDArray[np.float32], labels: LabelSet) -> dict[str, float]:
    """Decide the whole image by every network, and compare."""
    scores = [network(image) for network in NETWORKS]
    found = {}
    for place, name in enumerate(labels.score_names):
        if labels.regions:
            masks = [each[place] >= 0 for each in scores]
        else:
            masks = [each.argmax(0) == place + 1 for each in scores]
        pairs = list(combinations(masks, 2))
        found[name] = sum(2 * (one & other).sum() / (one.sum() + other.sum()) for one, other in pairs) / len(pairs)
    return found


@pytest.mark.parametrize("labels", [LABELS, REGIONS])
@pytest.mark.parametrize("size", [(9, 7, 12), (20, 5, 6), (3, 2, 5), (6, 6, 19)])
@pytest.mark.parametrize(("tile", "step"), [((6, 4, 6), 0.5), ((4, 6, 6), 1.0), ((4, 6), 0.3)])
@pytest.mark.parametrize(("batch", "kind"), [(1, TorchEngine), (3, TorchEngine), (3, DeviceEngine)])
def test_every_voxel_counts_once(
    labels: LabelSet, size: tuple[int, int, int], tile: tuple[int, ...], step: float, batch: int, kind: Any
) -> None:
    image = noise(3, *size)
    grid = sliding_window_grid(size, tile, step)
    agreement = FoldAgreement()
    counts = agreement.counts(labels, len(NETWORKS), grid)
    engine = kind(NETWORKS, choose_compute(torch.device("cpu"), "float32"))
    options = WindowOptions(tuple(range(len(tile))), "none", batch)
    list(sliding_window_scores(engine, image, grid, options, counts=counts))
    assert agreement.dice() == pytest.approx(expected(image, labels))


def test_windows_of_other_engines_are_arrays() -> None:
    """A network's memory may be used again as soon as its scores are added."""
    size = (9, 7, 12)
    image, grid = noise(3, *size), sliding_window_grid(size, (6, 4, 6))
    counts, lent = FoldCounts(LABELS, len(NETWORKS), grid), np.empty((1, 3, 6, 4, 6), np.float32)
    padded = np.pad(image.transpose(0, *(axis + 1 for axis in grid.axes)), [(0, 0)] + [(0, 0)] * 3)
    for start in grid.starts:
        box = tuple(slice(s, s + n) for s, n in zip(start, grid.tile, strict=True))
        window = padded[(slice(None), *box)].transpose(0, *(axis + 1 for axis in grid.back))
        for number, network in enumerate(NETWORKS):
            lent[0] = network(window)
            counts.add(number, lent, [start])
    counts.settle()
    assert counts.dice() == pytest.approx(expected(image, LABELS))


def test_a_batch_that_did_not_fit_is_forgotten() -> None:
    grid = sliding_window_grid((2, 2, 4), (2, 2, 2), 1.0)
    counts, one, other = FoldCounts(LABELS, 2, grid), np.zeros((2, 3, 2, 2, 2), "f4"), np.zeros((2, 3, 2, 2, 2), "f4")
    one[:, 1], other[:, 2] = 1, 1
    counts.begin(grid.starts)(0, other, slice(0, 2))  # the second network found no room
    for start in grid.starts:
        alone = counts.begin([start])
        for network in range(2):
            alone(network, one, slice(0, 2))  # filled up by a second window
        counts.settle()
    assert counts.dice() == {"a": 1.0}


def test_what_no_fold_finds_is_left_out() -> None:
    grid = sliding_window_grid((2, 2, 2), (2, 2, 2))
    counts = FoldCounts(LABELS, 2, grid)
    scores = np.zeros((1, 3, 2, 2, 2), np.float32)
    scores[:, 1] = 1  # a everywhere
    counts.add(0, scores, grid.starts)
    counts.add(1, scores, grid.starts)
    counts.settle()
    assert counts.dice() == {"a": 1.0}
    assert FoldAgreement().counts(LABELS, 1, grid) is None
    assert FoldAgreement().dice() == {}


@pytest.fixture
def images(tmp_path: Path, save_nifti: Any, made_up_case: Any) -> Path:
    for index in range(2):
        image, _ = made_up_case(index, (6, 11 + index, 9))
        save_nifti(tmp_path / "images" / f"case_{index}_0000.nii.gz", image[0], (2.0, 1.0, 1.0))
    return tmp_path / "images"


def test_predict_records_it_and_it_goes_with_the_file(
    images: Path, tmp_path: Path, make_predictor: Callable[..., Predictor]
) -> None:
    predictor, out = make_predictor(folds=3, mirror=True), tmp_path / "out"
    predict_folder(predictor, images, out, FolderOptions(save_probabilities=True))
    told = fold_dice(read_predictions(out))
    assert set(told) == {"case_0", "case_1"}
    assert all(0 <= value <= 1 for dice in told.values() for value in dice.values())
    predict_folder(predictor, images, tmp_path / "again")
    assert fold_dice(read_predictions(tmp_path / "again")) == told
    (out / "case_1.nii.gz").write_bytes((out / "case_0.nii.gz").read_bytes())  # edited since
    assert set(fold_dice(read_predictions(out))) == {"case_0"}


def test_folds_that_are_one_agree(images: Path, tmp_path: Path, make_predictor: Callable[..., Predictor]) -> None:
    predictor = make_predictor(folds=1)
    twice = Predictor(
        TorchEngine(predictor.engine.networks * 2, predictor.engine.compute),  # type: ignore[attr-defined]
        predictor.all_metadata * 2,
        predictor.options,
    )
    predict_folder(twice, images, tmp_path / "out")
    assert {value for dice in fold_dice(read_predictions(tmp_path / "out")).values() for value in dice.values()} == {
        1.0
    }
    predict_folder(predictor, images, tmp_path / "single")
    assert fold_dice(read_predictions(tmp_path / "single")) == {}


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_the_page_tells_how_far_folds_agree(engine: str, make_work: Callable[..., Path], tmp_path: Path) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    work, out = make_work({"3d_fullres": (0, 1)}), tmp_path / "segmented"
    images = next(tmp_path.glob("Dataset*")) / "imagesTr"
    options = ["--no-mirror", "--report", "--engine", engine, "--device", "cpu", "-q"]
    assert main(["predict", str(work), "-i", str(images), "-o", str(out), *options]) == 0
    text = (out / "report.html").read_text()
    assert "Agreement of the folds" in text
    assert text.count('<abbr title="Dice between two folds, mean">') == 5
    assert len(fold_dice(read_predictions(out))) == 5
