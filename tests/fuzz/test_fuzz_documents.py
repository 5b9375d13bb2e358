"""JSON that people edit and disks damage: every document is read as what it says, or refused by its name."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnunet_rs.core.budget import Budget
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.dataset_json import declared
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.regions import dataset_json_issues
from nnunet_rs.data.folds import count_folds, read_splits
from nnunet_rs.data.pipeline import PrepareOptions, prepare_dataset
from nnunet_rs.data.resampling import spacing_remark
from nnunet_rs.model.network_options import NetworkOptions, network_channels
from nnunet_rs.model.unet import build_unet
from nnunet_rs.plan.dataset_scan import recorded_files, scan_dataset, scanned_classes
from nnunet_rs.plan.explain import explain
from nnunet_rs.plan.files import plan_from_json, plan_to_json, read_fingerprint, read_plan
from nnunet_rs.plan.nnunet import as_nnunet, read_nnunet
from nnunet_rs.plan.planner import make_plan
from nnunet_rs.predict.prediction_json import labels_of

Answered = Callable[..., Any]
FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

DECATHLON = {
    "modality": {"0": "MRI"},
    "labels": {"0": "background", "1": "a", "2": "b"},
    "numTraining": 1,
    "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    "test": ["./imagesTs/b.nii.gz"],
}
RAW = {
    "channel_names": {"0": "T1", "1": "CT"},
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "tip": 3, "ignore": 4},
    "regions_class_order": [1, 2, 3],
    "numTraining": 2,
    "file_ending": ".nii.gz",
    "dataset": {"a": {"images": ["imagesTr/a.nii.gz", "$HOME/b.nii.gz"], "label": "labelsTr/a.nii.gz"}},
}
SCANNED = {key: value for key, value in RAW.items() if key != "dataset"}
NNUNET = {
    "spacings": [[1.0, 1.0, 2.0], [1.0, 1.5, 2.0]],
    "shapes_after_crop": [[30, 40, 50], [32, 40, 44]],
    "median_relative_size_after_cropping": 0.9,
    "foreground_intensity_properties_per_channel": {
        "0": {
            "mean": 10.0, "std": 3.0, "median": 9.0, "min": -5.0, "max": 50.0,
            "percentile_00_5": -2.0, "percentile_99_5": 30.0,
        }
    },
}  # fmt: skip

# What slips of the hand, other programs and other releases put into a value's place.
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 5),
    st.sampled_from([10**5, 2**31, 2**63, 10**30, 10**400, -(10**400)]),
    st.floats(),
    st.sampled_from(
        ["", "0", "1", "-1", "٣", "9" * 5000, "..", "a/b", "x\0", "\ud800", "~", "$HOME", ".nii.gz", "ignore"]
    ),
    st.text(max_size=4),
    st.sampled_from([[], {}, [[]], [{}], {"": 0}, {"background": 0}, [0, 0], [1, "2"]]),
)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    keys = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(keys):
        yield value, key
        yield from _places(item)


@st.composite
def edited(draw: st.DrawFn, document: Any) -> Any:
    """A document with up to three values replaced, dropped, doubled, turned into text or list, or put elsewhere."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(changed))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(["replace", "replace", "drop", "scale", "text", "list", "copy", "rename"]))
        item = holder[key]
        if kind == "drop":
            del holder[key]
        elif kind == "scale" and isinstance(item, int | float) and abs(item) < 10**15:
            holder[key] = item * draw(st.sampled_from([-1, 0, 2, 3, 0.5, 1000, 10**6]))
        elif kind == "text":
            holder[key] = str(item)
        elif kind == "list":
            holder[key] = [item] * draw(st.integers(1, 3))
        elif kind == "copy":
            other, place = draw(st.sampled_from(places))
            holder[key] = copy.deepcopy(other[place]) if place in other or isinstance(other, list) else None
        elif kind == "rename" and isinstance(holder, dict):
            holder[draw(st.sampled_from(["", "0", "99", "a/b", "../x", "\ud800", "Ä", "version"]))] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(draw(_VALUES))  # later edits must not change the strategy's own
    return changed


