"""What the planner's tests share: fingerprints made of a few numbers, and the oracles' plans."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from nnunet_rs.core.dataset_json import read_channels, read_labels
from nnunet_rs.core.types import Dataset, LabelSet
from nnunet_rs.plan.schema import CasePrint, ChannelStats, Fingerprint

Oracle: TypeAlias = tuple[str, Dataset, Fingerprint, int, dict[str, Any]]  # name, …, training cases, file content
STATS = ChannelStats(10.0, 3.0, 9.0, -5.0, 50.0, -2.0, 30.0)


@pytest.fixture(scope="session")
def dataset() -> Callable[..., Dataset]:
    """`dataset(channels=("MRI",), classes=2)`: a declaration without files."""

    def make(channels: Sequence[str] = ("MRI",), classes: int = 2, **keys: Any) -> Dataset:
        names = ("background", *(f"class {index}" for index in range(1, classes)))
        labels = LabelSet(names, tuple(range(classes)), **keys)
        return Dataset("Made", Path("Made"), "nnunet", tuple(channels), labels, ())

    return make


@pytest.fixture(scope="session")
def fingerprint() -> Callable[..., Fingerprint]:
    """`fingerprint(shape, spacing=(1, 1, 1), cases=20, channels=1, relative=1.0)`: all cases alike."""

    def make(
        shape: Sequence[int],
        spacing: Sequence[float] = (1, 1, 1),
        cases: int = 20,
        channels: int = 1,
        relative: float = 1.0,
    ) -> Fingerprint:
        z, y, x = shape
        a, b, c = map(float, spacing)
        prints = tuple(CasePrint(f"case {i}", (z, y, x), (z, y, x), (a, b, c)) for i in range(cases))
        return Fingerprint(prints, (STATS,) * channels, relative)

    return make


@pytest.fixture
def oracles(shared: Path) -> Callable[[str], Iterator[Oracle]]:
    """`oracles("plans")`: every file of a folder of oracles, read."""

    def read(folder: str) -> Iterator[Oracle]:
        files = sorted((shared / "oracles" / folder).glob("*.json"))
        if not files:
            pytest.skip(f"no oracles {folder}")
        for file in files:
            yield _oracle(file)

    return read


def _oracle(file: Path) -> Oracle:
    content = json.loads(file.read_text())
    declared, found = content["dataset"], content["fingerprint"]
    channels = read_channels(file, declared)
    dataset = Dataset(file.stem, file, "nnunet", channels, read_labels(file, declared), ())
    prints = tuple(
        CasePrint(str(index), tuple(shape), tuple(shape), tuple(spacing))
        for index, (shape, spacing) in enumerate(zip(found["shapes_after_crop"], found["spacings"], strict=True))
    )
    stats = found["foreground_intensity_properties_per_channel"]
    ordered = tuple(ChannelStats(**stats[str(channel)]) for channel in range(len(channels)))
    fingerprint = Fingerprint(prints, ordered, found["median_relative_size_after_cropping"])
    return file.stem, dataset, fingerprint, declared["numTraining"], content
