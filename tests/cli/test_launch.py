from argparse import Namespace

import pytest
from nnunet_rs.cli.console import Console
from nnunet_rs.cli.launch import processes_joined
from torch import distributed


def test_without_torchrun_a_process_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with processes_joined(Namespace(device="cpu"), Console()) as leads:
        assert leads
        assert not distributed.is_initialized()
