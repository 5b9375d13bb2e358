"""Files that a command writes where its user names a place: one rule for all of them.

A file that is there already is replaced where this tool wrote it and nobody has changed it since. Any other is refused
before anything is computed; or, where that is asked for (`--overwrite`), kept aside. An input file is never replaced.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.files import TEMPORARY, require_writable, writing
from nnunet_rs.core.record import PREDICTION, TOKEN, Made, Record, file_digest
from nnunet_rs.core.text import examples
from nnunet_rs.core.workspace import DATASET_JSON, KEPT_ASIDE

DATASET_FOLDERS = ("imagesTr", "labelsTr", "imagesTs")
_PREFIX = len(TEMPORARY) + 2 * TOKEN + 1  # characters before a temporary folder's own name
_LARGE = 1 << 24  # bytes


class Outputs:
    """One run's files in one folder; a context manager.

    Parameters
    ----------
    folder
        Made with the first file, if it is not there.
    made_with
        Tells what determines the files' content (`record.digest`).
    kind
        What the files are: those of another kind, as segmentations where scores are to be written, are not replaced.
    overwrite
        Keep files aside that this tool did not make, or that were edited, instead of refusing.
    say
        Is told in the end what was kept aside.

    Raises
    ------
    NnunetError
        From the first file on: the folder cannot be written, the disk is full.
    """

    def __init__(
        self,
        folder: Path,
        made_with: str = "",
        *,
        kind: str = PREDICTION,
        overwrite: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder, self.made_with = folder, made_with
        self.record = Record(folder, kind)
        self._overwrite, self._say = overwrite, say
        self._staged: list[Staged] = []
        self._aside: Path | None = None
        self._kept = 0

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, *_: object) -> None:
        for staged in tuple(self._staged):
            staged.discard()
        self.record.close()
        if self._aside is not None:
            files = "1 file that was there is" if self._kept == 1 else f"{self._kept} files that were there are"
            self._say(f"{files} kept in {self._aside}")

    def require(self, paths: Iterable[Path], inputs: Iterable[Path] = ()) -> None:
        """See, before anything is computed, that these files may be written; reads those that are there.

        Raises
        ------
        DatasetError
            One of them is an input file, by whichever name or link.
        NnunetError
            They cannot be written there; one is a folder; or files are there that this tool did not make or that were
            changed since, unless they are to be kept aside.
        """
        paths = tuple(paths)
        self._require_no_dataset(paths)
        there = [path for path in paths if os.path.lexists(path)]
        sources = {_identity(path): path for path in inputs if path.exists()} if there else {}
        for path in there:
            if path.exists() and _identity(path) in sources:
                raise DatasetError(
                    f"{path}: would be written, but is the input file {sources[_identity(path)]}; name another output "
                    "(-o), inputs are never replaced"
                )
            if path.is_dir():
                raise NnunetError(f"{path}: is a folder, and a file is to be written there; name another output (-o)")
        unknown = [] if self._overwrite else [path for path in there if not self._known(path)]
        if unknown:
            raise NnunetError(self._refusal(unknown))
        if paths:
            require_writable(self.folder, paths[0])

    def _known(self, path: Path) -> bool:
        """Whether a file is as it was written; large ones are read when they are replaced, beside the computing."""
        glance = path.exists() and path.stat().st_size > _LARGE
        return self.record.made_with(path, glance=glance) is not None

    def _require_no_dataset(self, paths: Sequence[Path]) -> None:
        """Keep out of a dataset's own folders: what is written there would be taken for its cases."""
        data = self.folder.absolute().parent
        if self.folder.absolute().name in DATASET_FOLDERS and (data / DATASET_JSON).is_file() and not self._overwrite:
            where = paths[0] if len(paths) == 1 else self.folder
            raise NnunetError(
                f"{where}: lies in a folder of the dataset {data.name}, and what is written there would be taken for "
                "its cases; name another output (-o), or ask for --overwrite"
            )

    def stage(self, name: str, sources: Sequence[Path] = ()) -> Staged:
        """Return a place for new files, of which the one of this name gets its name last; made from `sources`."""
        self.record.begin()
        staged = Staged(self, name, sources)
        self._staged.append(staged)
        return staged

    @contextmanager
    def new_files(self, name: str, sources: Sequence[Path] = ()) -> Iterator[Path]:
        """Give a temporary folder; what is in it when the block ends well is moved to the outputs' folder."""
        with self.stage(name, sources) as staged:
            yield staged.folder

    def tidy(self, names: Collection[str]) -> None:
        """Remove what killed runs left half-written of these files, named within the folder."""
        names = {_staged_name(name) for name in names}
        for path in self.folder.glob(f"{TEMPORARY}*"):
            token = path.name[len(TEMPORARY) : _PREFIX - 1]
            if path.name[_PREFIX:] in names and not self.record.alive(token):
                _remove(path)

    def adopt(self, path: Path) -> None:
        """Take a file that is there for this tool's own."""
        if self.record.made_with(path) is None:
            self.record.add(self._made(path, path, ""))

    def move(
        self, source: Path, target: Path, made_from: Sequence[Path] = (), notes: Mapping[str, Any] | None = None
    ) -> None:
        """Give a new file its name; it stands in the record before, with what else is known of it."""
        with writing(target, source):
            made = self._made(source, target, self.made_with, made_from, notes)
            self._make_way(target, made)
            self.record.add(made)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)

    def _made(
        self,
        path: Path,
        target: Path,
        made_with: str,
        sources: Sequence[Path] = (),
        notes: Mapping[str, Any] | None = None,
    ) -> Made:
        return Made.of(path, target.relative_to(self.folder).as_posix(), made_with, self.record.kind, sources, notes)

    def _make_way(self, path: Path, new: Made) -> None:
        """Leave a name free for a file of ours: what is there is ours, or the same, or is kept aside, or refused."""
        if not os.path.lexists(path) or self.record.made_with(path) is not None:
            return
        self.record.reload()  # another run may have written it meanwhile
        if self.record.made_with(path) is not None or (path.is_file() and file_digest(path) == new.sha256):
            return
        if not self._overwrite or path.is_dir():
            raise NnunetError(self._refusal([path]))
        kept = self._new_aside() / path.relative_to(self.folder)
        kept.parent.mkdir(parents=True, exist_ok=True)
        path.rename(kept)
        self._kept += 1

    def forget(self, staged: Staged) -> None:
        """Take note that a temporary folder is gone."""
        if staged in self._staged:
            self._staged.remove(staged)

    def _new_aside(self) -> Path:
        """Return this run's folder for what is kept aside."""
        number = 1
        while self._aside is None:
            path = self.folder / KEPT_ASIDE / str(number)
            try:
                path.mkdir(parents=True)
                self._aside = path
            except FileExistsError:
                number += 1
        return self._aside

    def _refusal(self, unknown: Sequence[Path]) -> str:
        changed = [path for path in unknown if self.record.knows(path)]
        foreign = [path for path in unknown if path not in changed]
        parts = []
        if foreign:
            parts.append(
                f"{_counted(foreign)} not known to be made by this tool ({examples([p.name for p in foreign])})"
            )
        if changed:
            parts.append(f"{_counted(changed)} changed since this tool made it ({examples([p.name for p in changed])})")
        advice = "name another output (-o), or let --overwrite keep aside what is there"
        if len(unknown) == 1:
            what = "was changed since this tool made it" if changed else "is not known to be made by this tool"
            return f"{unknown[0]}: {what}, and would be replaced; {advice}"
        where = Path.cwd() if self.folder == Path() else self.folder
        return f"{where}: would be replaced: {' and '.join(parts)}; {advice}"


