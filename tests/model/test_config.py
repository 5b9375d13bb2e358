from dataclasses import fields, replace
from pathlib import Path

import pytest
from nnunet_rs.cli.commands.train import train_options
from nnunet_rs.cli.parser import build_parser
from nnunet_rs.core.errors import CheckpointError, PlanError
from nnunet_rs.model.config import (
    TrainingConfig,
    asked_for,
    command_words,
    new_config,
    own_words,
    resumed_config,
    unlike,
    usual_config,
)
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import FAST, PAPER, V2
from nnunet_rs.model.setup import set_up
from nnunet_rs.plan.schema import Plan

NAME = "3d_fullres"
WHERE = Path("fold_0")
# What is no part of what a training is: how it is begun, where it runs.
ELSEWHERE = {"resume", "fresh", "device", "compile", "threads", "cache", "on_epoch", "new_cycle"}


def test_every_option_is_recorded_or_known_not_to_be() -> None:
    recorded = {field.name for field in fields(TrainingConfig)}
    assert {field.name for field in fields(TrainOptions)} - recorded == ELSEWHERE


def config(work: Path, options: TrainOptions) -> TrainingConfig:
    return set_up(work, NAME, 0, options).config


def test_nothing_is_left_open(work: Path) -> None:
    found = config(work, TrainOptions())
    setup = set_up(work, NAME, 0, TrainOptions())
    assert found == usual_config(setup.plan.recipe, setup.configuration, V2)
    assert (found.recipe, found.epochs, found.batch_size, found.features) == ("v2", 1000, 2, 4)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--recipe fast",
        "--recipe paper --epochs 3 --batches 5 --seed 7",
        "--recipe fast --time-budget 90s",
        "--recipe fast --time-budget 90s --epochs 4",
        "--learning-rate 0.00125 --loss dice --augmentation none --precision float32",
        "--features 7 --batch-size 1 --activation relu --norm batch --pooling max_pool --no-deep-supervision",
        "--recipe fast --deep-supervision --mirror-axes 0,2",
        "--mirror-axes none",
        "--channels-last",
        "--keep-best --class-weights background=0.5 small=3",
        "--oversample-foreground 0.75 --class-sampling balanced",
        "--oversample-foreground 0 --class-sampling small=3 large=0.5",
        "--case-sampling case_0=3 case_2=0",
    ],
)
def test_the_command_makes_the_same_training(work: Path, small_plan: Plan, line: str) -> None:
    """What is printed for another fold, typed again, is the same configuration."""

    def asked(words: str) -> TrainingConfig:
        arguments = build_parser().parse_args(["train", "w", "-c", NAME, "-f", "0", *words.split()])
        return config(work, train_options(arguments))

    first = asked(line)
    words = command_words(first, small_plan, NAME)
    assert asked(" ".join(words)) == first
    assert bool(words) is bool(line)


@pytest.mark.parametrize(("on_gpu", "batch_size"), [(False, 2), (True, 9)])
def test_a_gpu_takes_batches_as_planned(small_plan: Plan, on_gpu: bool, batch_size: int) -> None:
    larger = replace(small_plan.configurations[NAME], batch_size=9)
    plan = replace(small_plan, configurations={NAME: larger})
    found = new_config(TrainOptions(recipe=FAST), plan, NAME, on_gpu=on_gpu)
    assert found.batch_size == batch_size
    # The command for another fold says it: that may be trained on another device.
    words = ("--recipe", "fast", "--batch-size", str(batch_size), "--small-patches", "0" if on_gpu else "0.5")
    assert command_words(found, plan, NAME) == words
    assert new_config(TrainOptions(recipe=FAST, batch_size=3), plan, NAME, on_gpu=on_gpu).batch_size == 3


def resumed(work: Path, options: TrainOptions, saved: TrainingConfig) -> TrainingConfig:
    return resumed_config(options, saved, set_up(work, NAME, 0, TrainOptions()).plan, NAME, WHERE)


def test_what_is_not_asked_for_is_as_it_was(work: Path) -> None:
    saved = config(work, TrainOptions(recipe=replace(FAST, momentum=0.3), learning_rate=0.5, epochs=3, norm="batch"))
    assert resumed(work, TrainOptions(resume=True, epochs=9), saved) == replace(saved, epochs=9)
    assert resumed(work, TrainOptions(learning_rate=0.25), saved) == replace(saved, learning_rate=0.25)
    same = TrainOptions(recipe=replace(FAST, momentum=0.3), norm="batch", batch_size=2)  # asked for again
    assert resumed(work, same, saved) == saved


