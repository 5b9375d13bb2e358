"""Options that hand work to a cluster, and the executor that they ask for."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_rs.cli import values
from nnunet_rs.cli.console import Outcome, UsageError
from nnunet_rs.core.choices import ClusterEngine, names

if TYPE_CHECKING:
    from nnunet_rs.run.cluster import ClusterOptions
    from nnunet_rs.run.executor import Executor


def add_cluster(parser: argparse.ArgumentParser, *, workers: bool = True) -> None:
    """Add where work runs, and what each job gets; and how many jobs share the cases, if it is about cases."""
    group = parser.add_argument_group("cluster", "Hand the work to SLURM or Ray, in their own words.")
    group.add_argument(
        "--on", choices=names(ClusterEngine), help="run there; needs the extra nnunet-rs[slurm] or nnunet-rs[ray]"
    )
    group.add_argument("--partition", metavar="NAME", help="SLURM's")
    group.add_argument("--account", metavar="NAME", help="SLURM's")
    group.add_argument("--gpus", metavar="N", type=values.count, help="a job (default: none)")
    group.add_argument("--cpus", metavar="N", type=values.count, help="a job")
    group.add_argument("--mem", metavar="SIZE", help="a job, as SLURM writes it: 16G")
    group.add_argument(
        "--time", metavar="LIMIT", help="of a job, as SLURM writes it: 24:00:00; what is stopped resumes"
    )
    group.add_argument("--array-limit", metavar="N", type=values.count, help="jobs at a time (default: 100)")
    text = "jobs that share the cases, each with the models loaded (default: one for each 16 cases)"
    group.add_argument("--workers", metavar="N", type=values.count, help=text if workers else argparse.SUPPRESS)
    group.add_argument(
        "--slurm-extra", metavar="KEY=VALUE", nargs="+", help="further options of sbatch, as qos=long nice=100"
    )
    group.add_argument(
        "--ray-address", metavar="ADDRESS", help="of a Ray cluster (default: RAY_ADDRESS, or this machine)"
    )
    group.add_argument(
        "--cluster", metavar="FILE", type=Path, help="a TOML file with the above, keys as partition = 'gpu'"
    )
    group.add_argument("--dry-run", action="store_true", help="show what would be submitted, and submit nothing")


def cluster_options(arguments: argparse.Namespace) -> ClusterOptions:
    """Gather what a job gets: of the file, and of the options, which count more."""
    from nnunet_rs.run.cluster import ClusterOptions

    options = ClusterOptions.read(arguments.cluster) if arguments.cluster else ClusterOptions()
    known = {field.name for field in fields(ClusterOptions)} - {"slurm_extra"}
    given: dict[str, Any] = {name: getattr(arguments, name, None) for name in known}
    extra = dict(options.slurm_extra) | dict(_pair(text) for text in arguments.slurm_extra or ())
    return replace(options, **{name: value for name, value in given.items() if value is not None}, slurm_extra=extra)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.removeprefix("--").partition("=")
    if not equals or not key:
        raise UsageError(f"--slurm-extra {text}: write KEY=VALUE, as qos=long")
    return key, value


def executor_for(arguments: argparse.Namespace) -> Executor | None:
    """Return what trains the models of a work folder; None: this machine does."""
    from nnunet_rs.core.workspace import WorkFolder

    if arguments.on is None:
        return None
    arguments.work = arguments.work.absolute()  # nodes have other current folders
    return executor_in(WorkFolder(arguments.work).jobs_folder, arguments)


def executor_in(folder: Path, arguments: argparse.Namespace) -> Executor:
    """Return what runs the jobs; scripts, logs and the list of them go into `folder`."""
    options = cluster_options(arguments)
    if arguments.on == "slurm":
        from nnunet_rs.run.slurm import Slurm

        return Slurm(folder.absolute(), options)
    from nnunet_rs.run.ray import Ray

    return Ray(folder.absolute(), options)


def require_cluster(arguments: argparse.Namespace) -> None:
    """Refuse what is for a cluster where none is asked for: it would do nothing, or `--dry-run` would train.

    Raises
    ------
    UsageError
        One of the group's options without --on.
    """
    if arguments.on is not None:
        return
    if arguments.dry_run:
        raise UsageError("--dry-run is for a cluster: add --on slurm or --on ray")
    for name in (
        "cluster",
        "partition",
        "account",
        "gpus",
        "cpus",
        "mem",
        "time",
        "array_limit",
        "workers",
        "slurm_extra",
        "ray_address",
    ):
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} is for a cluster: add --on slurm or --on ray")


def would_submit(arguments: argparse.Namespace, jobs: list[str], folder: Path) -> Outcome:
    """Tell what would be submitted; scripts and logs would go into `folder`."""
    options = cluster_options(arguments)
    if arguments.on == "slurm":
        from nnunet_rs.run.slurm import script

        text = script(options, folder.absolute(), jobs[0] if jobs else "")
        shown = (*(f"would submit: {name}" for name in jobs), "with this script, of the first:", text.rstrip())
    else:
        shown = tuple(f"would submit: {name} ({options.cpus or 1} processors, {options.gpus} GPUs)" for name in jobs)
    return Outcome({"on": arguments.on, "jobs": jobs}, shown)