class Staged:
    """New files on their way: in a temporary folder beside their place, until all of them are whole; a context.

    `notes` are what the record is to tell of the file that gets its name last.
    """

    def __init__(self, outputs: Outputs, name: str, sources: Sequence[Path] = ()) -> None:
        self._outputs, self._name, self._sources = outputs, name, sources
        self.notes: dict[str, Any] = {}
        self.folder = outputs.folder / f"{TEMPORARY}{outputs.record.token}-{_staged_name(name)}"
        with writing(outputs.folder / name, self.folder):
            _remove(self.folder)
            self.folder.mkdir(parents=True)

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        """Give the files their names if the block ended well; errors name files where they would have been."""
        try:
            if kind is None:
                self.commit()
            elif isinstance(error, Exception) and self.as_placed(error) is not error:
                raise self.as_placed(error) from error
        finally:
            self.discard()

    def as_placed(self, error: Exception) -> Exception:
        """Let an error name files where they would have been, not where they are written."""
        if not isinstance(error, NnunetError) or str(self.folder) not in str(error):
            return error
        return NnunetError(str(error).replace(str(self.folder), str(self._outputs.folder)))

    def commit(self) -> None:
        """Give the files their names."""
        outputs, last = self._outputs, self.folder / self._name
        files = sorted(path for path in self.folder.rglob("*") if path.is_file() and path != last)
        for source in (*files, *((last,) if last.exists() else ())):
            notes = self.notes if source == last else None
            outputs.move(source, outputs.folder / source.relative_to(self.folder), self._sources, notes)

    def discard(self) -> None:
        """Remove the temporary folder, and what is still in it."""
        with suppress(OSError):
            _remove(self.folder)
        self._outputs.forget(self)


def _staged_name(name: str) -> str:
    """Name the temporary folder of a file, which may lie in folders within the outputs'."""
    return f"{hashlib.sha256(name.encode()).hexdigest()[:16]}-{name.rpartition('/')[2]}" if "/" in name else name


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _counted(files: Sequence[Path]) -> str:
    return "1 file there is" if len(files) == 1 else f"{len(files)} files there are"
