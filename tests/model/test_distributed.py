import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.model.distributed import ProcessGroup, SharedLoss, joined
from nnunet_rs.model.losses import build_loss
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import V2
from nnunet_rs.model.train import train_fold
from torch import Tensor, nn

OPTIONS = TrainOptions(
    recipe=V2, epochs=2, batches=3, validation_batches=2, device="cpu", precision="float32", threads=1
)
TRAININGS = {"3d_fullres": OPTIONS, "2d": replace(OPTIONS, loss="dice", augmentation="none")}


def mean_error(logits: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.float(), target.long())


def follow(work: Path, out: Path) -> None:
    """What each of two processes does: the trainings above, then one that only the second is asked to stop."""
    torch.set_num_threads(1)
    calls = []

    def interrupted(logits: Tensor, target: Tensor) -> Tensor:
        calls.append(len(target))
        if len(calls) == 2 and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return mean_error(logits, target)

    with joined(torch.device("cpu")):
        rank = int(os.environ["RANK"])
        results = {name: train_fold(work, name, 0, options) for name, options in TRAININGS.items()}
        stopped = train_fold(work, "2d", 1, replace(OPTIONS, loss=interrupted))
    curves = {name: [epoch.loss for epoch in result.history.epochs] for name, result in results.items()}
    facts = {"finished": stopped.finished, "signal": stopped.signal, "samples": calls}
    (out / f"{rank}.json").write_text(json.dumps({"curves": curves, **facts}))


if __name__ == "__main__":
    follow(Path(sys.argv[1]), Path(sys.argv[2]))


@pytest.fixture
def two(work: Path, tmp_path: Path) -> list[dict]:
    """What two processes under torchrun found."""
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__)
    subprocess.run([*launch, str(work), str(tmp_path)], check=True, capture_output=True, timeout=300)
    return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes_train_as_one_and_stop_together(work: Path, two: list[dict]) -> None:
    assert two[0]["curves"] == two[1]["curves"]  # losses are those of the whole batch
    assert [found["samples"][0] for found in two] == [2, 1]  # batches of three are shared
    assert [found["finished"] for found in two] == [False, False]
    assert [found["signal"] for found in two] == [None, signal.SIGTERM]
    assert (work / "models/2d/fold_1/resume.safetensors").is_file()
    for name, options in TRAININGS.items():
        alone = train_fold(work, name, 0, replace(options, fresh=True))
        assert two[0]["curves"][name] == pytest.approx([epoch.loss for epoch in alone.history.epochs], abs=1e-5)
        dice = json.loads((alone.folder / "metrics.jsonl").read_text().splitlines()[-1])["dice"]
        assert dice == pytest.approx(alone.history.epochs[-1].dice, abs=1e-6)


class TwoHalves:
    """Sums over two processes, without processes: what was asked for is remembered, then answered with both."""

    def __init__(self) -> None:
        self.asked: list[list[Tensor]] = [[], []]
        self.known: list[list[Tensor]] = [[], []]
        self.half = 0

    def __call__(self, sums: Tensor) -> Tensor:
        place = len(self.asked[self.half])
        self.asked[self.half].append(sums.detach())
        return sums + self.known[1 - self.half][place] if self.known[0] else sums

    def play(self, step) -> list[Tensor]:
        """Run both halves twice: the second time each knows the other's sums."""
        for again in (False, True):
            results = []
            self.known, self.asked = (self.asked if again else [[], []]), [[], []]
            for self.half in (0, 1):
                results.append(step(self.half))
        return results


LABELS = {
    "classes": LabelSet(("background", "a", "b"), (0, 1, 2)),
    "ignore": LabelSet(("background", "a", "b"), (0, 1, 2), ignore=3),
    "regions": LabelSet(
        ("background", "a", "b"), (0, 1, 2), regions=(Region("all", (1, 2), 1), Region("core", (2,), 2))
    ),
}


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("kind", LABELS)
def test_losses_of_a_shared_batch_are_those_of_the_whole(kind: str, batch_dice: bool) -> None:
    labels, generator = LABELS[kind], torch.Generator().manual_seed(0)
    logits = torch.randn((3, labels.outputs, 4, 5), generator=generator).requires_grad_()
    top = 4 if labels.ignore is not None else 3
    target = torch.randint(top, (3, 4, 5), generator=generator)
    whole = build_loss(labels, batch_dice=batch_dice)(logits, target)
    whole.backward()
    halves = TwoHalves()
    loss = build_loss(labels, batch_dice=batch_dice, total=halves)
    shares = [logits.detach()[[0, 2]].requires_grad_(), logits.detach()[[1]].requires_grad_()]
    targets = [target[[0, 2]], target[[1]]]
    values = halves.play(lambda half: loss(shares[half], targets[half]))
    assert values[0].item() == pytest.approx(whole.item(), abs=1e-6)
    assert values[1].item() == pytest.approx(whole.item(), abs=1e-6)
    for value in values:
        value.backward()
    assert torch.allclose(shares[0].grad, logits.grad[[0, 2]], atol=1e-7)
    assert torch.allclose(shares[1].grad, logits.grad[[1]], atol=1e-7)


def test_a_users_own_loss_weighs_by_samples() -> None:
    logits, target = torch.randn(3, 2, 8), torch.randint(2, (3, 8))
    halves = TwoHalves()
    group = type("Two", (), {"size": 2, "total": staticmethod(halves)})()
    shared = SharedLoss(mean_error, group)
    values = halves.play(lambda half: shared(logits[half::2], target[half::2]))
    assert torch.stack(values).tolist() == pytest.approx([mean_error(logits, target).item()] * 2, abs=1e-6)


def test_alone_nothing_changes() -> None:
    group, network, sums = ProcessGroup(), nn.BatchNorm2d(3), torch.ones(2)
    assert group.is_rank_0
    assert group.total(sums) is sums
    assert group.agree(1.5, True) == (1.5, True)
    assert group.wrap(network) is network
    assert group.prepare(network, torch.device("cpu")) is network
    group.wait()
    group.check_batch(1)


def test_what_several_processes_cannot_share() -> None:
    group = ProcessGroup(0, 4)
    with pytest.raises(PlanError, match="batch size is 2: 4 processes need at least one sample each"):
        group.check_batch(2)
    with pytest.raises(PlanError, match="batch norm: PyTorch shares its statistics among GPUs only"):
        group.prepare(nn.Sequential(nn.BatchNorm3d(2)), torch.device("cpu"))
