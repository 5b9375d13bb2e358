"""One-file models: a zip of a work folder's models, with a list of its files and their SHA-256, read with care."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nnunet_rs.core.document import Kind
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.files import read_json
from nnunet_rs.core.unzip import is_zip, unpacked
from nnunet_rs.model.nnunet_models import results_folder
from nnunet_rs.model.weights import digest_of

MANIFEST, READ_ME, LICENCE = "manifest.json", "MODEL.md", "LICENCE.txt"


@dataclass(frozen=True, slots=True)
class Packed:
    """A file of an archive."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive holds: manifest.json."""

    files: dict[str, Packed]  # by their names, with slashes; all but this one
    library: str  # version of nnunet_rs that wrote it


MANIFEST_KIND = Kind("model file", Manifest, CheckpointError, "use the nnunet_rs that wrote it")


def is_model_file(path: Path) -> bool:
    """Whether a path is a one-file model, valid or not."""
    if not is_zip(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


@contextmanager
def model_source(source: Path) -> Iterator[Path]:
    """Give the folder with a source's models: itself, or what its archive holds, for as long as the block runs.

    Raises
    ------
    CheckpointError
        An archive is damaged, was changed, or holds no model.
    """
    if is_model_file(source):
        with unpacked(source) as folder:
            require_whole(folder, source)
            yield folder
    elif source.is_file():
        with results_folder(source) as folder:
            yield folder
    else:
        yield source


def require_whole(folder: Path, source: Path) -> None:
    """Compare an unpacked archive with the list of its files.

    Raises
    ------
    CheckpointError
        Another version, or a file is missing, foreign or not as it was written; the archive and the file are named.
    """
    document = read_json(folder / MANIFEST, CheckpointError)
    manifest = MANIFEST_KIND.from_json(document, f"{source}: {MANIFEST}")
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
    for name in sorted(there ^ manifest.files.keys()):
        state = "is missing" if name in manifest.files else f"is not among the files that {MANIFEST} lists"
        raise CheckpointError(f"{source}: was changed, or is damaged: {name} {state}; copy it again")
    for name, packed in manifest.files.items():
        path = folder / name
        if path.stat().st_size != packed.bytes or digest_of(path) != packed.sha256:
            raise CheckpointError(
                f"{source}: was changed, or is damaged: {name} is not as it was written (SHA-256); copy it again"
            )
