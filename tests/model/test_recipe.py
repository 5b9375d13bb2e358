"""The constants of method §6, written out once more."""

import pytest
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.model.recipe import FAST, PAPER, RECIPES, V2, find_recipe


def test_paper() -> None:
    assert (PAPER.epochs, PAPER.batches, PAPER.validation_batches) == (1000, 250, 50)
    assert (PAPER.optimiser, PAPER.learning_rate, PAPER.weight_decay) == ("adam_amsgrad", 3e-4, 3e-5)
    rule = PAPER.plateau
    assert (rule.smoothing, rule.patience, rule.factor, rule.stop_below) == (0.93, 30, 0.2, 1e-6)
    assert not PAPER.deep_supervision
    assert PAPER.gradient_clip is None


def test_v2() -> None:
    assert (V2.optimiser, V2.learning_rate, V2.momentum, V2.weight_decay) == ("sgd_nesterov", 0.01, 0.99, 3e-5)
    assert (V2.epochs, V2.schedule, V2.gradient_clip, V2.deep_supervision) == (1000, "polynomial", 12, True)


def test_every_recipe_can_be_trained() -> None:
    for recipe in RECIPES.values():
        assert find_recipe(recipe.name) is recipe
        assert recipe.summary
    assert FAST.average is not None
    with pytest.raises(NnunetError, match=r"'slow': .* there are paper, v2, fast"):
        find_recipe("slow")
