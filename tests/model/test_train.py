import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nnunet_rs.core.errors import CheckpointError, DatasetError, NnunetError, PlanError, TrainingError
from nnunet_rs.core.locks import HeldError, exclusive
from nnunet_rs.core.types import LabelSet
from nnunet_rs.core.workspace import CHECKPOINT, WorkFolder
from nnunet_rs.data.folds import read_splits
from nnunet_rs.model.checkpoint import load_model
from nnunet_rs.model.history import History
from nnunet_rs.model.loop import Loop
from nnunet_rs.model.metadata import read_metadata
from nnunet_rs.model.options import Model, TrainOptions, TrainResult
from nnunet_rs.model.previous_models import fold_lock
from nnunet_rs.model.recipe import FAST, PAPER, V2
from nnunet_rs.model.schedule import Overhead, PlateauRule
from nnunet_rs.model.state import save_state
from nnunet_rs.model.train import train_fold, train_locked
from nnunet_rs.model.unet import build_unet
from nnunet_rs.plan.files import read_plan, write_plan
from torch import nn

SHORT = TrainOptions(
    recipe=FAST, epochs=2, batches=4, validation_batches=2, augmentation="none", device="cpu", precision="float32",
    threads=1, seed=3,
)  # fmt: skip


ANEW = replace(SHORT, fresh=True)  # where a test trains a fold twice


class Heard:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done = 0.0
        self.timed = False

    def task(self, name: str, total: float, *, timed: bool = False) -> Any:
        self.timed = timed
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, count: float = 1, note: str = "") -> None:
        self.done += count

    def say(self, text: str) -> None:
        self.lines.append(text)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder)[0].state_dict()


def losses(result: TrainResult) -> list[float]:
    return [epoch.loss for epoch in result.history.epochs]


def test_learns_and_leaves_a_model(work: Path) -> None:
    heard, drawn = Heard(), []
    options = replace(SHORT, recipe=replace(FAST, learning_rate=0.05), epochs=6, batches=40, augmentation="light")
    result = train_fold(work, "3d_fullres", 1, options, heard, drawn.append)
    assert result.finished
    assert result.signal is None
    assert result.folder == WorkFolder(work).model("3d_fullres", 1).path
    assert sorted(path.name for path in result.folder.iterdir()) == [
        ".lock", "metrics.jsonl", "model.json", "patch.npz", "weights.safetensors",
    ]  # fmt: skip
    last = result.history.epochs[-1]
    assert last.iterations == 240
    assert last.loss < losses(result)[0] - 0.15
    assert last.mean_dice > 0.5
    assert [len(history.epochs) for history in drawn] == [1, 2, 3, 4, 5, 6]
    assert heard.done == 240
    assert sum(line.startswith("epoch") for line in heard.lines) == 6
    metadata = read_metadata(result.folder)
    assert (metadata.fold, metadata.config.recipe, metadata.config.seed, metadata.iterations) == (1, "fast", 3, 240)
    assert metadata.end == last
    assert metadata.cases == read_splits(work / "splits.json", [f"case_{k}" for k in range(6)])[1]
    assert History.read(result.folder / "metrics.jsonl", ("large", "small")) == result.history


@pytest.mark.parametrize("recipe", [PAPER, V2])
@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_other_recipes_in_two_and_three_dimensions(work: Path, recipe, configuration: str) -> None:
    result = train_fold(work, configuration, 0, replace(SHORT, recipe=recipe, epochs=1, augmentation=None))
    assert result.finished
    assert read_metadata(result.folder).network.deep_supervision is (recipe is V2)


def test_the_same_seed_gives_the_same_training(work: Path) -> None:
    once = losses(train_fold(work, "3d_fullres", 0, SHORT))
    assert losses(train_fold(work, "3d_fullres", 0, replace(ANEW, threads=2))) == pytest.approx(once, abs=1e-4)
    assert losses(train_fold(work, "3d_fullres", 0, replace(ANEW, seed=4))) != pytest.approx(once, abs=1e-2)


