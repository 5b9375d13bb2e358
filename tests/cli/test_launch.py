import os
import socket
import subprocess
import sys
from argparse import Namespace

import pytest
from nnunet_rs.cli.console import Console, UsageError
from nnunet_rs.cli.launch import processes_joined
from torch import distributed


def test_without_torchrun_a_process_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with processes_joined(Namespace(device="cpu"), Console()) as is_rank_0:
        assert is_rank_0
        assert not distributed.is_initialized()


VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
WHOLE = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but RANK is not set: start the command by torchrun"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "WORLD_SIZE is 2, but MASTER_ADDR is not set"),
        ({**WHOLE, "MASTER_PORT": ""}, "MASTER_PORT is not set"),
        ({**WHOLE, "RANK": "2"}, "WORLD_SIZE is 2 and RANK is 2"),
        ({**WHOLE, "RANK": "first"}, "RANK is 'first', not a whole number"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE is 'many', not a whole number"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is 0, but RANK is not set"),
    ],
)
def test_an_environment_that_is_not_torchruns(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], text: str
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=text), processes_joined(Namespace(device="cpu"), Console()):
        pass


@pytest.mark.parametrize("size", ["", "1"])
def test_one_process_needs_no_more(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    with processes_joined(Namespace(device="cpu"), Console()) as is_rank_0:
        assert is_rank_0


JOINING = """
from argparse import Namespace
from torch import distributed
from nnunet_rs.cli.console import Console
from nnunet_rs.cli.launch import processes_joined
console = Console()
with processes_joined(Namespace(device="cpu"), console) as is_rank_0:
    print(is_rank_0, distributed.get_rank(), distributed.get_world_size(), console.display.quiet)
print(distributed.is_initialized())
"""


def test_two_processes_of_torchrun_join_and_the_first_leads() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "WORLD_SIZE": "2"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", JOINING],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert said[0][0].split() == ["True", "0", "2", "False", "False"]
    assert said[1][0].split() == ["False", "1", "2", "True", "False"]
    assert f"waiting for 2 processes at 127.0.0.1:{port}" in said[0][1]
    assert said[1][1] == ""
