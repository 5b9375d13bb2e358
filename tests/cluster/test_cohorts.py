"""Many scans through a real Ray and a real SLURM: whoever is killed, every result is there, as by one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import Lines
from nnunet_rs.cli import main
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.workspace import jobs_beside
from nnunet_rs.predict.folder import cases_of_folder, predict_folder
from nnunet_rs.predict.options import PredictOptions
from nnunet_rs.run.cluster import ClusterOptions
from nnunet_rs.run.cohort.board import WORKERS
from nnunet_rs.run.cohort.follow import Followed, follow
from nnunet_rs.run.cohort.predicting import Begun, begin_prediction, end_prediction
from nnunet_rs.run.executor import Executor
from nnunet_rs.run.jobs import jobs_of
from nnunet_rs.run.ray import Ray
from nnunet_rs.run.slurm import Slurm
from nnunet_rs.select.prediction import Prediction

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]  # Ray's own
SCANS = int(os.environ.get("CLUSTER_SCANS", "200"))


@pytest.fixture
def scans(make_work: Callable[..., Path], raw_dataset: Callable[..., Path]) -> Callable[[int], Path]:
    """`scans(200)`: a folder of so many scans, and a work folder with a model in this test's folder."""

    def make(count: int) -> Path:
        make_work({"3d_fullres": (0,)})
        return raw_dataset("Scans", cases=count, shape=(8, 24, 20)) / "imagesTr"

    return make


def begun(images: Path, output: Path, workers: int) -> Begun:
    wanted = Prediction(images.parents[1] / "work", output, "cpu", options=PredictOptions(threads=1))
    predictor = wanted.load(Silent(), networks=False)
    cases, _ = cases_of_folder(images, output, predictor.plan, wanted.written, Silent())
    found = begin_prediction(wanted, predictor, cases, workers, Silent())
    assert found is not None
    return found


def waited_for(what: Callable[[], Any], seconds: float = 200) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.1)
    return found


def disturbed(
    cohort: Begun, executor: Executor, workers: int, disturb: list[Callable[[Begun], None]]
) -> tuple[Followed, Lines]:
    """Follow a cohort; when a tenth of the cases is done, and then two tenths …, something happens."""
    console, over = Lines(), threading.Event()

    def watch() -> None:
        for number, what in enumerate(disturb, start=1):
            while len(cohort.folder.board(cohort.cohort).done) < number * cohort.cohort.count // 10:
                if over.wait(0.1):
                    return
            what(cohort)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        return follow(cohort.folder, cohort.cohort, executor, workers, console), console
    finally:
        over.set()
        thread.join()


def kill_one(cohort: Begun) -> None:
    """Kill a worker that has a case in hand."""

    def busy() -> list[int]:
        workers = cohort.folder.board(cohort.cohort).workers.values()
        return [
            worker.process for worker in workers if worker.in_hand and not worker.finished and exists(worker.process)
        ]

    os.kill(waited_for(busy)[0], signal.SIGKILL)


def exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def require_as_alone(images: Path, output: Path, cohort: Begun, alone: Path) -> Counter[int]:
    """See that every result is there and as one process makes it; returns how often each case was done."""
    wanted = Prediction(images.parents[1] / "work", alone, "cpu", options=PredictOptions(threads=1))
    predict_folder(wanted.load(Silent()), images, alone)
    end_prediction(replace(wanted, output=output), wanted.load(Silent(), networks=False), cohort)
    names = sorted(path.name for path in alone.glob("*.nii.gz"))
    assert names == sorted(path.name for path in output.glob("*.nii.gz"))
    assert all((alone / name).read_bytes() == (output / name).read_bytes() for name in names)
    assert not list(output.glob(".tmp-*"))
    lines = [line for path in (cohort.folder.path / WORKERS).iterdir() for line in path.read_text().splitlines()]
    return Counter(entry["done"] for entry in map(json.loads, lines) if "done" in entry)


def loaded(console: Lines) -> Counter[str]:
    """How often each worker said that it has loaded the models."""
    return Counter(line.partition(":")[0] for line in console.said if ": computed by " in line)


def test_scans_through_ray_with_two_workers_killed(address: str, scans: Callable[[int], Path], tmp_path: Path) -> None:
    images, output = scans(SCANS), tmp_path / "out"
    cohort = begun(images, output, 4)
    executor = Ray(jobs_beside(output), ClusterOptions(ray_address=address, cpus=1))
    found, console = disturbed(cohort, executor, 4, [kill_one, kill_one])
    assert (len(found.done), found.failed) == (SCANS, {})
    done = require_as_alone(images, output, cohort, tmp_path / "alone")
    assert len(done) == SCANS
    assert sum(done.values()) - SCANS <= 20  # what two killed workers had in hand, at most
    started = loaded(console)
    assert len(started) == 4
    assert sum(started.values()) == 6  # once each, and once for each that was killed