class StopAfter:
    """A loss that asks the process to stop when it has been computed a number of times."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.calls -= 1
        if self.calls == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return nn.functional.cross_entropy(logits.float(), target.long())


def test_a_full_disk_keeps_the_last_checkpoint_and_tells_the_way_on(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_fold(work, "3d_fullres", 1, SHORT)
    written = []

    def full(path: Path, *arguments: Any) -> None:
        written.append(path)
        if len(written) == 2:
            raise NnunetError(f"{path}: cannot be written: No space left on device; free space on this disk")
        save_state(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr("nnunet_rs.model.loop.save_state", full)
        patch.setattr("nnunet_rs.model.loop.SAVE_COST", 1e9)
        with pytest.raises(NnunetError, match=r"No space left.*; then --resume goes on from the last checkpoint, \S+$"):
            train_fold(work, "3d_fullres", 0, SHORT)
    rest = train_fold(work, "3d_fullres", 0, replace(SHORT, resume=True))
    assert rest.finished
    assert len(rest.history.epochs) == len(whole.history.epochs)


@pytest.mark.parametrize("recipe", [FAST, PAPER, V2])
def test_stopped_and_resumed_as_if_never_stopped(work: Path, recipe) -> None:
    options = replace(SHORT, recipe=recipe, epochs=3, norm="batch")
    whole = train_fold(work, "3d_fullres", 0, replace(options, loss=StopAfter(-1)))
    expected = weights(whole.folder)
    # in the second batch of the second epoch: 4 + 2 losses in the first, of training and validation
    part = train_fold(work, "3d_fullres", 0, replace(options, loss=StopAfter(8), fresh=True))
    assert not part.finished
    assert part.signal == signal.SIGTERM
    assert len(part.history.epochs) == 1
    heard = Heard()
    rest = train_fold(work, "3d_fullres", 0, replace(options, loss=StopAfter(-1), resume=True), heard)
    assert "resuming at epoch 2, batch 3" in heard.lines
    assert losses(rest) == pytest.approx(losses(whole), abs=1e-6)
    assert [e.validation_loss for e in rest.history.epochs] == pytest.approx(
        [e.validation_loss for e in whole.history.epochs], abs=1e-6
    )
    assert all(torch.allclose(expected[name], value, atol=1e-6) for name, value in weights(rest.folder).items())
    assert not (rest.folder / CHECKPOINT).exists()


def test_signals_do_afterwards_what_they_did_before(work: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    train_fold(work, "3d_fullres", 0, replace(SHORT, epochs=1, loss=StopAfter(2)))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from nnunet_rs.model import tensors
from nnunet_rs.model.train import train_fold
sys.path.insert(0, sys.argv[2])
from test_train import SHORT
whole, calls = tensors.save_file, []

def save_file(content, place, metadata):
    whole(content, place, metadata)
    calls.append(place)
    if len(calls) == 2:
        place.write_bytes(place.read_bytes()[:1000])
        os.kill(os.getpid(), signal.SIGKILL)

tensors.save_file = save_file
train_fold(Path(sys.argv[1]), "3d_fullres", 0, SHORT)
"""


def test_killed_while_it_writes_a_checkpoint(work: Path) -> None:
    """SIGKILL leaves the checkpoint before, which goes on to the end of the undisturbed training."""
    whole = train_fold(work, "3d_fullres", 0, SHORT)
    folder = whole.folder
    expected = weights(folder)
    for path in folder.iterdir():
        path.unlink()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(work), str(Path(__file__).parent)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(path.name[:4] for path in folder.iterdir()) == [".loc", ".tmp", "metr", "patc", "resu"]
    rest = train_fold(work, "3d_fullres", 0, replace(SHORT, resume=True))
    assert losses(rest) == pytest.approx(losses(whole), abs=1e-6)
    assert all(torch.allclose(expected[name], value, atol=1e-6) for name, value in weights(folder).items())
    assert sorted(path.name[:4] for path in folder.iterdir()) == [".loc", "metr", "mode", "patc", "weig"]


def stopped(work: Path, progress: Any = None, **changes: Any) -> TrainResult:
    return train_fold(work, "3d_fullres", 0, replace(SHORT, loss=StopAfter(3), **changes), progress)


