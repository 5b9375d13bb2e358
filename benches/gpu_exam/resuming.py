"""A training that is killed or stopped on the device, and resumed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

from gpu_exam.shared import Exam, section


@section(60)
def resume(exam: Exam) -> None:
    """Kill and stop a training on the device by signals; go on; compare with one that was left alone."""
    work = exam.work()
    wanted = f"epochs=3, batches={2 if exam.quick else 40}, validation_batches=2, device={str(exam.device)!r}"
    wanted += ", batch_size=2, threads=1" if exam.quick else ""
    program = f"""
import sys
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import V2
from nnunet_rs.model.train import train_fold
from contextlib import contextmanager
class Said:
    @contextmanager
    def task(self, name, total, *, timed=False):
        yield self
    def advance(self, count=1, note=""):
        pass
    def say(self, text):
        print(text, flush=True)
options = TrainOptions(recipe=V2, {wanted}, resume="--resume" in sys.argv)
done = train_fold({str(work)!r}, "3d_fullres", 0, options, Said())
sys.exit(0 if done.finished else 128 + (done.signal or 0))
"""
    base = [sys.executable, "-c", program]
    folder = work / "models/3d_fullres/fold_0"
    curves = {}
    for way in ("left alone", "SIGTERM", "SIGKILL"):
        if exam.left() < 40:
            break
        shutil.rmtree(work / "models", ignore_errors=True)
        begun = time.perf_counter()
        process = subprocess.Popen(
            base, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        if way == "left alone":
            said, _ = process.communicate(timeout=max(10, exam.left()))
            codes = [process.returncode]
        else:
            while process.poll() is None and not (folder / "resume.safetensors").is_file():
                time.sleep(0.02)
            process.send_signal(getattr(signal, way))
            said, _ = process.communicate(timeout=60)
            codes = [process.returncode]
            there = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
            second = subprocess.run(
                [*base, "--resume"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=max(30, exam.left()),
            )
            said, codes = second.stdout, [*codes, second.returncode]
            exam.say(way=way, left_behind=there)
        rows = (
            [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            if (folder / "metrics.jsonl").is_file()
            else []
        )
        curves[way] = [row["loss"] for row in rows]
        done = (folder / "model.json").is_file()
        exam.say(
            way=way,
            exit_codes=codes,
            finished=done,
            losses=curves[way],
            seconds=round(time.perf_counter() - begun, 1),
            said=[line for line in said.splitlines() if "resum" in line or "Error" in line or "training on" in line][
                :4
            ],
            **({} if done else {"output": said[-400:]}),
        )
    if "left alone" in curves:
        apart = {
            w: max((abs(a - b) for a, b in zip(curves["left alone"], v, strict=False)), default=None)
            for w, v in curves.items()
        }
        exam.say(what="largest difference of an epoch's loss from the one left alone", **apart)
