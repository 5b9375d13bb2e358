"""A folder of segmentations as a report, statistics and the viewer take it: cases, their images, labels, references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_rs.core.dataset_json import read_channels, read_declared_labels, read_document
from nnunet_rs.core.dicom.folders import series_paths
from nnunet_rs.core.dicom.listing import is_there
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.folders import Folders
from nnunet_rs.core.io import can_read, endings, read_labels
from nnunet_rs.core.names import CHANNEL, strip_ending
from nnunet_rs.core.record import FOLD_DICE, PREDICTION, Record
from nnunet_rs.core.text import examples
from nnunet_rs.core.types import Case, LabelSet
from nnunet_rs.core.unzip import is_zip
from nnunet_rs.core.workspace import DATASET_JSON
from nnunet_rs.evaluate.folders import label_files
from nnunet_rs.predict.prediction_json import labels_of, read_prediction_json
from nnunet_rs.predict.probabilities import ENDING

KINDS = (PREDICTION, "post-processed")  # of a record's entries that are segmentations


@dataclass(frozen=True, slots=True)
class Given:
    """What the user names besides the folder."""

    images: Path | None = None  # a folder, or the file of a single case; None: what the record says
    references: Path | None = None  # a folder, or the file of a single case
    dataset_json: Path | None = None  # names labels and channels
    labels: LabelSet | None = None  # known already
    channels: tuple[str, ...] = ()  # known already
    find_values: bool = True  # read all files where nobody names the labels; else there is none but the background


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was found; no image is opened for it."""

    folder: Path
    cases: tuple[Case, ...]  # sorted by name; `label` is the segmentation, `images` may be empty
    labels: LabelSet
    channels: tuple[str, ...]  # empty: nobody says
    references: Mapping[str, Path]  # by case
    probabilities: Mapping[str, Path]  # by case
    made_with: Mapping[str, Any]  # prediction.json; empty: there is none
    remarks: tuple[str, ...]  # what is missing: one line each

    @property
    def name(self) -> str:
        """How a page calls them."""
        return self.folder.resolve().name or str(self.folder)


def read_predictions(path: Path, given: Given = Given()) -> Predictions:
    """List the segmentations of a folder, or take one file.

    Parameters
    ----------
    path
        A folder of segmentations, or one of them. Images are those that the folder's record names, unless `given`.
        Labels are named by `given.dataset_json`, else by prediction.json, else by a dataset.json in the folder, beside
        it, or beside the references; else each value that is found is a class.

    Raises
    ------
    DatasetError
        A folder that is missing or holds no segmentation; a dataset.json that cannot be read; a folder of images or
        references that is missing, or holds those of no case.
    """
    files = _segmentations(path)
    folder = path.parent if path.is_file() else path
    remarks: list[str] = []
    images = _named(given.images, files, "image") if given.images else dict(_recorded(folder, files, remarks))
    references = _named(given.references, files, "reference") if given.references else {}
    cases = tuple(Case(name, images.get(name, ()), file) for name, file in sorted(files.items()))
    for what, found in (("image", images), ("reference", references if given.references else files)):
        missing = [name for name in files if not found.get(name)]
        if missing:
            have = "has" if len(missing) == 1 else "have"
            remarks.append(f"{len(missing)} of {len(files)} cases {have} no {what}: {examples(missing)}")
    document = _dataset_json(folder, given)
    return Predictions(
        folder=folder,
        cases=cases,
        labels=_labels(folder, document, given, cases),
        channels=given.channels or _channels(document),
        references={name: paths[0] for name, paths in references.items()},
        probabilities={name: file for name in files if (file := folder / f"{name}{ENDING}").is_file()},
        made_with=read_prediction_json(folder) or {},
        remarks=tuple(remarks),
    )


def fold_dice(found: Predictions) -> dict[str, dict[str, float]]:
    """Return, by case and structure, how far the folds agree, as `predict` recorded it of files that nobody edited.

    A case of which nothing is known is left out; of a case the structures that no fold found.
    """
    record, names = Record(found.folder, PREDICTION), set(found.labels.score_names)
    told = {}
    for case in found.cases:
        noted = {} if case.label is None else record.notes(case.label).get(FOLD_DICE)
        if isinstance(noted, dict):
            told[case.name] = {
                name: float(value)
                for name, value in noted.items()
                if name in names and isinstance(value, int | float) and 0 <= value <= 1
            }
    return {name: dice for name, dice in told.items() if dice}