def test_forgetting_to_resume_loses_nothing(work: Path) -> None:
    folder = stopped(work).folder
    content = (folder / CHECKPOINT).read_bytes()
    heard = Heard()
    stopped(work, seed=9)
    train_fold(work, "3d_fullres", 0, SHORT, heard)
    assert (folder / "previous_1" / CHECKPOINT).read_bytes() == content
    assert (folder / "previous_2" / CHECKPOINT).read_bytes() != content  # no generation is lost
    assert f"an unfinished training was there: kept in {folder / 'previous_2'}" in "\n".join(heard.lines)


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".lock"}


def test_a_finished_model_is_not_replaced_unasked(work: Path) -> None:
    folder = train_fold(work, "3d_fullres", 0, SHORT).folder
    (folder / "validation").mkdir()
    before = everything(folder)
    with pytest.raises(CheckpointError, match=r"fold_0: is trained already; --resume keeps it .* --fresh trains anew"):
        train_fold(work, "3d_fullres", 0, replace(SHORT, recipe=V2, epochs=1))
    assert everything(folder) == before
    with pytest.raises(CheckpointError, match="ask for one of them"):
        train_fold(work, "3d_fullres", 0, replace(ANEW, resume=True))
    heard = Heard()
    assert not stopped(work, fresh=True, progress=heard).finished
    assert everything(folder / "previous_1") == before
    assert (folder / "previous_1" / "validation").is_dir()
    assert f"the old model was there: kept in {folder / 'previous_1'}" in heard.lines
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "previous_1", CHECKPOINT]
    with pytest.raises(CheckpointError, match="not finished; go on with train --resume"):
        load_model(folder)  # no old weights beside new curves
    assert load_model(folder / "previous_1")[1].config.recipe == "fast"


