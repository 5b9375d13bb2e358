#!/usr/bin/env python3
"""What nnunet_rs does on a GPU, in eight minutes: one JSON object a line, on standard output and in OUT/exam.jsonl.

    python benches/gpu.py [-o OUT] [--data Task04_Hippocampus] [--peer SITE_PACKAGES] [--seconds 460]
                          [--only a,b] [--skip c] [--quick]

The sections run in the order of their worth and stop when the time is over; each stands alone, and one that fails says
so and lets the others go on. Without --data a dataset of the hippocampus' sizes is made up. --peer names a folder with
nnunetv2 (and dynamic_network_architectures, acvl_utils, batchgenerators): its predictor and its training step are then
timed beside ours on the same weights; whatever else nnunetv2 wants to import and is not there is replaced by a stub.
--quick: tiny sizes, to see on a processor that everything runs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
import traceback

os.environ.setdefault("BLOSC_NTHREADS", "1")

from gpu_exam import correct, graphs, parts, peer, prediction, resuming, training  # noqa: F401 (their sections register)
from gpu_exam.shared import BEGUN, SECTIONS, Exam

ORDER = (
    "machine",
    "correctness",
    "synchronising",
    "iterations",
    "epoch",
    "compiled",
    "predict",
    "peer_iterations",
    "kernels",
    "resume",
    "out_of_memory",
    "muon",
    "norms",
    "loader",
    "repeatable",
    "compiled_more",
    "graphs",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a dataset of small scans, as Task04_Hippocampus")
    parser.add_argument("--peer", help="a folder with nnunetv2")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=460.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--skip", default="")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scratch")
    parser.add_argument("-o", "--output", default=".", help="the folder that gets exam.jsonl")
    exam = Exam(parser.parse_args())
    only, skip = (set(filter(None, text.split(","))) for text in (exam.arguments.only, exam.arguments.skip))
    failed = []
    for name in ORDER:
        seconds, function = SECTIONS[name]
        if (only and name not in only) or name in skip:
            continue
        exam.section = name
        if exam.left() < min(seconds / 2, 25) and not exam.quick:
            exam.say(skipped=f"{exam.left():.0f} s left, it wants {seconds:.0f}")
            continue
        begun = time.monotonic()
        try:
            function(exam)
        except Exception as error:
            failed.append(name)
            exam.say(failed=f"{type(error).__name__}: {error}"[:500], where=traceback.format_exc().splitlines()[-7:-1])
        exam.say(took_s=round(time.monotonic() - begun, 1), left_s=round(exam.left(), 1))
        exam.clear()
    exam.section = "end"
    exam.say(seconds=round(time.monotonic() - BEGUN, 1), failed=failed)
    shutil.rmtree(exam.scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
