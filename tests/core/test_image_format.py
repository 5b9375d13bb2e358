"""A format is one module, of which this file stands for one, and one entry of the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.cli import main
from nnunet_rs.core import io
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.image_file import ImageFile, in_pixels
from nnunet_rs.core.image_format import Format
from nnunet_rs.core.names import ending_of, has_ending
from nnunet_rs.core.types import Header, IntArray, Shape, Spacing3
from nnunet_rs.plan.nnunet import reader_of
from nnunet_rs.predict.inputs import result_place


def read(path: Path) -> ImageFile:
    first, *numbers = path.read_text().split("\n")
    return in_pixels("toy", path, np.array(numbers, int).reshape(1, *map(int, first.split())))


def read_grid(path: Path) -> tuple[Shape, Spacing3]:
    return read(path).voxels.shape, (1.0, 1.0, 1.0)


def write_labels(path: Path, labels: IntArray, header: Header) -> None:
    path.write_text("\n".join((" ".join(map(str, labels.shape)), *map(str, labels.ravel()))))


def companions(path: Path) -> tuple[Path, ...]:
    return (path.with_suffix(".note"),)


TOY = Format("toy", {".toy": "ToyIO"}, read, read_grid, write_labels, placed=False, companions=companions)


@pytest.fixture
def toy_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(io, "FORMATS", (*io.FORMATS, TOY))
    root = tmp_path / "Dataset009_Toy"
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(5):
        image = rng.integers(0, 100, (6, 20, 24))
        write_labels(root / "imagesTr" / f"c{index}_0000.toy", image, Header("toy", ()))
        write_labels(root / "labelsTr" / f"c{index}.toy", (image > 60).astype(int), Header("toy", ()))
    (root / "imagesTr" / "c0_0000.note").touch()
    about: dict[str, object] = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "it": 1},
        "numTraining": 5,
        "file_ending": ".toy",
    }
    (root / "dataset.json").write_text(json.dumps(about))
    return root


def test_a_format_that_is_added_goes_through_everything(toy_dataset: Path, tmp_path: Path, capsys) -> None:
    work, plans = tmp_path / "work", tmp_path / "plans.json"
    assert main(["check", str(toy_dataset)]) == 0
    assert "left out" not in capsys.readouterr().out  # the note belongs to its image
    assert main(["preprocess", str(toy_dataset), "-o", str(work), "-q"]) == 0
    assert main(["plan", str(toy_dataset), "--as-nnunet", str(plans), "-q"]) == 0
    assert json.loads(plans.read_text())["image_reader_writer"] == "ToyIO"
    capsys.readouterr()
    labels = str(toy_dataset / "labelsTr")
    assert main(["evaluate", labels, labels, "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["foreground_mean"]["Dice"] == 1
    volume = io.read_volume([toy_dataset / "imagesTr" / "c0_0000.toy"])
    assert volume.header.format == "toy"
    io.write_labels(tmp_path / "out.toy", volume.data[0].astype(int), volume)
    np.testing.assert_array_equal(io.read_labels(tmp_path / "out.toy").data, volume.data[0])
    with pytest.raises(DatasetError, match=r"a \.toy file cannot say where in space scan\.nii lies"):
        result_place(tmp_path / "seg.toy", [tmp_path / "scan.nii"])


def test_what_the_table_says_of_a_format_is_what_is_known_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (has_ending("a.toy"), ending_of("a_0000.TOY.gz"), reader_of(".toy")) == (False, ".gz", "SimpleITKIO")
    monkeypatch.setattr(io, "FORMATS", (*io.FORMATS, TOY))
    assert (has_ending("a.toy"), ending_of("a_0000.TOY.gz"), reader_of(".toy")) == (True, ".TOY.gz", "ToyIO")


@pytest.mark.parametrize(
    ("ending", "reader"),
    [
        (".nii.gz", "SimpleITKIO"),
        (".nii", "NibabelIO"),
        (".mhd", "SimpleITKIO"),
        (".png", "NaturalImage2DIO"),
        (".tif", "Tiff3DIO"),
        (".gipl", "SimpleITKIO"),
    ],
)
def test_nnunet_reads_the_same_files_by_its_own_classes(ending: str, reader: str) -> None:
    assert reader_of(ending) == reader
