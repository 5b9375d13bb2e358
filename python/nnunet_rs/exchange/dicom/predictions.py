"""Segmentations that predict wrote, as SEG and RTSTRUCT files of the series that they are of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs import __version__
from nnunet_rs.core.dataset_json import read_document
from nnunet_rs.core.dicom.series import Series
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.io import read_labels
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.record import digest
from nnunet_rs.core.types import IntArray, LabelSet
from nnunet_rs.core.workspace import DATASET_JSON
from nnunet_rs.exchange.dicom.rtstruct import write_rtstruct
from nnunet_rs.exchange.dicom.seg import Form, write_seg
from nnunet_rs.exchange.dicom.source import Source
from nnunet_rs.exchange.dicom.structures import DicomStructure, structures_of
from nnunet_rs.predict.probabilities import ENDING, Probabilities, open_probabilities

SEG, RTSTRUCT = "seg", "rtstruct"  # folders within the outputs


@dataclass(frozen=True, slots=True)
class DicomOutputs:
    """What is wanted besides the segmentations."""

    seg: Form | None = None
    rtstruct: bool = False
    dataset_json: Path | None = None  # gives codes and colours; None: that of the model's work folder, if it is there
    overwrite: bool = False  # keep aside what is there and is not this tool's

    @property
    def any(self) -> bool:
        """Whether any file is wanted."""
        return bool(self.seg) or self.rtstruct

    def files(self, case: str, folder: Path) -> Iterator[Path]:
        """Yield the files of a case."""
        if self.seg:
            yield folder / SEG / f"{case}.dcm"
        if self.rtstruct:
            yield folder / RTSTRUCT / f"{case}.dcm"


@dataclass(frozen=True, slots=True, eq=False)
class Writer:
    """Writes the DICOM files of a folder of predictions."""

    folder: Path
    wanted: DicomOutputs
    labels: LabelSet  # of the segmentations
    structures: tuple[DicomStructure, ...]
    progress: Progress

    @classmethod
    def of(
        cls, folder: Path, wanted: DicomOutputs, labels: LabelSet, places: Sequence[Path], progress: Progress
    ) -> Writer:
        """Look up what the labels are called.

        Parameters
        ----------
        places
            Folders whose dataset.json may give codes and colours, where none is named; the first that has one counts.

        Raises
        ------
        DatasetError
            dataset.json is malformed.
        """
        found = [wanted.dataset_json] if wanted.dataset_json else [place / DATASET_JSON for place in places]
        file = next((file for file in found if file.is_file() or file == wanted.dataset_json), None)
        content: Mapping[str, Any] = {} if file is None else read_document(file)
        return cls(folder, wanted, labels, structures_of(labels, content, file or Path(DATASET_JSON)), progress)

    def outputs(self) -> Outputs:
        """Return the rule of what may be written."""
        made_with = digest({"version": __version__, "seg": self.wanted.seg, "structures": repr(self.structures)})
        return Outputs(self.folder, made_with, overwrite=self.wanted.overwrite, say=self.progress.say)

    def require(self, cases: Sequence[str]) -> None:
        """Check that the cases' files may be written; errors as `Outputs.require`."""
        with self.outputs() as outputs:
            outputs.require([file for case in cases for file in self.wanted.files(case, self.folder)])

    def write(self, segmentations: Mapping[str, Path], series: Mapping[str, Series]) -> tuple[Path, ...]:
        """Write the files of every case whose segmentation is there; they are replaced where they were ours.

        Raises
        ------
        NnunetError
            A file cannot be written, or is not this tool's.
        """
        written: list[Path] = []
        with self.outputs() as outputs, self.progress.task("DICOM", len(segmentations)) as task:
            for case, file in segmentations.items():
                labels, source = read_labels(file).data, Source(series[case])
                for path in self.wanted.files(case, self.folder):
                    with outputs.stage(path.name) as staged:
                        target = staged.folder / path.relative_to(self.folder)
                        target.parent.mkdir(parents=True)
                        self._write(target, case, labels, source)
                    written.append(path)
                task.advance(1, case)
        return tuple(written)

    def _write(self, path: Path, case: str, labels: IntArray, source: Source) -> None:
        if path.parent.name == RTSTRUCT:
            write_rtstruct(path, labels, source, self.structures)
        elif self.wanted.seg == "fractional":
            probabilities = _Channels(open_probabilities(self.folder / (case + ENDING)), self.structures)
            write_seg(path, labels, source, self.structures, "fractional", probabilities)
        else:
            write_seg(path, labels, source, self.structures, self.wanted.seg or "binary")


class _Channels(Sequence["NDArray[Any]"]):
    """The probabilities of each structure, read one at a time."""

    def __init__(self, probabilities: Probabilities, structures: Sequence[DicomStructure]) -> None:
        labels = probabilities.labels
        names = [region.name for region in labels.regions] or list(labels.names)
        self._array = probabilities.array
        try:
            self._channels = [names.index(structure.name) for structure in structures]
        except ValueError as error:
            raise DatasetError(f"{probabilities.path}: holds no such channel: {error}; predict again") from error
        self._held: tuple[int, NDArray[Any]] | None = None

    def __len__(self) -> int:
        return len(self._channels)

    def __getitem__(self, index: Any) -> Any:
        if self._held is None or self._held[0] != index:
            self._held = None  # before the next takes its room
            self._held = (index, np.asarray(self._array[self._channels[index]]))
        return self._held[1]
