"""Nothing of the user's is replaced: the rule that all commands share, and the record that it rests on."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.record import Record, digest
from nnunet_rs.core.workspace import KEPT_ASIDE, RECORD


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(folder: Path, name: str, text: str, *, inputs: tuple[Path, ...] = (), overwrite: bool = False) -> list[str]:
    """Write one file by the rule; returns what was said."""
    said: list[str] = []
    with Outputs(folder, "settings", overwrite=overwrite, say=said.append) as outputs:
        outputs.require([folder / name], inputs)
        with outputs.new_files(name) as temporary:
            (temporary / name).write_text(text)
    return said


def test_what_is_ours_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "one")
    assert write(tmp_path, "a.txt", "two") == []
    assert (tmp_path / "a.txt").read_text() == "two"
    assert not (tmp_path / KEPT_ASIDE).exists()


def test_a_copy_of_the_folder_is_as_good(tmp_path: Path) -> None:
    write(tmp_path / "here", "a.txt", "one")
    shutil.copytree(tmp_path / "here", tmp_path / "there", copy_function=shutil.copyfile)  # other times
    write(tmp_path / "there", "a.txt", "two")
    assert (tmp_path / "there/a.txt").read_text() == "two"


def test_what_is_not_ours_is_refused(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text("mine")
    with (
        Outputs(tmp_path) as outputs,
        pytest.raises(
            NnunetError,
            match=r"4 files there are not known to be .*\(a\.txt, b\.txt, c\.txt and 1 more\).*--overwrite",
        ),
    ):
        outputs.require([tmp_path / f"{name}.txt" for name in "abcd"])
    assert names(tmp_path) == ["a.txt", "b.txt", "c.txt", "d.txt"]


@pytest.mark.parametrize("keep_times", [True, False])
def test_what_was_edited_is_refused(tmp_path: Path, keep_times: bool) -> None:
    write(tmp_path, "a.txt", "one")
    stat = (tmp_path / "a.txt").stat()
    (tmp_path / "a.txt").write_text("two")  # of the same size
    if keep_times:
        os.utime(tmp_path / "a.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(NnunetError, match=r"a\.txt: was changed since this tool made it"):
        write(tmp_path, "a.txt", "three")
    assert (tmp_path / "a.txt").read_text() == "two"


def test_overwrite_keeps_aside_and_never_replaces_what_was_kept(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    assert write(tmp_path, "a.txt", "one", overwrite=True) == [
        f"1 file that was there is kept in {tmp_path}/previous/1"
    ]
    (tmp_path / "a.txt").write_text("edited")
    write(tmp_path, "a.txt", "two", overwrite=True)
    write(tmp_path, "a.txt", "three", overwrite=True)
    assert (tmp_path / "a.txt").read_text() == "three"
    kept = {
        path.relative_to(tmp_path / KEPT_ASIDE).as_posix(): path.read_text() for path in tmp_path.rglob("previous/*/*")
    }
    assert kept == {"1/a.txt": "mine", "2/a.txt": "edited"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("link", ["name", "symbolic", "hard", "folder"])
def test_an_input_is_never_replaced(tmp_path: Path, link: str, overwrite: bool) -> None:
    (tmp_path / "in").mkdir()
    source = tmp_path / "in/a.txt"
    source.write_text("scan")
    folder = tmp_path / "out"
    if link == "folder":
        folder.symlink_to(tmp_path / "in")
    elif link == "name":
        folder = tmp_path / "in"
    else:
        folder.mkdir()
        (os.link if link == "hard" else os.symlink)(source, folder / "a.txt")
    with pytest.raises(DatasetError, match=r"is the input file .*in/a\.txt; .*inputs are never replaced"):
        write(folder, "a.txt", "labels", inputs=(source,), overwrite=overwrite)
    assert source.read_text() == "scan"


def test_a_datasets_own_folders_are_kept_clean(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        with pytest.raises(NnunetError, match="what is written there would be taken for its cases; name another"):
            write(tmp_path / name, "new.nii.gz", "x")
        assert not (tmp_path / name).exists()
    write(tmp_path / "labelsTr", "new.nii.gz", "x", overwrite=True)
    write(tmp_path / "predictions", "new.nii.gz", "x")


def test_links_are_the_users_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "on a disk that is away")
    with pytest.raises(NnunetError, match="not known to be made by this tool"):
        write(tmp_path, "a.txt", "one")
    assert (tmp_path / "a.txt").is_symlink()


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    for overwrite in (False, True):
        with pytest.raises(NnunetError, match=r"a\.txt: is a folder"):
            write(tmp_path, "a.txt", "one", overwrite=overwrite)


def test_what_comes_up_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    with Outputs(tmp_path) as outputs:
        outputs.require([tmp_path / "a.txt"])
        staged = outputs.stage("a.txt")
        (staged.folder / "a.txt").write_text("one")
        (tmp_path / "a.txt").write_text("mine")
        with pytest.raises(NnunetError, match="not known to be made by this tool"):
            staged.commit()
    assert (tmp_path / "a.txt").read_text() == "mine"
    assert names(tmp_path) == [RECORD, "a.txt"]


def test_two_runs_at_once_know_each_others_files(tmp_path: Path) -> None:
    with Outputs(tmp_path, "one") as first, Outputs(tmp_path, "two") as second:
        for outputs in (first, second, first):
            with outputs.new_files("a.txt") as temporary:
                (temporary / "a.txt").write_text(outputs.made_with)
    assert Record(tmp_path).made_with(tmp_path / "a.txt") == {"one"}


def test_leftovers_of_the_living_stay(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    dead = tmp_path / ".tmp-01234567-a.txt"
    dead.mkdir()
    (dead / "a.txt").write_text("half")
    with Outputs(tmp_path) as living, Outputs(tmp_path) as other:
        staged = living.stage("a.txt")
        other.tidy({"a.txt"})
        assert staged.folder.is_dir()
        assert not dead.exists()


def test_files_that_belong_together_get_their_names_together(tmp_path: Path) -> None:
    with Outputs(tmp_path) as outputs, outputs.new_files("a.txt") as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep/b.txt").write_text("b")
        (temporary / "a.txt").write_text("a")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "deep/b.txt").read_text() == "b"
    assert Record(tmp_path).made_with(tmp_path / "deep/b.txt") == {""}


def test_a_line_that_was_cut_off_counts_for_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "one")
    write(tmp_path, "b.txt", "one")
    journals = sorted((tmp_path / RECORD).iterdir())
    content = journals[0].read_bytes()
    name = json.loads(content)["name"]
    journals[0].write_bytes(content[: len(content) // 2])
    record = Record(tmp_path)
    assert record.made_with(tmp_path / name) is None
    assert record.made_with(tmp_path / ({"a.txt", "b.txt"} - {name}).pop()) == {"settings"}


_KILLED = """
import os, sys
from pathlib import Path
from nnunet_rs.core import outputs
from nnunet_rs.core.outputs import Outputs
folder, step = Path(sys.argv[1]), int(sys.argv[2])
def count(event, *_):
    global step
    if event in ("os.rename", "open", "os.mkdir", "shutil.rmtree") and str(folder) in str(_):
        step -= 1
        if step < 0:
            os.kill(os.getpid(), 9)
