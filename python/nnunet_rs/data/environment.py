"""What the library's callers need of the environment; core is given it, and does not look."""

from __future__ import annotations

import os
from pathlib import Path

from nnunet_rs.core import dataset
from nnunet_rs.core.types import Dataset


def read_dataset(root: str | Path) -> Dataset:
    """Read dataset.json and list the files of a dataset; no image is opened.

    Parameters
    ----------
    root
        A folder in the Medical Segmentation Decathlon's layout or in nnU-Net's raw layout. `$NAME` and `${NAME}` in
        listed files stand for environment variables, as in nnU-Net's format.

    Returns
    -------
    Dataset
        `training` holds the cases whose files are there, sorted by name; what is wrong with the others is in `issues`.

    Raises
    ------
    DatasetError
        The folder or dataset.json is missing, malformed or without any case; a key is missing or of wrong type.
    """
    return dataset.read_dataset(root, os.environ)