def _segmentations(path: Path) -> dict[str, Path]:
    if not path.is_file():
        return label_files(path)
    if not can_read(path):
        raise DatasetError(f"{path}: is no segmentation that can be read; give one, or a folder of them")
    return {strip_ending(path.name): path}


def _recorded(folder: Path, files: Mapping[str, Path], remarks: list[str]) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Find the images that the record says the segmentations were made from, and that are still there."""
    records, moved = [Record(folder, kind) for kind in KINDS], []
    for name, file in files.items():
        sources = next((found for record in records if (found := record.sources(file))), ())
        missing = [source for source in sources if not is_there(source)]
        if missing:
            moved.append(str(missing[0]))
        elif sources:
            yield name, sources
    if moved:
        remarks.append(
            f"images are no longer where they were predicted from: {examples(moved)}; name their folder (-i)"
        )


def _named(path: Path, files: Mapping[str, Path], what: str) -> dict[str, tuple[Path, ...]]:
    """Find the files of the cases in a folder that the user names.

    They are `{case}{ending}`, or `{case}_{CCCC}{ending}`; of images also a folder `{case}` of slices.
    """
    if path.is_file() and len(files) == 1:
        return (_series(path, files) if what == "image" else {}) or {next(iter(files)): (path,)}
    if not path.is_dir() and not (what == "image" and is_zip(path)):
        kind = "is a file, of several cases a folder is needed" if path.is_file() else "no such folder"
        raise DatasetError(f"{path}: {kind}; give the folder of the {what}s")
    whole: dict[str, Path] = {}
    channels: dict[str, list[Path]] = {}
    folders = Folders()
    slices = folders.listing(path).folders if what == "image" else frozenset()
    for name in folders.images(path, endings()):
        stem = strip_ending(name)
        whole.setdefault(stem, path / name)
        match = CHANNEL.fullmatch(stem)
        if match and what == "image":
            channels.setdefault(match["case"], []).append(path / name)
    found: dict[str, tuple[Path, ...]] = {}
    for name, file in files.items():
        if name in whole and not whole[name].samefile(file):
            found[name] = (whole[name],)
        elif name in channels:
            found[name] = tuple(channels[name])
        elif name in slices:
            found[name] = (path / name,)
    if what == "image" and len(found) < len(files):
        found = _series(path, files) | found
    if not found:
        raise DatasetError(f"{path}: holds the {what} of no case ({examples(files)}); give the folder of the {what}s")
    return found


def _series(path: Path, files: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """Find the series of DICOM that are named as the cases, or channels of them; of a single one any."""
    series = series_paths(path)
    if len(series) == len(files) == 1:
        return {next(iter(files)): tuple(series.values())}
    channels: dict[str, list[Path]] = {}
    for name in sorted(series):
        match = CHANNEL.fullmatch(name)
        channels.setdefault(match["case"] if match else name, []).append(series[name])
    found = {name: (series[name],) if name in series else tuple(channels.get(name, ())) for name in files}
    return {name: images for name, images in found.items() if images}


def _dataset_json(folder: Path, given: Given) -> Path | None:
    if given.dataset_json is not None:
        return given.dataset_json
    places = [folder, folder.absolute().parent]
    if given.references is not None:
        home = given.references if given.references.is_dir() else given.references.absolute().parent
        places += [home, home.absolute().parent]
    return next((place / DATASET_JSON for place in places if (place / DATASET_JSON).is_file()), None)


def _labels(folder: Path, document: Path | None, given: Given, cases: Sequence[Case]) -> LabelSet:
    if given.labels is not None:
        return given.labels
    if given.dataset_json is not None:
        return read_declared_labels(given.dataset_json)
    predicted = labels_of(folder)
    if predicted is not None:
        return predicted
    if document is None:
        return _found(cases if given.find_values else ())
    return read_declared_labels(document)


def _channels(document: Path | None) -> tuple[str, ...]:
    """Return what dataset.json calls the channels; those of predictions alone have none, and no error is made of it."""
    try:
        return () if document is None else read_channels(document, read_document(document))
    except DatasetError:
        return ()


def _found(cases: Sequence[Case]) -> LabelSet:
    """Take every value as a class; files that cannot be read are reported where they are used."""
    values = {0}
    for case in cases:
        try:
            data = read_labels(case.label or Path()).data
            values.update(int(value) for value in np.unique(data))
        except (NnunetError, OSError):
            continue
    ordered = (0, *sorted(values - {0}))
    return LabelSet(names=("background", *(f"label {value}" for value in ordered[1:])), values=ordered)
