"""Probabilities in the forms that other programs read, made from the compressed one a few classes at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from nnunet_rs.core import nifti
from nnunet_rs.core.files import write_atomically
from nnunet_rs.core.types import Header
from nnunet_rs.predict.probabilities import Probabilities

ProbabilityForm = Literal["nifti", "npz"]

PLACES: Mapping[ProbabilityForm, str] = MappingProxyType(
    {
        "nifti": "probabilities/{case}.nii.gz",  # in a folder of their own, for they are no segmentations
        "npz": "{case}.npz",  # where nnU-Net has it
    }
)
KEY = "probabilities"  # in the .npz, as nnU-Net calls it
_BYTES = 1 << 28  # of float16 at a time; one class at least


def write_form(form: ProbabilityForm, path: Path, probabilities: Probabilities, header: Header) -> None:
    """Write probabilities in another form.

    Parameters
    ----------
    form
        `nifti`: 4-D float32, (x, y, z, c) on the image's grid, with the image's header. `npz`: float16 (c, z, y, x)
        under the key `probabilities`, as nnU-Net has it.
    path
        The file; its ending is the form's.
    probabilities
        The compressed form, opened.
    header
        The image's.

    Raises
    ------
    NnunetError
        The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "nifti":
        nifti.write_channels(path, probabilities.classes(_BYTES), probabilities.shape, header)
    else:
        _write_npz(path, probabilities)


def _write_npz(path: Path, probabilities: Probabilities) -> None:
    """Write what `numpy.savez_compressed` writes; the same array makes the same bytes."""
    entry = zipfile.ZipInfo(f"{KEY}.npy", (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    described = {"descr": "<f2", "fortran_order": False, "shape": probabilities.shape}
    with (
        write_atomically(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(entry, "w", force_zip64=True) as stream,
    ):
        np.lib.format.write_array_header_2_0(stream, described)
        for part in probabilities.classes(_BYTES):
            stream.write(np.ascontiguousarray(part, "<f2").data)