def test_a_kill_while_things_are_put_aside_is_made_good(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = train_fold(work, "3d_fullres", 0, SHORT).folder
    before, moved, rename = everything(folder), [], Path.rename

    def killed(path: Path, target: Path) -> Path:
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(path)
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            train_fold(work, "3d_fullres", 0, ANEW)
    train_fold(work, "3d_fullres", 0, SHORT)
    assert everything(folder / "previous_1") == before
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["previous_1"]


def test_one_process_at_a_time_trains_a_fold(work: Path) -> None:
    with (
        exclusive(WorkFolder(work).model("3d_fullres", 0).path, "another job's training"),
        pytest.raises(HeldError, match=rf"another job's training \(process {os.getpid()} on .*, since .*\) is at work"),
    ):
        train_fold(work, "3d_fullres", 0, SHORT)
    assert train_fold(work, "3d_fullres", 0, SHORT).finished


def test_a_folder_that_cannot_be_written_is_told_before_training(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(NnunetError, match=r"fold_0: cannot be written: Permission denied; check the .*folder's perm"):
        train_fold(work, "3d_fullres", 0, SHORT)


def test_resuming_needs_no_option_again(work: Path) -> None:
    """Recipe, length, network, loss and the rest are the checkpoint's; plan and defaults say otherwise here."""
    options = replace(
        SHORT, recipe=replace(FAST, momentum=0.5), learning_rate=1e-3, epochs=3, features=2, batch_size=1, norm="batch",
        loss="ce", deep_supervision=True, seed=5, time_budget=3.6e6,
    )  # fmt: skip
    whole = train_fold(work, "3d_fullres", 0, options)
    expected, metadata = weights(whole.folder), read_metadata(whole.folder)
    with monkeypatch_stop(3):
        assert not train_fold(work, "3d_fullres", 0, replace(options, fresh=True)).finished
    rest = train_fold(work, "3d_fullres", 0, TrainOptions(resume=True, device="cpu", threads=1))
    assert rest.finished
    assert losses(rest) == pytest.approx(losses(whole), abs=1e-6)
    assert all(torch.allclose(expected[name], value, atol=1e-6) for name, value in weights(rest.folder).items())
    assert read_metadata(rest.folder).config == metadata.config
    assert (metadata.config.learning_rate, metadata.config.features, metadata.config.epochs) == (1e-3, 2, 3)


@contextmanager
def monkeypatch_stop(iterations: int) -> Iterator[None]:
    """Ask the process to stop after some iterations of a training."""
    left, iterate = [iterations], Loop._iterate

    def counted(loop: Loop, batch: Any) -> torch.Tensor:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return iterate(loop, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_iterate", counted)
        yield


def test_a_function_of_the_users_own_is_asked_for_again(work: Path) -> None:
    stopped(work)
    with pytest.raises(CheckpointError, match=r"was begun with --loss \S*test_train(\.py)?:StopAfter, and nothing"):
        train_fold(work, "3d_fullres", 0, TrainOptions(resume=True))


def test_a_longer_training_says_where_its_rate_goes_on(work: Path) -> None:
    stopped(work)
    options, heard = replace(SHORT, resume=True, loss=StopAfter(-1)), Heard()
    assert not train_fold(work, "3d_fullres", 0, replace(options, loss=StopAfter(1)), heard).finished
    assert not [line for line in heard.lines if "learning rate" in line]
    assert not train_fold(work, "3d_fullres", 0, replace(options, epochs=40, loss=StopAfter(1)), heard).finished
    (line,) = [line for line in heard.lines if "learning rate" in line]
    assert "--epochs, --time-budget or --learning-rate is another than before" in line
    heard = Heard()
    assert train_fold(work, "3d_fullres", 0, replace(options, epochs=2, learning_rate=1e-4), heard).finished
    assert [line for line in heard.lines if "learning rate goes on at" in line]
    assert read_metadata(WorkFolder(work).model("3d_fullres", 0).path).config.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe": V2}, r"was trained with --recipe fast \(now v2\): leave that out to keep it"),
        ({"learning_rate": 0.5}, r"--learning-rate 0.02 \(now 0.5\)"),
        ({"features": 8, "norm": "batch"}, r"--features 4 \(now 8\); --norm instance \(now batch\)"),
        ({"loss": "ce"}, r"--loss ce_dice \(now ce\)"),
        ({"seed": 0}, r"--seed 3 \(now 0\)"),
    ],
)
def test_another_finished_model_is_not_taken_for_what_is_asked(work: Path, change: dict[str, Any], said: str) -> None:
    train_fold(work, "3d_fullres", 0, SHORT)
    with pytest.raises(CheckpointError, match=said):
        train_fold(work, "3d_fullres", 0, TrainOptions(resume=True, **change))
    heard = Heard()
    assert train_fold(work, "3d_fullres", 0, TrainOptions(resume=True, epochs=9), heard).finished
    assert "was trained with --epochs 2 (now 9); it stays as it is, --fresh trains anew" in heard.lines[-2]


def test_the_plans_recipe_is_followed_and_told(work: Path) -> None:
    heard, brief = Heard(), replace(SHORT, recipe=None, epochs=1, batches=1)
    assert read_metadata(train_fold(work, "3d_fullres", 0, brief, heard).folder).config.recipe == "v2"
    assert "training recipe: v2, the recipe of plans by v2" in heard.lines
    plan = read_plan(work / "plan.json")
    for planned, trained in (("paper", "paper"), ("v2-resenc-l", "v2")):
        write_plan(work / "plan.json", replace(plan, recipe=planned))
        train_fold(work, "3d_fullres", 0, replace(brief, fresh=True), heard)
        assert heard.lines[-3].startswith(f"training recipe: {trained}, the recipe of plans by {planned}") or any(
            line == f"training recipe: {trained}, the recipe of plans by {planned}" for line in heard.lines
        )
    train_fold(work, "3d_fullres", 1, replace(SHORT, epochs=1), heard)
    assert any("fold 0 was trained by the recipe v2, fold 1 is by fast" in line for line in heard.lines)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 4}, r"--seed 3 \(now 4\)"),
        ({"batch_size": 1}, r"--batch-size 2 \(now 1\)"),
        ({"batches": 5}, r"--batches 4 \(now 5\)"),
        ({"recipe": V2}, r"--recipe fast \(now v2\)"),
        ({"augmentation": "light"}, r"--augmentation none \(now light\)"),
        ({"mirror_axes": (2,)}, r"another mirror axes \(None, now \(2,\)\)"),
        ({"norm": "batch"}, r"--norm instance \(now batch\)"),
        ({"loss": lambda logits, target: logits.mean()}, r"was begun with --loss .*StopAfter"),
    ],
)
def test_another_training_cannot_be_resumed(work: Path, change: dict[str, Any], said: str) -> None:
    folder = stopped(work).folder
    options = replace(SHORT, resume=True, **{"loss": StopAfter(-1), **change})
    with pytest.raises(CheckpointError, match=said):
        train_fold(work, "3d_fullres", 0, options)
    assert (folder / CHECKPOINT).exists()


