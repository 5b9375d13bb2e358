"""DICOM on the command line: what `predict` takes and writes of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli.console import Console, Outcome, UsageError
from nnunet_rs.core.text import counted

if TYPE_CHECKING:
    from nnunet_rs.core.types import LabelSet
    from nnunet_rs.exchange.dicom.inputs import DicomInput
    from nnunet_rs.exchange.dicom.predictions import DicomOutputs


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
        """See that the files may be written, before anything is predicted."""
        from nnunet_rs.core.outputs import Outputs

        files = [file for case in self.segmentations() for file in self.wanted.files(case, self.folder)]
        with Outputs(self.folder, overwrite=self.wanted.overwrite) as outputs:
            outputs.require(files)

    def write(self, outcome: Outcome, labels: LabelSet) -> Outcome:
        """Write SEG and RTSTRUCT files of the segmentations that are there."""
        from nnunet_rs.exchange.dicom.predictions import Writer

        there = {case: file for case, file in self.segmentations().items() if file.is_file()}
        series = self.given.of_cases()
        if self.folder != self.output:
            series = dict.fromkeys(there, next(iter(series.values())))
        writer = Writer.of(self.folder, self.wanted, labels, self.places, self.console)
        written = writer.write(there, series)
        line = f"{counted(len(written), 'DICOM file')} written to {self.folder}"
        return Outcome({**outcome.result, "dicom": list(written)}, (*outcome.shown, line), outcome.code)


@contextmanager
def predicted(arguments: argparse.Namespace, console: Console) -> Iterator[DicomFiles | None]:
    """Let series of DICOM stand as images in a folder while they are predicted; None: the images are no DICOM."""
    from nnunet_rs.core.errors import NnunetError
    from nnunet_rs.exchange.dicom.inputs import dicom_input, is_dicom_input

    named = arguments.input
    if not is_dicom_input(named):
        if arguments.dicom_seg or arguments.rtstruct:
            raise UsageError(f"--dicom-seg and --rtstruct need images that are DICOM: {named[0]} is none")
        yield None
        return
    from nnunet_rs.exchange.dicom.predictions import DicomOutputs

    wanted = DicomOutputs(arguments.dicom_seg, arguments.rtstruct, arguments.dataset_json, arguments.overwrite)
    if wanted.seg == "fractional":
        arguments.save_probabilities = True
    with dicom_input(named, console) as given:
        model = arguments.model
        files = DicomFiles(given, wanted, arguments.output, (model, model.parent, model.parent.parent), console)
        arguments.input = [given.folder]
        if files.folder != files.output:  # one file is named
            arguments.input = [given.folder / f"{one.name}.dcm" for one in given.series]
        files.require()
        try:
            yield files if wanted.seg or wanted.rtstruct else None
        except NnunetError as error:
            if str(given.folder) not in str(error):
                raise
            raise NnunetError(str(error).replace(str(given.folder), str(named[0]))) from error
