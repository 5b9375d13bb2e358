from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nnunet_rs.core.dataset_json import declared, read_channels, read_labels
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.types import LabelSet, Region

FILE = Path("dataset.json")
BRATS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def labels(declared: Any, **keys: Any) -> LabelSet:
    return read_labels(FILE, {"labels": declared, **keys})


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"channel_names": {"0": "CT"}}, ("CT",)),
        ({"modality": {"1": "T2", "0": "T1"}}, ("T1", "T2")),
        ({"modality": {str(i): f"m{i}" for i in range(11)}}, tuple(f"m{i}" for i in range(11))),
        ({"modality": {"0": "old"}, "channel_names": {"0": "new"}}, ("new",)),
        ({"channel_names": ["R", "G", "B"]}, ("R", "G", "B")),
    ],
)
def test_channels_stand_in_the_order_of_their_numbers(content: dict[str, Any], names: tuple[str, ...]) -> None:
    assert read_channels(FILE, content) == names


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({}, "'channel_names' is missing; write"),
        ({"modality": {}}, "'modality' is empty"),
        ({"channel_names": []}, "'channel_names' is empty"),
        ({"modality": "CT"}, "is 'CT', not an object"),
        ({"channel_names": {"1": "CT"}}, "has the numbers 1;"),
        ({"channel_names": {"CT": "0"}}, "has the numbers CT;"),
        ({"channel_names": {"0": 3}}, "has a name that is no text"),
    ],
)
def test_malformed_channels(content: dict[str, Any], text: str) -> None:
    with pytest.raises(DatasetError, match=text):
        read_channels(FILE, content)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"background": 0, "a": 1}, LabelSet(("background", "a"), (0, 1))),
        ({"0": "background", "1": "a", "2": "b"}, LabelSet(("background", "a", "b"), (0, 1, 2))),
        ({"a": 7, "background": 0}, LabelSet(("background", "a"), (0, 7))),
        ({"background": "0", "a": "1"}, LabelSet(("background", "a"), (0, 1))),
        ({"background": 0, "a": [1]}, LabelSet(("background", "a"), (0, 1))),
        ({"background": 0, "a": 1, "ignore": 2}, LabelSet(("background", "a"), (0, 1), ignore=2)),
        ({"0": "background", "1": "a", "9": "ignore"}, LabelSet(("background", "a"), (0, 1), ignore=9)),
        ({"0": "background", "1": "a", "2": "a"}, LabelSet(("background", "a 1", "a 2"), (0, 1, 2))),
    ],
)
def test_labels_of_both_layouts(declared: Any, expected: LabelSet) -> None:
    assert labels(declared) == expected


def test_regions_are_unions_painted_in_order() -> None:
    found = labels(BRATS, regions_class_order=[1, 2, 3])
    assert found.values == (0, 1, 2, 3)
    assert found.names == ("background", "label 1", "label 2", "enhancing")
    assert found.regions == (Region("whole", (1, 2, 3), 1), Region("core", (2, 3), 2), Region("enhancing", (3,), 3))
    assert (found.count, found.outputs) == (4, 3)


def test_regions_over_values_that_are_not_consecutive() -> None:
    found = labels({"background": 0, "both": [10, 20], "one": 20, "ignore": 30}, regions_class_order=[10, 20])
    assert found.regions == (Region("both", (1, 2), 10), Region("one", (2,), 20))
    assert found.ignore == 30


@pytest.mark.parametrize(
    ("declared", "keys", "text"),
    [
        (None, {}, "'labels' is missing"),
        ({}, {}, "'labels' is empty; write"),
        ([0, 1], {}, r"is \[0, 1\], not an object"),
        ({"background": 0, "a": "9" * 5000}, {}, r"has 'a' = '99+\.\.\.; give"),
        ({"a": 1}, {}, "has no label of value 0; declare the background"),
        ({"background": 0}, {}, "has no label but the background"),
        ({"background": 0, "ignore": 1}, {}, "has no label but the background"),
        ({"background": 0, "a": 1.5}, {}, "has 'a' = 1.5; give a whole number from 0 to 65535"),
        ({"background": 0, "a": True}, {}, "has 'a' = True"),
        ({"background": 0, "a": -1}, {}, "has 'a' = -1"),
        ({"background": 0, "a": 65536}, {}, "has 'a' = 65536"),
        ({"background": 0, "a": "b"}, {}, "has 'a' = 'b'"),
        ({"background": 0, "a": []}, {}, r"has 'a' = \[\]"),
        ({"background": 0, "a": 1, "b": 1}, {}, "has value 1 for 'a' and 'b'"),
        ({"background": 0, "a": 3, "ignore": 2}, {}, "has ignore = 2, other labels reach 3; make it the largest"),
        ({"background": 0, "a": 1, "ignore": [2, 3]}, {}, r"has 'ignore' = \[2, 3\]; give it one value"),
        ({"0": "background", "1": "ignore", "2": "ignore"}, {}, "has 'ignore' 2 times"),
        (BRATS, {}, "'regions_class_order' is missing; list one value for each of whole, core, enhancing"),
        (BRATS, {"regions_class_order": 3}, "is 3, not a list"),
        (
            BRATS,
            {"regions_class_order": [1, 2]},
            r"is \[1, 2\]: 2 values for 3 regions; list one",
        ),
        (
            BRATS,
            {"regions_class_order": [1, 2, 4]},
            r"4 is no declared value; declared are \[0, 1, 2, 3\]",
        ),
    ],
)
def test_malformed_labels(declared: Any, keys: dict[str, Any], text: str) -> None:
    with pytest.raises(DatasetError, match=text) as caught:
        labels(declared, **keys)
    assert str(caught.value).startswith("dataset.json: ")


@pytest.mark.parametrize(
    ("said", "keys"),
    [
        ({"background": 0, "a": 7, "b": 9}, {}),
        ({"background": 0, "a": 1, "ignore": 2}, {}),
        (BRATS, {"regions_class_order": [1, 2, 3]}),
    ],
)
def test_labels_are_declared_as_they_are_read(said: Any, keys: Any) -> None:
    found = labels(said, **keys)
    assert read_labels(FILE, declared(found)) == found
