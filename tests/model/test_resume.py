"""A training that is stopped, killed or finished, and what the next one in its folder does."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunet_rs.core.errors import CheckpointError, NnunetError
from nnunet_rs.core.locks import HeldError, exclusive
from nnunet_rs.core.workspace import CHECKPOINT, WorkFolder
from nnunet_rs.model.checkpoint import load_model
from nnunet_rs.model.loop import Loop
from nnunet_rs.model.metadata import read_metadata
from nnunet_rs.model.options import TrainOptions, TrainResult
from nnunet_rs.model.recipe import FAST, PAPER, V2
from nnunet_rs.model.state import save_state
from nnunet_rs.model.train import train_fold
from trainings import ANEW, SHORT, Heard, StopAfter, losses, weights


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
from trainings import SHORT
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
    killed = subprocess.run([sys.executable, "-c", KILLED, str(work), str(Path(__file__).parents[1])], check=False)
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
        loss="ce", deep_supervision=True, seed=5, time_budget=3.6e6, case_sampling={"case_0": 3.0, "case_1": 0.0},
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
    assert metadata.config.case_sampling == {"case_0": 3.0, "case_1": 0.0}


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
    with pytest.raises(CheckpointError, match=r"was begun with --loss \S*trainings(\.py)?:StopAfter, and nothing"):
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
