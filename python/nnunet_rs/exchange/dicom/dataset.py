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
from nnunet_rs.core.image_file import Grid, ImageFile
from nnunet_rs.core.io import write_labels
from nnunet_rs.core.issues import Issue, IssueError, fatal
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.text import examples
from nnunet_rs.core.types import IntArray, LabelSet
from nnunet_rs.core.workspace import DATASET_JSON
from nnunet_rs.exchange.dicom.structures import PRIVATE

_CHANNELS = {"CT": "CT", "MR": "MR", "PT": "PET", "NM": "NM"}
_KIND = "dataset"


@dataclass(frozen=True, slots=True)
class LabelledSeries:
    """A series, and the files of labels that are of it."""

    series: Series
    labels: tuple[Path, ...]


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
            issues.append(error.issue)
            continue
        if series is None:
            value = "labels of a series that is not here"
            issues.append(Issue(path, "label-alone", value, "give the series as well", fatal=False))
        else:
            of.setdefault(series.name, []).append(path)
    return tuple(LabelledSeries(one, tuple(of.get(one.name, ()))) for one in found.series), tuple(issues)


def names_of(path: Path) -> tuple[Named, ...]:
    """Return the structures that a file of labels lists; errors as its reader's."""
    return read_contours(path).names if label_kind(path) == "RTSTRUCT" else read_names(path)


def convert(
    cases: Sequence[LabelledSeries],
    output: Path,
    progress: Progress,
    *,
    keep: Sequence[str] = (),
    overwrite: bool = False,
) -> Converted:
    """Write a dataset in nnU-Net's raw layout.

    Parameters
    ----------
    cases
        As `link` gave them. Those with labels go to imagesTr and labelsTr, those without to imagesTs.
    output
        The dataset's folder.
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
        No series can be used; several modalities; a structure to keep is in no file.
    NnunetError
        A file cannot be written, or is there and not this tool's.
    """
    done = Converted()
    usable: list[LabelledSeries] = []
    for case in cases:
        wrong = fatal(case.series.issues)
        done.refused += wrong[:1]
        usable += [] if wrong else [case]
    if not usable:
        raise DatasetError(f"{cases[0].series.place}: no series can be used: {done.refused[0]}")
    modality = _modality(usable)
    labels, codes = _labels([path for case in usable for path in case.labels], keep)
    done.labels = labels
    with Outputs(output, kind=_KIND, overwrite=overwrite, say=progress.say) as outputs:
        outputs.require([file for case in usable for file in _files(output, case)] + [output / DATASET_JSON])
        with progress.task("convert", len(usable)) as task:
            for case in usable:
                _convert_case(case, outputs, labels, done, progress)
                task.advance(1, case.series.name)
        if labels is not None and done.training:
            with outputs.new_files(DATASET_JSON) as folder:
                write_json(folder / DATASET_JSON, _document(modality, labels, codes, len(done.training)))
    return done


def _files(output: Path, case: LabelledSeries) -> list[Path]:
    name = case.series.name
    if not case.labels:
        return [output / "imagesTs" / f"{name}_0000.nii.gz"]
    return [output / "imagesTr" / f"{name}_0000.nii.gz", output / "labelsTr" / f"{name}.nii.gz"]


def _modality(cases: Iterable[LabelledSeries]) -> str:
    found = sorted({case.series.origin.modality for case in cases})
    if len(found) > 1:
        raise DatasetError(
            f"series of {', '.join(found)} make no dataset of one channel; choose one modality (--modality)"
        )
    return _CHANNELS.get(found[0], found[0] or "image")


def _labels(files: Sequence[Path], keep: Sequence[str]) -> tuple[LabelSet | None, dict[str, list[str]]]:
    """Give each structure's name a value: what the files tell, or else in alphabetical order."""
    named: dict[str, set[int]] = {}  # what each name stands for, by the files that tell it; -1: one does not
    codes: dict[str, list[str]] = {}
    for one in (one for path in files for one in names_of(path)):
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
    case: LabelledSeries, outputs: Outputs, labels: LabelSet | None, done: Converted, progress: Progress
) -> None:
    try:
        image = read_series(case.series)
        merged = _merged(case, image, labels, progress) if case.labels and labels is not None else None
    except IssueError as error:
        done.refused.append(error.issue)
        return
    name = case.series.name
    kind = "Ts" if merged is None else "Tr"
    with outputs.new_files(f"{name}_0000.nii.gz") as folder:
        _write_image(folder / f"images{kind}" / f"{name}_0000.nii.gz", image)
        if merged is not None:
            (folder / "labelsTr").mkdir()
            write_labels(folder / "labelsTr" / f"{name}.nii.gz", merged, image.header)
    (done.test if merged is None else done.training).append(name)


def _merged(case: LabelledSeries, image: ImageFile, labels: LabelSet, progress: Progress) -> IntArray:
    """Bring all labels of a series onto its grid; where several files name a voxel, the last one counts."""
    grid = Grid(image.file, image.shape, image.spacing, image.header.affine)
    merged: IntArray | None = None
    for path in case.labels:
        found = read_labels_on(path, grid, labels)
        for issue in found.issues:
            if issue.fatal:
                raise IssueError(issue)
            progress.say(f"warning: {issue}")
        voxels = found.labels()
        if merged is None:
            merged = voxels
            continue
        both = int(np.count_nonzero(merged[voxels != 0]))
        if both:
            progress.say(f"warning: {path}: segments-overlap: {both} voxels have labels of two files; the last counts")
        merged = np.where(voxels != 0, voxels, merged)
    if merged is None:
        raise DatasetError(f"{case.series.place}: has no file of labels")
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


def _document(modality: str, labels: LabelSet, codes: dict[str, list[str]], training: int) -> dict[str, Any]:
    content: dict[str, Any] = {
        "channel_names": {"0": modality},
        "labels": dict(zip(labels.names, labels.values, strict=True)),
        "numTraining": training,
        "file_ending": ".nii.gz",
    }
    return content | ({"codes": codes} if codes else {})
