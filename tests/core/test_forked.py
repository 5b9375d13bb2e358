from __future__ import annotations

import os

import pytest
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.forked import Unforked


def test_a_process_that_was_forked_after_the_first_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    unforked = Unforked("Torch", "use one thread")
    unforked.require()
    unforked.require()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(NnunetError, match=r"Torch's threads do not survive a fork: load .*, or use one thread"):
        unforked.require()


def test_a_process_that_was_forked_before_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    unforked = Unforked("Torch")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    unforked.require()
