from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.core.outliers import ComparedCase, outliers
from nnunet_rs.core.types import Shape3, Spacing3

FILE = Path("dataset.json")


def cases(count: int = 6, shape: Shape3 = (20, 36, 32), spacing: Spacing3 = (2.5, 1, 1)) -> list[ComparedCase]:
    return [ComparedCase(f"c{index}", Path(f"c{index}.nii.gz"), shape, spacing) for index in range(count)]


def told(measured: list[ComparedCase], channels: tuple[str, ...] = ("MRI",)) -> list[tuple[str, str]]:
    found = outliers(FILE, measured, channels)
    assert not any(issue.fatal for issue in found)
    return [(issue.rule, issue.case) for issue in found]


@pytest.mark.parametrize("factor", [1000, 100, 10, 0.1, 0.01, 0.001, 1e-6])
def test_one_spacing_in_another_unit(factor: float) -> None:
    measured = cases()
    z, y, x = measured[3].spacing
    measured[3] = replace(measured[3], spacing=(z * factor, y * factor, x * factor))
    assert told(measured) == [("spacing-outlier", "c3")]


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("factor", [1000, 10, 0.1])
def test_one_axis_in_another_unit(axis: int, factor: float) -> None:
    measured = cases()
    spacing = list(measured[2].spacing)
    spacing[axis] *= factor
    measured[2] = replace(measured[2], spacing=tuple(spacing))
    assert told(measured) == [("spacing-outlier", "c2")]


def test_the_fault_names_both_spacings() -> None:
    measured = cases()
    measured[3] = replace(measured[3], spacing=(2500, 1000, 1000))
    (issue,) = outliers(FILE, measured, ("MRI",))
    assert str(issue).startswith(
        "c3.nii.gz: spacing-outlier: spacing (z, y, x) is (2500, 1000, 1000) mm, 1,000 times that of the median case, "
        "(2.5, 1, 1) mm; see that the header is in mm"
    )


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((200, 360, 320), (0.25, 0.1, 0.1)),  # the same head, ten times finer
        ((5, 36, 32), (10, 1, 1)),  # thick slices
        ((100, 36, 32), (0.5, 1, 1)),  # thin ones
        ((20, 100, 100), (2.5, 4, 4)),  # more of the body
        ((36, 20, 32), (1, 2.5, 1)),  # axes in another order
        ((1000, 36, 32), (2.5, 1, 1)),  # a whole body among heads
    ],
)
def test_scans_of_another_kind_are_no_mistake(shape: Shape3, spacing: Spacing3) -> None:
    measured = cases()
    measured[1] = replace(measured[1], shape=shape, spacing=spacing)
    assert told(measured) == []


def test_of_two_cases_both_are_named() -> None:
    first, second = cases(2)
    assert told([first, replace(second, spacing=(2500, 1000, 1000))]) == [
        ("spacing-outlier", "c0"),
        ("spacing-outlier", "c1"),
    ]
    assert told([first]) == told([]) == []


@pytest.mark.parametrize(("factor", "unit"), [(1e-3, "metres"), (1e3, "micrometres")])
def test_all_spacings_in_another_unit(factor: float, unit: str) -> None:
    (issue,) = outliers(FILE, cases(spacing=(2.5 * factor, factor, factor)), ("MRI",))
    assert (issue.rule, issue.case) == ("spacing-unit", "")
    assert issue.advice == f"spacing is in mm: see that it is not in {unit}"


def test_pictures_have_no_size() -> None:
    assert told(cases(shape=(1, 9000, 9000), spacing=(1, 1, 1))) == []


def test_sizes_far_from_all_others() -> None:
    measured = cases(shape=(60, 512, 512), spacing=(2, 0.7, 0.7))
    measured[0] = replace(measured[0], shape=(1, 512, 512))
    measured[1] = replace(measured[1], shape=(8, 60, 60))
    assert told(measured) == [("size-outlier", "c0"), ("size-outlier", "c1")]


def test_ct_that_is_not_in_hounsfield_units_among_others() -> None:
    measured = [
        replace(case, lows=(low,)) for case, low in zip(cases(), (-1024, -1000, 0, -3024, -900, 0), strict=True)
    ]
    assert told(measured, ("CT",)) == [("intensity-outlier", "c2"), ("intensity-outlier", "c5")]
    assert told(measured, ("MRI",)) == []
    assert told([replace(case, lows=(0.0,)) for case in measured], ("CT",)) == []  # all alike


def test_nothing_is_said_of_scans_as_they_vary() -> None:
    rng = np.random.default_rng(0)
    measured = [
        ComparedCase(
            f"c{index}",
            Path("c"),
            (int(rng.integers(20, 600)), *(int(size) for size in rng.integers(180, 640, 2))),
            (float(rng.uniform(0.5, 8)), *[float(rng.uniform(0.4, 1.5))] * 2),
        )
        for index in range(300)
    ]
    assert told(measured) == []


def test_images_that_are_stored_otherwise_than_others_are_told_once() -> None:
    def cases(*codes: str, shape: tuple[int, int, int] = (40, 50, 60)) -> list[ComparedCase]:
        return [
            ComparedCase(str(number), Path("a"), shape, (1.0, 1.0, 1.0), orientation=stored)
            for number, stored in enumerate(codes)
        ]

    (issue,) = outliers(Path("dataset.json"), cases("RAS", "LPS", "LPS", ""), ("MR",))
    assert (issue.rule, issue.fatal) == ("orientations", False)
    assert "LPS (2 cases), RAS (1 case)" in issue.value
    assert "--reorient" in issue.advice
    assert outliers(Path("dataset.json"), cases("LPS", "LPS", ""), ("MR",)) == []
    assert outliers(Path("dataset.json"), cases("LPS", "SAR", shape=(1, 50, 60)), ("MR",)) == []  # slices
