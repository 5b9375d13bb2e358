from pathlib import Path

import pytest
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.locks import HeldError
from nnunet_rs.core.progress import Silent
from nnunet_rs.model import previous_models
from nnunet_rs.model.previous_models import fold_lock, keep_aside


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_everything_moves_also_what_is_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "validation").mkdir()
    for name in ("model.json", ".hidden", "notes of mine.txt", "validation/case.nii.gz"):
        (tmp_path / name).write_text(name)
    with fold_lock(tmp_path, Silent()):
        assert keep_aside(tmp_path) == tmp_path / "previous_1"
        assert names(tmp_path) == [".lock", "previous_1"]
        assert names(tmp_path / "previous_1") == [".hidden", "model.json", "notes of mine.txt", "validation"]
        assert keep_aside(tmp_path) is None  # nothing is left
        (tmp_path / "previous_7").mkdir()
        (tmp_path / "metrics.jsonl").touch()
        (tmp_path / "resume.safetensors").touch()
        assert keep_aside(tmp_path, stay=("metrics.jsonl",)) == tmp_path / "previous_8"
        assert names(tmp_path) == [".lock", "metrics.jsonl", "previous_1", "previous_7", "previous_8"]


def test_a_killed_training_leaves_nothing_half(tmp_path: Path) -> None:
    """Temporary files go; what had begun to be kept aside is kept aside whole."""
    (tmp_path / ".keeping").mkdir()
    for name in (".keeping/weights.safetensors", "model.json", ".tmp-01234567-resume.safetensors"):
        (tmp_path / name).touch()
    with fold_lock(tmp_path, Silent()):
        assert names(tmp_path) == [".lock", "previous_1"]
        assert names(tmp_path / "previous_1") == ["model.json", "weights.safetensors"]


def test_one_at_a_time_but_those_that_follow(tmp_path: Path) -> None:
    folder = tmp_path / "3d_fullres" / "fold_2"
    said = r"the training of 3d_fullres, fold 2 \(process \d+ on "
    with (
        fold_lock(folder, Silent()),
        fold_lock(folder, Silent(), is_rank_0=False),  # another process of the same training
        pytest.raises(HeldError, match=said),
        fold_lock(folder, Silent()),
    ):
        pass


def test_what_cannot_be_written_or_moved_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "file").touch()
    with pytest.raises(NnunetError, match="cannot be written"), fold_lock(tmp_path / "file" / "fold_0", Silent()):
        pass
    with fold_lock(tmp_path, Silent()):
        monkeypatch.setattr(previous_models.Path, "rename", refused)
        with pytest.raises(NnunetError, match="cannot be kept aside: Permission denied"):
            keep_aside(tmp_path)
