from dataclasses import replace
from pathlib import Path

import matplotlib.image
import nibabel
import numpy as np
import pytest
from nnunet_rs.plan.files import read_plan
from nnunet_rs.run.demo import DemoOptions, DemoResult, run_demo
from trainings import Heard

TINY = DemoOptions(
    training=5, test=3, vram_gb=0.02, spacing=(12.0, 6.0, 6.0), features=4, epochs=1, batches=2, device="cpu"
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run_demo(tmp_path_factory.mktemp("demo"), TINY)


def test_every_part_leaves_its_files(demo: DemoResult) -> None:
    for path in (demo.scores, demo.scores.with_suffix(".csv"), demo.picture, demo.curves, demo.work / "plan.json"):
        assert path.stat().st_size > 0
    assert (demo.training.folder / "weights.safetensors").is_file()
    assert "scan0" in demo.report.read_text(encoding="utf-8")
    assert matplotlib.image.imread(demo.picture).shape[1] > 1000


def test_scans_held_out_are_predicted_on_their_own_grids(demo: DemoResult) -> None:
    assert [case.name for case in demo.summary.cases] == ["scan06", "scan07", "scan08"]
    for case in demo.summary.cases:
        image = nibabel.load(demo.dataset / "imagesTs" / f"{case.name}_0000.nii.gz")
        found = nibabel.load(demo.predictions / f"{case.name}.nii.gz")
        assert found.shape == image.shape
        assert np.array_equal(found.affine, image.affine)


def test_the_anisotropic_way_is_taken(demo: DemoResult) -> None:
    settings = read_plan(demo.work / "plan.json").configurations["3d_fullres"]
    assert settings.kernels[0] == (1, 3, 3)
    spacing = nibabel.load(demo.dataset / "imagesTr" / "scan01_0000.nii.gz").header.get_zooms()
    assert max(spacing) > 3 * min(spacing)


def test_another_demo_in_the_same_folder_keeps_the_first_ones_model(demo: DemoResult) -> None:
    """The last test of this module: its results are another demo's then."""
    weights = (demo.training.folder / "weights.safetensors").read_bytes()
    again = run_demo(demo.dataset.parent, replace(TINY, batches=3))
    assert again.training.finished
    assert (demo.training.folder / "previous_1" / "weights.safetensors").read_bytes() == weights


def test_a_demo_cut_short_says_how_many_batches_it_did(tmp_path: Path) -> None:
    heard = Heard()
    cut = run_demo(tmp_path, replace(TINY, batches=100_000, time_budget=3.0), heard)
    done = cut.training.history.epochs[-1].iterations
    assert done < 100_000
    assert any(f"{done} of 100000 batches on this machine" in line for line in heard.lines)