def test_a_damaged_checkpoint(work: Path) -> None:
    path = stopped(work).folder / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is damaged"):
        train_fold(work, "3d_fullres", 0, replace(SHORT, loss=StopAfter(-1), resume=True))


def test_resuming_what_is_finished_or_was_never_begun(work: Path) -> None:
    heard = Heard()
    first = train_fold(work, "3d_fullres", 0, replace(SHORT, resume=True), heard)
    assert any("nothing to resume" in line for line in heard.lines)
    again = train_fold(work, "3d_fullres", 0, replace(SHORT, resume=True), heard)
    assert again.finished
    assert again.history == first.history
    assert "is trained already" in heard.lines[-1]


def test_a_loss_that_is_no_number_stops(work: Path) -> None:
    class Broken:
        calls = 0

        def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return logits.sum() * (1.0 if self.calls < 3 else float("nan"))

    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 1, by batch 3 .*--learning-rate"):
        train_fold(work, "3d_fullres", 0, replace(SHORT, loss=Broken()))


class Overflowing:
    """A loss that is infinite in the calls from `first` to `last`."""

    def __init__(self, first: int, last: int) -> None:
        self.calls, self.overflows = 0, range(first, last + 1)

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        loss = torch.nn.functional.cross_entropy(logits.float(), target.long())
        return loss * (float("inf") if self.calls in self.overflows else 1.0)


def test_float16_leaves_out_a_step_whose_loss_is_no_number(work: Path) -> None:
    heard, options = Heard(), replace(SHORT, loss=Overflowing(3, 4), precision="float16", validation_batches=0)
    result = train_fold(work, "3d_fullres", 0, options, heard)
    assert result.finished
    assert all(math.isfinite(epoch.loss) for epoch in result.history.epochs)
    assert [line for line in heard.lines if "left out" in line] == [
        "float16: 2 steps left out, for the loss was no number; later ones are scaled less"
    ]


def test_float16_does_not_leave_out_steps_for_ever(work: Path) -> None:
    options = replace(SHORT, loss=Overflowing(3, 10_000), precision="float16", validation_batches=0)
    with pytest.raises(TrainingError, match=r"the loss is inf .* training has diverged"):
        train_fold(work, "3d_fullres", 0, options)


def test_out_of_memory_says_what_to_change(work: Path) -> None:
    def greedy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    with pytest.raises(TrainingError, match=r"out of GPU memory \(CUDA out of memory.*--batch-size"):
        train_fold(work, "3d_fullres", 0, replace(SHORT, loss=greedy))


