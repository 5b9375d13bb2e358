"""The recipes do what the page about the method says, and what nnU-Net does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.model.recipe import RECIPES, TrainRecipe, find_recipe, recipe_of_plan
from nnunet_rs.model.schedule import Plateau, polynomial
from nnunet_rs.plan.planners import PLANNERS

PAGE = (Path(__file__).parents[2] / "docs/explanation/method.md").read_text(encoding="utf-8")


def column(name: str) -> dict[str, str]:
    """What the page's table says of a recipe: the row's name and the cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
    (head,) = (row for row in rows if f"`{name}`" in row)
    return {row[0]: row[head.index(f"`{name}`")] for row in rows if row[0] and len(row) == len(head)}


def numbers(text: str) -> set[float]:
    return {float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", text)}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_the_page_says_what_the_recipe_does(recipe: TrainRecipe) -> None:
    said = column(recipe.name)
    assert recipe.learning_rate in numbers(said["optimiser"])
    assert recipe.momentum == 0 or recipe.momentum in numbers(said["optimiser"])
    kinds = {"adam_amsgrad": "AMSGrad", "sgd_nesterov": "Nesterov", "muon": "Muon"}
    assert kinds[recipe.optimiser] in said["optimiser"]
    assert (recipe.ema_decay is not None) == ("averaged weights" in said["optimiser"])
    assert ("every resolution" in said["loss at"]) == recipe.deep_supervision
    most = {float(count) for count in recipe.most_samples or ()}
    assert most <= numbers(said["samples in a batch"])
    limits = {recipe.small_patches, float(recipe.small_iterations or 0)}
    assert numbers(said["patches"]) == (limits if recipe.small_patches else set())
    assert ("none is mirrored" in said["augmentation"]) == (not recipe.mirrored)
    if recipe.schedule != "one_cycle":
        assert float(recipe.epochs) in numbers(said["schedule"])


def test_the_rate_of_v2_is_nnunets_polylr() -> None:
    """nnU-Net's PolyLRScheduler: initial_lr * (1 - step / max_steps) ** 0.9."""
    recipe = find_recipe("v2")
    for epoch in (0, 1, 500, 999):
        expected = 1e-2 * (1 - epoch / 1000) ** 0.9
        assert recipe.learning_rate * polynomial(epoch / recipe.epochs) == pytest.approx(expected)


def test_the_paper_lowers_its_rate_after_thirty_epochs_and_stops() -> None:
    """An unchanging loss: a fifth of the rate every 31 epochs (30 are waited), the end below 1e-6."""
    recipe, state, steps = find_recipe("paper"), Plateau(), []
    for epoch in range(1, recipe.epochs):
        before, state = state.factor, state.after(1.0, recipe.plateau)
        if state.factor < before:
            steps.append(epoch)
        if recipe.learning_rate * state.factor < recipe.plateau.stop_below:
            break
    assert steps == [32, 63, 94, 125]
    assert recipe.learning_rate * state.factor == pytest.approx(3e-4 / 5**4)


def test_every_plan_has_a_training_recipe_and_names_that_are_none_are_explained() -> None:
    for name in PLANNERS:
        assert recipe_of_plan(name).name == ("paper" if name == "paper" else "v2")
    for recipe in RECIPES.values():
        assert find_recipe(recipe.name) is recipe
    with pytest.raises(NnunetError, match=r"'slow': .* there are paper, v2, fast"):
        find_recipe("slow")
    with pytest.raises(NnunetError, match=r"'v2-resenc-l': this is a planner"):
        find_recipe("v2-resenc-l")
