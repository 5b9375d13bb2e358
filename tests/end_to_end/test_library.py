"""The way from scans to scores by Python functions, with paths as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nnunet_rs


def test_paths_may_be_text(raw_dataset: Callable[..., Path], tmp_path: Path) -> None:
    root, work, out = str(raw_dataset(cases=5)), str(tmp_path / "work"), str(tmp_path / "out")
    dataset = nnunet_rs.read_dataset(root)
    small = nnunet_rs.PrepareOptions(
        overrides=nnunet_rs.PlanOverrides(features=4, vram_gb=0.02), configurations=("3d_fullres",)
    )
    nnunet_rs.prepare_dataset(dataset, work, small)
    plan = nnunet_rs.read_plan(f"{work}/plan.json")
    nnunet_rs.write_plan(f"{work}/copy.json", plan)
    assert nnunet_rs.read_plan(f"{work}/copy.json") == plan
    assert nnunet_rs.read_fingerprint(f"{work}/fingerprint.json").cases

    brief = nnunet_rs.TrainOptions(nnunet_rs.find_recipe("fast"), epochs=1, batches=2, device="cpu", threads=1)
    assert nnunet_rs.train_fold(work, "3d_fullres", 0, brief).finished
    still = nnunet_rs.PredictOptions(mirror=False)
    nnunet_rs.validate_fold(work, "3d_fullres", 0, device="cpu", options=still)
    nnunet_rs.choose_best(work, device="cpu", options=still)
    predictor = nnunet_rs.load_predictor(work, "cpu", options=still)
    nnunet_rs.predict_folder(predictor, f"{root}/imagesTr", out)
    assert nnunet_rs.evaluate_folders(out, f"{root}/labelsTr", dataset.labels).cases

    image = f"{root}/imagesTr/case_0_0000.nii.gz"
    labels = nnunet_rs.read_labels(f"{out}/case_0.nii.gz")
    nnunet_rs.write_labels(f"{work}/again.nii.gz", labels.data, labels.header)
    assert (nnunet_rs.read_volume(image).data == nnunet_rs.read_volume([Path(image)]).data).all()
