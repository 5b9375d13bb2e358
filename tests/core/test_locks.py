from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nnunet_rs.core import locks
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.locks import HeldError, exclusive, is_held
from nnunet_rs.core.progress import Silent

HOLD = """
import sys, errno
from pathlib import Path
from nnunet_rs.core import locks
def lacking(descriptor): raise OSError(errno.ENOSYS, "Function not implemented")
if sys.argv[2] == "without": locks._try_lock = lacking
locks._SIGN = 0.05
with locks.exclusive(Path(sys.argv[1]), "preprocess"):
    print("held", flush=True)
    sys.stdin.readline()
"""


class Lines(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@contextmanager
def held(folder: Path, system: str = "with") -> Iterator[subprocess.Popen[str]]:
    """Another process at work in `folder`; killed at the end if it has not ended."""
    command = [sys.executable, "-c", HOLD, str(folder), system]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks, "_try_lock", lacking)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_SIGN", 0.05), ("_SILENCE", 2.0), ("_LOOK", 0.05)):
        monkeypatch.setattr(locks, name, seconds)


def record(folder: Path, host: str) -> Path:
    path = folder / ".lock"
    holder = {"doing": "plan", "host": host, "process": 7, "since": "2024-01-01 10:00:00 +0000", "token": "t"}
    path.write_text(json.dumps(holder))
    return path


def test_who_is_kept_out_is_told_by_whom(tmp_path: Path) -> None:
    with held(tmp_path / "work") as process:
        told = rf"work: preprocess \(process {process.pid} on .+, since .+\) is at work there; wait for it"
        with pytest.raises(HeldError, match=told), exclusive(tmp_path / "work"):
            pass


@pytest.mark.parametrize("end", ["well", "killed"])
def test_the_lock_goes_with_the_process(tmp_path: Path, end: str) -> None:
    lines = Lines()
    with held(tmp_path) as process:
        process.kill() if end == "killed" else process.communicate("\n")
        process.wait()
        with exclusive(tmp_path, "plan", lines):
            assert json.loads((tmp_path / ".lock").read_bytes())["process"] == os.getpid()
    assert not lines.lines
    assert (tmp_path / ".lock").read_bytes() == b""


def test_an_error_within_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), exclusive(tmp_path):
        raise KeyError
    with exclusive(tmp_path):
        pass
    assert [thread.name for thread in threading.enumerate() if thread.name == "lock"] == []


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO])
@pytest.mark.usefixtures("quick")
def test_a_file_system_without_locks_is_a_remark(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(locks, "_try_lock", lacking)
    lines = Lines()
    with exclusive(tmp_path, "plan", lines):
        pass
    (line,) = lines.lines
    assert f"its file system has no locks ({os.strerror(code)})" in line


@pytest.mark.usefixtures("quick", "no_locks")
def test_without_locks_signs_of_life_keep_others_out(tmp_path: Path) -> None:
    with held(tmp_path, "without") as process:
        with pytest.raises(HeldError, match=rf"preprocess \(process {process.pid} on"), exclusive(tmp_path):
            pass
        assert json.loads((tmp_path / ".lock").read_bytes())["process"] == process.pid
        process.kill()
        process.wait()
        lines = Lines()
        with exclusive(tmp_path, "plan", lines):
            pass
    assert "preprocess" in lines.lines[0]
    assert "waiting 2 s for a sign of life" in lines.lines[0]


@pytest.mark.usefixtures("quick", "no_locks")
def test_without_locks_one_of_two_that_begin_at_once_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_LOOK", 0.5)
    inside, both, done = [], threading.Barrier(2), threading.Barrier(2)

    def work() -> None:
        both.wait()
        try:
            with exclusive(tmp_path):
                inside.append(True)
                done.wait()
        except HeldError:
            done.wait()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == [True]


@pytest.mark.usefixtures("quick")
def test_a_live_process_of_another_machine_keeps_others_out_where_locks_are_local(tmp_path: Path) -> None:
    path, ended = record(tmp_path, "elsewhere"), threading.Event()

    def live() -> None:
        while not ended.wait(0.05):
            os.utime(path)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(HeldError, match=r"plan \(process 7 on elsewhere, since 2024"), exclusive(tmp_path):
            pass
    finally:
        ended.set()
        thread.join()
    with exclusive(tmp_path):  # it gives no more signs of life
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b'{"doing": "plan"}'])
def test_what_is_no_record_is_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".lock").write_bytes(content)
    with exclusive(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NnunetError, match=r"work: cannot be written: .*permissions"), exclusive(tmp_path / "file/work"):
        pass


def test_that_a_folder_is_held_is_seen(tmp_path: Path) -> None:
    with held(tmp_path / "theirs"), exclusive(tmp_path / "ours"):
        assert is_held(tmp_path / "theirs")
        assert is_held(tmp_path / "ours")
    assert not is_held(tmp_path / "theirs")
    assert not is_held(tmp_path / "ours")
