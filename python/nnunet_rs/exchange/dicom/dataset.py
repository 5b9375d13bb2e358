"""A dataset made of DICOM: images as NIfTI, labels from the SEG and RTSTRUCT files that belong to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.dicom.headers import label_kind
from nnunet_rs.core.dicom.links import series_of
from nnunet_rs.core.dicom.named_labels import Named
from nnunet_rs.core.dicom.reader import read_series
from nnunet_rs.core.dicom.references import read_labels_on
from nnunet_rs.core.dicom.segmentation import read_names
from nnunet_rs.core.dicom.series import Found, Series
from nnunet_rs.core.dicom.structure_set import read_contours
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import write_json
from nnunet_rs.core.image_file import Grid, ImageFile, compare_grids
from nnunet_rs.core.io import write_labels
from nnunet_rs.core.issues import Issue, IssueError, require_none
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.text import examples
from nnunet_rs.core.types import IntArray, LabelSet
from nnunet_rs.core.workspace import DATASET_JSON
from nnunet_rs.exchange.dicom.channels import EXAMPLE, Studies
from nnunet_rs.exchange.dicom.structures import PRIVATE

_CHANNELS = {"CT": "CT", "MR": "MR", "PT": "PET", "NM": "NM"}
_KIND = "dataset"


@dataclass(frozen=True, slots=True)
class LabelledSeries:
    """A series, and the files of labels that are of it."""

    series: Series
    labels: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class DatasetCase:
    """Series that are the channels of a case, and the files of labels that are of it."""

    name: str
    channels: tuple[Series, ...]
    labels: tuple[Path, ...]
    issues: tuple[Issue, ...] = ()  # fatal ones forbid its use

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the channels are."""
        return tuple(one.origin.modality for one in self.channels)


@dataclass(slots=True)
class Converted:
    """What became of the series."""

    training: list[str] = field(default_factory=list)  # cases with labels
    test: list[str] = field(default_factory=list)  # cases without
    refused: list[Issue] = field(default_factory=list)
    labels: LabelSet | None = None  # None: no file of labels at all


def link(found: Found) -> tuple[tuple[LabelledSeries, ...], tuple[Issue, ...]]:
    """Find the series of each file of labels; those without one are warned of."""
    of: dict[str, list[Path]] = {}
    issues: list[Issue] = []
    for path in found.labels:
        try:
            series = series_of(path, found.series)
        except IssueError as error:
            issues.append(found.shown.issue(error.issue))
            continue
        if series is None:
            value = "labels of a series that is not here"
            issues.append(Issue(found.shown.path(path), "label-alone", value, "give the series as well", fatal=False))
        else:
            of.setdefault(series.name, []).append(path)
    return tuple(LabelledSeries(one, tuple(of.get(one.name, ()))) for one in found.series), tuple(issues)


def single_cases(series: Iterable[LabelledSeries]) -> tuple[DatasetCase, ...]:
    """Let each series be a case of one channel."""
    return tuple(DatasetCase(one.series.name, (one.series,), one.labels, one.series.issues) for one in series)


def study_cases(studies: Studies, series: Sequence[LabelledSeries]) -> tuple[DatasetCase, ...]:
    """Make cases of several channels; labels of any of them are the case's."""
    labels = {one.series.name: one.labels for one in series}
    cases = []
    for study in studies.cases:
        channels = tuple(one for one in study.channels if one is not None)
        files = dict.fromkeys(file for one in channels for file in labels[one.name])
        issues = (*study.issues, *(issue for one in channels for issue in one.issues))
        cases.append(DatasetCase(study.name, channels, tuple(files), issues))
    return tuple(cases)


def names_of(path: Path) -> tuple[Named, ...]:
    """Return the structures that a file of labels lists; errors as its reader's."""
    return read_contours(path).names if label_kind(path) == "RTSTRUCT" else read_names(path)