def test_a_time_budget_bounds_the_training(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()  # a clock that goes on by 10 ms each time it is read
    monkeypatch.setattr("nnunet_rs.model.loop.time", SimpleNamespace(monotonic=lambda: next(ticks) / 100))
    heard = Heard()
    result = train_fold(work, "3d_fullres", 0, replace(SHORT, epochs=None, time_budget=2.0), heard)
    assert result.finished
    assert heard.timed
    assert heard.done == pytest.approx(min(result.seconds, 2.0), abs=0.1)  # validation and saving are time too
    assert 1.8 < result.seconds < 2.2
    last = result.history.epochs[-1]
    assert last.iterations > 8
    assert last.learning_rate < 0.1 * FAST.learning_rate  # the cycle has come to its end


@pytest.mark.parametrize(
    ("passes", "seconds", "said"),
    [
        (20, 0.5, "time budget 8.0 s: about .* of it are kept for predicting"),
        (20, 5.0, "warning: time budget 8.0 s: predicting takes about .*, too much of it: that comes after it"),
        (10**6, 0.0, "warning: time budget 8.0 s: predicting takes about .*, too much of it"),
    ],
)
def test_what_follows_has_its_part_of_the_time_budget(
    work: Path, monkeypatch: pytest.MonkeyPatch, passes: int, seconds: float, said: str
) -> None:
    ticks = itertools.count()  # a clock that goes on by 10 ms each time it is read
    monkeypatch.setattr("nnunet_rs.model.loop.time", SimpleNamespace(monotonic=lambda: next(ticks) / 100))
    heard, overhead = Heard(), Overhead(-1.0, passes, seconds, "predicting")  # a second has gone before
    options = replace(SHORT, epochs=None, time_budget=8.0)
    with fold_lock(WorkFolder(work).model("3d_fullres", 0).path, heard):
        result = train_locked(work, Model("3d_fullres", 0), options, heard, overhead=overhead)
    (line,) = [line for line in heard.lines if "time budget" in line]
    assert re.match(said, line)
    if line.startswith("warning"):
        assert 7.5 < result.seconds < 8.5
    else:
        assert 6.0 < result.seconds < 7.5
    assert result.history.epochs[-1].learning_rate < 0.1 * FAST.learning_rate  # the cycle has come to its end


def test_a_time_budget_that_is_over_at_once_is_told(work: Path) -> None:
    heard, overhead = Heard(), Overhead(time.monotonic() - 9.0, 1, 0.0, "predicting")
    with fold_lock(WorkFolder(work).model("3d_fullres", 0).path, heard):
        result = train_locked(work, Model("3d_fullres", 0), replace(SHORT, time_budget=8.0), heard, overhead=overhead)
    assert result.finished
    assert any("too much of it: that comes after it" in line for line in heard.lines)


def test_validation_on_patches_takes_a_tenth_of_a_time_budget(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr("nnunet_rs.model.loop.time", SimpleNamespace(monotonic=lambda: next(ticks) / 100))
    heard = Heard()
    options = replace(SHORT, epochs=None, time_budget=2.0, validation_batches=10**6)
    result = train_fold(work, "3d_fullres", 0, options, heard)
    assert result.seconds < 2.6
    assert all(epoch.seconds_validation < 0.3 for epoch in result.history.epochs)
    assert any("validation on patches is cut short by the time budget" in line for line in heard.lines)


def test_the_papers_rate_becomes_too_small(work: Path) -> None:
    impatient = replace(PAPER, plateau=PlateauRule(patience=0, threshold=10.0))
    result = train_fold(work, "3d_fullres", 0, replace(SHORT, recipe=impatient, epochs=100, batches=1))
    # 3e-4 · 0.2⁴ < 1e-6: the first epoch improves on nothing, four more fail to
    assert [e.learning_rate for e in result.history.epochs] == pytest.approx([3e-4, 3e-4, 6e-5, 1.2e-5, 2.4e-6])


def test_overrides_stand_in_the_card(work: Path) -> None:
    options = replace(SHORT, epochs=1, features=2, batch_size=1, loss="ce")
    metadata = read_metadata(train_fold(work, "3d_fullres", 0, options).folder)
    assert metadata.settings.features == (2, 4, 8)
    assert metadata.settings.batch_size == 1
    assert read_plan(work / "plan.json").configurations["3d_fullres"].features == (4, 6, 8)


def wide(configuration, inputs, outputs, options):
    return build_unet(replace(configuration, features=(5, 5, 5)), inputs, outputs, options)


def test_network_and_optimiser_of_the_users_own(work: Path) -> None:
    options = replace(SHORT, epochs=1, network=wide, optimiser=lambda parameters: torch.optim.Adagrad(parameters))
    folder = train_fold(work, "3d_fullres", 0, options).folder
    assert read_metadata(folder).config.network.endswith("test_train:wide")
    loaded, _ = load_model(folder, network=wide)
    assert loaded.heads[0].in_channels == 5


def test_a_compiled_network_learns_the_same(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, original = [], torch.compile

    def traced(step: Any, **options: Any) -> Any:
        compiled.append(step)
        # traced as for every backend, in seconds and without a compiler
        return original(step, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", traced)
    plain = train_fold(work, "3d_fullres", 0, replace(SHORT, epochs=1))
    assert losses(train_fold(work, "3d_fullres", 0, replace(ANEW, epochs=1, compile=True))) == pytest.approx(
        losses(plain), abs=1e-6
    )
    assert len(compiled) == 1


def test_bfloat16_stays_near_float32(work: Path) -> None:
    exact = train_fold(work, "3d_fullres", 0, SHORT)
    rough = train_fold(work, "3d_fullres", 0, replace(ANEW, precision="bfloat16"))
    assert losses(rough) == pytest.approx(losses(exact), abs=0.1)
    assert losses(rough) != losses(exact)


def test_a_class_that_no_case_of_a_fold_holds_is_told(work: Path) -> None:
    plan, heard = read_plan(work / "plan.json"), Heard()
    train_fold(work, "3d_fullres", 0, replace(SHORT, epochs=1), heard)
    assert not [line for line in heard.lines if line.startswith("warning")]
    labels = LabelSet((*plan.labels.names, "ghost"), (0, 1, 2, 3))
    write_plan(work / "plan.json", replace(plan, labels=labels))
    train_fold(work, "3d_fullres", 0, replace(ANEW, epochs=1), heard)
    assert "warning: fold 0 trains on no case with ghost: nothing can be learnt for that" in heard.lines


def test_what_a_work_folder_may_lack(work: Path) -> None:
    with pytest.raises(
        PlanError, match=r"no configuration 3d_lowres; did you mean 3d_fullres\? there are 3d_fullres, 2d"
    ):
        train_fold(work, "3d_lowres", 0, SHORT)
    with pytest.raises(DatasetError, match="no fold 3; there are folds 0, 1, 2"):
        train_fold(work, "3d_fullres", 3, SHORT)
    with pytest.raises(PlanError, match="batch size is 0"):
        train_fold(work, "3d_fullres", 0, replace(SHORT, batch_size=0))
    plan = read_plan(work / "plan.json")
    other = replace(plan, normalization=(replace(plan.normalization[0], scheme="none"),))
    write_plan(work / "plan.json", other)
    with pytest.raises(DatasetError, match=r"case_0 was normalised by other rules .*; run preprocess again"):
        train_fold(work, "3d_fullres", 0, SHORT)
    finer = replace(plan.configurations["3d_fullres"], spacing=(1.0, 1.0, 1.0))
    write_plan(work / "plan.json", replace(plan, configurations={**plan.configurations, "3d_fullres": finer}))
    with pytest.raises(DatasetError, match=r"prepared for another plan \(shape \[8, 16, 16\].*\[16, 16, 16\]"):
        train_fold(work, "3d_fullres", 0, SHORT)
    write_plan(work / "plan.json", plan)
    for path in (work / "prepared" / "3d_fullres").glob("case_1*"):
        path.unlink()
    with pytest.raises(DatasetError, match="case case_1 has not been prepared; run preprocess"):
        train_fold(work, "3d_fullres", 0, SHORT)


def test_a_paper_plan_has_the_decoder_of_2019(work: Path) -> None:
    plan = read_plan(work / "plan.json")
    write_plan(work / "plan.json", replace(plan, recipe="paper"))
    folder = train_fold(work, "3d_fullres", 0, replace(SHORT, epochs=1)).folder
    assert json.loads((folder / "model.json").read_text())["config"]["decoder_kernels"] == "below"


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "relu"}, {"norm": "batch"}, {"downsampling": "max_pool"}, {"deep_supervision": True},
        {"loss": "ce"}, {"loss": "dice"}, {"augmentation": "light"},
    ],
)  # fmt: skip
def test_ablations_stand_in_the_card_and_load(work: Path, change: dict[str, Any]) -> None:
    """The switches of the paper's Figure 2, and of what came later."""
    folder = train_fold(work, "3d_fullres", 0, replace(SHORT, epochs=1, batches=1, **change)).folder
    network, metadata = load_model(folder)
    said = {name: getattr(metadata.config, name) for name in change}
    assert said == change
    assert isinstance(network(torch.zeros(1, 1, 4, 8, 8)), torch.Tensor)
    kinds = {type(module).__name__ for module in network.modules()}
    assert ("ReLU" in kinds) is (change.get("activation") == "relu")
    assert ("BatchNorm3d" in kinds) is (change.get("norm") == "batch")
    assert ("MaxPool3d" in kinds) is (change.get("downsampling") == "max_pool")


def test_an_optimiser_of_the_users_own_brings_its_rate(work: Path) -> None:
    options = replace(
        SHORT, recipe=V2, epochs=2, batches=1, optimiser=lambda weights: torch.optim.RMSprop(weights, lr=0.004)
    )
    epochs = train_fold(work, "3d_fullres", 0, options).history.epochs
    assert [epoch.learning_rate for epoch in epochs] == pytest.approx([0.004, 0.004 * 0.5**0.9])


def twice(configuration, normalization):
    """An augmentation with a transform of batchgenerators' own."""
    from batchgenerators.transforms.color_transforms import BrightnessMultiplicativeTransform
    from nnunet_rs.data.augment import Augmentation

    return Augmentation(configuration.patch_size, None, (BrightnessMultiplicativeTransform((2, 2)),))


def test_an_augmentation_of_the_users_own(work: Path) -> None:
    folder = train_fold(work, "3d_fullres", 0, replace(SHORT, epochs=1, augmentation=twice)).folder
    assert read_metadata(folder).config.augmentation.endswith("test_train:twice")
    assert read_metadata(folder).mirror_axes == ()


def turned(configuration, normalization):
    """An augmentation that mirrors by itself, and says so."""
    from nnunet_rs.data.augment import Augmentation

    return Augmentation(configuration.patch_size, mirror_axes=(1,))


@pytest.mark.parametrize(("configuration", "changes", "axes", "said"), [
    ("3d_fullres", {}, (), "no axis"),
    ("3d_fullres", {"augmentation": "light"}, (0, 1, 2), "z, y, x"),
    ("3d_fullres", {"augmentation": "light", "mirror_axes": (0, 2)}, (0, 2), "z, x"),
    ("3d_fullres", {"mirror_axes": (1,)}, (1,), "y"),
    ("2d", {"augmentation": "light"}, (0, 1), "y, x"),
    ("2d", {"augmentation": "light", "mirror_axes": (0, 1)}, (0,), "y; z lies across the slices of 2d"),
    ("3d_fullres", {"augmentation": turned}, (1,), "y"),
    ("3d_fullres", {"augmentation": twice}, (), "no axis; should .*:twice mirror, let it say so"),
    ("3d_fullres", {"augmentation": twice, "mirror_axes": (2,)}, (2,), "x"),
])  # fmt: skip
def test_the_model_knows_what_it_was_trained_mirrored_along(work: Path, configuration, changes, axes, said) -> None:
    heard = Heard()
    folder = train_fold(work, configuration, 0, replace(SHORT, epochs=1, batches=1, **changes), heard).folder
    assert read_metadata(folder).mirror_axes == axes
    assert any(re.fullmatch(f"mirrored in training, and so in prediction: {said}.*", line) for line in heard.lines)


def test_a_function_of_the_users_own_is_called_after_each_epoch(work: Path, tmp_path: Path) -> None:
    """By name, as the command line gives it; a class is made once and told what the training is."""
    file = tmp_path / "logger.py"
    file.write_text(
        "made = []\n"
        "class Logger:\n"
        "    def __init__(self, context):\n"
        "        made.append((context.configuration.name, context.fold, context.config.seed))\n"
        "        self.rows = []\n"
        "    def __call__(self, history):\n"
        "        made.append(history.epochs[-1].loss)\n"
        "def broken(history):\n"
        "    raise RuntimeError('no connection')\n"
    )
    drawn: list[History] = []
    result = train_fold(work, "3d_fullres", 0, replace(SHORT, on_epoch=f"{file}:Logger"), None, drawn.append)
    module = next(module for module in sys.modules.values() if getattr(module, "__file__", None) == str(file))
    assert module.made == [("3d_fullres", 0, 3), *losses(result)]
    assert drawn[-1] == result.history
    again = train_fold(work, "3d_fullres", 0, ANEW)
    assert losses(again) == losses(result)  # it changes nothing
    told = r"--on-epoch logger.py:broken: RuntimeError: no connection \(.*logger.py, line 9.*then --resume goes on"
    with pytest.raises(NnunetError, match=told):
        train_fold(work, "3d_fullres", 0, replace(ANEW, on_epoch=f"{file}:broken"))
    resumed = train_fold(work, "3d_fullres", 0, replace(SHORT, resume=True))  # without it
    assert losses(resumed) == losses(result)
