"""`view`: a local page to look into volumes, in three planes and in 3-D."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli import shared, values
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome, UsageError
from nnunet_rs.core.workspace import WorkFolder

if TYPE_CHECKING:
    from nnunet_rs.report.viewer.layers import ViewCase


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `view` takes."""
    shared.add_work(parser, "an image, a work folder, or predictions: a folder, or one file with -i")
    shared.add_predicted(parser)
    text = "folder of references, or the one reference"
    parser.add_argument("--references", metavar="FOLDER", type=Path, help=text)
    parser.add_argument("--segmentation", metavar="FILE", type=Path, help="of an image: what lies over it")
    group = parser.add_argument_group("work folders")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--prepared", action="store_true", help="the prepared cases, as training reads them")
    which.add_argument("--augmented", action="store_true", help="training patches before and after augmentation")
    text = "of the prepared cases (default: the plan's last)"
    group.add_argument("-c", "--configuration", metavar="CONFIG", default="", help=text)
    group.add_argument("--augmentation", metavar="NAME", default="", help="another than the recipe's")
    group = parser.add_argument_group("the page")
    text = "port of 127.0.0.1 (default: any that is free); for an SSH tunnel name one"
    group.add_argument("--port", metavar="N", type=values.seed, default=0, help=text)
    group.add_argument("--no-browser", action="store_true", help="print the address only")


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Serve the page until Ctrl-C."""
    from nnunet_rs.core.termination import until_interrupted
    from nnunet_rs.report.viewer.server import Viewing, address, serve

    cases, remarks = _cases(arguments)
    for remark in remarks:
        console.say(f"remark: {remark}")
    path: Path = arguments.work
    viewing = Viewing(path.resolve().name or str(path), cases, remarks)
    with serve(viewing, arguments.port) as server:
        where = address(viewing, server)
        viewing.read_ahead()
        console.say(f"{len(cases)} case{'' if len(cases) == 1 else 's'} of {path}: {where}   (Ctrl-C ends)")
        if arguments.quiet and not arguments.json:
            print(where, flush=True)  # without it nobody could come in
        if not arguments.no_browser:
            _open(where, server.server_port, console)
        with until_interrupted():
            server.serve_forever()
    return Outcome({"address": where, "cases": len(cases)}, ("closed",))


def _open(where: str, port: int, console: Console) -> None:
    """Open the browser, where there is one on this screen; one of the terminal's would take that."""
    import os
    import platform
    import sys
    import webbrowser

    screen = not sys.platform.startswith("linux") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
    try:
        opened = screen and webbrowser.open(where)
    except webbrowser.Error:
        opened = False
    if not opened:
        tunnel = f"ssh -L {port}:127.0.0.1:{port} {platform.node() or 'MACHINE'}"
        console.say(f"no browser here: open the address where there is one; on another machine first `{tunnel}`")


def _cases(arguments: argparse.Namespace) -> tuple[tuple[ViewCase, ...], tuple[str, ...]]:
    """Tell an image from predictions and from a work folder, and list the cases."""
    from nnunet_rs.core.dicom.folders import series_paths
    from nnunet_rs.core.errors import DatasetError
    from nnunet_rs.core.io import can_read
    from nnunet_rs.report.viewer.cases import of_image, of_work

    path: Path = arguments.work
    if not path.exists():
        raise DatasetError(f"{path}: no such file or folder; give an image, a work folder, or predictions")
    if arguments.prepared or arguments.augmented:
        return _trained_on(arguments), ()
    if WorkFolder(path).plan_file.is_file():
        return of_work(path), ()
    predicted = (arguments.images, arguments.references)
    series = {} if any(predicted) else series_paths(path)
    if series:
        return tuple(_series(name, file, arguments, len(series)) for name, file in series.items()), ()
    if path.is_dir() or any(predicted):
        return _predicted(arguments)
    if not can_read(path):
        raise DatasetError(f"{path}: is no image that can be read")
    if arguments.segmentation is not None and not arguments.segmentation.exists():
        raise DatasetError(f"{arguments.segmentation}: no such file; name the segmentation of {path}")
    return of_image((path,), arguments.segmentation, None), ()


def _series(name: str, file: Path, arguments: argparse.Namespace, count: int) -> ViewCase:
    """Show a series of DICOM."""
    from nnunet_rs.core.errors import DatasetError
    from nnunet_rs.report.viewer.cases import of_image

    if arguments.segmentation and count > 1:
        raise DatasetError(f"{arguments.work}: holds {count} series, --segmentation is of one; name its folder")
    return replace(of_image((file,), arguments.segmentation, None)[0], name=name)


def _trained_on(arguments: argparse.Namespace) -> tuple[ViewCase, ...]:
    from nnunet_rs.report.viewer.prepared import augmented_patches, prepared_cases

    if not WorkFolder(arguments.work).plan_file.is_file():
        raise UsageError(f"--prepared and --augmented are of a work folder; {arguments.work} holds no plan")
    if arguments.prepared:
        return prepared_cases(arguments.work, arguments.configuration)
    return augmented_patches(arguments.work, arguments.configuration, arguments.augmentation)


def _predicted(arguments: argparse.Namespace) -> tuple[tuple[ViewCase, ...], tuple[str, ...]]:
    """List predictions; labels that nobody names are found when a case is opened."""
    from nnunet_rs.report.predictions import Given, read_predictions
    from nnunet_rs.report.viewer.cases import of_predictions

    given = Given(arguments.images, arguments.references, arguments.dataset_json, find_values=False)
    found = read_predictions(arguments.work, given)
    return of_predictions(found, found.labels if found.labels.count > 1 else None), found.remarks


COMMAND = Command(
    name="view",
    group="use",
    summary="look into images, predictions, prepared cases and augmented patches, in a browser",
    usage="IMAGE|WORK|PREDICTIONS [options]",
    description="Open a local page with three planes and a 3-D view: image, reference, prediction, differences and "
    "probabilities, case after case. It is served on this machine only, to who knows the address; Ctrl-C ends it.",
    examples=(
        "nnunet-rs view scan.nii.gz --segmentation labels.nii.gz",
        "nnunet-rs view segmentations --references labelsTs",
        "nnunet-rs view work --augmented",
        "nnunet-rs view work --port 8123 --no-browser          # ssh -L 8123:127.0.0.1:8123 machine",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
