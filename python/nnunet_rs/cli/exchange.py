"""Bring models in from nnU-Net v2, and back."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli.console import Console, Outcome, UsageError, counted
from nnunet_rs.cli.exchange_options import FINAL

if TYPE_CHECKING:
    from nnunet_rs.model.nnunet_models import NnunetChoice


def import_(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Write models of nnU-Net v2 as models of ours."""
    from nnunet_rs.exchange.import_nnunet import ImportOptions, import_nnunet

    options = ImportOptions(arguments.configuration, arguments.fold, nnunet_choice(arguments))
    done = import_nnunet(arguments.source, arguments.output, options, console)
    chosen = " + ".join(done.chosen)
    lines = (
        *((f"nnU-Net had chosen {chosen}; predict follows it",) if chosen else ()),
        f"{counted(len(done.models), 'model')} written to {arguments.output}; "
        f"next: nnunet-rs predict {arguments.output} -i IN -o OUT",
    )
    steps = [list(classes) for classes in done.postprocessing.keep_largest]
    return Outcome({"models": done.models, "chosen": done.chosen, "keep_largest": steps}, lines)


def export(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Write models of ours for nnU-Net v2."""
    from nnunet_rs.exchange.export_nnunet import difference, export_nnunet, zip_results
    from nnunet_rs.model.card import read_card

    folders = _folders(arguments)
    remarks = dict.fromkeys(filter(None, (difference(read_card(folder)) for folder in folders)))
    for remark in remarks:
        console.say(f"warning: {remark}")
    output: Path = arguments.output
    if output.suffix != ".zip":
        written = export_nnunet(folders, output)
        result = {"models": written, "remarks": list(remarks)}
        return Outcome(result, (*(f"written: {path}" for path in written), "set nnUNet_results to this folder"))
    if output.exists():
        raise UsageError(f"{output} is there already; name another file")
    with tempfile.TemporaryDirectory(prefix="nnunet-rs-") as temporary:
        written = export_nnunet(folders, Path(temporary))
        zip_results(written[0].parent, output)
    line = f"{counted(len(folders), 'model')} in {output}; nnUNetv2_install_pretrained_model_from_zip installs it"
    return Outcome({"zip": output, "models": len(folders), "remarks": list(remarks)}, (line,))


def nnunet_choice(arguments: argparse.Namespace) -> NnunetChoice:
    """Return which of nnU-Net's models were asked for."""
    from nnunet_rs.model.nnunet_models import NnunetChoice

    return NnunetChoice(arguments.trainer, arguments.plans_name, arguments.checkpoint or FINAL)


def _folders(arguments: argparse.Namespace) -> Sequence[Path]:
    """List the folds to write: of the configurations that were named, or of all."""
    from nnunet_rs.predict.models import find_models, trained_configurations

    names = arguments.configuration or trained_configurations(arguments.models) or (None,)
    return [folder for name in names for folder in find_models(arguments.models, name, arguments.fold)]
