"""Which cases and classes samples are drawn from, counted over many draws."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nnunet_rs.core.errors import DatasetError, PlanError
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.data.patches import PatchRule, oversamples_foreground
from nnunet_rs.data.sampling import (
    CaseSampler,
    Sampling,
    cases_drawn,
    read_case_weights,
    require_case_weights,
    target_weights,
)

LABELS = LabelSet(("background", "liver", "tumour", "absent"), (0, 1, 2, 3))
# Nine cases of a liver, of which one has a tumour of a hundredth of its voxels.
VOXELS = {f"c{i}": {1: 1000} for i in range(8)} | {"t": {1: 1000, 2: 10}}


class Voxels:
    """A store of which only the counts of voxels are asked for."""

    def record(self, name: str) -> Any:
        return SimpleNamespace(voxels=VOXELS[name])


def drawn(classes: Any, labels: LabelSet = LABELS, foreground: bool = True, cases: Any = None) -> list[tuple[str, Any]]:
    rule = PatchRule.of((4, 4, 4), labels)
    sampler = CaseSampler(Voxels(), tuple(VOXELS), rule, labels, Sampling(classes=classes, cases=cases))  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    return [sampler.draw(foreground, rng) for _ in range(2000)]


def shares(found: list[tuple[str, Any]]) -> dict[Any, float]:
    return {centre: count / len(found) for centre, count in Counter(centre for _, centre in found).items()}


def test_uniform_draws_the_case_first_as_before() -> None:
    rng = np.random.default_rng(0)
    names = tuple(VOXELS)
    assert drawn("uniform") == [(names[rng.integers(len(names))], None) for _ in range(2000)]


@pytest.mark.parametrize(
    ("classes", "tumour"),
    [
        ("balanced", 0.5),  # the class that no case has is never drawn
        ("inverse_frequency", 9000 / 9010),  # 1/10 of 1/10 + 1/9000
        ({"tumour": 3.0}, 0.75),
        ({"liver": 0.0}, 1.0),
        ({"tumour": 0}, 0.0),
    ],
)
def test_a_class_then_a_case_that_has_it(classes: Any, tumour: float) -> None:
    found = drawn(classes)
    assert shares(found).get((2,), 0.0) == pytest.approx(tumour, abs=0.03)
    assert {name for name, centre in found if centre == (2,)} <= {"t"}
    if tumour < 0.9:
        assert {name for name, centre in found if centre == (1,)} == VOXELS.keys()


@pytest.mark.parametrize("classes", ["balanced", {"tumour": 3.0}])
def test_samples_that_are_not_on_foreground_are_of_any_case(classes: Any) -> None:
    assert drawn(classes, foreground=False) == drawn("uniform")


def test_regions_are_drawn_by_their_names() -> None:
    regions = LabelSet(
        LABELS.names, LABELS.values, (Region("whole", (1, 2), 1), Region("core", (2,), 2), Region("none", (3,), 3))
    )
    found = shares(drawn({"core": 4.0, "whole": 1.0}, regions))
    assert found[(2,)] == pytest.approx(0.8, abs=0.03)
    assert found[(1, 2)] == pytest.approx(0.2, abs=0.03)


def test_where_no_case_has_a_wanted_class_the_case_decides() -> None:
    only_absent = {"liver": 0, "tumour": 0, "absent": 1}
    assert drawn(only_absent) == drawn("uniform")


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("rare", "class sampling 'rare' is unknown; there are uniform, balanced, inverse_frequency"),
        ({"tumor": 2}, "class sampling: 'tumor' is unknown; did you mean tumour? there are liver, tumour, absent"),
        ({"tumour": -1.0}, "class sampling: tumour is -1.0: must be a number from 0"),
        ({"tumour": float("nan")}, "tumour is nan"),
        ({"tumour": True}, "tumour is True"),
        ({"tumour": "2"}, "tumour is '2'"),
        ({"liver": 0, "tumour": 0, "absent": 0}, "every class has the weight 0"),
    ],
)
def test_bad_weights(classes: Any, said: str) -> None:
    with pytest.raises(PlanError) as told:
        target_weights(LABELS, classes)
    assert said in str(told.value)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.33, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("epochs", "batches"), [(1, 1000), (1000, 1), (50, 20)])
def test_the_share_is_met_over_batches_and_epochs(batch_size: int, share: float, epochs: int, batches: int) -> None:
    found = [
        [oversamples_foreground(sample, batch_size, index, share, epoch) for sample in range(batch_size)]
        for epoch in range(epochs)
        for index in range(batches)
    ]
    counts = [sum(flags) for flags in found]
    assert np.mean(counts) / batch_size == pytest.approx(share, abs=0.01)
    assert max(counts) - min(counts) <= 1  # evenly
    assert all(flags == sorted(flags) for flags in found)  # the last ones, as nnU-Net


def share_of(case: str, found: list[tuple[str, Any]]) -> float:
    return sum(name == case for name, _ in found) / len(found)


@pytest.mark.parametrize("foreground", [False, True])
@pytest.mark.parametrize(
    ("cases", "share"),
    [({"t": 8.0}, 0.5), ({"t": 0.5}, 1 / 17), ({"t": 0}, 0.0), ({"t": 1e308, "c0": 1e308}, 0.5), ({"c0": 0}, 0.125)],
)
def test_cases_are_drawn_by_their_weights(cases: Any, share: float, foreground: bool) -> None:
    assert share_of("t", drawn("uniform", foreground=foreground, cases=cases)) == pytest.approx(share, abs=0.03)


def test_weights_of_cases_hold_among_those_that_have_the_class() -> None:
    found = drawn({"tumour": 0}, cases={"c0": 7.0, "t": 0.0, "c7": 0.0})  # so all samples are on the liver
    assert share_of("c0", found) == pytest.approx(7 / 13, abs=0.03)
    assert {name for name, _ in found} == {f"c{i}" for i in range(7)}


def test_a_class_that_only_cases_of_no_weight_have_is_not_drawn() -> None:
    assert shares(drawn("balanced", cases={"t": 0})) == {(1,): 1.0}
    assert shares(drawn("inverse_frequency", cases={"t": 0})) == {(1,): 1.0}


def test_cases_of_no_weight_are_left_out() -> None:
    assert cases_drawn(["a", "b", "c"], None) == ("a", "b", "c")
    assert cases_drawn(["a", "b", "c"], {"b": 0.0, "x": 0.0}) == ("a", "c")
    assert cases_drawn([], {"b": 0.0}) == ()
    with pytest.raises(PlanError, match="case sampling: every case that the fold trains on has the weight 0"):
        cases_drawn(["a", "b"], {"a": 0, "b": 0.0})


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"case_1": 2, "case1": 1}, "'case1' is no training case of the dataset; did you mean case_1?"),
        ({"x": 2, "y": 1}, "'x' (and 1 more) is no training case of the dataset; names are as in splits.json"),
        ({"case_1": -1.0}, "case_1 is -1.0: must be a number from 0"),
        ({"case_1": float("nan")}, "case_1 is nan"),
        ({"case_1": float("inf")}, "case_1 is inf"),
        ({"case_1": 10**400}, "must be a number from 0"),
        ({"case_1": True}, "case_1 is True"),
        ({"case_1": "2"}, "case_1 is '2'"),
    ],
)
def test_bad_weights_of_cases(weights: Any, said: str) -> None:
    require_case_weights({"case_1": 2, "case_2": 0.0}, {"case_1", "case_2"})
    with pytest.raises(PlanError) as told:
        require_case_weights(weights, {"case_1", "case_2"})
    assert "case sampling: " in str(told.value)
    assert said in str(told.value)


@pytest.mark.parametrize(("name", "text"), [
    ("w.csv", "case,weight\ncase_1,2.5\ncase_2, 0\n"), ("w.txt", "case_1,2.5\ncase_2,0\n"),
    ("w.json", '{"case_1": 2.5, "case_2": 0}'),
])  # fmt: skip
def test_weights_of_cases_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_case_weights(tmp_path / name) == {"case_1": 2.5, "case_2": 0.0}


@pytest.mark.parametrize(("name", "text", "said"), [
    ("w.csv", "case_1,much\n", r"w\.csv: the weight of case case_1 is 'much': must be a number from 0"),
    ("w.json", "[1, 2]", r"w\.json: expected case names and their weights"),
    ("w.json", "{", r"w\.json: is not JSON"),
])  # fmt: skip
def test_files_that_hold_no_weights(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=said):
        read_case_weights(tmp_path / name)
