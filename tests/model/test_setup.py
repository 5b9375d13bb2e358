from dataclasses import replace
from pathlib import Path

import pytest
from nnunet_rs.core.errors import PlanError
from nnunet_rs.model.config import usual_config
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.plugins import spelled
from nnunet_rs.model.recipe import FAST, PAPER, V2
from nnunet_rs.model.setup import set_up
from nnunet_rs.plan.files import read_plan, write_plan
from nnunet_rs.plan.schema import Plan


def own(*_: object) -> None:
    """A function of the user's own."""


def test_network_options_change_what_plan_and_recipe_say(work: Path) -> None:
    plain = set_up(work, "3d_fullres", 0, TrainOptions(recipe=V2)).config
    assert plain.network_options == NetworkOptions(deep_supervision=True)
    options = TrainOptions(
        recipe=V2, activation="relu", norm="batch", downsampling="max_pool", deep_supervision=False, loss="ce"
    )
    switched = set_up(work, "3d_fullres", 0, options).config
    assert switched.network_options == NetworkOptions("relu", "batch", False, "max_pool")
    assert (switched.loss, switched.augmentation, switched.optimiser) == ("ce", "v2", "sgd_nesterov")


@pytest.mark.parametrize(("recipe", "asked", "planned", "used"), [
    (PAPER, None, 9, 9), (FAST, None, 9, 2), (FAST, None, 1, 1), (FAST, 5, 9, 5), (V2, 3, 9, 3),
])  # fmt: skip
def test_the_recipe_limits_the_planned_batch(work: Path, recipe, asked, planned, used) -> None:
    plan = read_plan(work / "plan.json")
    settings = replace(plan.configurations["3d_fullres"], batch_size=planned)
    write_plan(work / "plan.json", replace(plan, configurations={"3d_fullres": settings}))
    setup = set_up(work, "3d_fullres", 0, TrainOptions(recipe, batch_size=asked))
    assert setup.configuration.batch_size == setup.plan.configurations["3d_fullres"].batch_size == used


def test_a_papers_plan_keeps_its_decoder(small_plan: Plan) -> None:
    configuration = small_plan.configurations["3d_fullres"]
    assert usual_config("paper", configuration, FAST).decoder_kernels == "below"
    assert usual_config("v2", configuration, FAST).decoder_kernels == "same"


def test_what_is_the_users_own_goes_by_its_name(work: Path) -> None:
    setup = set_up(work, "2d", 1, TrainOptions(network=own, loss=own, optimiser=own, augmentation=own, batches=7))
    found = setup.config
    assert {found.network, found.loss, found.optimiser, found.augmentation} == {spelled(own)}
    assert [plugin.function for plugin in setup.plugins] == [own] * 4
    assert (setup.identity.fold, found.batches, setup.identity.configuration) == (1, 7, "2d")


def test_the_names_of_version_0_1_still_give_functions() -> None:
    with pytest.warns(DeprecationWarning, match="custom_loss is now loss"):
        options = TrainOptions(custom_loss=own, epochs=3)
    assert (options.loss, replace(options, epochs=4).loss) == (own, own)


def test_one_process_is_a_group(work: Path) -> None:
    assert set_up(work, "2d", 0, TrainOptions()).group.size == 1


def test_cases_may_be_weighted_that_the_fold_does_not_train_on(work: Path) -> None:
    """A file of weights is for every fold: a case that this one holds out, or leaves out, may stand in it."""
    weights = {f"case_{number}": 2.0 for number in range(6)}
    assert set_up(work, "2d", 0, TrainOptions(case_sampling=weights)).config.case_sampling == weights
    assert set_up(work, "2d", 0, TrainOptions()).config.case_sampling is None


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"case_9": 2.0}, "case sampling: 'case_9' is no training case of the dataset; did you mean case_"),
        ({"case_1": -1.0}, "case sampling: case_1 is -1.0: must be a number from 0"),
        ({f"case_{number}": 0.0 for number in range(6)}, "every case that the fold trains on has the weight 0"),
    ],
)
def test_weights_of_cases_that_cannot_be(work: Path, weights: dict[str, float], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        set_up(work, "2d", 0, TrainOptions(case_sampling=weights))
