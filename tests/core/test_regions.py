from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nnunet_rs.core.dataset_json import read_labels
from nnunet_rs.core.regions import dataset_json_issues, fitting_order, painted
from nnunet_rs.core.types import LabelSet

FILE = Path("dataset.json")
HELD = {"whole": [1, 2, 3, 4], "core": [1, 2, 3], "tip": [1]}


def declared(names: str, order: list[int], held: dict[str, Any] = HELD) -> LabelSet:
    named = {"background": 0, **{name: held[name] for name in names.split()}}
    return read_labels(FILE, {"labels": named, "regions_class_order": order})


def told(labels: LabelSet) -> list[str]:
    issues = dataset_json_issues(FILE, labels)
    assert all(issue.rule == "regions-order" and not issue.fatal for issue in issues)
    return [issue.value.split("'")[1] for issue in issues]


def test_the_last_region_that_holds_a_class_paints_it() -> None:
    assert painted(declared("whole core tip", [4, 3, 1])) == (0, 1, 3, 3, 4)
    assert painted(declared("tip core whole", [1, 3, 4])) == (0, 4, 4, 4, 4)


@pytest.mark.parametrize(
    ("names", "order", "lost", "advice"),
    [
        ("whole core tip", [4, 3, 1], [], ""),
        ("whole core tip", [4, 2, 1], [], ""),  # 2 and 3 are of the same regions
        ("whole core tip", [1, 2, 3], ["core", "tip"], "write regions_class_order [4, 3, 1]"),
        ("whole core tip", [1, 1, 1], ["core", "tip"], "write regions_class_order [4, 3, 1]"),
        ("whole core tip", [0, 3, 1], ["whole"], "write regions_class_order [4, 3, 1]"),
        (
            "tip core whole",
            [1, 3, 4],
            ["tip", "core"],
            "list the regions in the order whole, core, tip, with regions_class_order [4, 3, 1]",
        ),
    ],
)
def test_regions_that_do_not_come_back(names: str, order: list[int], lost: list[str], advice: str) -> None:
    labels = declared(names, order)
    assert told(labels) == lost
    assert {issue.advice for issue in dataset_json_issues(FILE, labels)} == ({advice} if advice else set())


def test_the_fault_tells_what_becomes_of_which_label() -> None:
    (first, _) = dataset_json_issues(FILE, declared("whole core tip", [1, 2, 3]))
    assert first.value == (
        "'core' does not come back from an exported segmentation: by the order [1, 2, 3] voxels of label 4 (outside "
        "it) are written as 1 (inside it)"
    )


def test_regions_that_overlap_have_no_order() -> None:
    labels = declared("a b", [1, 3], {"a": [1, 2], "b": [2, 3]})
    assert told(labels) == ["a"]
    assert fitting_order(labels) is None


def test_the_order_that_is_advised_is_right() -> None:
    for names in ("tip whole core", "core tip whole", "core whole tip"):
        fitting = fitting_order(declared(names, [1, 1, 1]))
        assert fitting is not None
        assert told(declared(" ".join(region.name for region in fitting), [region.paint for region in fitting])) == []


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ({"background": 0, "a": 1, "b": 2}, None),
        ({"background": 0, "a": 1, "ignore": 2}, None),
        ({"background": 0, "a": 255}, "0, 255"),
        ({"background": 0, "a": 1, "ignore": 9}, "0, 1, 9"),
    ],
)
def test_values_with_gaps_are_what_nnunet_refuses(labels: dict[str, int], values: str | None) -> None:
    issues = dataset_json_issues(FILE, read_labels(FILE, {"labels": labels}))
    wanted = [] if values is None else [("label-values", f"the values {values} are not consecutive", False)]
    assert [(issue.rule, issue.value, issue.fatal) for issue in issues] == wanted


@pytest.mark.parametrize("name", ["Ignore", "IGNORE", "ignored", "ignore_label", "Ignore label", " ignore"])
def test_a_class_that_is_nearly_called_ignore_is_told(name: str) -> None:
    (issue,) = dataset_json_issues(FILE, read_labels(FILE, {"labels": {"background": 0, "a": 1, name: 2}}))
    assert (issue.rule, issue.fatal) == ("ignore-name", False)
    assert f"{name!r} is learnt as a class like any other; name it 'ignore'" in str(issue)


@pytest.mark.parametrize("name", ["ignore", "ignorance", "do not ignore"])
def test_other_names_are_not(name: str) -> None:
    assert dataset_json_issues(FILE, read_labels(FILE, {"labels": {"background": 0, "a": 1, name: 2}})) == []


def test_many_classes_take_no_time() -> None:
    every = list(range(1, 30000))
    assert told(declared("a b", [1, 15000], {"a": every, "b": every[10000:]})) == []
