"""DICOM on the command line: what `predict` takes and writes of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli.console import Console, Outcome, UsageError
from nnunet_rs.core.text import counted

if TYPE_CHECKING:
    from nnunet_rs.core.types import LabelSet
    from nnunet_rs.exchange.dicom.choice import SeriesChoice
    from nnunet_rs.exchange.dicom.inputs import DicomInput
    from nnunet_rs.exchange.dicom.predictions import DicomOutputs


def add_channels(parser: argparse._ActionsContainer) -> None:
    """Add how a user says which series are channels of one case."""
    text = (
        "which series of a study are the channels of a case, as T1='*t1*,!*gd*' CT=CT: patterns of the description, "
        "protocol, sequence, modality or name of a series; all must hold, those with ! must not"
    )
    parser.add_argument("--channels", metavar="NAME=PATTERN", nargs="+", action="extend", help=text)
    text = "CSV that tells it: case, channel, series (`nnunet-rs dicom --write-table` makes one to fill in)"
    parser.add_argument("--series-table", metavar="FILE", type=Path, help=text)


def is_asked_for(arguments: argparse.Namespace) -> bool:
    """Whether an option is given that is for DICOM alone."""
    return bool(arguments.dicom_seg or arguments.rtstruct or arguments.channels or arguments.series_table)


def choice_of(arguments: argparse.Namespace) -> SeriesChoice:
    """Read what the user says of channels."""
    from nnunet_rs.exchange.dicom.choice import SeriesChoice

    return SeriesChoice.of(arguments.channels or (), arguments.series_table)


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add what `predict` writes as DICOM."""
    group = parser.add_argument_group("DICOM", "Of images that are DICOM: results that a PACS files and viewers open.")
    group.add_argument(
        "--dicom-seg",
        metavar="FORM",
        nargs="?",
        const="binary",
        choices=("binary", "labelmap", "fractional"),
        help="also OUT/seg/CASE.dcm: binary (default), labelmap (few viewers yet), or fractional (probabilities)",
    )
    group.add_argument("--rtstruct", action="store_true", help="also OUT/rtstruct/CASE.dcm: contours")
    add_channels(group)
    text = "codes and colours of the labels (default: the work folder's, then a table of common structures)"
    group.add_argument("--dataset-json", "-djfile", metavar="FILE", type=Path, help=text)


@dataclass(frozen=True, slots=True, eq=False)
class DicomFiles:
    """What is written of a prediction from DICOM."""

    given: DicomInput
    wanted: DicomOutputs
    output: Path  # as the user named it: a folder, or one file
    places: tuple[Path, ...]  # where dataset.json may be
    console: Console

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        from nnunet_rs.core.io import can_read

        return self.output.parent if can_read(self.output) and not self.output.is_dir() else self.output

    def segmentations(self) -> dict[str, Path]:
        """Where the segmentation of each case is."""
        from nnunet_rs.core.names import strip_ending

        if self.folder != self.output:
            return {strip_ending(self.output.name): self.output}
        return {case: self.folder / f"{case}.nii.gz" for case in self.given.of_cases()}

    def require(self) -> None:
        """Check that the files may be written, before anything is predicted."""
        from nnunet_rs.core.outputs import Outputs

        files = [file for case in self.segmentations() for file in self.wanted.files(case, self.folder)]
        with Outputs(self.folder, overwrite=self.wanted.overwrite) as outputs:
            outputs.require(files)

    def finish(self, outcome: Outcome, labels: LabelSet) -> Outcome:
        """Write the SEG and RTSTRUCT files that are wanted; tell which cases could not be used."""
        if self.wanted.any:
            written = self._write(self._there(), labels)
            line = f"{counted(len(written), 'DICOM file')} written to {self.folder}"
            outcome = Outcome({**outcome.result, "dicom": list(written)}, (*outcome.shown, line), outcome.code)
        refused = [str(issue) for issue in self.given.refused]
        if not refused:
            return outcome
        lines = (*outcome.shown, *(f"refused: {text}" for text in refused))
        return Outcome({**outcome.result, "refused": refused}, lines, 1)

    def finish_others(self, made_with: str, labels: LabelSet) -> None:
        """Write the files of the cases that were predicted where others failed: those that the record says are so."""
        from nnunet_rs.core.record import Record

        if self.wanted.any:
            record = Record(self.folder)
            there = {case: file for case, file in self._there().items() if made_with in (record.made_with(file) or ())}
            written = self._write(there, labels) if there else ()
            self.console.say(f"{counted(len(written), 'DICOM file')} written to {self.folder}")

    def _there(self) -> dict[str, Path]:
        return {case: file for case, file in self.segmentations().items() if file.is_file()}

    def _write(self, there: dict[str, Path], labels: LabelSet) -> tuple[Path, ...]:
        """Write SEG and RTSTRUCT files of segmentations."""
        from nnunet_rs.exchange.dicom.predictions import Writer

        series = self.given.of_cases()
        if self.folder != self.output:
            series = dict.fromkeys(there, next(iter(series.values())))
        writer = Writer.of(self.folder, self.wanted, labels, self.places, self.console)
        return writer.write(there, series)


@contextmanager
def predicted(
    arguments: argparse.Namespace, console: Console, channels: Callable[[], Sequence[str]]
) -> Iterator[DicomFiles | None]:
    """Let series of DICOM stand as images in a folder while they are predicted; None: the images are no DICOM.

    `channels` gives the names of what the model takes.
    """
    from nnunet_rs.core.dicom.folders import is_dicom_input
    from nnunet_rs.core.errors import NnunetError

    named = arguments.input
    if not is_dicom_input(named):
        if is_asked_for(arguments):
            raise UsageError(
                f"--dicom-seg, --rtstruct, --channels and --series-table need images that are DICOM: {named[0]} is none"
            )
        yield None
        return
    from nnunet_rs.exchange.dicom.inputs import dicom_input
    from nnunet_rs.exchange.dicom.predictions import DicomOutputs

    wanted = DicomOutputs(arguments.dicom_seg, arguments.rtstruct, arguments.dataset_json, arguments.overwrite)
    with dicom_input(named, console, choice_of(arguments), channels) as given:
        model = arguments.model
        files = DicomFiles(given, wanted, arguments.output, (model, model.parent, model.parent.parent), console)
        arguments.input = [given.folder]
        if files.folder != files.output:  # one file is named
            arguments.input = [given.folder / f"{one.name}.dcm" for one in given.series]
        if wanted.any:
            files.require()
        try:
            yield files
        except NnunetError as error:
            if str(given.folder) not in str(error):
                raise
            raise NnunetError(str(error).replace(str(given.folder), str(named[0]))) from error
