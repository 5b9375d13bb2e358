"""What this system offers, what is installed, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from nnunet_rs.cli.paths import VARIABLES
from nnunet_rs.core.resources import available_memory, busy_remark, processor, processors, total_memory
from nnunet_rs.report.tables import Table

PACKAGES = ("nnunet-rs", "numpy", "scipy", "nibabel", "SimpleITK", "blosc2", "isal", "connected-components-3d")
ENGINES = ("torch", "openvino")  # either predicts; PyTorch trains
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")  # as Linux spells them
_TRIAL = "from nnunet_rs.model.instructions import try_convolutions; try_convolutions()"
_PASSED = "ends as it should"
_TRIAL_SECONDS = 120.0  # most of which PyTorch takes to load on a busy machine; the convolutions take one
# glibc's own check of everything that is freed: finds what was written out of bounds, not only what crashes by it
_MALLOC_CHECK = {"LD_PRELOAD": "libc_malloc_debug.so.0", "GLIBC_TUNABLES": "glibc.malloc.check=3"}
_SAMPLE = 64 << 20  # bytes written and read for the disk's speed
_LITTLE_MEMORY = 8 << 30
_SLOW_DISK = 100e6  # bytes a second
_LITTLE_ROOM = 20 << 30


@dataclass(slots=True)
class Findings:
    """Facts in groups, and what should be fixed."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)  # without it nothing works; one line each: what, then what to do
    advice: list[str] = field(default_factory=list)  # things would go better

    def to_json(self) -> dict[str, Any]:
        """Give all of it as one value for JSON."""
        return {**self.facts, "missing": self.missing, "advice": self.advice}

    def table(self) -> Table:
        """Give the facts for people, a row a group."""
        rows = tuple((name, _TOLD[name](group)) for name, group in self.facts.items() if group)
        return Table("", ("", ""), rows, words=True)


def examine(folder: Path, environment: Mapping[str, str]) -> Findings:
    """Look at everything that decides whether and how fast the commands run.

    Parameters
    ----------
    folder
        Where work folders will lie: the disk that is measured.
    environment
        The environment's variables.
    """
    found = Findings()
    for name, look in _LOOKS.items():
        found.facts[name] = look(found, folder, environment)
    return found


def _versions(found: Findings, *_: object) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for package in (*PACKAGES, *ENGINES):
        try:
            known[package] = version(package)
            continue
        except PackageNotFoundError:
            known[package] = None
        if package in PACKAGES:
            found.missing.append(f"{package} is not installed; pip install {package}")
    return {**known, "python": platform.python_version(), "system": platform.platform()}


def _kernels(found: Findings, *_: object) -> dict[str, Any]:
    try:
        import_module("nnunet_rs.core.kernels")
    except ImportError as error:
        found.missing.append(f"the Rust kernels do not load ({error}); install again: pip install --force-reinstall .")
        return {"load": False}
    return {"load": True}


