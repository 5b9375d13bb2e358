"""A dataset's folder and dataset.json, in either layout, as a list of cases; and a folder of images to predict."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nnunet_rs.core.declaration import broken, read_channels, read_labels
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.faults import Fault
from nnunet_rs.core.files import read_json
from nnunet_rs.core.io import ENDINGS
from nnunet_rs.core.labels import decode_labels, encode_labels
from nnunet_rs.core.types import Case, Dataset

__all__ = ["decode_labels", "encode_labels", "find_input_cases", "read_dataset", "strip_ending"]

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
_SKIPPED = (".", "_")  # first characters of names that are no data: resource forks, editors' and our own temporaries

Listed = tuple[list[Case], list[Fault]]  # the usable cases, and what is wrong with the others


def read_dataset(root: str | Path) -> Dataset:
    """Read dataset.json and list the files of a dataset; no image is opened.

    Parameters
    ----------
    root
        A folder in the Medical Segmentation Decathlon's layout (`training` lists the files; 4-D files hold all
        channels) or in nnU-Net's raw layout (`imagesTr/{case}_{CCCC}{ending}`, or `dataset` lists the files). A
        Decathlon-like dataset.json over one file per channel (nnU-Net v1) is understood as well.

    Returns
    -------
    Dataset
        `training` holds the cases whose files are there, sorted by name. What is wrong with the others is in `faults`
        (`image-missing`, `label-missing`, `label-name`, `channels`, `image-name`, `case-twice`), with the warnings
        `num-training` and `ending`; `check.check_dataset` reports them.

    Raises
    ------
    DatasetError
        The folder or dataset.json is missing, malformed or without any case; a key is missing or of wrong type.
    """
    root = Path(root)
    file = root / "dataset.json"
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; give the folder that holds dataset.json")
    if not file.exists():
        raise DatasetError(f"{file}: no such file; give the folder that holds it, not one above or below")
    content = read_json(file)
    if not isinstance(content, dict):
        raise DatasetError(f"{file}: holds a {type(content).__name__}, not an object; see nnU-Net's dataset format")
    layout = _layout(file, content)
    channels, labels = read_channels(file, content), read_labels(file, content)
    source = _Source(root, file, content, len(channels), _ending(file, content, layout), _Folders({}))
    cases, faults = _training(source, layout)
    faults += _count_fault(file, content.get("numTraining"), len(cases) + len({f.case for f in faults if f.fatal}))
    if not cases and not faults:
        raise DatasetError(f"{root}: has no training case; see 'training' in dataset.json, or imagesTr")
    return Dataset(
        name=root.resolve().name,
        root=root,
        layout=layout,
        channels=channels,
        labels=labels,
        training=tuple(sorted(cases, key=lambda case: case.name)),
        test=tuple(sorted(_test(source, layout), key=lambda case: case.name)),
        ending=source.ending,
        faults=tuple(faults),
    )


def find_input_cases(folder: Path, channels: int, ending: str = "") -> tuple[tuple[Case, ...], tuple[Fault, ...]]:
    """List the images to predict in a folder.

    Parameters
    ----------
    folder
        Holds `{case}_{CCCC}{ending}` files (nnU-Net's names, a file per channel), or one file a case under any name;
        the two may be mixed. Files that begin with `.` or `_` are skipped.
    channels
        What the model takes.
    ending
        Of the files to take; empty: every ending that can be read.

    Returns
    -------
    cases
        Sorted by name, without labels. A single file for several channels must hold them all; that is found on reading.
    faults
        Of the cases that cannot be used, one each: a channel too few or too many, a case twice.

    Raises
    ------
    DatasetError
        No such folder, no image in it, or none that can be used.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give the folder that holds the images")
    names = _Folders({}).names(folder)
    images = [name for name in names if name.endswith(ending or ENDINGS)]
    if not images:
        others = _endings(names)
        raise DatasetError(
            f"{folder}: no file ends in {ending or ' '.join(ENDINGS)} (found: {others or 'nothing'}); give the "
            "folder that holds the images"
        )
    cases, faults = _grouped(folder, images, channels, plain=True)
    broken_ones = {fault.case: fault for fault in reversed(faults)}
    usable = sorted((case for case in cases if case.name not in broken_ones), key=lambda case: case.name)
    if not usable:
        raise DatasetError(str(faults[0]))
    return tuple(usable), tuple(broken_ones.values())


def strip_ending(name: str) -> str:
    """Return a file's name without the ending of its format (`.nii.gz` goes as a whole)."""
    for ending in ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return Path(name).stem


# ---- what dataset.json says ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Folders:
    """Names of the files in folders; each folder is listed once, and no file is asked for anything (100 000 cases)."""

    listed: dict[Path, frozenset[str]]

    def names(self, folder: Path) -> frozenset[str]:
        """File names in `folder`, those that are no data left out; none if there is no such folder."""
        if folder not in self.listed:
            try:
                with os.scandir(folder) as entries:
                    names = (entry.name for entry in entries if not entry.is_dir(follow_symlinks=False))
                    self.listed[folder] = frozenset(name for name in names if not name.startswith(_SKIPPED))
            except (FileNotFoundError, NotADirectoryError):
                self.listed[folder] = frozenset()
            except OSError as error:
                raise DatasetError(f"{folder}: cannot be listed: {error.strerror}; check its permissions") from error
        return self.listed[folder]

    def has(self, path: Path) -> bool:
        """Whether a file is there."""
        return path.name in self.names(path.parent)


@dataclass(frozen=True, slots=True)
class _Source:
    """What listing the cases needs."""

    root: Path
    file: Path
    content: dict[str, Any]
    channels: int
    ending: str
    folders: _Folders

    def place(self, listed: str) -> Path:
        """Return where a file is that dataset.json lists: in the dataset's folder, or anywhere by an absolute path.

        As in nnU-Net's format, `$NAME` and `${NAME}` stand for environment variables.
        """
        return self.root / os.path.expandvars(listed)


def _layout(file: Path, content: dict[str, Any]) -> Literal["decathlon", "nnunet"]:
    if {"channel_names", "file_ending", "dataset"} & content.keys():
        return "nnunet"
    if "training" in content:
        return "decathlon"
    what = "has neither 'training' (Decathlon layout) nor 'channel_names' and 'file_ending' (nnU-Net's raw layout)"
    raise DatasetError(f"{file}: {what}; add the keys of one of them")


def _ending(file: Path, content: dict[str, Any], layout: str) -> str:
    if layout == "decathlon":
        entries = content["training"] if isinstance(content["training"], list) else []
        names = [entry["image"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("image"), str)]
        return names[0][len(strip_ending(names[0])) :] if names else ".nii.gz"
    ending = content.get("file_ending")
    advice = f"give one of {' '.join(ENDINGS)}"
    if ending is None:
        raise broken(file, "file_ending", "is missing", advice)
    if not isinstance(ending, str) or not ending.lower().endswith(ENDINGS):
        raise broken(file, "file_ending", f"is {ending!r}", advice)
    return ending


def _count_fault(file: Path, declared: object, found: int) -> list[Fault]:
    if declared is None or declared == found:
        return []
    value = f"numTraining is {declared!r}, found {found} cases"
    return [Fault(file, "num-training", value, "correct the number, or restore what is missing", fatal=False)]


def _training(source: _Source, layout: str) -> Listed:
    if layout == "decathlon":
        return _listed(source, _decathlon_entries(source))
    if "dataset" in source.content:
        return _listed(source, _raw_entries(source))
    return _scanned(source)


def _test(source: _Source, layout: str) -> list[Case]:
    """Cases without labels; one that is not whole is left out, for nothing is learnt from it."""
    if layout == "nnunet":
        folder = source.root / "imagesTs"
        names = [name for name in source.folders.names(folder) if name.endswith(source.ending)]
        return _grouped(folder, names, source.channels)[0]
    entries = source.content.get("test")
    listed = entries if isinstance(entries, list) else []
    paths = [
        source.root / name
        for name in (entry.get("image") if isinstance(entry, dict) else entry for entry in listed)
        if isinstance(name, str)
    ]
    return [
        Case(strip_ending(path.name), (path,))
        for path in paths
        if not path.name.startswith(_SKIPPED) and source.folders.has(path)
    ]


# ---- files that dataset.json lists -----------------------------------------------------------------------------------


def _decathlon_entries(source: _Source) -> Iterator[tuple[str, list[Path], Path | None]]:
    """Give (name, images, label) of each entry of `training`."""
    entries = source.content["training"]
    advice = 'write [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]'
    if not isinstance(entries, list):
        raise broken(source.file, "training", f"is {type(entries).__name__}, not a list", advice)
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
            raise broken(source.file, f"training[{index}]", f"is {entry!r}", advice)
        label = entry.get("label")
        if label is not None and not isinstance(label, str):
            raise broken(source.file, f"training[{index}]", f"has the label {label!r}", advice)
        image = source.place(entry["image"])
        if not image.name.startswith(_SKIPPED):
            name = strip_ending(image.name)
            yield name, _split_channels(source, image, name), None if label is None else source.place(label)


def _split_channels(source: _Source, image: Path, name: str) -> list[Path]:
    """Return the image itself, or nnU-Net v1's files per channel, which its dataset.json lists without the number."""
    if source.folders.has(image):
        return [image]
    ending = image.name[len(name) :]
    split = [image.with_name(f"{name}_{channel:04d}{ending}") for channel in range(source.channels)]
    return split if source.folders.has(split[0]) else [image]


def _raw_entries(source: _Source) -> Iterator[tuple[str, list[Path], Path | None]]:
    """Give (name, images, label) of each entry of `dataset`."""
    entries = source.content["dataset"]
    advice = 'write {"case": {"images": ["imagesTr/case_0000.nii.gz"], "label": "labelsTr/case.nii.gz"}}'
    if not isinstance(entries, dict):
        raise broken(source.file, "dataset", f"is {type(entries).__name__}, not an object", advice)
    for name, entry in entries.items():
        images = entry.get("images") if isinstance(entry, dict) else None
        if not isinstance(images, list) or not images or not all(isinstance(image, str) for image in images):
            raise broken(source.file, f"dataset[{name!r}]", f"is {entry!r}", advice)
        label = entry.get("label")
        if label is not None and not isinstance(label, str):
            raise broken(source.file, f"dataset[{name!r}]", f"has the label {label!r}", advice)
        yield name, [source.place(image) for image in images], None if label is None else source.place(label)


def _listed(source: _Source, entries: Iterable[tuple[str, list[Path], Path | None]]) -> Listed:
    """Sort what dataset.json lists into cases whose files are there and faults."""
    cases: dict[str, Case] = {}
    faults: list[Fault] = []
    for name, images, label in entries:
        if name in cases:
            faults.append(Fault(images[0], "case-twice", f"'{name}' is listed twice", "rename one of them", name))
            continue
        found = [_file_missing(image, "image-missing", name) for image in images if not source.folders.has(image)]
        if label is None:
            found.append(Fault(images[0], "label-missing", "dataset.json names no label", "name it", name))
        elif not source.folders.has(label):
            found.append(_file_missing(label, "label-missing", name))
        if len(images) not in (1, source.channels):
            found.append(_channel_fault(images[0], f"{len(images)} files", source.channels, name))
        faults += found
        if not found:
            cases[name] = Case(name, tuple(images), label)
    return list(cases.values()), faults


# ---- files found by their names --------------------------------------------------------------------------------------

_RESTORE = "restore it, or take the case out of the dataset"


def _scanned(source: _Source) -> Listed:
    """List imagesTr and labelsTr."""
    images, labels = source.root / "imagesTr", source.root / "labelsTr"
    for folder in (images, labels):
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; nnU-Net's raw layout needs it")
    names = [name for name in source.folders.names(images) if name.endswith(source.ending)]
    if not names:
        others = _endings(source.folders.names(images))
        raise DatasetError(f"{images}: no file ends in {source.ending} (found: {others or 'nothing'}); see file_ending")
    cases, faults = _grouped(images, names, source.channels)
    faults += _other_endings(source, images)
    labelled = {name for name in source.folders.names(labels) if name.endswith(source.ending)}
    seen = {case.name for case in cases} | {fault.case for fault in faults}
    stems = sorted(name[: -len(source.ending)] for name in labelled)
    alone = [_label_alone(labels, stem, source.ending, seen) for stem in stems if stem not in seen]
    misnamed = {fault.case for fault in alone if fault.case in seen}
    whole = []
    for case in cases:
        label = labels / (case.name + source.ending)
        if label.name in labelled:
            whole.append(Case(case.name, case.images, label))
        elif case.name not in misnamed:
            faults.append(Fault(label, "label-missing", f"no label of '{case.name}'", _RESTORE, case.name))
    return whole, faults + alone


def _label_alone(labels: Path, stem: str, ending: str, seen: Collection[str]) -> Fault:
    """Say what is wrong with a label that belongs to no image: most often it has a channel number, as images have."""
    file, match = labels / (stem + ending), _CHANNEL.fullmatch(stem)
    if match and match["case"] in seen:
        value, case = f"has a channel number, it is the label of '{match['case']}'", match["case"]
        return Fault(file, "label-name", value, f"name it {case}{ending}: labels have no channels", case)
    return Fault(file, "image-missing", f"no image of '{stem}' in imagesTr", _RESTORE, stem)


def _grouped(folder: Path, names: Iterable[str], channels: int, plain: bool = False) -> Listed:
    """Put the files of each case together by their channel numbers.

    With `plain`, a file without a number is a case of its own; and if no file is numbered 0000, none is numbered.
    """
    matches = {name: _CHANNEL.fullmatch(strip_ending(name)) for name in sorted(names)}
    numbered = not plain or any(match and match["channel"] == "0000" for match in matches.values())
    groups: dict[str, dict[int, str]] = {}
    faults = []
    for name, match in matches.items():
        if match and numbered:
            case, channel = match["case"], int(match["channel"])
        elif plain:
            case, channel = strip_ending(name), 0
        else:
            advice = "name it {case}_{channel}, the channel with four digits: liver_001_0000"
            faults.append(Fault(folder / name, "image-name", "has no channel number", advice, strip_ending(name)))
            continue
        if channel in groups.setdefault(case, {}):
            faults.append(Fault(folder / name, "case-twice", f"'{case}' is there twice", "rename one of them", case))
        groups[case][channel] = name
    cases = []
    for case, files in groups.items():
        if tuple(files) in ((0,), tuple(range(channels))):
            cases.append(Case(case, tuple(folder / name for name in files.values())))
        else:
            numbers = "channels " + ", ".join(f"{channel:04d}" for channel in files)
            faults.append(_channel_fault(folder / min(files.values()), numbers, channels, case))
    return cases, faults


def _file_missing(file: Path, rule: str, case: str) -> Fault:
    unset = re.search(r"\$\{?(\w+)", str(file))
    if unset:
        return Fault(file, rule, f"the environment variable {unset[1]} is not set", "set it, or write the path", case)
    return Fault(file, rule, "no such file", _RESTORE, case)


def _channel_fault(file: Path, found: str, channels: int, case: str) -> Fault:
    expected = f"{channels} expected (0000 … {channels - 1:04d})" if channels > 1 else "one expected (0000)"
    return Fault(file, "channels", f"{found}, {expected}", "give every channel a file, or one file all channels", case)


def _other_endings(source: _Source, folder: Path) -> list[Fault]:
    """Images that `file_ending` leaves out: often a mistake."""
    others = [name for name in source.folders.names(folder) if not name.endswith(source.ending)]
    images = [name for name in others if name.lower().endswith(ENDINGS)]
    if not images:
        return []
    value = f"{_endings(images)} files are left out: file_ending is {source.ending}"
    return [Fault(folder, "ending", value, "convert them, or move them away", fatal=False)]


def _endings(names: Iterable[str]) -> str:
    """Return the endings and how often each occurs, as text."""
    counts = Counter(name[len(strip_ending(name)) :] or "no ending" for name in names)
    return ", ".join(f"{count} {ending}" for ending, count in counts.most_common(4))
