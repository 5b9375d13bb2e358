"""A list of images to predict: a CSV file with a line a case, its images, and where its result goes."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.io import find_format
from nnunet_rs.core.names import HIDDEN, TAKEN, result_ending, strip_ending
from nnunet_rs.core.types import Case

_NO_NAME = frozenset("/\\\0")  # characters that a case's name, which becomes file names, must not have
_FORM = "write a first line as id,image,output (of several channels id,image_0,image_1,output)"


@dataclass(frozen=True, slots=True)
class _Columns:
    id: int
    images: tuple[int, ...]
    output: int | None


def read_case_list(file: Path, channels: int, folder: Path) -> tuple[Case, ...]:
    """Read which images are to be predicted; no image is looked at.

    Parameters
    ----------
    file
        CSV, UTF-8, with a first line that names the columns: `id`, the case's name; one that begins with `image` for
        each channel in order, or one for all of them; `output`, which may be missing or empty, the segmentation's file.
        Images are named in full or from the list's folder on.
    channels
        What the model takes.
    folder
        Of the outputs, which are named in full or from here on, and lie in it.

    Returns
    -------
    tuple of Case
        In the list's order.

    Raises
    ------
    DatasetError
        The file cannot be read; a column or value is missing; a name or an output cannot be one, or is there twice
        (outputs: whatever their endings, for probabilities and masks are named alike).
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return tuple(_cases(file, csv.reader(stream), channels, folder))
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise DatasetError(f"{file}: is no CSV: {error}; {_FORM}") from error


def _cases(file: Path, lines: Iterator[list[str]], channels: int, folder: Path) -> Iterator[Case]:
    columns = _columns(file, next(lines, []), channels)
    home, names, outputs = str(file.absolute().parent), set[str](), set[str]()
    within = os.path.normpath(folder.absolute())
    for number, line in enumerate(lines, start=2):
        if not any(cell.strip() for cell in line):
            continue
        where = f"{file}: line {number}"
        case = _case(where, [cell.strip() for cell in line], columns, home, within)
        if case.name in names:
            raise DatasetError(f"{where}: the id {case.name} is there twice; give each case one of its own")
        output = case.output or case.name + result_ending(case.images[0].name)
        if strip_ending(output) in outputs:  # whatever the endings: probabilities and masks are named alike
            raise DatasetError(f"{where}: the output {output} is there twice; give each case one of its own")
        names.add(case.name)
        outputs.add(strip_ending(output))
        yield case
    if not names:
        raise DatasetError(f"{file}: lists no case; give each a line under the first")


def _columns(file: Path, head: Sequence[str], channels: int) -> _Columns:
    names = [name.strip().lower() for name in head]
    images = tuple(index for index, name in enumerate(names) if name.startswith("image"))
    unknown = [name for name in names if name not in ("id", "output") and not name.startswith("image")]
    if "id" not in names or not images or unknown or len(set(names)) < len(names):
        raise DatasetError(f"{file}: its first line names the columns {', '.join(names) or 'nothing'}; {_FORM}")
    if len(images) not in (1, channels):
        plural = "s" if channels > 1 else ""
        raise DatasetError(f"{file}: has {len(images)} columns of images, the model takes {channels} channel{plural}")
    return _Columns(names.index("id"), images, names.index("output") if "output" in names else None)


def _case(where: str, cells: Sequence[str], columns: _Columns, home: str, folder: str) -> Case:
    wanted = max((columns.id, *columns.images)) + 1
    if len(cells) < wanted or not all(cells[index] for index in (columns.id, *columns.images)):
        raise DatasetError(f"{where}: an id or an image is missing; fill it in, or take the line out")
    name = cells[columns.id]
    if name.startswith(HIDDEN) or set(name) & _NO_NAME:
        raise DatasetError(f"{where}: the id {name!r} cannot be a file's name; give it another")
    if any("\0" in cells[index] for index in columns.images):
        raise DatasetError(f"{where}: an image's name holds a zero byte; write it anew")
    images = tuple(Path(os.path.join(home, cells[index])) for index in columns.images)  # noqa: PTH118 (100 000 lines)
    output = cells[columns.output] if columns.output is not None and columns.output < len(cells) else ""
    return Case(name, images, output=_output(where, output, folder) if output else "")


def _output(where: str, output: str, folder: str) -> str:
    """Return an output as it lies in the folder, with slashes."""
    path = os.path.normpath(os.path.join(folder, output))  # noqa: PTH118
    within = path[len(folder) :].lstrip(os.sep) if path.startswith(folder.rstrip(os.sep) + os.sep) else ""
    parts = Path(within).parts
    if not within or "\0" in output or any(part.startswith(HIDDEN) for part in parts):
        raise DatasetError(f"{where}: the output {output} lies not in {folder}; name a folder above all outputs (-o)")
    known = find_format(Path(parts[-1]))
    if known is None or known.results or parts[-1].lower() in TAKEN:
        raise DatasetError(f"{where}: the output {output} is of no format that is written; end it in .nii.gz")
    return "/".join(parts)