sys.addaudithook(count)
with Outputs(folder, "two") as out:
    out.require([folder / "a.txt"])
    with out.new_files("a.txt") as temporary:
        (temporary / "a.txt").write_text("two")
"""


def test_a_kill_at_any_step_leaves_the_old_file_or_the_new_and_a_rerun_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    found = set()
    for step in range(40):
        folder = tmp_path / str(step)
        write(folder, "a.txt", "one")
        ended = subprocess.run([sys.executable, "-c", _KILLED, str(folder), str(step)], timeout=60, check=False)
        found.add((folder / "a.txt").read_text())
        write(folder, "a.txt", "two")
        with Outputs(folder) as outputs:
            outputs.tidy({"a.txt"})
        assert names(folder) == [RECORD, "a.txt"]
        assert (folder / "a.txt").read_text() == "two"
        if ended.returncode == 0:
            break
    assert found == {"one", "two"}
    assert step > 5  # it was killed at each of them


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(NnunetError, match=r"cannot be written: Permission denied"):
        write(tmp_path, "a.txt", "one")
    tmp_path.chmod(0o700)


def test_a_folder_that_is_read_only_is_told_before_there_is_anything_to_write(tmp_path: Path, monkeypatch) -> None:
    def read_only(path: Path, **_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "touch", read_only)
    with Outputs(tmp_path / "new") as outputs:
        with pytest.raises(NnunetError, match=r"new/a\.txt: cannot be written: Read-only file system"):
            outputs.require([tmp_path / "new" / "a.txt"])
        outputs.require([])  # nothing is to be written


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(NnunetError, match=r"out: cannot be written"):
        write(tmp_path / "out", "a.txt", "one")
    assert (tmp_path / "out").read_text() == "mine"


def test_digests_tell_contents_apart() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_what_a_file_was_made_from_is_known(tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    with Outputs(tmp_path / "out", "x") as outputs, outputs.new_files("a", [scan]) as folder:
        (folder / "a").write_text("first")
        (folder / "b").write_text("beside")
    record = Record(tmp_path / "out")
    assert record.sources(tmp_path / "out" / "a") == record.sources(tmp_path / "out" / "b") == (scan,)
    assert record.sources(tmp_path / "out" / "other") == ()
