"""The files of a prediction in one folder: which a case gets, which are finished, which may be written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.io import companions, write_labels
from nnunet_rs.core.label_subset import Structure, binary_mask, keep_values
from nnunet_rs.core.names import TAKEN, ending_of, result_ending, strip_ending
from nnunet_rs.core.outputs import Outputs, Staged
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.text import examples
from nnunet_rs.core.types import Case, Header, IntArray, LabelSet
from nnunet_rs.core.workspace import PREDICTION_JSON
from nnunet_rs.predict.prediction_json import (
    read_prediction_json,
    require_prediction_json,
    says_the_same,
    write_prediction_json,
)
from nnunet_rs.predict.probabilities import ENDING, open_probabilities
from nnunet_rs.predict.probability_forms import PLACES, ProbabilityForm, write_form


@dataclass(frozen=True, slots=True)
class FolderResult:
    """What became of the cases."""

    written: tuple[str, ...]  # case names, predicted now
    skipped: tuple[str, ...]  # finished before

    @classmethod
    def of(cls, cases: Sequence[Case], todo: Sequence[Case]) -> FolderResult:
        """Return of cases of which some were to be done."""
        done = {case.name for case in todo}
        written = tuple(case.name for case in cases if case.name in done)
        return cls(written, tuple(case.name for case in cases if case.name not in done))


def segmentation_path(case: Case, output_dir: Path, ending: str = "") -> Path:
    """Where a case's segmentation goes: its name, in its images' format or another; or where a list wants it."""
    return output_dir / (case.output or case.name + (ending or result_ending(case.images[0].name)))


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """One run's results in one folder."""

    outputs: Outputs
    content: Mapping[str, Any]  # of prediction.json, which a single file does not get
    probabilities: bool = False  # are saved as well
    forms: tuple[ProbabilityForm, ...] = ()  # in which they are saved besides
    ending: str = ""  # of a single file that was named; empty: a folder, segmentations as their images
    kept: LabelSet | None = None  # the labels to keep; None: all
    masks: tuple[Structure, ...] = ()  # of which each gets a file of its own besides

    def files(self, case: Case) -> tuple[Path, ...]:
        """List what a case gets: the segmentation, the probabilities, these in other forms, and binary masks."""
        segmentation = segmentation_path(case, self.outputs.folder, self.ending)
        names = [_stem(case) + ENDING] if self.probabilities else []
        names += [PLACES[form].format(case=_stem(case)) for form in self.forms]
        masks = (self.mask_path(case, structure) for structure in self.masks)
        return (segmentation, *(self.outputs.folder / name for name in names), *masks)

    def mask_path(self, case: Case, structure: Structure) -> Path:
        """Where the binary mask of a structure goes: a folder with the case's name beside its segmentation."""
        ending = self.ending or ending_of(case.output) or result_ending(case.images[0].name)
        return self.outputs.folder / _stem(case) / f"{structure.file_name}{ending}"

    def staged(self, case: Case) -> Staged:
        """Return the place where a case's new files wait until all of them are whole."""
        return self.outputs.stage(self._within(self.files(case)[0]), case.images)

    def _within(self, file: Path) -> str:
        return file.relative_to(self.outputs.folder).as_posix()

    def write(self, case: Case, labels: IntArray, header: Header, folder: Path) -> None:
        """Write a case's files, probabilities excepted, into a temporary folder; their compressed form lies there.

        Parameters
        ----------
        case, header
            The case, and its image's header.
        labels
            File values (z, y, x) on the image's grid.
        folder
            Stands for the outputs' folder.

        Raises
        ------
        NnunetError
            A file cannot be written.
        """
        segmentation, *others = (folder / path.relative_to(self.outputs.folder) for path in self.files(case))
        labels = labels if self.kept is None else keep_values(labels, self.kept)
        write_labels(segmentation, labels, header)
        if self.forms:
            probabilities = open_probabilities(others.pop(0))
            for form in self.forms:
                write_form(form, others.pop(0), probabilities, header)
        for structure, path in zip(self.masks, others[len(others) - len(self.masks) :], strict=True):
            write_labels(path, binary_mask(labels, structure), header)

    def unfinished(self, cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
        """Return which cases to predict, and which are not though it is unknown whether they are as they were made.

        Those are left where prediction.json said before this run what it would say now: edited by hand, of a release
        that kept no record, or another's.
        """
        since = self._said_since()
        todo: list[Case] = []
        left: list[Case] = []
        for case in cases:
            files = self.files(case)
            if not _younger(files, case.images):
                todo.append(case)
            elif not all(self._made_so(file) for file in files):
                (left if since is not None and _younger(files, since) else todo).append(case)
        return todo, left

    def require(self, cases: Sequence[Case], inputs: Iterable[Path] = ()) -> None:
        """Check that the cases' files, and prediction.json, may be written; `inputs` are read besides the images.

        Raises
        ------
        DatasetError
            A case's file would have the name of prediction.json or summary.json, or is an input.
        NnunetError
            As `Outputs.require`.
        """
        files = [file for case in cases for file in self._with_companions(case)]
        images = [file for case in cases for image in case.images for file in (image, *companions(image))]
        self.outputs.require(files, (*images, *inputs))
        if not self.ending:
            require_prediction_json(self.outputs, self.content)

    def begin(self, cases: Sequence[Case], *, alone: bool) -> None:
        """Write prediction.json, and remove what a killed run left; not another part's, unless this is all."""
        with suppress(OSError):  # a folder that is read only and finished
            self.tidy(cases, {PREDICTION_JSON} if alone else set())
        if not self.ending:
            write_prediction_json(self.outputs, self.content)

    def tidy(self, cases: Sequence[Case], others: Collection[str] = ()) -> None:
        """Remove what killed runs left half-written of these cases, or of other files within the folder."""
        self.outputs.tidy({self._within(file) for case in cases for file in self.files(case)} | set(others))

    def _made_so(self, file: Path) -> bool:
        return self.outputs.made_with in (self.outputs.record.made_with(file, glance=True) or ())

    def _said_since(self) -> tuple[Path, ...] | None:
        path = self.outputs.folder / PREDICTION_JSON
        return (path,) if not self.ending and says_the_same(read_prediction_json(path.parent), self.content) else None

    def _with_companions(self, case: Case) -> Iterator[Path]:
        for file in self.files(case):
            for each in (file, *companions(file)):
                if each.name.lower() in TAKEN:
                    raise DatasetError(
                        f"{case.images[0]}: the case's file {each.name} would replace this tool's {each.name.lower()}; "
                        "rename the image"
                    )
                yield each


def _stem(case: Case) -> str:
    """Return the name of a case's files without ending; with slashes, where a list wants them in folders."""
    folder, slash, name = case.output.rpartition("/")
    return folder + slash + strip_ending(name) if name else case.name


def report_left(cases: Collection[Case], progress: Progress) -> None:
    """Say which results are left alone though nobody knows that they are as they were made."""
    if cases:
        count = f"{len(cases)} results are" if len(cases) > 1 else "1 result is"
        names = examples([case.name for case in cases])
        progress.say(f"{count} edited, or not known to be this tool's, and left alone: {names}")


def _younger(files: Collection[Path], sources: Collection[Path]) -> bool:
    """Whether all files are there, and none is older than any of the sources."""
    if not all(file.is_file() for file in files):
        return False
    made = min(file.stat().st_mtime_ns for file in files)
    return all(source.stat().st_mtime_ns <= made for source in sources if source.is_file())
