"""What a cluster is asked for, and how a job ends on its node."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.run.cluster import ClusterOptions, Ended, run_on_node
from nnunet_rs.run.executor import Job, Resources
from nnunet_rs.run.jobs import JOBS, JobRecord, add_job, jobs_of


def test_options_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text('partition = "gpu"\ngpus = 1\ntime = "24:00:00"\n[slurm_extra]\nqos = "long"\n')
    options = ClusterOptions.read(file)
    assert (options.partition, options.gpus, options.time) == ("gpu", 1, "24:00:00")
    assert (dict(options.slurm_extra), options.array_limit) == ({"qos": "long"}, 100)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partitoin = 'gpu'", "partitoin is not known; there are account, array_limit"),
        ("gpus = 'many'", r"cluster\.toml: ?gpus"),
        ("gpus =", "is not TOML"),
        ("array_limit = 0", "array_limit is 0: must be at least 1"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text(text)
    with pytest.raises(NnunetError, match=message):
        ClusterOptions.read(file)
    with pytest.raises(NnunetError, match="cannot be read"):
        ClusterOptions.read(tmp_path / "other.toml")


class Stopped:
    signal = 12


def returns(value: Any, resources: Resources, progress: Any) -> Any:
    progress.say(f"{resources.device}, {resources.threads}")
    return value


def signalled(number: int, resources: Resources, progress: Any) -> None:
    os.kill(os.getpid(), number)
    raise AssertionError


def test_a_job_says_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGUSR2)
    assert run_on_node(Job("a", returns, (3,)), 2) == Ended(3)
    assert capsys.readouterr().out == "auto, 2\n"
    assert run_on_node(Job("a", returns, (Stopped,)), 1).signal == 12  # a training that saved and returned
    assert run_on_node(Job("a", signalled, (signal.SIGUSR2,)), 1) == Ended(signal=signal.SIGUSR2)
    assert signal.getsignal(signal.SIGUSR2) is before


def test_a_folder_that_the_node_does_not_see_is_named(tmp_path: Path) -> None:
    with pytest.raises(NnunetError, match=r"gone: is not there on .*; name a folder that all nodes see"):
        run_on_node(Job("a", returns, (tmp_path / "gone",)), 1)


def test_jobs_are_listed_in_their_order(tmp_path: Path) -> None:
    assert jobs_of(tmp_path) == ()
    for number in (1, 2):
        add_job(tmp_path / "jobs", JobRecord(f"model {number}", "slurm", str(number), "log"))
    with (tmp_path / "jobs" / JOBS).open("a") as stream:
        stream.write('{"name": "cut o')
    found = jobs_of(tmp_path / "jobs")
    assert [(job.name, job.id) for job in found] == [("model 1", "1"), ("model 2", "2")]
    assert found[0].submitted
