"""A dataset's folder and dataset.json, in either layout, as a list of cases; and a folder of images to predict."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from nnunet_rs.core.dataset_json import broken, read_channels, read_document, read_labels, shortened
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.folders import Folders, left_out
from nnunet_rs.core.grouping import RESTORE, LabelFiles, Listed, channel_issue, grouped
from nnunet_rs.core.io import can_read
from nnunet_rs.core.io import endings as known_endings
from nnunet_rs.core.issues import Issue
from nnunet_rs.core.names import HIDDEN, count_endings, ending_of, strip_ending, without_ending
from nnunet_rs.core.partial_labels import require_cases, unannotated_targets
from nnunet_rs.core.regions import dataset_json_issues
from nnunet_rs.core.text import examples
from nnunet_rs.core.types import Case, Dataset
from nnunet_rs.core.workspace import DATASET_JSON

_VARIABLE = re.compile(r"\$(?P<name>\w+|\{[^}]*\})", re.ASCII)  # as `os.path.expandvars` finds them
_NO_NAME = frozenset("/\\\0")  # characters that a case's name, which becomes file names, must not have


def read_dataset(root: str | Path, environment: Mapping[str, str] | None = None) -> Dataset:
    """Read dataset.json and list the files of a dataset; no image is opened.

    Parameters
    ----------
    root
        A folder in the Medical Segmentation Decathlon's layout (`training` lists the files; 4-D files hold all
        channels) or in nnU-Net's raw layout (`imagesTr/{case}_{CCCC}{ending}`, or `dataset` lists the files). A
        Decathlon-like dataset.json over one file per channel (nnU-Net v1) is understood as well.
    environment
        What `$NAME` and `${NAME}` in listed files stand for, as in nnU-Net's format; None: they stand for themselves.

    Returns
    -------
    Dataset
        `training` holds the cases whose files are there, sorted by name. What is wrong with the others is in `issues`
        (`image-missing`, `label-missing`, `label-name`, `channels`, `image-name`, `case-twice`), with the warnings
        `num-training`, `regions-order`, `label-values`, `ignore-name`, `test-image`, and `ending` and `left-out` for
        what imagesTr, labelsTr, imagesTs and the folders of listed files hold and nobody uses;
        `check.check_dataset` reports them.

    Raises
    ------
    DatasetError
        The folder or dataset.json is missing, malformed or without any case; a key is missing or of wrong type.
    """
    root = Path(root)
    file = root / DATASET_JSON
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; give the folder that holds {DATASET_JSON}")
    if not file.exists():
        raise DatasetError(f"{file}: no such file; give the folder that holds it, not one above or below")
    content = read_document(file)
    layout = _layout(file, content)
    channels, labels = read_channels(file, content), read_labels(file, content)
    source = _Source(root, file, content, len(channels), _ending(file, content, layout), Folders(), environment or {})
    cases, issues = _training(source, layout)
    partly = unannotated_targets(file, content, labels)
    require_cases(file, partly, {case.name for case in cases} | {issue.case for issue in issues})
    cases = [replace(case, unannotated=partly.get(case.name, ())) for case in cases]
    test, of_test = _test(source, layout)
    issues += dataset_json_issues(file, labels)
    issues += of_test
    issues += _count_issue(file, content.get("numTraining"), len(cases) + len({f.case for f in issues if f.fatal}))
    if not cases and not any(issue.fatal for issue in issues):
        raise DatasetError(f"{root}: has no training case; see 'training' in {DATASET_JSON}, or imagesTr")
    return Dataset(
        name=root.resolve().name,
        root=root,
        layout=layout,
        channels=channels,
        labels=labels,
        training=tuple(sorted(cases, key=lambda case: case.name)),
        test=tuple(sorted(test, key=lambda case: case.name)),
        ending=source.ending,
        issues=tuple(issues),
    )


def find_input_cases(folder: Path, channels: int, ending: str = "") -> tuple[tuple[Case, ...], tuple[Issue, ...]]:
    """List the images to predict in a folder.

    Parameters
    ----------
    folder
        Holds `{case}_{CCCC}{ending}` files (nnU-Net's names, a file per channel), or one file a case under any name;
        the two may be mixed. Files that begin with `_` and 3D Slicer's `.seg.nrrd` are left out, hidden files passed
        over.
    channels
        What the model takes.
    ending
        Of the files to take; empty: every ending that can be read.

    Returns
    -------
    cases
        Sorted by name, without labels. A single file for several channels must hold them all; that is found on reading.
    issues
        Of the cases that cannot be used, one each: a channel too few or too many, a case twice. Then warnings, of no
        case: what else the folder holds (`left-out`, `ending`), dataset.json and hidden files excepted.

    Raises
    ------
    DatasetError
        No such folder, no image in it, or none that can be used.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give the folder that holds the images")
    folders = Folders()
    listing, images = folders.listing(folder), folders.images(folder, ending or known_endings())
    if not images:
        others = count_endings(listing.files)
        raise DatasetError(
            f"{folder}: no file ends in {ending or ' '.join(known_endings())} (found: {others or 'nothing'}); give the "
            "folder that holds the images"
        )
    cases, issues = grouped(folder, {name: strip_ending(name) for name in images}, channels, plain=True)
    broken_ones = {issue.case: issue for issue in reversed(issues)}
    usable = sorted((case for case in cases if case.name not in broken_ones), key=lambda case: case.name)
    if not usable:
        raise DatasetError(str(issues[0]))
    return tuple(usable), (*broken_ones.values(), *left_out(folder, listing, {*images, DATASET_JSON}, ending))


# ---- what dataset.json says ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Source:
    """What listing the cases needs."""

    root: Path
    file: Path
    content: dict[str, Any]
    channels: int
    ending: str
    folders: Folders
    environment: Mapping[str, str]

    def path_of(self, listed: str) -> Path:
        """Return where a file is that dataset.json lists: in the dataset's folder, or anywhere by an absolute path.

        `$NAME` and `${NAME}` stand for variables of the environment.
        """
        if "\0" in listed:
            raise broken(self.file, "a file name", f"is {listed!r}", "no name holds a zero byte: write it anew")
        return self.root / _VARIABLE.sub(
            lambda found: self.environment.get(found["name"].strip("{}"), found[0]), listed
        )


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
        if not names:
            return ".nii.gz"
        return ending_of(Path(names[0]).name) if can_read(Path(names[0])) else ".dcm"  # a folder, or a file without
    ending = content.get("file_ending")
    advice = f"give one of {' '.join(known_endings())}"
    if ending is None:
        raise broken(file, "file_ending", "is missing", advice)
    if not isinstance(ending, str) or not ending.startswith(".") or not ending.lower().endswith(known_endings()):
        raise broken(file, "file_ending", f"is {shortened(ending)}", advice)
    return ending


def _count_issue(file: Path, declared: object, found: int) -> list[Issue]:
    if declared is None or declared == found:
        return []
    value = f"numTraining is {shortened(declared)}, found {found} cases"
    return [Issue(file, "num-training", value, "correct the number, or restore what is missing", fatal=False)]


def _training(source: _Source, layout: str) -> Listed:
    if layout == "decathlon":
        return _listed(source, _decathlon_entries(source), ("imagesTr", "labelsTr", "imagesTs"))
    if "dataset" in source.content:
        return _listed(source, _raw_entries(source), ("imagesTr", "labelsTr"))
    return _scanned(source)


def _test(source: _Source, layout: str) -> Listed:
    """Cases without labels, and warnings of those that are left out: nothing is learnt from them."""
    folder = source.root / "imagesTs"
    if layout == "nnunet":
        names = source.folders.images(folder, source.ending)
        cases, issues = grouped(folder, {name: without_ending(name, source.ending) for name in names}, source.channels)
        incomplete = {issue.case for issue in issues}
        issues = [replace(issue, fatal=False) for issue in issues]
        issues += left_out(folder, source.folders.listing(folder), names, source.ending)
        return [case for case in cases if case.name not in incomplete], issues
    paths, wrong = _test_entries(source)
    lost = [*wrong, *(path.name for path in paths if not source.folders.has(path))]
    cases = [Case(strip_ending(path.name), (path,)) for path in paths if source.folders.has(path)]
    if not lost:
        return cases, []
    value = f"{len(lost)} of {len(paths) + len(wrong)} images listed under 'test' are not there: {examples(lost)}"
    return cases, [Issue(source.file, "test-image", value, "restore them, or correct the list", fatal=False)]


def _test_entries(source: _Source) -> tuple[list[Path], list[str]]:
    """Return the images that a Decathlon-like dataset.json lists under `test`, and entries that name none."""
    listed = source.content.get("test") or []
    entries = listed if isinstance(listed, list) else [listed]
    names = [entry.get("image") if isinstance(entry, dict) else entry for entry in entries]
    paths = [source.path_of(name) for name in names if isinstance(name, str)]
    wrong = [shortened(entry) for entry, name in zip(entries, names, strict=True) if not isinstance(name, str)]
    return [path for path in paths if not path.name.startswith(HIDDEN)], wrong


# ---- files that dataset.json lists -----------------------------------------------------------------------------------


def _decathlon_entries(source: _Source) -> Iterator[tuple[str, list[Path], Path | None]]:
    """Give (name, images, label) of each entry of `training`."""
    entries = source.content["training"]
    advice = 'write [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]'
    if not isinstance(entries, list):
        raise broken(source.file, "training", f"is {type(entries).__name__}, not a list", advice)
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
            raise broken(source.file, f"training[{index}]", f"is {shortened(entry)}", advice)
        label = entry.get("label")
        if label is not None and not isinstance(label, str):
            raise broken(source.file, f"training[{index}]", f"has the label {shortened(label)}", advice)
        image = source.path_of(entry["image"])
        if not image.name.startswith(HIDDEN):
            name = strip_ending(image.name)
            yield name, _split_channels(source, image, name), None if label is None else source.path_of(label)


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
        if not name or name.startswith(HIDDEN) or set(name) & _NO_NAME:
            raise broken(source.file, "dataset", f"has a case named {name!r}", "name it as a file could be named")
        images = entry.get("images") if isinstance(entry, dict) else None
        if not isinstance(images, list) or not images or not all(isinstance(image, str) for image in images):
            raise broken(source.file, f"dataset[{name!r}]", f"is {shortened(entry)}", advice)
        label = entry.get("label")
        if label is not None and not isinstance(label, str):
            raise broken(source.file, f"dataset[{name!r}]", f"has the label {shortened(label)}", advice)
        yield name, [source.path_of(image) for image in images], None if label is None else source.path_of(label)


def _listed(source: _Source, entries: Iterable[tuple[str, list[Path], Path | None]], places: Collection[str]) -> Listed:
    """Sort what dataset.json lists into cases whose files are there and issues; and tell what it does not list."""
    cases: dict[str, Case] = {}
    issues: list[Issue] = []
    used: set[Path] = set()
    for name, images, label in entries:
        used |= {*images, *([] if label is None else [label])}
        if name in cases:
            advice = "list it once, or give one of them another name"
            issues.append(Issue(images[0], "case-twice", f"'{name}' is listed twice", advice, name))
            continue
        found = [_file_missing(image, "image-missing", name) for image in images if not source.folders.has(image)]
        if label is None:
            found.append(Issue(images[0], "label-missing", f"{DATASET_JSON} names no label", "name it", name))
        elif not source.folders.has(label):
            found.append(_file_missing(label, "label-missing", name))
        if len(images) not in (1, source.channels):
            found.append(channel_issue(images[0], f"{len(images)} files", source.channels, name))
        issues += found
        if not found:
            cases[name] = Case(name, tuple(images), label)
    return list(cases.values()), [*issues, *_not_listed(source, used, places)]


def _not_listed(source: _Source, used: Collection[Path], places: Collection[str]) -> list[Issue]:
    """Report what the dataset's own folders hold besides what is listed; other folders are others' archives."""
    root, tests = source.root.resolve(), _test_entries(source)[0] if "imagesTs" in places else []
    names: dict[Path, set[str]] = {}
    for path in (*used, *tests):
        names.setdefault(path.parent, set()).add(path.name)
    own = {(source.root / place).resolve(): (source.root / place, set[str]()) for place in places}
    for folder, known in names.items():
        place = folder.resolve()
        if place in own or root in place.parents:
            own.setdefault(place, (folder, set()))[1].update(known)
    issues: list[Issue] = []
    for folder, known in own.values():
        issues += left_out(folder, source.folders.listing(folder), known)
    return issues


# ---- files found by their names --------------------------------------------------------------------------------------


def _scanned(source: _Source) -> Listed:
    """List imagesTr and labelsTr."""
    images, labels = source.root / "imagesTr", source.root / "labelsTr"
    for folder in (images, labels):
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; nnU-Net's raw layout needs it")
    names = source.folders.images(images, source.ending)
    if not names:
        others = count_endings(source.folders.files(images))
        raise DatasetError(f"{images}: no file ends in {source.ending} (found: {others or 'nothing'}); see file_ending")
    named = source.folders.images(labels, source.ending)
    truths = LabelFiles.of(labels, named, source.ending)
    stems = {name: without_ending(name, source.ending) for name in names}
    cases, issues = grouped(images, stems, source.channels, labels=truths.stems)
    told = {issue.case for issue in issues}
    whole = [case for case in cases if case.name not in told]
    (pairs, more), others_named = truths.paired(whole, told, source.folders)
    issues += more
    issues += left_out(images, source.folders.listing(images), names, source.ending)
    issues += left_out(labels, source.folders.listing(labels), {*named, *others_named}, source.ending)
    return pairs, issues


def _file_missing(file: Path, rule: str, case: str) -> Issue:
    unset = re.search(r"\$\{?(\w+)", str(file))
    if unset:
        return Issue(file, rule, f"the environment variable {unset[1]} is not set", "set it, or write the path", case)
    return Issue(file, rule, "no such file", RESTORE, case)
