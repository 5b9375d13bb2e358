"""What `best` chooses by is predicted by workers as by one process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from nnunet_rs.core.progress import Silent
from nnunet_rs.predict.options import PredictOptions
from nnunet_rs.run.cohort.choosing import ChoosingOptions, begin_choosing, choosing_job
from nnunet_rs.run.cohort.follow import follow, run_job
from nnunet_rs.run.cohort.worker import work as work_on
from nnunet_rs.run.executor import Resources
from nnunet_rs.run.local import InProcess
from nnunet_rs.select.selection import choose_best

OPTIONS = PredictOptions(mirror=False)
ASKED = ChoosingOptions(device="cpu", options=OPTIONS)


def test_the_choice_is_that_of_one_process(make_work: Callable[..., Path], tmp_path: Path) -> None:
    work = make_work({"3d_fullres": (0, 1), "2d": (0, 1)})
    alone = tmp_path / "alone"
    shutil.copytree(work, alone)
    cohort = begin_choosing(work, ASKED, 1, Silent())
    assert cohort is not None
    assert len(set(cohort[1].groups)) == 6  # each configuration and the pair, of two folds
    executor = InProcess("cpu", Silent())
    found = follow(*cohort, executor, 1, Silent())
    assert found.failed == {}
    assert work_on(cohort[0].path, "late", Resources("cpu", 1), Silent()).loaded == 0
    assert begin_choosing(work, ASKED, 1, Silent()) is None
    chosen = run_job(executor, choosing_job(work, ASKED), Silent())
    assert chosen == choose_best(alone, device="cpu", options=OPTIONS)
    for path in alone.rglob("*.nii.gz"):
        assert path.read_bytes() == (work / path.relative_to(alone)).read_bytes()