@st.composite
def damaged(draw: st.DrawFn, document: Any) -> bytes:
    """The bytes of an edited document; sometimes cut, with bytes changed, a key twice, or nested without end."""
    content = draw(st.one_of(edited(document), st.just(document)))
    text = json.dumps(content).encode()
    kind = draw(st.sampled_from(["as it is"] * 4 + ["cut", "bytes", "twice", "deep", "marks"]))
    if kind == "cut":
        return text[: draw(st.integers(0, len(text)))]
    if kind == "bytes":
        changed = bytearray(text)
        for _ in range(draw(st.integers(1, 4))):
            changed[draw(st.integers(0, len(text) - 1))] = draw(st.integers(0, 255))
        return bytes(changed)
    if kind == "twice" and text.startswith(b'{"'):
        return b"{" + text[1 : text.index(b",") + 1] + text[1:] if b"," in text else text
    if kind == "deep":
        return text[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    return draw(st.sampled_from([b"\xef\xbb\xbf", b"\xff\xfe", b"\0"])) + text if kind == "marks" else text


def named(error: NnunetError, file: str) -> None:
    """An error of a document is one line that begins with the file."""
    assert file in str(error)
    assert "\n" not in str(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset's folder whose files are empty: listing opens none."""
    root = tmp_path_factory.mktemp("documents")
    for name in ("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "imagesTr/a.nii.gz", "labelsTr/a.nii.gz"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture(scope="module")
def work(write_raw: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small dataset, and its work folder."""
    root = write_raw(tmp_path_factory.mktemp("raw") / "Dataset001_Made", cases=4)
    made = tmp_path_factory.mktemp("made") / "work"
    prepare_dataset(read_dataset(root), made, PrepareOptions(threads=1))
    return root, made


@FUZZ
@given(content=st.one_of(damaged(DECATHLON), damaged(RAW), damaged(SCANNED)))
def test_dataset_json(folder: Path, answered: Answered, content: bytes) -> None:
    (folder / "dataset.json").write_bytes(content)
    with answered():
        dataset = read_dataset(folder)
        assert dataset_json_issues(folder, dataset.labels) is not None
        assert all("\n" not in str(issue) for issue in dataset.issues)
        assert len({case.name for case in dataset.training}) == len(dataset.training)
        json.dumps(declared(dataset.labels))


def followed(plan: Any) -> None:
    """What an accepted plan must allow: to be written, read again, explained, exported, and made a network of."""
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan
    assert explain(plan)
    spacing_remark((10, 10, 10), (1.0, 1.0, 1.0), plan)
    for settings_ in plan.configurations.values():
        if sum(settings_.features) * max(settings_.features) < 1 << 16 and sum(settings_.blocks_encoder) < 20:
            build_unet(settings_, *network_channels(plan, settings_), NetworkOptions())


def _accepted(answered: Answered, file: Path, read: Callable[[], Any]) -> None:
    with answered():
        try:
            read()
        except NnunetError as error:
            named(error, file.name)
            raise


@FUZZ
@given(data=st.data())
def test_plan_json(work: tuple[Path, Path], answered: Answered, data: st.DataObject) -> None:
    document = json.loads((work[1] / "plan.json").read_text())
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "plan.json")
        file.write_bytes(data.draw(damaged(document)))
        _accepted(answered, file, lambda: followed(read_plan(file)))


@FUZZ
@given(data=st.data())
def test_fingerprint_json(work: tuple[Path, Path], answered: Answered, data: st.DataObject) -> None:
    document = json.loads((work[1] / "fingerprint.json").read_text())
    dataset = read_dataset(work[0])
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "fingerprint.json")
        file.write_bytes(data.draw(damaged(document)))

        def read() -> None:
            fingerprint = read_fingerprint(file)
            if len(fingerprint.channels) == len(dataset.channels):
                plan = make_plan(dataset, fingerprint, "paper")
                followed(plan)
                as_nnunet(plan, fingerprint)

        with answered():
            read()


@FUZZ
@given(data=st.data())
def test_splits_json(work: tuple[Path, Path], answered: Answered, data: st.DataObject) -> None:
    names = [f"case_{index}" for index in range(4)]
    document = json.loads((work[1] / "splits.json").read_text())
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "splits.json")
        file.write_bytes(data.draw(damaged(document)))

        def read() -> None:
            folds = read_splits(file, names)
            assert len(folds) == count_folds(file)
            assert {name for fold in folds for name in (*fold.train, *fold.validation)} <= set(names)

        _accepted(answered, file, read)


@FUZZ
@given(data=st.data())
def test_survey_json(work: tuple[Path, Path], answered: Answered, data: st.DataObject) -> None:
    document = json.loads((work[1] / "survey.json").read_text())
    dataset = read_dataset(work[0])
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "survey.json")
        file.write_bytes(data.draw(damaged(document)))
        recorded_files(Path(place))
        _accepted(answered, file, lambda: scanned_classes(Path(place)))
        with answered():  # what cannot be used of it is read again
            scan = scan_dataset(dataset, Path(place), Budget(1 << 30), threads=1)
            assert scan.valid() == tuple(case.name for case in dataset.training)


@FUZZ
@given(fingerprint=damaged(NNUNET), declaration=damaged(SCANNED | {"channel_names": {"0": "CT"}}))
def test_files_of_nnunet(answered: Answered, fingerprint: bytes, declaration: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        first, second = Path(place, "dataset_fingerprint.json"), Path(place, "dataset.json")
        first.write_bytes(fingerprint)
        second.write_bytes(declaration)

        def read() -> None:
            files = read_nnunet(first, second)
            plan = make_plan(files.dataset, files.fingerprint, "v2", training_cases=files.training_cases)
            followed(plan)
            as_nnunet(plan, files.fingerprint, files.reader)

        with answered():
            read()


@FUZZ
@given(content=damaged({"version": 1, "models": {"fold_0": "x"}, **SCANNED}))
def test_prediction_json(answered: Answered, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place, "prediction.json").write_bytes(content)
        _accepted(answered, Path(place, "prediction.json"), lambda: labels_of(Path(place)))
