"""nnU-Net's own commands load what we export and give the same labels.

They are run where the variable NNUNET_BIN names the folder with nnU-Net v2's commands, or where they are on the path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.io import read_labels

Command = Callable[..., None]


@pytest.fixture
def nnunet(tmp_path: Path) -> Command:
    """`nnunet("predict", "-i", ...)`: run nnUNetv2_predict, with results in `tmp_path / "theirs"`."""
    home = os.environ.get("NNUNET_BIN")
    found = shutil.which("nnUNetv2_predict", path=home)
    if found is None:
        pytest.skip("nnU-Net v2 is not installed: neither on the path nor where NNUNET_BIN says")
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}
    for name in ("raw", "preprocessed", "results"):
        env[f"nnUNet_{name}"] = str(tmp_path / "theirs")
    (tmp_path / "theirs").mkdir()

    def run(name: str, *words: object) -> None:
        program = Path(found).with_name(f"nnUNetv2_{name}")
        done = subprocess.run(
            [program, *map(str, words)], env=env, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]

    return run


PREDICT = ("-device", "cpu", "-npp", 1, "-nps", 1, "--disable_progress_bar")


def run(*words: object) -> None:
    assert main([*map(str, words), "-q"]) == 0


def differing(found: Path, expected: Path) -> tuple[int, int]:
    """Voxels that differ, and all."""
    files = [path for path in sorted(expected.iterdir()) if path.name.endswith((".nii.gz", ".nrrd"))]
    assert files
    pairs = [(read_labels(found / path.name).data, read_labels(path).data) for path in files]
    return sum(int((one != other).sum()) for one, other in pairs), sum(one.size for one, _ in pairs)


def test_a_zip_of_ours_is_installed_and_predicts_the_same(models, raw_dataset, nnunet: Command, tmp_path: Path) -> None:
    """Weights are random, so scores are close everywhere; nnU-Net sums windows in half precision."""
    ours, data = models("3d_fullres"), raw_dataset(cases=2)
    run("export", ours, "-o", tmp_path / "model.zip", "--format", "nnunet")
    nnunet("install_pretrained_model_from_zip", tmp_path / "model.zip")
    where = ("-i", data / "imagesTr", "-o")
    nnunet("predict", *where, tmp_path / "a", "-d", 7, "-c", "3d_fullres", "-f", 0, 1, *PREDICT)
    run("predict", ours, *where, tmp_path / "b", "--device", "cpu", "--precision", "float32")
    wrong, total = differing(tmp_path / "a", tmp_path / "b")
    assert wrong <= total / 100


@pytest.mark.parametrize(("name", "most"), [("04_regions_ignore", 1), ("06_ct_nrrd_transposed", 2)])
def test_imported_and_exported_it_predicts_what_it_did(
    name: str, most: int, shared: Path, nnunet: Command, tmp_path: Path
) -> None:
    """Beyond what its README counts nothing differs: weights and plan are the same."""
    model = shared / "oracles" / "models" / name
    run("import", model, "-o", tmp_path / "ours")
    run("export", tmp_path / "ours", "-o", tmp_path / "theirs", "--format", "nnunet")
    (home,) = (tmp_path / "theirs").glob("Dataset*/*")
    where = ("-i", model / "images", "-o", tmp_path / "out", "-m", home)
    nnunet("predict_from_modelfolder", *where, "-f", 0, *PREDICT)
    wrong, _ = differing(tmp_path / "out", model / "predictions_mirrored")
    assert wrong <= most
