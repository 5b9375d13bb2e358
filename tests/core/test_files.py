from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.core.errors import DatasetError, NnunetError, PlanError
from nnunet_rs.core.files import keep_aside, read_json, remove_leftovers, write_atomically, write_bytes, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_and_raise(path: Path, issue: BaseException) -> None:
    with write_atomically(path) as temporary:
        temporary.write_bytes(b"half")
        raise issue


def test_a_file_appears_whole_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.nii.gz"
    with write_atomically(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.startswith(".")
        assert temporary.name.endswith("a.nii.gz")
        temporary.write_bytes(b"12")
        assert not path.exists()
    assert path.read_bytes() == b"12"
    assert names(path.parent) == ["a.nii.gz"]


@pytest.mark.parametrize("issue", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, issue: type[BaseException]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(issue):
        write_and_raise(path, issue())
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(NnunetError, match=r"a\.bin: cannot be written: No space left on device; free space"):
        write_and_raise(tmp_path / "a.bin", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NnunetError, match=r"b\.bin: cannot be written: .*permissions"):
        write_bytes(tmp_path / "file" / "b.bin", b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(NnunetError, match="Permission denied"):
        write_bytes(tmp_path / "b.bin", b"x")


def test_a_writer_that_makes_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(NnunetError, match="made no file"), write_atomically(tmp_path / "a"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_file_has_the_mode_of_new_files_whatever_its_writer_gave_it(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with write_atomically(tmp_path / "a") as temporary:
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode
    assert names(tmp_path) == ["a"]


def test_errors_of_other_files_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / "a"):
        (tmp_path / "other" / "b").read_bytes()


def test_files_are_synced_where_only_what_is_open_for_writing_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl, synced, real = pytest.importorskip("fcntl"), [], os.fsync

    def fsync(descriptor: int) -> None:  # Windows' rule
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_bytes(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"
    assert len(synced) == 1


def test_the_folder_is_synced_after_the_new_name_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, there = tmp_path / "a", []
    monkeypatch.setattr(os, "fsync", lambda _: there.append(path.exists()))
    write_bytes(path, b"x")
    assert there == [False, True]
    write_bytes(tmp_path / "b", b"x", durable=False)
    assert len(there) == 2


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_that_syncs_nothing_is_written_all_the_same(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    write_bytes(tmp_path / "a", b"x")
    assert names(tmp_path) == ["a"]


def test_a_disk_that_fails_at_the_sync_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(NnunetError, match=r"a: cannot be written: Input/output error"):
        write_bytes(tmp_path / "a", b"x")


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    write_bytes(tmp_path / "kept", b"")
    with write_atomically(tmp_path / "b.nii.gz") as temporary:
        temporary.write_bytes(b"x")
        left = temporary.name
    others = {".tmp-0123", ".tmp-notes-of-mine", ".tmp-01234567-"}
    for name in (left, ".tmp-01234567-c", *others):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".tmp-01234567-folder").mkdir()
    assert remove_leftovers(tmp_path, {"kept"}) == 0
    assert remove_leftovers(tmp_path, {"kept", "b.nii.gz"}) == 1
    assert remove_leftovers(tmp_path) == 1
    assert set(names(tmp_path)) == {"b.nii.gz", "kept", ".tmp-01234567-folder", *others}


def test_json_comes_back_and_numpy_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": np.float32(0.5), "b": np.arange(2), "c": Path("x"), "d": {2, 1}, "ä": None})
    assert read_json(path) == {"a": 0.5, "b": [0, 1], "c": "x", "d": [1, 2], "ä": None}
    assert path.read_bytes().endswith(b"}\n")


def test_what_json_does_not_know_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="object cannot be written"):
        write_json(tmp_path / "a.json", object())
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'{\n "a": 1,\n}', r"a\.json: is not JSON: line 3, column 1: .*correct that line"),
        (b"", r"line 1, column 1"),
        (b"\xff\xfe", r"is not UTF-8 text \(byte 0\)"),
    ],
)
def test_malformed_json_is_told_with_its_line(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=text):
        read_json(path)


def test_missing_json_raises_what_the_caller_asks_for(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no such file"):
        read_json(tmp_path / "a.json", PlanError)
    with pytest.raises(DatasetError, match="cannot be read: Is a directory"):
        read_json(tmp_path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json") == [1]


def test_what_is_kept_aside_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    for content in (b"1", b"2", b"2", b"1", b"3"):
        path.write_bytes(content)
        assert keep_aside(path).read_bytes() == content
        assert path.read_bytes() == content
    assert names(tmp_path) == ["plan.json", "plan.previous-2.json", "plan.previous-3.json", "plan.previous.json"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"a": {"b": 1, "c": 2, "b": 3}}', r"has the key 'b' twice in one object; correct it$"),
        ("[" * 100_000 + "]" * 100_000, r"lists within lists go too deep"),
        ("9" * 5000, r"Exceeds the limit"),
        (r'{"name": "\ud800"}', r"holds \\ud800, half of a character; write the text anew"),
    ],
)
def test_json_that_means_nothing(tmp_path, content, told):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DatasetError, match=rf"a\.json: {told}"):
        read_json(tmp_path / "a.json")


def test_a_whole_pair_of_surrogates_is_a_character(tmp_path):
    (tmp_path / "a.json").write_text(r'{"name": "\ud83d\ude00"}')
    assert read_json(tmp_path / "a.json") == {"name": "😀"}
