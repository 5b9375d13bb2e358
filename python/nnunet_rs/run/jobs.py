"""jobs.jsonl: which jobs of a folder were handed to a cluster, so that others can follow or end them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_rs.core.errors import NnunetError

JOBS = "jobs.jsonl"


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job as it was submitted."""

    name: str  # "3d_fullres, fold 0"
    engine: str  # slurm, ray; empty: it is planned, and nothing has begun it
    id: str  # the engine's
    log: str  # path of what it prints; empty: the engine keeps it
    submitted: str = ""  # local time, with its offset
    epochs: int | None = None  # of a training; None: it has none, or a time budget decides
    cancelled: bool = False  # by `nnunet-rs cancel`, in a second record of the job


def add_job(folder: Path, job: JobRecord) -> None:
    """Append a job, or that it is cancelled; a line is written at once, so that several processes may.

    Raises
    ------
    NnunetError
        The folder cannot be written.
    """
    stamped = {**asdict(job), "submitted": job.submitted or time.strftime("%Y-%m-%d %H:%M:%S %z")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / JOBS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, (json.dumps(stamped) + "\n").encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise NnunetError(
            f"{folder / JOBS}: cannot be written: {error.strerror}; check the folder's permissions and the space on "
            "its disk"
        ) from error


def note_planned(folder: Path, epochs: Mapping[str, int | None]) -> None:
    """Note how many epochs trainings are to have that may not begin for long; errors as `add_job`.

    Parameters
    ----------
    folder
        Of jobs.jsonl.
    epochs
        By the name of the job.
    """
    known = {job.name: job.epochs for job in jobs_of(folder) if not job.engine}
    for name, count in epochs.items():
        if known.get(name) != count:
            add_job(folder, JobRecord(name, "", "", "", epochs=count))


def jobs_of(folder: Path) -> tuple[JobRecord, ...]:
    """Return the jobs in the order in which they were submitted; lines that a kill cut off are no jobs."""
    found: list[JobRecord] = []
    with suppress(OSError):
        for line in (folder / JOBS).read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, TypeError):
                found.append(JobRecord(**json.loads(line)))
    return tuple(found)
