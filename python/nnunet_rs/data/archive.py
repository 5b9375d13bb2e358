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

from isal import isal_zlib

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import write_atomically

AGAIN = "run preprocess again"  # what to do about a damaged prepared case
_EPOCH = (1980, 1, 1, 0, 0, 0)  # ZIP's first moment: the bytes must not tell when they were written
_COPIED = 1 << 20  # bytes at a time
_LOCAL_HEADER = 30  # bytes before an entry's name; the lengths of name and extra field are its last four


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an entry's bytes lie in the archive."""

    offset: int
    size: int
    checksum: int  # CRC-32 of them


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


def read_archive(path: Path, remedy: str = AGAIN) -> dict[str, Entry]:
    """List the entries of an archive; `remedy` is what to do about a damaged one.

    Raises
    ------
    DatasetError
        There is no such file, it is damaged, or the system does not let it be read.
    """
    with _explained(path, remedy), path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        found = {}
        for info in archive.infolist():
            stream.seek(info.header_offset + _LOCAL_HEADER - 4)
            name, extra = struct.unpack("<HH", stream.read(4))
            if stream.read(name) != info.orig_filename.encode():
                raise zipfile.BadZipFile(f"an entry is called {info.filename} in one place, and otherwise in another")
            start = info.header_offset + _LOCAL_HEADER + name + extra
            found[info.filename] = Entry(start, info.file_size, info.CRC)
        return found


def read_entry(path: Path, entry: Entry, remedy: str = AGAIN) -> bytes:
    """Read the bytes of an entry, and see that they are those that were written; errors as `read_archive`."""
    return b"".join(_parts(path, entry, remedy))


def check_entry(path: Path, entry: Entry, remedy: str = AGAIN) -> None:
    """Check that the bytes of an entry are those that were written; errors as `read_archive`."""
    for _ in _parts(path, entry, remedy):
        pass


def _parts(path: Path, entry: Entry, remedy: str) -> Iterator[bytes]:
    with _explained(path, remedy), path.open("rb") as stream:
        stream.seek(entry.offset)
        left, checksum = entry.size, 0
        while left > 0 and (part := stream.read(min(left, _COPIED))):
            checksum = isal_zlib.crc32(part, checksum)
            left -= len(part)
            yield part
        if left or checksum != entry.checksum:
            raise zipfile.BadZipFile(f"its bytes {entry.offset} … {entry.offset + entry.size} have changed")


@contextmanager
def _explained(path: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file; run preprocess") from None
    except OSError as error:
        advice = f"see to the disk, its permissions and the limit of open files; if it is damaged, {remedy}"
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error}); {advice}") from error
    except (zipfile.BadZipFile, struct.error, NotImplementedError, ValueError, OverflowError) as error:
        raise DatasetError(f"{path}: damaged ({error}); {remedy}") from error
