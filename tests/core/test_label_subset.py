from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.label_subset import binary_mask, keep_values, select_labels, structures_of
from nnunet_rs.core.types import LabelSet, Region

PLAIN = LabelSet(("background", "liver", "spleen", "kidney"), (0, 1, 4, 300))
REGIONS = LabelSet(("background", "oedema", "core"), (0, 1, 2), (Region("whole", (1, 2), 1), Region("core", (2,), 2)))


def test_classes_are_kept_in_the_order_of_the_labels() -> None:
    assert select_labels(PLAIN, ("kidney", "liver")) == LabelSet(("background", "liver", "kidney"), (0, 1, 300))


def test_regions_are_kept_with_their_classes() -> None:
    whole, core = select_labels(REGIONS, ("whole",)), select_labels(REGIONS, ("core",))
    assert whole == LabelSet(("background", "oedema", "core"), (0, 1, 2), (Region("whole", (1, 2), 1),))
    assert core == LabelSet(("background", "core"), (0, 2), (Region("core", (1,), 2),))


def test_a_region_keeps_a_value_of_its_own() -> None:
    labels = LabelSet(("background", "a", "b"), (0, 1, 2), (Region("a", (1,), 2), Region("b", (2,), 1)))
    assert select_labels(labels, ("a",)).regions == (Region("a", (1,), 1),)


def test_an_unknown_label_is_told() -> None:
    with pytest.raises(DatasetError, match=r"no label 'livr' .*did you mean liver\? there are liver, spleen, kidney"):
        select_labels(PLAIN, ("livr",))
    with pytest.raises(DatasetError, match="no label 'background'"):
        select_labels(PLAIN, ("background",))
    with pytest.raises(DatasetError, match="no label 'oedema'"):
        select_labels(REGIONS, ("oedema",))


def test_values_that_are_not_kept_become_background() -> None:
    data = np.array([[[0, 1, 4, 300]]], np.uint16)
    kept = keep_values(data, select_labels(PLAIN, ("spleen",)))
    assert kept.dtype == np.uint16
    assert kept.tolist() == [[[0, 0, 4, 0]]]
    assert keep_values(data[..., :2], select_labels(PLAIN, ("kidney",))).tolist() == [[[0, 0]]]


def test_masks_of_regions_overlap() -> None:
    data = np.array([[[0, 1, 2]]], np.uint8)
    assert [binary_mask(data, s).tolist() for s in structures_of(REGIONS)] == [[[[0, 1, 1]]], [[[0, 0, 1]]]]
    assert binary_mask(data, structures_of(REGIONS)[0]).dtype == np.uint8


def test_names_of_files_are_safe_and_distinct() -> None:
    names = ("background", "a/b", "a\\b", "Left", "left", "..", "_x", "Ä <1>", "fine", "")
    found = structures_of(LabelSet(names, tuple(range(10))))
    assert [structure.name for structure in found] == list(names[1:])
    assert [structure.file_name for structure in found] == [
        *("label 1 a_b", "label 2 a_b", "label 3 Left", "label 4 left", "label 5", "label 6 _x"),
        *("Ä _1_", "fine", "label 9"),
    ]


@given(
    st.lists(
        st.text() | st.sampled_from(["a/b", "ä" * 300, "a_b", "label 1 a_b", "LABEL 1 A_B", "_", ".", "con"]),
        max_size=8,
    )
)
def test_any_names_give_files_side_by_side(names: list[str]) -> None:
    found = structures_of(LabelSet(("background", *names), tuple(range(len(names) + 1))))
    files = [structure.file_name for structure in found]
    assert len({name.lower() for name in files}) == len(names)
    assert max((len(name.encode()) for name in files), default=0) < 200
    assert all(name and name[0] not in "._ " and not set(name) & set('/\\:*?"<>|\0\n') for name in files)
