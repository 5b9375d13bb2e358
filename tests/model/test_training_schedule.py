from dataclasses import replace

import pytest
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import FAST, PAPER, V2
from nnunet_rs.model.schedule import Plateau, one_cycle
from nnunet_rs.model.state import Position
from nnunet_rs.model.training_schedule import TrainingSchedule


def test_polynomial_by_the_epoch() -> None:
    schedule = TrainingSchedule.of(V2, TrainOptions())
    assert (schedule.epochs, schedule.batches, schedule.validation_batches) == (1000, 250, 50)
    assert schedule.rate(Position()) == 0.01
    assert schedule.rate(Position(epoch=500, batch=0)) == pytest.approx(0.01 * 0.5**0.9)
    assert schedule.rate(Position(epoch=500, batch=249)) == schedule.rate(Position(epoch=500))
    assert schedule.over(Position(epoch=1000))
    assert not schedule.over(Position(epoch=999, batch=249))


def test_one_cycle_by_the_iteration() -> None:
    schedule = TrainingSchedule.of(FAST, TrainOptions(epochs=4, batches=10))
    assert schedule.rate(Position(epoch=1, batch=5)) == pytest.approx(FAST.learning_rate * one_cycle(15 / 40))


def test_one_cycle_by_the_clock() -> None:
    schedule = TrainingSchedule.of(FAST, TrainOptions(time_budget=100))
    assert schedule.epochs is None
    halfway = Position(epoch=77, seconds=50)
    assert schedule.share(halfway) == 0.5
    assert schedule.rate(halfway) == pytest.approx(FAST.learning_rate * one_cycle(0.5))
    assert schedule.share(halfway, reserve=20) == 50 / 80  # the last validation takes 20 s of the budget
    assert schedule.over(Position(seconds=81), reserve=20)


def test_whichever_ends_first() -> None:
    schedule = TrainingSchedule.of(FAST, TrainOptions(epochs=4, batches=10, time_budget=100))
    assert schedule.share(Position(epoch=2, seconds=10)) == 0.5
    assert schedule.share(Position(epoch=1, seconds=90)) == 0.9
    assert TrainingSchedule.of(V2, TrainOptions(time_budget=60)).epochs == 1000


def test_plateau_stops_below_the_least_rate() -> None:
    schedule = TrainingSchedule.of(PAPER, TrainOptions())
    assert schedule.rate(Position(plateau=Plateau(factor=0.2))) == pytest.approx(6e-5)
    assert not schedule.over(Position(epoch=1, plateau=Plateau(factor=0.2**3)))
    assert schedule.over(Position(epoch=1, plateau=Plateau(factor=0.2**4)))
    patient = replace(PAPER, plateau=replace(PAPER.plateau, stop_below=1e-9))
    assert not TrainingSchedule.of(patient, TrainOptions()).over(Position(epoch=1, plateau=Plateau(factor=0.2**4)))
