"""AMX is pretended: what it would do cannot be seen without it, but what is done against it can."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from nnunet_rs.core.resources import Processor
from nnunet_rs.model import instructions
from nnunet_rs.model.device import choose_compute
from nnunet_rs.model.instructions import VARIABLES, amx_permitted, bounded_instructions, has_amx

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def unbounded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # restores what was there
    bounded_instructions.cache_clear()
    yield
    bounded_instructions.cache_clear()


@pytest.fixture
def amx(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = frozenset({"avx512f", "avx512_bf16", "amx_tile", "amx_bf16"})
    monkeypatch.setattr(instructions, "processor", lambda: Processor("A large one", flags))


def test_without_amx_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "has_amx", lambda: False)
    assert bounded_instructions().limit == ""
    assert bounded_instructions().safe
    assert not os.environ[VARIABLES[0]]


@pytest.mark.usefixtures("amx")
def test_with_amx_onednn_is_kept_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "amx_permitted", lambda: False)
    assert has_amx()
    bounded = bounded_instructions()
    assert (bounded.limit, bounded.safe) == ("AVX512_CORE_BF16", True)
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX512_CORE_BF16"
    assert bounded_instructions() is bounded
    compute = choose_compute(CPU, "bfloat16")
    assert (compute.dtype, compute.remark) == (torch.bfloat16, "")


@pytest.mark.usefixtures("amx")
@pytest.mark.parametrize("name", VARIABLES)
def test_the_users_own_setting_holds(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "ALL")
    bounded = bounded_instructions()
    assert (bounded.limit, bounded.safe, bounded.reason) == ("ALL", True, f"{name} is set")
    assert [os.environ[other] for other in VARIABLES if other != name] == [""]


@pytest.mark.usefixtures("amx")
@pytest.mark.parametrize("permitted", [True, None])
def test_too_late_or_unknown_is_float32_and_told(monkeypatch: pytest.MonkeyPatch, permitted: bool | None) -> None:
    monkeypatch.setattr(instructions, "amx_permitted", lambda: permitted)
    compute = choose_compute(CPU, "bfloat16")
    assert compute.dtype is torch.float32
    assert "computing in float32, not bfloat16" in compute.remark
    assert "start it with ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16" in compute.remark
    assert choose_compute(CPU, "float32").remark == ""


@pytest.mark.skipif(has_amx(), reason="the processor has AMX, so that a permission may be there")
def test_the_system_has_granted_nothing() -> None:
    assert not amx_permitted()


SEEN = """
import os
import torch
from nnunet_rs.model import instructions
if {before}:
    instructions._convolve_once()
instructions.has_amx = lambda: True
instructions.LIMIT = "AVX2"  # shows on every processor with AVX-512
print(instructions.bounded_instructions().limit)
instructions._convolve_once()
"""


@pytest.mark.parametrize("before", [False, True])
def test_onednn_reads_the_bound_at_its_first_use(before: bool) -> None:
    """The kernels' names, as oneDNN tells them, have AVX-512 in them or have not."""
    if not torch.cpu._is_avx512_supported():
        pytest.skip("the processor has no AVX-512")
    environment = {**os.environ, "ONEDNN_VERBOSE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SEEN.format(before=before)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    kernels = [line for line in done.stdout.splitlines() if ",exec," in line]
    assert any("avx512" in line for line in kernels) == before


def test_the_trial_of_convolutions_ends() -> None:
    instructions.try_convolutions()


@pytest.mark.parametrize(
    ("bound", "dtype"), [("AVX2", torch.float32), ("avx512_core", torch.float32), ("AVX512_CORE_BF16", torch.bfloat16)]
)
def test_a_bound_below_bfloat16_makes_it_no_default(
    monkeypatch: pytest.MonkeyPatch, bound: str, dtype: torch.dtype
) -> None:
    monkeypatch.setattr("nnunet_rs.model.device._processor_has", lambda name: True)
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", bound)
    assert choose_compute(CPU).dtype is dtype
    assert choose_compute(CPU, "bfloat16").dtype is torch.bfloat16
