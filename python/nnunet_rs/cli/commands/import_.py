"""`import`: models of nnU-Net v2, or of a one-file model, as models in a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_rs.cli import shared
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome
from nnunet_rs.core.text import counted


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `import` takes."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=Path,
        help="nnU-Net's results of a dataset, one model's folder, a zip of nnUNetv2_export_model_to_zip, or a one-file "
        "model of ours",
    )
    parser.add_argument("-o", "--output", metavar="MODELS", type=Path, required=True, help="folder for the models")
    shared.add_configurations(parser, "these configurations (default: all that are there)")
    shared.add_folds(parser, "these folds (default: all that are there)")
    shared.add_overwrite(parser)
    shared.add_nnunet_choice(parser)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Write models of nnU-Net v2, or of a one-file model, as models in a folder."""
    from nnunet_rs.exchange.import_file import import_file
    from nnunet_rs.exchange.import_nnunet import ImportOptions, import_nnunet
    from nnunet_rs.model.model_file import is_model_file

    which = (arguments.configuration, arguments.fold, shared.nnunet_choice(arguments), arguments.overwrite)
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


COMMAND = Command(
    name="import",
    group="exchange models",
    summary="models that nnU-Net v2 trained, as models of this program",
    usage="SOURCE -o MODELS [options]",
    description="Read models of nnU-Net v2 (nothing is unpickled) and write weights, metadata, plan, and what "
    "find_best_configuration chose. predict also takes such a folder or zip as it is.",
    examples=(
        "nnunet-rs import nnUNet_results/Dataset027_ACDC -o models",
        "nnunet-rs import model.zip -o models -c 3d_fullres -f 0 1",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