def _processor(found: Findings, _: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    usable, there = processors(), os.cpu_count() or 1
    found_processor = processor()
    has = [name for name in INSTRUCTIONS if name in found_processor.instructions]
    limits = {name: environment[name] for name in THREAD_VARIABLES if name in environment}
    for name, value in limits.items():
        if value.isdecimal() and int(value) > usable:
            found.advice.append(
                f"{name} is {value}, more than the {usable} processors that this process may use, which makes "
                f"everything slower; unset it"
            )
    if busy := busy_remark(usable):
        found.advice.append(busy)
    return {
        "model": found_processor.name,
        "processors": there,
        "usable": usable,
        "instructions": has,
        "limits": limits,
    }


def _memory(found: Findings, *_: object) -> dict[str, Any]:
    total, free = total_memory(), available_memory()
    if free < _LITTLE_MEMORY:
        found.advice.append(
            f"{free / 1e9:.1f} GB of memory are free; large scans need more: use --memory, close others"
        )
    return {"total": total, "available": free}


def _devices(found: Findings, *_: object) -> dict[str, Any]:
    try:
        torch = import_module("torch")
        device = import_module("nnunet_rs.model.device")
    except (ImportError, OSError) as error:
        return _without_torch(found, error)
    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    names += ["mps"] if torch.backends.mps.is_available() else []
    if len(names) == 1 and shutil.which("nvidia-smi"):
        why = import_module("nnunet_rs.model.gpu_versions").why_no_gpu()
        found.advice.append(
            f"there is an NVIDIA driver, but PyTorch {torch.__version__} cannot use it{f' ({why})' if why else ''}; "
            "install one built for CUDA that fits the driver"
        )
    chosen = {name: device.choose_compute(device.find_device(name)) for name in names}
    computed = {name: compute.describe() for name, compute in chosen.items()}
    _advise_on_gpus(found, torch, [compute for compute in chosen.values() if compute.device.type == "cuda"])
    return {"auto": str(device.find_device("auto")), "threads": torch.get_num_threads(), "computes": computed}


def _advise_on_gpus(found: Findings, torch: Any, gpus: Sequence[Any]) -> None:
    """Tell which versions compute wrongly on GPUs, each a Compute, and what a training lacks to be compiled."""
    versions = import_module("nnunet_rs.model.gpu_versions")
    compiled = import_module("nnunet_rs.model.compiled")
    found.advice += sorted({gpu.remark.removeprefix("warning: ") for gpu in gpus if gpu.remark})
    cudnn = torch.backends.cudnn.version() if gpus else None
    if cudnn and versions.tf32_problem(cudnn):
        found.advice.append(
            f"cuDNN {versions.spelled(cudnn)} computes some convolutions in 3-D wrongly in TF32: nnunet_rs does not "
            "use that, a program of your own may"
        )
    lacking = {reason for gpu in gpus if (reason := compiled.missing_for_compiling(gpu.device))}
    found.advice += [f"trainings on the GPU are not compiled: {reason}" for reason in sorted(lacking)]


def _without_torch(found: Findings, error: Exception) -> dict[str, Any]:
    """Tell what an installation without PyTorch can do; one that does not load is to be fixed all the same."""
    from nnunet_rs.predict.engines.openvino_engine import choose_precision, why_not_openvino

    why = why_not_openvino()
    if why:
        found.missing.append(f"PyTorch does not load ({error}), nor {why}: nothing can be computed; pip install torch")
        return {}
    told = found.advice if isinstance(error, ModuleNotFoundError) and error.name == "torch" else found.missing
    told.append(
        f"PyTorch does not load ({error}): OpenVINO computes predictions on the processor, nothing can be trained; pip "
        "install torch"
    )
    return {"auto": "cpu", "threads": processors(), "computes": {"cpu": f"cpu, {choose_precision('auto')}"}}


def _convolutions(found: Findings, _: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return which instructions convolutions use on the processor, and compute some in a process of their own."""
    try:
        bounded = import_module("nnunet_rs.model.instructions").bounded_instructions()
    except (ImportError, OSError):
        return {}  # told with the devices
    ended = _trial(environment)
    if ended != _PASSED:
        found.missing.append(
            f"convolutions in bfloat16 on the processor: a trial of them {ended}; train with --precision float32, or "
            "set ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16, and tell PyTorch's authors"
        )
    return {"limit": bounded.limit or None, "reason": bounded.reason, "safe": bounded.safe, "trial": ended}


def _trial(environment: Mapping[str, str]) -> str:
    """Say how convolutions in bfloat16, forward and backward, ended in a process of their own."""
    command = (sys.executable, "-c", _TRIAL)
    paths = os.pathsep.join(path for path in sys.path if path)
    checked = _MALLOC_CHECK if platform.libc_ver()[0] == "glibc" else {}
    try:
        # os.environ has what bounded_instructions put there
        done = subprocess.run(
            command,
            env={**environment, **os.environ, **checked, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {_TRIAL_SECONDS:.0f} seconds"
    if done.returncode < 0:
        return f"was ended by {signal.Signals(-done.returncode).name}"
    if done.returncode > 0:
        said = done.stderr.strip().splitlines()
        return f"failed: {said[-1] if said else f'exit code {done.returncode}'}"
    return _PASSED


def _disk(found: Findings, folder: Path, _: Mapping[str, str]) -> dict[str, Any]:
    try:
        room = shutil.disk_usage(folder).free
        written, read = _disk_speed(folder)
    except OSError as error:
        found.missing.append(f"{folder}: cannot be written ({error.strerror}); choose another folder for work folders")
        return {"folder": folder}
    if min(written, read) < _SLOW_DISK:
        found.advice.append(f"{folder}: the disk writes {written / 1e6:.0f} MB/s; a faster one keeps training supplied")
    if room < _LITTLE_ROOM:
        found.advice.append(f"{folder}: {room / 1e9:.0f} GB are free; prepared datasets may need more")
    return {"folder": folder.resolve(), "free": room, "write": written, "read": read}


def _disk_speed(folder: Path) -> tuple[float, float]:
    """Write and read a sample past the page cache where the system allows; bytes a second."""
    block = os.urandom(1 << 20)
    with TemporaryFile(dir=folder, buffering=0) as file:
        begun = time.perf_counter()
        for _ in range(_SAMPLE // len(block)):
            file.write(block)
        os.fsync(file.fileno())
        written = time.perf_counter() - begun
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        begun = time.perf_counter()
        while file.read(len(block)):
            pass
        return _SAMPLE / written, _SAMPLE / (time.perf_counter() - begun)


def _nnunet(found: Findings, _: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    folders = {name: environment.get(name) for name in VARIABLES}
    for name, value in folders.items():
        if value and not Path(value).is_dir():
            found.advice.append(f"{name} names {value}, which is no folder; make it, or correct the variable")
    return folders


_LOOKS: Mapping[str, Callable[[Findings, Path, Mapping[str, str]], dict[str, Any]]] = {
    "versions": _versions,
    "kernels": _kernels,
    "processor": _processor,
    "memory": _memory,
    "devices": _devices,
    "convolutions": _convolutions,
    "disk": _disk,
    "nnunet": _nnunet,
}


def _describe_versions(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {known or 'missing'}" for name, known in facts.items())


def _describe_processor(facts: Mapping[str, Any]) -> str:
    limits = [f"{name}={value}" for name, value in facts["limits"].items()]
    counts = f"{facts['usable']} of {facts['processors']} usable"
    return ", ".join(
        (facts["model"], counts, *([" ".join(facts["instructions"])] * bool(facts["instructions"])), *limits)
    )


def _describe_devices(facts: Mapping[str, Any]) -> str:
    return f"{'; '.join(facts['computes'].values())}; auto takes {facts['auto']}; {facts['threads']} threads"


def _describe_convolutions(facts: Mapping[str, Any]) -> str:
    bound = f"oneDNN is kept to {facts['limit']}" if facts["limit"] else "oneDNN chooses the instructions"
    return f"{bound}: {facts['reason']}; a trial in bfloat16 {facts['trial']}"


def _describe_disk(facts: Mapping[str, Any]) -> str:
    if "free" not in facts:
        return f"{facts['folder']}: cannot be written"
    speed = f"writes {facts['write'] / 1e6:.0f} MB/s, reads {facts['read'] / 1e6:.0f} MB/s"
    return f"{facts['folder']}: {facts['free'] / 1e9:.0f} GB free, {speed}"


def _describe_nnunet(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value or 'not set'}" for name, value in facts.items())


_TOLD: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "versions": _describe_versions,
    "kernels": lambda facts: "loaded" if facts["load"] else "do not load",
    "processor": _describe_processor,
    "memory": lambda facts: f"{facts['available'] / 1e9:.0f} of {facts['total'] / 1e9:.0f} GB available",
    "devices": _describe_devices,
    "convolutions": _describe_convolutions,
    "disk": _describe_disk,
    "nnunet": _describe_nnunet,
}
