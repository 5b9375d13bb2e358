"""Audit of the GPU path without a GPU: training, resuming and prediction on a pretended one.

    python audit.py [--short] [--only SECTION ...] [--record]

It fails on any error of devices or types, on a call that waits for the GPU within an iteration, and where an iteration
or a prediction launches more kernels, or waits more often, than `bounds.json` allows. Values and times are not looked
at: kernels do nothing. `--short` is what the test suite runs; `--record` writes what was counted into `bounds.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # prepared_cases
import pretended  # noqa: E402

if TYPE_CHECKING:
    from sections import Audit

BOUNDS = HERE / "bounds.json"
INSIDE = "PRETENDED_GPU_AUDIT"  # set where the pretended GPU is preloaded


def note_waits(audit: Audit) -> None:
    """Let PyTorch tell of calls that wait, and note where in this library they are."""
    import torch

    def note(message: Any, category: Any, filename: str, line: int, file: Any = None, text: Any = None) -> None:
        if "synchronizing" not in str(message):
            print(f"warning {category.__name__}: {message}", flush=True)
            return
        frames = [f for f in traceback.extract_stack() if "nnunet_rs" in Path(f.filename).parts]
        audit.waiting[" < ".join(f"{Path(f.filename).name}:{f.name}" for f in reversed(frames[-3:]))] += 1

    warnings.simplefilter("always")
    warnings.showwarning = note
    torch.cuda.set_sync_debug_mode("warn")


def compare(audit: Audit, bounds: dict[str, dict[str, float]]) -> None:
    """Note what is more than it may be."""
    for what, counted in audit.counted.items():
        allowed = bounds.get(what)
        shown = ", ".join(f"{key} {value:g}" for key, value in counted.items())
        print(f"counted {what}: {shown}")
        if allowed is None:
            audit.wrong.append(f"{what}: {BOUNDS.name} has no bound for it")
            continue
        for key, most in allowed.items():
            if counted[key] > most:
                where = f" ({audit.places[what]})" if key == "waits" and audit.places.get(what) else ""
                audit.wrong.append(f"{what}: {key} {counted[key]:g}, more than {most:g}{where}")


def inside(arguments: argparse.Namespace) -> int:
    """Run the sections, on the pretended GPU that this process was begun with."""
    import prediction_sections  # noqa: F401 (its sections register)
    import torch
    import training_sections  # noqa: F401
    from sections import SECTIONS, Audit

    gpu = pretended.Gpu()
    pretended.take_cudnns_place(gpu)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="gpu_audit_") as folder:
        audit = Audit(gpu, Path(folder), short=arguments.short)
        note_waits(audit)
        for name, function in SECTIONS.items():
            if not arguments.only or name in arguments.only:
                function(audit)
    bounds = json.loads(BOUNDS.read_text()) if BOUNDS.is_file() else {}
    if arguments.record:
        bounds |= audit.counted
        BOUNDS.write_text(json.dumps(dict(sorted(bounds.items())), indent=2) + "\n")
    compare(audit, bounds)
    print("\n".join(f"WRONG   {each}" for each in audit.wrong) or "nothing wrong", flush=True)
    return 1 if audit.wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a selection, in less than a minute")
    parser.add_argument("--only", nargs="+", default=[], metavar="SECTION", help="these sections")
    parser.add_argument("--record", action="store_true", help=f"write what is counted into {BOUNDS.name}")
    arguments = parser.parse_args()
    if os.environ.get(INSIDE):
        code = inside(arguments)
        sys.stdout.flush()
        os._exit(code)  # libraries that would free what was never there
    if reason := pretended.why_not():
        print(f"no audit: {reason}")
        return 2
    with tempfile.TemporaryDirectory(prefix="pretended_gpu_") as folder:
        library = pretended.build(Path(folder))
        environment = pretended.environment(library, gpus=2) | {
            INSIDE: "1",
            "OMP_NUM_THREADS": "1",
            "TORCH_CPP_LOG_LEVEL": "ERROR",
        }
        return subprocess.run([sys.executable, __file__, *sys.argv[1:]], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
