"""Zips of models and scans, unpacked with care: names stay inside, sizes stay bounded, nothing half-done remains."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from nnunet_rs.core.errors import CheckpointError, NnunetError

RATIO = 200  # how many times larger than the file its content may be; weights hardly shrink
ENTRIES = 100_000


@contextmanager
def unpacked(
    path: Path, suffixes: tuple[str, ...] = (), *, ratio: int = RATIO, broken: type[NnunetError] = CheckpointError
) -> Iterator[Path]:
    """Give a temporary folder with the content of a zip; it is removed in the end.

    Parameters
    ----------
    path
        The zip.
    suffixes
        Endings of the files that are wanted; none: all.
    ratio
        How many times larger than the file its content may be.
    broken
        What is raised.

    Raises
    ------
    NnunetError
        Of type `broken`: it is damaged, or has a name that leads out of its folder, a link, or more content
        than such a file can have.
    """
    folder = Path(tempfile.mkdtemp(prefix="nnunet-rs-"))
    try:
        _unpack(path, folder, suffixes, ratio, broken)
        yield folder
    except NnunetError as error:
        if str(folder) not in str(error):
            raise
        raise type(error)(str(error).replace(str(folder), str(path))) from error  # the user knows the zip only
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(path: Path, folder: Path, suffixes: tuple[str, ...], ratio: int, broken: type[NnunetError]) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in _checked(path, archive, ratio, broken):
                if not entry.is_dir() and (not suffixes or entry.filename.endswith(suffixes)):
                    archive.extract(entry, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise broken(f"{path}: is damaged, or no zip ({error}); copy it again") from error
    except OSError as error:
        raise NnunetError(f"{path}: cannot be unpacked in {folder.parent}: {error.strerror or error}") from error


def is_zip(path: Path) -> bool:
    """Whether a path is a zip file."""
    return path.is_file() and zipfile.is_zipfile(path)


def _checked(path: Path, archive: zipfile.ZipFile, ratio: int, broken: type[NnunetError]) -> list[zipfile.ZipInfo]:
    entries = archive.infolist()
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in entry.filename:
            raise broken(f"{path}: holds {entry.filename!r}, a name that leads out of its folder; not unpacked")
        if (entry.external_attr >> 16) & 0o170000 == 0o120000:
            raise broken(f"{path}: holds a link, {entry.filename!r}; not unpacked")
    size, most = sum(entry.file_size for entry in entries), ratio * max(path.stat().st_size, 1 << 16)
    if size > most or len(entries) > ENTRIES:
        what = f"{size / 1e9:.1f} GB in {len(entries)} files"
        raise broken(f"{path}: says that it holds {what}, more than such a zip can; not unpacked")
    return entries
