"""`export`: models for nnU-Net v2's own commands, in one file, or as networks for other runtimes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nnunet_rs.cli import shared
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome, UsageError
from nnunet_rs.core.text import counted

FORMATS = ("nnunet", "file", "onnx", "openvino")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `export` takes."""
    parser.add_argument("models", metavar="MODELS", type=Path, help="a work folder, or a model folder")
    parser.add_argument(
        "-o",
        "--output",
        metavar="TARGET",
        type=Path,
        required=True,
        help="folder of results, or a .zip",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        required=True,
        help="nnunet: for nnU-Net v2's own commands; file: one checked archive, described in its MODEL.md; onnx, "
        "openvino: the networks alone, with what describes input and output beside them",
    )
    parser.add_argument("--licence", metavar="FILE", type=Path, help="text that goes into the one-file model")
    shared.add_configurations(parser, "these configurations (default: all that are there)")
    shared.add_folds(parser, "these folds (default: all that are there)")
    shared.add_overwrite(parser)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Write models of ours for others."""
    output: Path = arguments.output
    if arguments.format == "file":
        return _export_file(arguments, console)
    if arguments.licence:
        raise UsageError("--licence goes into one-file models (--format file); nnU-Net's folders cannot hold it")
    if arguments.format in ("onnx", "openvino"):
        return _export_networks(arguments, console)
    from tempfile import TemporaryDirectory

    from nnunet_rs.exchange.export_nnunet import difference, export_nnunet, zip_results
    from nnunet_rs.model.metadata import read_metadata

    folders = _folders(arguments)
    remarks = dict.fromkeys(filter(None, (difference(read_metadata(folder)) for folder in folders)))
    for remark in remarks:
        console.say(f"warning: {remark}")
    if output.suffix != ".zip":
        written = export_nnunet(folders, output, overwrite=arguments.overwrite, progress=console)
        result = {"models": written, "remarks": list(remarks)}
        return Outcome(result, (*(f"written: {path}" for path in written), "set nnUNet_results to this folder"))
    with _one_file(arguments, console), TemporaryDirectory(prefix="nnunet-rs-") as temporary:
        written = export_nnunet(folders, Path(temporary), progress=console)
        zip_results(written[0].parent, output)
    line = f"{counted(len(folders), 'model')} in {output}; nnUNetv2_install_pretrained_model_from_zip installs it"
    return Outcome({"zip": output, "models": len(folders), "remarks": list(remarks)}, (line,))


def _export_networks(arguments: argparse.Namespace, console: Console) -> Outcome:
    from nnunet_rs.exchange.export_network import export_networks

    folders = _folders(arguments)
    done = export_networks(folders, arguments.output, arguments.format, overwrite=arguments.overwrite, progress=console)
    lines = [f"{each.path}: scores within {each.difference:.1g} of the network's largest" for each in done]
    result = {"networks": [{"file": each.path, "description": each.description} for each in done]}
    return Outcome(result, (*lines, "the .json beside each says how to prepare an image and to read the scores"))


def _export_file(arguments: argparse.Namespace, console: Console) -> Outcome:
    from nnunet_rs.exchange.export_file import export_file

    output: Path = arguments.output
    if output.suffix != ".zip":
        raise UsageError(f"{output}: a one-file model is a zip: name it so, as {output.name or 'model'}.zip")
    folders = _folders(arguments)
    with _one_file(arguments, console):
        done = export_file(arguments.models, folders, output, licence=arguments.licence, progress=console)
    size = output.stat().st_size / 1e6
    lines = (
        f"{counted(len(done.models), 'model')} in {output}, {size:.1f} MB, SHA-256 {done.sha256}",
        f"next: nnunet-rs predict {output} -i IN -o OUT",
    )
    result = {"file": output, "sha256": done.sha256, "models": done.models, "chosen": done.chosen}
    return Outcome(result, lines)


@contextmanager
def _one_file(arguments: argparse.Namespace, console: Console) -> Iterator[None]:
    """Refuse a file that is there, or keep it aside once the block has come to where it would be replaced."""
    from nnunet_rs.core.files import keep_aside

    output: Path = arguments.output
    if os.path.lexists(output):
        if not arguments.overwrite or not output.is_file():
            raise UsageError(f"{output} is there already; name another file, or let --overwrite keep it aside")
        console.say(f"{output} was there: it is kept as {keep_aside(output).name}")
    yield


def _folders(arguments: argparse.Namespace) -> Sequence[Path]:
    """List the folds to write: of the configurations that were named, or of all."""
    from nnunet_rs.model.trained_models import find_models, trained_configurations

    names = arguments.configuration or trained_configurations(arguments.models) or (None,)
    return [folder for name in names for folder in find_models(arguments.models, name, arguments.fold)]


COMMAND = Command(
    name="export",
    group="exchange models",
    summary="models for nnU-Net v2's own commands, as one file, or as ONNX or OpenVINO networks",
    usage="MODELS -o TARGET --format nnunet|file|onnx|openvino [options]",
    description="Write models as a folder of results, or a zip, that nnUNetv2_predict loads; what nnU-Net cannot "
    "express is refused.",
    examples=(
        "nnunet-rs export work -o nnUNet_results --format nnunet",
        "nnunet-rs export work -o model.zip --format nnunet -c 3d_fullres",
        "nnunet-rs export work -o networks --format onnx -c 3d_fullres",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
