"""Network and loss compiled: what is traced, and what happens where that cannot be."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunet_rs.core.errors import TrainingError
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.model import compiled
from nnunet_rs.model.compiled import GradientStep, batch_loss, gradient_step, missing_for_compiling
from nnunet_rs.model.config import TrainingConfig, usual_config
from nnunet_rs.model.device import Compute
from nnunet_rs.model.losses import DeepSupervision, build_loss
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.recipe import FAST, V2
from nnunet_rs.model.unet import build_unet
from nnunet_rs.plan.schema import Configuration
from torch import nn

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
REGIONS = (Region("whole", (1, 2), 1), Region("core", (2,), 2))
NAMES, VALUES = ("background", "large", "small"), (0, 1, 2)
BATCH = torch.ones(2, 3), torch.zeros(2, 3)


def weights() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3))]


def loss_with(weight: nn.Parameter, error: Exception | None = None) -> Callable[[Any, Any], torch.Tensor]:
    def loss(data: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        weight.grad = torch.full((3,), 7.0) if error is not None else weight.grad  # as a backward pass that fails
        if error is not None:
            raise error
        return (weight * data - labels).sum()

    return loss


def twice(loss: torch.Tensor) -> torch.Tensor:
    return 2 * loss


@pytest.mark.parametrize("error", [RuntimeError("Failed to find C compiler\nmore"), FileNotFoundError("ptxas")])
def test_what_cannot_be_compiled_is_computed_without(error: Exception) -> None:
    (weight,), said = weights(), list[str]()
    step = GradientStep(loss_with(weight), loss_with(weight, error), False, said.append)
    for _ in range(2):
        weight.grad = None
        assert float(step(BATCH, [weight], twice)) == 6
        assert weight.grad.tolist() == [4, 4, 4]
    text = str(error).splitlines()[0]
    assert said == [f"warning: compiling failed, training goes on without ({text}); --no-compile skips it"]


def test_where_it_was_asked_for_it_is_an_error() -> None:
    from torch._dynamo.exc import TorchDynamoException

    (weight,) = weights()
    error = TorchDynamoException("InvalidCxxCompiler: none\n\nSet TORCHDYNAMO_VERBOSE=1")
    step = GradientStep(loss_with(weight), loss_with(weight, error), True, print)
    with pytest.raises(TrainingError, match=r"compiled \(InvalidCxxCompiler: none\); .* or train with --no-compile$"):
        step(BATCH, [weight], twice)
    step = GradientStep(loss_with(weight), loss_with(weight, KeyError("mine")), True, print)
    with pytest.raises(KeyError):
        step(BATCH, [weight], twice)


def test_later_errors_and_memory_are_not_the_compilers() -> None:
    (weight,), said = weights(), list[str]()
    memory = torch.OutOfMemoryError("CUDA out of memory.")
    with pytest.raises(torch.OutOfMemoryError):
        GradientStep(loss_with(weight), loss_with(weight, memory), False, said.append)(BATCH, [weight], twice)
    step = GradientStep(loss_with(weight), loss_with(weight), False, said.append)
    step(BATCH, [weight], twice)
    step.compiled = loss_with(weight, ValueError("a batch"))
    with pytest.raises(ValueError, match="a batch"):
        step(BATCH, [weight], twice)
    assert said == []


@pytest.mark.parametrize("labels", [LabelSet(NAMES, VALUES), LabelSet(NAMES, VALUES, REGIONS, 3)])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_network_and_loss_are_one_graph(
    small3d: Configuration, labels: LabelSet, deep: bool, dtype: torch.dtype
) -> None:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    torch.manual_seed(0)
    network = build_unet(small3d, 1, labels.outputs, NetworkOptions(deep_supervision=deep))
    plain = batch_loss(network, DeepSupervision(build_loss(labels)), Compute(CPU, dtype))
    counter = CompileCounter()
    traced = torch.compile(plain, backend=counter, fullgraph=True, dynamic=False)
    data = torch.randn(2, 1, *small3d.patch_size)
    target = torch.randint(0, labels.count, (2, *small3d.patch_size)).short()
    for _ in range(2):
        network.train()
        assert torch.equal(traced(data, target), plain(data, target))
        network.eval()  # as a validation between two epochs
    assert counter.frame_count == 1
    torch._dynamo.reset()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that has everything; returns the folder of Python's headers."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # which loads the compiler
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(compiled, "find_spec", lambda _: object())
    monkeypatch.setattr(compiled.shutil, "which", lambda name: f"/usr/bin/{name}" if name == "gcc" else None)
    monkeypatch.setattr(compiled.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    (tmp_path / "Python.h").touch()
    return tmp_path


def test_what_compiling_lacks(gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_for_compiling(GPU) == ""
    (gpu / "Python.h").unlink()
    if sys.platform != "win32":
        assert "Python.h is not there" in missing_for_compiling(GPU)
        monkeypatch.setattr(compiled.shutil, "which", lambda _: None)
        assert missing_for_compiling(GPU).startswith("there is no C compiler")
    monkeypatch.setattr(compiled, "find_spec", lambda _: None)
    assert missing_for_compiling(GPU).startswith("Triton is not installed")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (6, 1))
    assert missing_for_compiling(GPU).endswith("this GPU has 6.1")


def decided(config: TrainingConfig, device: torch.device, asked: bool | None) -> tuple[bool, list[str]]:
    said: list[str] = []
    step = gradient_step(
        nn.Identity(), nn.MSELoss(), Compute(device, torch.float32), asked=asked, config=config, shared=False,
        say=said.append,
    )  # fmt: skip
    return step.compiled is not None, [line.partition(" ")[0] for line in said]


def test_by_default_long_trainings_on_gpus_are_compiled(gpu: Path, small3d: Configuration) -> None:
    config = usual_config("v2", small3d, V2)
    assert decided(config, GPU, None) == (True, ["compiling"])
    assert decided(config, GPU, False) == (False, [])
    assert decided(config, CPU, None) == (False, [])
    assert decided(config, CPU, True) == (True, ["compiling"])
    short = replace(usual_config("v2", small3d, FAST), epochs=2, batches=10)
    assert decided(short, GPU, None) == (False, ["not"])
    assert decided(short, GPU, True) == (True, ["compiling"])
    assert decided(replace(short, epochs=None, time_budget=300.0), GPU, None) == (False, ["not"])
    assert decided(replace(short, epochs=None, time_budget=3600.0), GPU, None) == (True, ["compiling"])
    (gpu / "Python.h").unlink()
    assert decided(config, GPU, None) == (False, ["not"])