def convert(
    cases: Sequence[DatasetCase],
    output: Path,
    progress: Progress,
    *,
    channels: Sequence[str] = (),
    keep: Sequence[str] = (),
    overwrite: bool = False,
) -> Converted:
    """Write a dataset in nnU-Net's raw layout.

    Parameters
    ----------
    cases
        Those with labels go to imagesTr and labelsTr, those without to imagesTs.
    output
        The dataset's folder.
    channels
        Names of the channels; none: a single one, called as its modality.
    keep
        Names of the structures that are wanted; none: all.
    overwrite
        Keep aside what is there and is not this tool's.

    Returns
    -------
    Converted
        With what is wrong with the series that were refused; the others are written.

    Raises
    ------
    DatasetError
        No series can be used; several modalities; files of labels, and none names a structure; a structure to keep is
        in no file.
    NnunetError
        A file cannot be written, or is there and not this tool's.
    """
    done = Converted()
    usable, structures = _usable(cases, done)
    _require_structures(usable, structures)
    names = tuple(channels) or (_modality(usable),)
    labels, codes = _labels(structures, keep)
    done.labels = labels
    with Outputs(output, kind=_KIND, overwrite=overwrite, say=progress.say) as outputs:
        outputs.require([file for case in usable for file in _files(output, case)] + [output / DATASET_JSON])
        with progress.task("convert", len(usable)) as task:
            for case in usable:
                _convert_case(case, outputs, labels, done, progress)
                task.advance(1, case.name)
        if labels is not None and done.training:
            with outputs.new_files(DATASET_JSON) as folder:
                write_json(folder / DATASET_JSON, _document(names, labels, codes, len(done.training)))
    return done


def _usable(cases: Sequence[DatasetCase], done: Converted) -> tuple[list[DatasetCase], list[Named]]:
    """Return the cases that nothing is wrong with, and their structures; the others are refused."""
    structures: list[Named] = []
    usable: list[DatasetCase] = []
    for case in cases:
        try:
            require_none(case.issues)
            structures += _structures(case)
            usable.append(case)
        except IssueError as error:
            done.refused.append(error.issue)
    if not usable:
        raise DatasetError(f"none of {len(cases)} cases can be used: {done.refused[0]}")
    return usable, structures


def _require_structures(cases: Sequence[DatasetCase], structures: Sequence[Named]) -> None:
    """See that files of labels, where there are any, name a structure: else they would make no label."""
    files = [(case, path) for case in cases for path in case.labels]
    if files and not structures:
        case, path = files[0]
        more = f" (nor do {len(files) - 1} others)" if files[1:] else ""
        raise DatasetError(
            f"{case.channels[0].shown.path(path)}: names no structure{more}; export it again, or take such files "
            "away for a dataset of images alone"
        )


def _files(output: Path, case: DatasetCase) -> list[Path]:
    files = [output / _images(case) / _image_name(case, number) for number in range(len(case.channels))]
    return files + ([output / "labelsTr" / f"{case.name}.nii.gz"] if case.labels else [])


def _images(case: DatasetCase) -> str:
    return "imagesTr" if case.labels else "imagesTs"


def _image_name(case: DatasetCase, channel: int) -> str:
    return f"{case.name}_{channel:04d}.nii.gz"


def _modality(cases: Iterable[DatasetCase]) -> str:
    found = sorted({modality for case in cases for modality in case.modalities})
    if len(found) > 1:
        raise DatasetError(
            f"series of {', '.join(found)} make no dataset of one channel; choose one modality (--modality), or say "
            f"which series are channels of one case: {EXAMPLE}"
        )
    return _CHANNELS.get(found[0], found[0] or "image")


def _structures(case: DatasetCase) -> list[Named]:
    try:
        return [one for path in case.labels for one in names_of(path)]
    except IssueError as error:
        raise IssueError(case.channels[0].shown.issue(error.issue)) from error


