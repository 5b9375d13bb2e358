from dataclasses import replace

import pytest
from nnunet_rs.model.course import Course
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import FAST, PAPER, V2
from nnunet_rs.model.schedule import Plateau, one_cycle
from nnunet_rs.model.state import Position


def test_polynomial_by_the_epoch() -> None:
    course = Course.of(V2, TrainOptions())
    assert (course.epochs, course.batches, course.validation_batches) == (1000, 250, 50)
    assert course.rate(Position()) == 0.01
    assert course.rate(Position(epoch=500, batch=0)) == pytest.approx(0.01 * 0.5**0.9)
    assert course.rate(Position(epoch=500, batch=249)) == course.rate(Position(epoch=500))
    assert course.over(Position(epoch=1000))
    assert not course.over(Position(epoch=999, batch=249))


def test_one_cycle_by_the_iteration() -> None:
    course = Course.of(FAST, TrainOptions(epochs=4, batches=10))
    assert course.rate(Position(epoch=1, batch=5)) == pytest.approx(FAST.learning_rate * one_cycle(15 / 40))


def test_one_cycle_by_the_clock() -> None:
    course = Course.of(FAST, TrainOptions(time_budget=100))
    assert course.epochs is None
    halfway = Position(epoch=77, seconds=50)
    assert course.share(halfway) == 0.5
    assert course.rate(halfway) == pytest.approx(FAST.learning_rate * one_cycle(0.5))
    assert course.share(halfway, reserve=20) == 50 / 80  # the last validation takes 20 s of the budget
    assert course.over(Position(seconds=81), reserve=20)


def test_whichever_ends_first() -> None:
    course = Course.of(FAST, TrainOptions(epochs=4, batches=10, time_budget=100))
    assert course.share(Position(epoch=2, seconds=10)) == 0.5
    assert course.share(Position(epoch=1, seconds=90)) == 0.9
    assert Course.of(V2, TrainOptions(time_budget=60)).epochs == 1000


def test_plateau_stops_below_the_least_rate() -> None:
    course = Course.of(PAPER, TrainOptions())
    assert course.rate(Position(plateau=Plateau(factor=0.2))) == pytest.approx(6e-5)
    assert not course.over(Position(epoch=1, plateau=Plateau(factor=0.2**3)))
    assert course.over(Position(epoch=1, plateau=Plateau(factor=0.2**4)))
    patient = replace(PAPER, plateau=replace(PAPER.plateau, stop_below=1e-9))
    assert not Course.of(patient, TrainOptions()).over(Position(epoch=1, plateau=Plateau(factor=0.2**4)))
