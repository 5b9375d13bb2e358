import pytest
import torch
from nnunet_rs.model.ema import WeightEMA
from nnunet_rs.model.recipe import FAST
from torch import nn


def test_by_hand() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(0.0)
    average = WeightEMA(network, decay=0.15)
    network.weight.data.fill_(1.0)
    average.update()  # in the beginning 1 / 10 of the past
    assert float(average.network.weight) == pytest.approx(0.9)
    network.weight.data.fill_(2.0)
    average.update()  # then never more than 0.15
    assert float(average.network.weight) == pytest.approx(0.15 * 0.9 + 0.85 * 2)
    assert not average.network.weight.requires_grad


def test_buffers_are_copied() -> None:
    network = nn.BatchNorm1d(2)
    average = WeightEMA(network, 0.9)
    network(torch.randn(8, 2))
    average.update()
    assert torch.equal(average.network.running_mean, network.running_mean)
    assert int(average.network.num_batches_tracked) == 1


def test_fast_averages_over_a_tenth_as_far_as_it_was_tried_and_further() -> None:
    """Up to 9000 iterations, longer than every trial, the recipe's limit changes nothing; then the share stays."""
    limit = FAST.ema_decay
    assert limit is not None
    for updates in (1, 100, 8991):
        assert min(limit, updates / (updates + 9)) == min(0.999, updates / (updates + 9))
    assert min(limit, 50_000 / 50_009) == 50_000 / 50_009
