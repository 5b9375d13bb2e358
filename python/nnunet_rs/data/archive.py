"""Several arrays and a record in one file: a ZIP archive whose entries are stored as they are, to be read in place.

One file a case, because creating files is what preparing many small cases would spend its time on; and a file that is
renamed into place is whole.
"""

from __future__ import annotations

import shutil
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import write_atomically

_EPOCH = (1980, 1, 1, 0, 0, 0)  # ZIP's first moment: the bytes must not tell when they were written
_COPIED = 1 << 20  # bytes at a time
_LOCAL_HEADER = 30  # bytes before an entry's name; the lengths of name and extra field are its last four


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an entry's bytes lie in the archive."""

    offset: int
    size: int


def write_archive(path: Path, entries: Iterable[tuple[str, bytes | Path]]) -> int:
    """Write entries in this order, each made when its turn comes: bytes, or the file that holds them.

    Returns the bytes of the archive.

    Raises
    ------
    NnunetError
        The folder cannot be written, or the disk is full; the file is then absent, or as it was.
    """
    with write_atomically(path, durable=False) as temporary:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, content in entries:
                entry = zipfile.ZipInfo(name, _EPOCH)
                if isinstance(content, bytes):
                    archive.writestr(entry, content)
                else:
                    entry.file_size = content.stat().st_size
                    with content.open("rb") as source, archive.open(entry, "w") as target:
                        shutil.copyfileobj(source, target, _COPIED)
        return temporary.stat().st_size


def read_archive(path: Path) -> dict[str, Entry]:
    """List the entries of an archive.

    Raises
    ------
    DatasetError
        There is no such file, it is damaged, or the system does not let it be read.
    """
    with _explained(path), path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        found = {}
        for info in archive.infolist():
            stream.seek(info.header_offset + _LOCAL_HEADER - 4)
            name, extra = struct.unpack("<HH", stream.read(4))
            found[info.filename] = Entry(info.header_offset + _LOCAL_HEADER + name + extra, info.file_size)
        return found


def read_entry(path: Path, entry: Entry) -> bytes:
    """Read the bytes of an entry; errors as `read_archive`."""
    with _explained(path), path.open("rb") as stream:
        stream.seek(entry.offset)
        return stream.read(entry.size)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file; run preprocess") from None
    except OSError as error:
        advice = "see to the disk, its permissions and the limit of open files; if it is damaged, run preprocess again"
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error}); {advice}") from error
    except (zipfile.BadZipFile, struct.error, NotImplementedError) as error:
        raise DatasetError(f"{path}: damaged ({error}); run preprocess again") from error
