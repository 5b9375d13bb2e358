"""Functions in processes of their own; they stand in a module that is written here, for the processes to import."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.worker import LostError, Message, Result, Worker

SOURCE = """
import os, signal, sys, time

def add(a, b, progress):
    with progress.task("sum", 2) as task:
        task.advance()
    progress.say(f"{a} and {b}")
    return a + b

def die(how, progress):
    progress.say("before")
    os.kill(os.getpid(), how)
    time.sleep(60)

def leave(progress):
    sys.exit(3)

def wait(progress):
    stopped = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    progress.say(str(os.getsid(0) == os.getpid()))
    while not stopped:
        time.sleep(0.01)
    return "asked"

def hold(file, progress):
    try:
        progress.say("holding")
        time.sleep(60)
    finally:
        open(file, "w").close()
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "made_up_functions.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("made_up_functions")


def test_says_and_returns(functions: ModuleType) -> None:
    worker = Worker.start(functions.add, 2, 3)
    assert worker.receive() == Message("2 and 3")
    assert worker.receive() == Result(5)


def test_how_a_process_was_lost(functions: ModuleType) -> None:
    worker = Worker.start(functions.die, signal.SIGKILL)
    assert worker.receive() == Message("before")
    with pytest.raises(LostError, match="ended by SIGKILL; the system kills by SIGKILL when memory runs out"):
        worker.receive()
    with pytest.raises(LostError, match="exit code 3"):
        Worker.start(functions.leave).receive()


def test_asked_to_stop_and_out_of_the_terminals_reach(functions: ModuleType) -> None:
    workers = [Worker.start(functions.wait) for _ in range(2)]
    for worker in workers:
        assert worker.receive() == Message("True")
    assert Worker.audible(workers, 0.0) == ()
    workers[1].ask_to_stop()
    assert Worker.audible(workers, 30.0) == (workers[1],)
    assert workers[1].receive() == Result("asked")
    workers[0].kill()
    with pytest.raises(LostError, match="SIGKILL"):
        workers[0].receive()


def test_the_end_unwinds_what_runs(functions: ModuleType, tmp_path: Path) -> None:
    worker = Worker.start(functions.hold, tmp_path / "unwound")
    assert worker.receive() == Message("holding")
    worker.ask_to_stop()
    with pytest.raises(LostError, match="ended by SIGTERM"):
        worker.receive()
    assert (tmp_path / "unwound").is_file()


def test_what_no_other_process_can_have_is_told(functions: ModuleType) -> None:
    with pytest.raises(NnunetError, match=r"cannot be handed to another process: .*top level of a module or file"):
        Worker.start(functions.add, 1, lambda: 2)


def test_a_worker_whose_program_is_gone_ends(tmp_path: Path) -> None:
    """What it says reaches nobody; it takes that as SIGTERM."""
    code = (
        "import os, sys, time\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "if __name__ == '__main__':\n"
        "    from deserted_functions import speak\n"
        "    from nnunet_rs.core.worker import Worker\n"
        "    Worker.start(speak, sys.argv[1]).receive()\n"
        "    os._exit(0)\n"
    )
    (tmp_path / "deserted_functions.py").write_text(
        "import time\nfrom pathlib import Path\n"
        "def speak(folder, progress):\n    try:\n        while True:\n            progress.say('here')\n"
        "            time.sleep(0.05)\n    finally:\n        Path(folder, 'unwound').touch()\n"
    )
    (tmp_path / "program.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    subprocess.run([sys.executable, tmp_path / "program.py", tmp_path], env=environment, check=True, timeout=60)
    until = time.monotonic() + 30
    while not (tmp_path / "unwound").is_file():
        assert time.monotonic() < until
        time.sleep(0.05)