def test_scans_through_slurm_with_a_worker_killed_and_one_cancelled(
    slurm: Path, scans: Callable[[int], Path], tmp_path: Path
) -> None:
    images, output = scans(SCANS // 2), tmp_path / "out"
    cohort = begun(images, output, 3)

    def scancel(cohort: Begun) -> None:
        kept = {job.name: job.id for job in jobs_of(jobs_beside(output))}
        busy = [w for w in cohort.folder.board(cohort.cohort).workers.values() if w.in_hand and not w.finished]
        subprocess.run(["scancel", kept[busy[-1].job]], check=True)

    executor = Slurm(jobs_beside(output), ClusterOptions(cpus=1, mem="900M"))
    found, console = disturbed(cohort, executor, 3, [kill_one, scancel])
    assert (len(found.done), found.failed) == (SCANS // 2, {})
    assert len(require_as_alone(images, output, cohort, tmp_path / "alone")) == SCANS // 2
    assert any("SLURM job" in line for line in console.said)
    waited_for(lambda: not subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout)


def test_commands_on_slurm(
    slurm: Path, scans: Callable[[int], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = scans(12), tmp_path / "out"
    work, job = tmp_path / "work", ["--on", "slurm", "--cpus", "1", "--mem", "900M", "--workers", "2", "-q"]
    predict = ["predict", str(work), "-i", str(images), "-o", str(out), "--device", "cpu", *job]
    assert main([*predict, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "12 cases, shared by 2 workers" in shown
    assert "#SBATCH --cpus-per-task=1" in shown
    assert not out.exists()
    assert main([*predict, "--statistics"]) == 0
    assert len(list(out.glob("*.nii.gz"))) == 12
    assert (out / "statistics.csv").is_file()
    assert main(predict) == 0
    assert "12 were done before" in capsys.readouterr().out
    assert main(["status", str(out), "-q"]) == 0
    assert "done; 12 of 12 cases done" in " ".join(capsys.readouterr().out.split())
    labels = images.parent / "labelsTr"
    assert main(["evaluate", str(out), str(labels), "-o", str(tmp_path / "there.json"), *job]) == 0
    assert main(["evaluate", str(out), str(labels), "-o", str(tmp_path / "here.json"), "-q"]) == 0
    there, here = (json.loads((tmp_path / name).read_text()) for name in ("there.json", "here.json"))
    assert there == here
    refused = ["--partition", "gpu"]
    assert main([*predict[:-1], "-q", "--overwrite", *refused]) == 1
    assert "Invalid partition" in capsys.readouterr().err


def test_preparing_and_choosing_on_ray(
    address: str, make_work: Callable[..., Path], raw_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    job = ["--on", "ray", "--ray-address", address, "--cpus", "1", "--workers", "2", "-q"]
    data = raw_dataset("Dataset002_Other", cases=6)
    there, here = tmp_path / "there", tmp_path / "here"
    small = ["--patch-size", "8,16,16", "--features", "4"]
    assert main(["preprocess", str(data), "-o", str(there), *small, *job]) == 0
    assert main(["preprocess", str(data), "-o", str(here), *small, "-q"]) == 0
    cases = sorted(path.relative_to(here) for path in (here / "prepared").rglob("*.zip"))
    assert cases
    assert all((there / path).read_bytes() == (here / path).read_bytes() for path in cases)
    work = make_work({"3d_fullres": (0, 1)})
    assert main(["best", str(work), "--no-mirror", "--device", "cpu", *job]) == 0
    best = json.loads((work / "best.json").read_text())
    assert main(["best", str(work), "--no-mirror", "--device", "cpu", "-q"]) == 0
    assert json.loads((work / "best.json").read_text()) == best


def test_a_cohort_is_cancelled(address: str, scans: Callable[[int], Path], tmp_path: Path) -> None:
    images, output = scans(SCANS), tmp_path / "out"
    cohort = begun(images, output, 2)
    executor = Ray(jobs_beside(output), ClusterOptions(ray_address=address, cpus=1))
    found, _ = disturbed(cohort, executor, 2, [lambda _: main(["cancel", str(output), "-q"])])
    assert found.cancelled
    assert 0 < len(found.done) < SCANS
    assert len(list(output.glob("[!.]*.nii.gz"))) == len(found.done)
    again = begun(images, output, 2)
    assert len(again.todo) == SCANS - len(found.done)