def _labels(structures: Sequence[Named], keep: Sequence[str]) -> tuple[LabelSet | None, dict[str, list[str]]]:
    """Give each structure's name a value: what the files tell, or else in alphabetical order."""
    named: dict[str, set[int]] = {}  # what each name stands for, by the files that tell it; -1: one does not
    codes: dict[str, list[str]] = {}
    for one in structures:
        named.setdefault(one.name, set()).add(-1 if one.told is None else one.told)
        if one.code and one.code[0] != PRIVATE:
            codes.setdefault(one.name, list(one.code))
    missing = [name for name in keep if name not in named]
    if missing:
        raise DatasetError(f"no file of labels has {examples(missing)}; there are {examples(list(named))}")
    chosen = {name: values for name, values in named.items() if not keep or name in keep}
    if not chosen:
        return None, {}
    told = [next(iter(values)) for values in chosen.values() if len(values) == 1]
    if len(set(told)) == len(chosen) and min(told) > 0:
        values = {name: next(iter(found)) for name, found in chosen.items()}
    else:
        values = {name: value for value, name in enumerate(sorted(chosen), 1)}
    ordered = sorted(values, key=lambda name: values[name])
    labels = LabelSet(("background", *ordered), (0, *(values[name] for name in ordered)))
    return labels, {name: codes[name] for name in ordered if name in codes}


def _convert_case(
    case: DatasetCase, outputs: Outputs, labels: LabelSet | None, done: Converted, progress: Progress
) -> None:
    first = case.channels[0]
    try:
        for other in case.channels[1:]:
            require_none(compare_grids(first.grid, other.grid))
        with outputs.new_files(_image_name(case, 0)) as folder:
            for number, series in enumerate(case.channels):  # one at a time is in memory
                name = _image_name(case, number)
                _write_image(folder / _images(case) / name, read_series(series))
            if labels is not None and case.labels:
                (folder / "labelsTr").mkdir()
                merged = _merged(case, first.grid, labels, progress)
                write_labels(folder / "labelsTr" / f"{case.name}.nii.gz", merged, first.stack.header)
    except IssueError as error:
        done.refused.append(error.issue)
        return
    (done.training if case.labels else done.test).append(case.name)


def _merged(case: DatasetCase, grid: Grid, labels: LabelSet, progress: Progress) -> IntArray:
    """Bring all labels of a case onto its grid; where several files name a voxel, the last one counts."""
    shown = case.channels[0].shown
    merged: IntArray | None = None
    for path in case.labels:
        try:
            found = read_labels_on(path, grid, labels)
        except IssueError as error:
            raise IssueError(shown.issue(error.issue)) from error
        for issue in found.issues:
            if issue.fatal:
                raise IssueError(shown.issue(issue))
            progress.say(f"warning: {shown.issue(issue)}")
        voxels = found.labels()
        if merged is None:
            merged = voxels
            continue
        both = int(np.count_nonzero(merged[voxels != 0]))
        if both:
            text = f"segments-overlap: {both} voxels have labels of two files; the last counts"
            progress.say(f"warning: {shown.path(path)}: {text}")
        merged = np.where(voxels != 0, voxels, merged)
    if merged is None:
        raise DatasetError(f"{case.name}: has no file of labels")
    return merged


def _write_image(path: Path, image: ImageFile) -> None:
    """Write intensities: whole numbers as integers, others as float32."""
    import nibabel

    voxels: NDArray[Any] = image.voxels[0]
    if image.scaled or voxels.dtype.kind == "f":
        values = np.empty(image.voxels.shape, np.float32)
        image.write_image(values)
        voxels = values[0]
        low, high = float(voxels.min()), float(voxels.max())
        whole = image.voxels.dtype.kind != "f" and image.slope == int(image.slope)
        if whole and image.intercept == int(image.intercept) and low >= -32768 and high <= 32767:
            voxels = voxels.astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nifti = nibabel.Nifti1Image(voxels.transpose(2, 1, 0), np.array(image.header.affine))
    nifti.header.set_xyzt_units("mm")
    nibabel.save(nifti, path)


def _document(channels: Sequence[str], labels: LabelSet, codes: dict[str, list[str]], training: int) -> dict[str, Any]:
    content: dict[str, Any] = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": dict(zip(labels.names, labels.values, strict=True)),
        "numTraining": training,
        "file_ending": ".nii.gz",
    }
    return content | ({"codes": codes} if codes else {})
