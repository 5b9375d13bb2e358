import sys
from pathlib import Path

import pytest
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.model.history import Epoch, History
from nnunet_rs.report.board import BOARD, board


def epochs(*losses: float) -> History:
    rows = (Epoch(k, k + 1, loss, None, (0.5, None), 1e-3, 3.0, 0.1, 2.0, 0.9) for k, loss in enumerate(losses))
    return History(("large", "small"), tuple(rows))


def recorded(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / BOARD)).Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_epochs_are_recorded_and_a_resumed_training_supersedes_what_was_lost(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    with board(tmp_path) as add:
        for count in (1, 2, 3):
            add(epochs(*[1.0, 0.75, 0.5][:count]))
    with board(tmp_path) as add:  # as if resumed after the second epoch
        add(epochs(1.0, 0.75, 0.25))
    found = recorded(tmp_path)
    assert found["loss/training"] == [(0, 1.0), (1, 0.75), (2, 0.25)]
    assert found["dice/large"] == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert "dice/small" not in found  # it never occurred
    assert "loss/validation" not in found


def test_without_tensorboard_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with (
        pytest.raises(NnunetError, match=r"TensorBoard is not installed .*pip install 'nnunet-rs\[tensorboard\]'"),
        board(tmp_path),
    ):
        pass


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with board(tmp_path) as add:
        add(epochs(1.0))
        with monkeypatch.context() as patch:
            patch.setattr(SummaryWriter, "flush", full)
            with pytest.raises(NnunetError, match=f"{BOARD}: cannot be written: No space left on device"):
                add(epochs(1.0, 0.5))
