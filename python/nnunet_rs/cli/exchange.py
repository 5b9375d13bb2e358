"""Bring models in from nnU-Net v2, and back."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli.console import Console, Outcome, UsageError, counted
from nnunet_rs.cli.exchange_options import FINAL

if TYPE_CHECKING:
    from nnunet_rs.model.nnunet_models import NnunetChoice


def import_(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Write models of nnU-Net v2, or of a one-file model, as models in a folder."""
    from nnunet_rs.exchange.import_file import import_file
    from nnunet_rs.exchange.import_nnunet import ImportOptions, import_nnunet
    from nnunet_rs.model.model_file import is_model_file

    which = (arguments.configuration, arguments.fold, nnunet_choice(arguments), arguments.overwrite)
    import_models = import_file if is_model_file(arguments.source) else import_nnunet
    done = import_models(arguments.source, arguments.output, ImportOptions(*which), console)
    chosen = " + ".join(done.chosen)
    lines = (
        *((f"chosen: {chosen}; predict follows it",) if chosen else ()),
        f"{counted(len(done.models), 'model')} written to {arguments.output}; "
        f"next: nnunet-rs predict {arguments.output} -i IN -o OUT",
    )
    steps = [list(classes) for classes in done.postprocessing.keep_largest]
    return Outcome({"models": done.models, "chosen": done.chosen, "keep_largest": steps}, lines)


def export(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Write models of ours for nnU-Net v2, or in one file."""
    output: Path = arguments.output
    if arguments.format == "file":
        return _export_file(arguments, console)
    if arguments.licence:
        raise UsageError("--licence goes into one-file models (--format file); nnU-Net's folders have no place for it")
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
    with _one_file(arguments, console), tempfile.TemporaryDirectory(prefix="nnunet-rs-") as temporary:
        written = export_nnunet(folders, Path(temporary), progress=console)
        zip_results(written[0].parent, output)
    line = f"{counted(len(folders), 'model')} in {output}; nnUNetv2_install_pretrained_model_from_zip installs it"
    return Outcome({"zip": output, "models": len(folders), "remarks": list(remarks)}, (line,))


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


def nnunet_choice(arguments: argparse.Namespace) -> NnunetChoice:
    """Return which of nnU-Net's models were asked for."""
    from nnunet_rs.model.nnunet_models import NnunetChoice

    return NnunetChoice(arguments.trainer, arguments.plans_name, arguments.checkpoint or FINAL)


def _folders(arguments: argparse.Namespace) -> Sequence[Path]:
    """List the folds to write: of the configurations that were named, or of all."""
    from nnunet_rs.model.trained_models import find_models, trained_configurations

    names = arguments.configuration or trained_configurations(arguments.models) or (None,)
    return [folder for name in names for folder in find_models(arguments.models, name, arguments.fold)]
