"""What is wrong with a user's own function is told before the first epoch, as the user's, with file and line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nnunet_rs.core.errors import PluginError, TrainingError
from nnunet_rs.core.types import LabelSet
from nnunet_rs.model.history import History
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.plugins import own_function
from nnunet_rs.model.recipe import FAST
from nnunet_rs.model.train import train_fold
from nnunet_rs.plan.files import read_plan, write_plan
from torch import nn

SHORT = TrainOptions(
    recipe=FAST, epochs=1, batches=2, validation_batches=1, augmentation="none", device="cpu", precision="float32",
    threads=1,
)  # fmt: skip
HEADER = """
import torch
from torch import nn
"""

WRONG = {
    "network": {
        "def own(configuration, inputs, outputs, options):\n    return nn.Conv3d(inputs, outputs + 1, 3, padding=1)": (
            r"gives logits of shape \[2, 4, 4, 8, 8\]; expected \[2, 3, 4, 8, 8\]: 3 channels for background, large"
        ),
        "def own(configuration, inputs, outputs, options):\n    return nn.Conv3d(inputs, outputs, 3)": (
            r"gives logits of size \[2, 6, 6\] for a patch of \[4, 8, 8\]"
        ),
        "def own(configuration, inputs, outputs, options):\n    return 3": r"must return a torch.nn.Module, not a int",
        "def own(configuration, inputs, outputs, options):\n    return nn.ReLU()": r"has no weights to learn",
        "def own(configuration):\n    return 3": r"TypeError: own\(\) takes 1 positional argument but 4 were given",
        "class own(nn.Conv3d):\n    def __init__(self, a, b, c, d):\n        super().__init__(b, c, 1)\n"
        "    def forward(self, x):\n        return self.absent(x)": r"AttributeError: .*absent.* line 9, in forward\)",
        "class own(nn.Conv3d):\n    def __init__(self, a, b, c, d):\n        super().__init__(b, c, 1)\n"
        "    def forward(self, x):\n        return [super().forward(x), super().forward(x)[:, :1]]": (
            r"\[2, 1, 4, 8, 8\]"
        ),
        "class own(nn.Conv3d):\n    def __init__(self, a, b, c, d):\n        super().__init__(b, c, 1)\n"
        "    def forward(self, x):\n        return [super().forward(x)]": r"must give tensors .*, not a list",
        "class own(nn.Conv3d):\n    def __init__(self, a, b, c, d):\n        super().__init__(b, c, 1)\n"
        "    def forward(self, x):\n        return super().forward(x) / 0": r"no finite numbers",
        "class own(nn.Conv3d):\n    def __init__(self, a, b, c, d):\n        super().__init__(b, c, 1)\n"
        "    def forward(self, x):\n        y = super().forward(x).exp(); y2 = y * 1; y.zero_(); return y2": (
            r"the backward pass through it fails: RuntimeError: one of the variables"
        ),
    },
    "loss": {
        "def own(logits):\n    return 0": r"own\(\) takes 1 positional argument but 2 were given \(.*line 5\)",
        "def own(logits, target):\n    return 0.5": r"must return a tensor, not a float",
        "def own(logits, target):\n    return logits.mean((1, 2, 3, 4))": r"one number .* float32 of shape \[2\]",
        "def own(logits, target):\n    return logits.detach().mean()": r"does not depend on the logits",
        "def own(logits, target):\n    return logits.mean() / 0": r"returns (-?inf|nan) for the first batch",
        "def own(logits, target):\n    return nn.functional.cross_entropy(logits, target[:, :1].long())": (
            r"ValueError|RuntimeError.*line 6, in own\)"
        ),
        "class own:\n    def __init__(self, wanted):\n        pass": r"TypeError: .*wanted",
    },
    "optimiser": {
        "def own(parameters):\n    return list(parameters)": r"must return a torch.optim.Optimizer, not a list",
        "def own(parameters):\n    return parameters.absent": r"AttributeError.*line 6, in own\)",
    },
    "augmentation": {
        "def own(configuration, normalization):\n    return None": r"must return a nnunet_rs.data.augment.Augmentation",
        "def own(configuration, normalization):\n    raise KeyError('x')": r"KeyError: 'x' \(.*line 6, in own\)",
    },
}
CASES = [(option, code, said) for option, codes in WRONG.items() for code, said in codes.items()]


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., object]:
    def write(option: str, code: str, name: str = "own") -> object:
        file = tmp_path / f"mine_{abs(hash(code))}.py"
        file.write_text(HEADER + "\n" + code + "\n")
        return own_function(option, f"{file}:{name}")

    return write


@pytest.mark.parametrize(("option", "code", "said"), CASES)
def test_told_before_the_first_epoch(work: Path, own: Callable[..., object], option: str, code: str, said: str) -> None:
    epochs: list[History] = []
    options = replace(SHORT, **{option: own(option, code)})
    with pytest.raises(PluginError, match=rf"--{option} mine_\d+\.py:own") as raised:
        train_fold(work, "3d_fullres", 0, options, on_epoch=epochs.append)
    assert re.search(said, str(raised.value)), raised.value
    assert ".py, line " in str(raised.value) or "backward" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not epochs


def test_a_label_to_ignore_is_in_the_first_batch(work: Path, own: Callable[..., object]) -> None:
    plan = read_plan(work / "plan.json")
    labels = LabelSet(plan.labels.names, plan.labels.values, ignore=9)
    write_plan(work / "plan.json", replace(plan, labels=labels))
    plain = "def own(logits, target):\n    return nn.functional.cross_entropy(logits, target.long())"
    with pytest.raises(PluginError, match=r"out of bounds.*class indices \(b, \.\.\.\) from 0 to 2, and 3 for voxels"):
        train_fold(work, "3d_fullres", 0, replace(SHORT, loss=own("loss", plain)))
    heeding = (
        "def own(logits, target, context):\n"
        "    return nn.functional.cross_entropy(logits, target.long(), ignore_index=context.ignore_index)"
    )
    assert train_fold(work, "3d_fullres", 0, replace(SHORT, loss=own("loss", heeding))).finished


def test_what_fails_later_is_told_too(work: Path, own: Callable[..., object]) -> None:
    code = (
        "class own(nn.Conv3d):\n    def __init__(self, a, b, c, d):\n"
        "        super().__init__(b, c, 1)\n        self.calls = 0\n"
        "    def forward(self, x):\n        self.calls += 1\n        assert self.calls < 4, 'enough'\n"
        "        return super().forward(x)"
    )
    with pytest.raises(
        PluginError, match=r"--network mine_\d+\.py:own: AssertionError: enough, in epoch 1 .*line 11, in forward"
    ):
        train_fold(work, "3d_fullres", 0, replace(SHORT, batches=5, network=own("network", code)))


def test_a_transform_of_ones_own_fails_in_a_thread(work: Path, own: Callable[..., object]) -> None:
    code = (
        "from dataclasses import replace\nfrom nnunet_rs.data.augment import build_augmentation\n"
        "def bad(**sample):\n    raise ValueError('no such sample')\n"
        "def own(configuration, normalization):\n"
        "    return replace(build_augmentation('none', configuration, normalization), transforms=(bad,))"
    )
    with pytest.raises(
        PluginError,
        match=r"--augmentation .*own: case case_\d, batch 0 .*ValueError: no such sample \(.*line 8, in bad\)",
    ):
        train_fold(work, "3d_fullres", 0, replace(SHORT, augmentation=own("augmentation", code)))


class Counting(nn.Module):
    """A network with statistics and chance, and a loss that counts."""

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(1, 3, 1), nn.BatchNorm3d(3), nn.Dropout(0.5))
        self.calls = 0

    def forward(self, data: torch.Tensor, target: torch.Tensor | None = None) -> torch.Tensor:
        if target is None:
            result: torch.Tensor = self.layers(data)
            return result
        self.calls += 1
        return nn.functional.cross_entropy(data, target.long())


def test_the_trial_leaves_no_trace(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics, random numbers, what a loss remembers: as without the trial."""
    loss = Counting()
    options = replace(SHORT, network=Counting, loss=loss)
    weights = "weights.safetensors"
    tried = (train_fold(work, "3d_fullres", 0, options).folder / weights).read_bytes()
    assert loss.calls == 3  # two batches and one of validation
    monkeypatch.setattr("nnunet_rs.model.train.try_plugins", lambda *_: None)
    untried = train_fold(work, "3d_fullres", 0, replace(options, fresh=True)).folder / weights
    assert untried.read_bytes() == tried


def test_memory_that_does_not_suffice_is_no_fault_of_the_function(work: Path) -> None:
    def greedy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        raise MemoryError

    with pytest.raises(TrainingError, match="out of memory; train with a smaller"):
        train_fold(work, "3d_fullres", 0, replace(SHORT, loss=greedy))
