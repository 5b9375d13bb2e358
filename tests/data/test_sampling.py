"""Which cases and classes samples are drawn from, counted over many draws."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.data.patches import PatchRule, oversamples_foreground
from nnunet_rs.data.sampling import CaseSampler, Sampling, target_weights

LABELS = LabelSet(("background", "liver", "tumour", "absent"), (0, 1, 2, 3))
# Nine cases of a liver, of which one has a tumour of a hundredth of its voxels.
VOXELS = {f"c{i}": {1: 1000} for i in range(8)} | {"t": {1: 1000, 2: 10}}


class Voxels:
    """A store of which only the counts of voxels are asked for."""

    def record(self, name: str) -> Any:
        return SimpleNamespace(voxels=VOXELS[name])


def drawn(classes: Any, labels: LabelSet = LABELS, foreground: bool = True) -> list[tuple[str, Any]]:
    rule = PatchRule.of((4, 4, 4), labels)
    sampler = CaseSampler(Voxels(), tuple(VOXELS), rule, labels, Sampling(classes=classes))  # type: ignore[arg-type]
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