def test_a_changed_recipe_asks_for_what_it_changes(work: Path) -> None:
    changed = TrainOptions(replace(FAST, epochs=7, loss="ce", learning_rate=0.5))
    assert [asked_for(changed, name) for name in ("epochs", "loss", "learning_rate", "batches")] == [7, "ce", 0.5, None]
    assert resumed(work, changed, replace(config(work, changed), epochs=3)).epochs == 7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (TrainOptions(recipe=PAPER), r"fold_0: was begun with --recipe fast \(now paper\): leave that out to go on"),
        (TrainOptions(recipe=replace(FAST, gradient_clip=1.0)), r"gradient_clip 12.0 of the recipe \(now 1.0\)"),
        (TrainOptions(recipe=replace(FAST, small_iterations=9)), r"small_iterations 2500 of the recipe \(now 9\)"),
        (TrainOptions(deep_supervision=True, seed=1), r"--seed 0 \(now 1\); --no-deep-supervision \(now True\)"),
        (TrainOptions(oversample_foreground=0.5), r"no --oversample-foreground \(now 0.5\)"),
        (TrainOptions(class_sampling={"small": 2}), r"--class-sampling uniform \(now small=2\)"),
        (TrainOptions(case_sampling={"case_0": 2}), r"no --case-sampling \(now case_0=2\)"),
        (TrainOptions(loss="ce"), r"--loss own.py:f \(now ce\)"),
        (TrainOptions(loss="other.py:f"), r"--loss own.py:f \(now .*other.py:f\)"),
    ],
)
def test_another_training_is_refused_by_its_options(work: Path, options: TrainOptions, said: str) -> None:
    saved = replace(config(work, TrainOptions(recipe=FAST)), loss="own.py:f")
    with pytest.raises(CheckpointError, match=said):
        resumed(work, options, saved)


def test_a_recipe_asked_for_by_its_name_may_have_had_other_constants(work: Path) -> None:
    saved = replace(config(work, TrainOptions(recipe=FAST)), ema_decay=0.999)  # as versions before had it
    assert resumed(work, TrainOptions(recipe=FAST), saved) == saved
    assert unlike(TrainOptions(recipe=FAST), saved, WHERE) == ""


def test_own_functions_are_named_again(work: Path) -> None:
    saved = replace(config(work, TrainOptions()), loss="own.py:f", network="mine:build")
    assert own_words(saved) == ("--network", "mine:build", "--loss", "own.py:f")
    with pytest.raises(CheckpointError, match="was begun with --network mine:build, and nothing is imported by a name"):
        resumed(work, TrainOptions(), saved)
    moved = TrainOptions(network="mine:build", loss="/elsewhere/own.py:f")  # the same file in another place
    assert resumed(work, moved, saved) == saved


def test_an_own_optimiser_brings_its_rate(small_plan: Plan) -> None:
    with pytest.raises(PlanError, match=r"learning rate is 0\.1, but an optimiser of your own brings its rate"):
        new_config(TrainOptions(optimiser="own.py:f", learning_rate=0.1), small_plan, NAME)
    own = replace(new_config(TrainOptions(), small_plan, NAME), optimiser="own.py:f", learning_rate=0.1)
    assert command_words(own, small_plan, NAME) == ("--optimiser", "own.py:f")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (TrainOptions(learning_rate=float("inf")), "learning rate is inf: must be a number above 0"),
        (TrainOptions(batch_size=0), "batch size is 0: must be at least 1"),
        (TrainOptions(features=0), "features is 0: must be at least 1"),
        (TrainOptions(oversample_foreground=1.5), r"oversample foreground is 1.5: must be a share .* from 0 to 1"),
        (TrainOptions(oversample_foreground=float("nan")), "oversample foreground is nan"),
        (TrainOptions(class_sampling="rarest"), "class sampling 'rarest' is unknown"),
        (TrainOptions(class_sampling={"tumor": 2.0}), "class sampling: 'tumor' is unknown"),
    ],
)
def test_numbers_out_of_range(small_plan: Plan, options: TrainOptions, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        new_config(options, small_plan, NAME)


def test_a_finished_model_may_have_had_another_time(work: Path) -> None:
    saved = config(work, TrainOptions(epochs=2))
    assert unlike(TrainOptions(), saved, WHERE) == ""
    assert unlike(TrainOptions(epochs=3, time_budget=60.0), saved, WHERE) == (
        "--epochs 2 (now 3); no --time-budget (now 60)"
    )
    with pytest.raises(
        CheckpointError, match=r"was trained with --learning-rate 0.01 \(now 0.1\): leave that out to keep"
    ):
        unlike(TrainOptions(learning_rate=0.1), saved, WHERE)
