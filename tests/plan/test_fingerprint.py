"""The fingerprint of made-up datasets, against NumPy, in any order, with any threads and memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fingerprint_oracle import fingerprint_dataset
from nnunet_rs.core.check import check_case
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.io import read_labels, read_volume
from nnunet_rs.core.types import Dataset, Header, Volume
from nnunet_rs.plan.fingerprint import FingerprintBuilder

Make = Callable[..., Path]


def added(dataset: Dataset, names: list[str], **keys: Any) -> FingerprintBuilder:
    builder = FingerprintBuilder(dataset, **keys)
    cases = {case.name: case for case in dataset.training}
    for name in names:
        volume, labels, _ = check_case(dataset, cases[name])
        assert volume is not None
        assert labels is not None
        builder.add(name, volume, labels.data)
    return builder


@pytest.mark.parametrize("layout", ["raw_dataset", "decathlon_dataset"])
def test_it_is_what_numpy_finds(request: pytest.FixtureRequest, layout: str) -> None:
    dataset = read_dataset(request.getfixturevalue(layout)(cases=5, channels=("CT", "MRI")))
    found = fingerprint_dataset(dataset)
    values: list[list[Any]] = [[], []]
    relative = []
    for case, mine in zip(dataset.training, found.cases, strict=True):
        volume = read_volume(case.images)
        assert case.label is not None
        foreground = read_labels(case.label).data > 0
        for channel in range(2):
            values[channel].append(volume.data[channel][foreground])
        nonzero = np.argwhere(volume.data.any(axis=0))
        shape = nonzero.max(axis=0) - nonzero.min(axis=0) + 1
        relative.append(shape.prod() / foreground.size)
        assert mine.name == case.name
        assert mine.shape == foreground.shape
        assert mine.shape_after_crop == tuple(shape)
        assert mine.spacing == volume.spacing == (3, 1, 1)
    assert found.relative_size_after_crop == pytest.approx(np.median(relative))
    for channel, stats in zip(values, found.channels, strict=True):
        together = np.concatenate(channel).astype(np.float64)
        low, middle, high = np.percentile(together, (0.5, 50, 99.5))
        assert (stats.min, stats.max) == (together.min(), together.max())
        assert (stats.percentile_00_5, stats.median, stats.percentile_99_5) == pytest.approx((low, middle, high))
        assert (stats.mean, stats.std) == pytest.approx((together.mean(), together.std()))


def test_the_order_does_not_matter(raw_dataset: Make) -> None:
    dataset = read_dataset(raw_dataset(cases=6))
    names = [case.name for case in dataset.training]
    expected = added(dataset, names).finish()
    assert added(dataset, names[::-1]).finish() == expected


def test_a_second_pass_over_true_floats_gives_the_same(raw_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for hardly any counter a percentile stays open until the cases are read again."""
    dataset = read_dataset(raw_dataset(cases=3))
    chance = np.random.default_rng(5)
    header = Header("nifti", ((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0)))
    volumes = [
        Volume(chance.normal(100, 30, (1, 20, 40, 40)).astype(np.float32), (1.0, 1.0, 1.0), header) for _ in range(3)
    ]
    labels = np.ones((20, 40, 40), np.uint8)

    def build(counters: int) -> FingerprintBuilder:
        builder = FingerprintBuilder(dataset, counters=counters)
        for case, volume in zip(dataset.training, volumes, strict=True):
            builder.add(case.name, volume, labels)
        return builder

    tight = build(1)
    assert tight.pending
    with pytest.raises(ValueError, match="every case must be shown to refine"):
        tight.finish()
    for volume in volumes:
        tight.refine(volume, labels)
    assert tight.finish() == build(1 << 28).finish()


def test_a_builder_goes_on_where_an_earlier_one_ended(raw_dataset: Make) -> None:
    dataset = read_dataset(raw_dataset(cases=4))
    names = [case.name for case in dataset.training]
    earlier, later = added(dataset, names[1:]), added(dataset, names[:1])
    later.restore(earlier.finish().cases, earlier.to_bytes())
    assert later.finish() == added(dataset, names).finish()
    with pytest.raises(ValueError):  # noqa: PT011
        FingerprintBuilder(dataset).restore((), b"damaged")
    with pytest.raises(ValueError, match="channels"):
        FingerprintBuilder(replace(dataset, channels=("a", "b"))).restore((), earlier.to_bytes())


def test_a_known_box_is_taken_as_it_is(raw_dataset: Make) -> None:
    dataset = read_dataset(raw_dataset(cases=1))
    volume, labels, _ = check_case(dataset, dataset.training[0])
    assert volume is not None
    assert labels is not None
    builder = FingerprintBuilder(dataset)
    found = builder.add("case_0", volume, labels.data, box=((1, 4), (0, 9), (2, 12)))
    assert found.shape_after_crop == (3, 9, 10)
    with pytest.raises(ValueError, match="case case_0 was added before"):
        builder.add("case_0", volume, labels.data)


def test_labels_without_foreground_are_named(raw_dataset: Make, save_nifti: Callable[..., Path]) -> None:
    root = raw_dataset(cases=1)
    file = root / "labelsTr" / "case_0.nii.gz"
    save_nifti(file, np.zeros_like(read_labels(file).data), (3, 1, 1))
    with pytest.raises(DatasetError, match=r"Dataset001_Made: the intensity statistics cannot be taken: .*foreground"):
        fingerprint_dataset(read_dataset(root))


def test_no_case_is_an_error(raw_dataset: Make) -> None:
    dataset = replace(read_dataset(raw_dataset(cases=1)), training=())
    with pytest.raises(DatasetError, match="no training case can be used"):
        fingerprint_dataset(dataset)
