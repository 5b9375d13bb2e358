from __future__ import annotations

from pathlib import Path

import nnunet_rs
import numpy as np
import pytest
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.types import Header, Labels, LabelSet, Volume

pytest.importorskip("ipyniivue", reason="ipyniivue is not installed (pip install 'nnunet-rs[view]')")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebooks' libraries

AFFINE = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


def test_arrays_volumes_and_files(tmp_path: Path, save_nifti) -> None:
    image = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    labels = (image > 12).astype(np.uint8)
    path = save_nifti(tmp_path / "image.nii.gz", image)
    volume = Volume(image[None], (1, 1, 1), Header("itk", AFFINE))
    segmented = Labels(labels, (1, 1, 1), Header("itk", AFFINE))
    for shown, over in ((image, labels), (path, labels), (volume, segmented), (str(path), labels > 0)):
        widget = nnunet_rs.view(shown, over, names=LabelSet(("background", "a"), (0, 1)))
        assert type(widget).__name__ == "NiiVue"
        assert len(widget.volumes) == 2
    assert len(nnunet_rs.view(image).volumes) == 1


def test_other_sizes_are_refused() -> None:
    with pytest.raises(NnunetError, match=r"labels have \(2, 3, 5\) voxels \(z, y, x\), the image \(2, 3, 4\)"):
        nnunet_rs.view(np.zeros((2, 3, 4)), np.zeros((2, 3, 5), np.uint8))
    with pytest.raises(NnunetError, match=r"got \(3, 4\)"):
        nnunet_rs.view(np.zeros((3, 4)))
