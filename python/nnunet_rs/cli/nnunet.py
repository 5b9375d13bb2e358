"""nnU-Net v2's command lines: what of them is understood here, and what to write in place of the rest.

Options that ask for what happens anyway are accepted; options that mean something else here, or nothing, are refused
with what to write instead. The tables name everything that nnU-Net 2.8's commands take.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nnunet_rs.core.choices import PLANNER_NAMES, planner_of_nnunet
from nnunet_rs.core.workspace import DATASET_JSON

COMMANDS: Mapping[str, str] = {
    "plan_and_preprocess": "preprocess",
    "extract_fingerprint": "plan",
    "plan_experiment": "plan",
    "find_best_configuration": "best",
    "evaluate_folder": "evaluate (predictions first, references second)",
    "evaluate_simple": "evaluate (predictions first, references second)",
    "apply_postprocessing": "postprocess",
    "determine_postprocessing": "postprocess --decide REFERENCE",
    "predict_from_modelfolder": "predict FOLDER",
    "accumulate_crossval_results": "best",
    "plot_overlay_pngs": "report",
    "convert_MSD_dataset": "preprocess: the Decathlon layout is read as it is",
    "export_model_to_zip": "export MODELS -o model.zip --format nnunet",
    "install_pretrained_model_from_zip": "import model.zip -o MODELS; predict takes the zip as it is, too",
    "download_pretrained_model_by_url": "predict with a model's folder; nothing is downloaded",
    "move_plans_between_datasets": "plan DATA -o WORK --plans nnUNetPlans.json",
}

_TRAINERS: Mapping[str, str] = {  # how the names of nnU-Net's trainers end, and the options that do the same
    r"_?(\d+)epochs?": "--epochs {}",
    "DiceLoss": "--loss dice",
    "CELoss": "--loss ce",
    "NoMirroring": "--mirror-axes none",
    "NoDA": "--augmentation none",
    "BN": "--norm batch",
    "NoDeepSupervision": "--no-deep-supervision",
    "Adam3en4": "--recipe paper",
    "onlyMirror01": "--mirror-axes z,y",
}

_NO_BEST = "the last epoch's weights are scored; train --keep-best and predict --checkpoint best use the best one's"
_ONE_PLAN = "a work folder has one plan: leave it out, or name another work folder"

ACCEPTED: Mapping[str, Mapping[str, Any]] = {  # ask for what happens anyway, or for processes that there are not
    "preprocess": {"--verify_dataset_integrity": 0, "-npfp": 1},
    "plan": {"--verify_dataset_integrity": 0, "-npfp": 1, "--clean": 0},
    "train": {"--npz": 0, "--use_compressed": 0, "--disable_checkpointing": 0},
    "best": {"--no_overwrite": 0},
    "predict": {"--continue_prediction": 0, "-npp": 1, "-nps": 1},
    "evaluate": {"-pfile": 1},
    "postprocess": {"-plans_json": 1},
}

INSTEAD: Mapping[str, Mapping[str, str]] = {  # each takes the words that follow it, whatever they are
    "preprocess": {
        "--no_pp": "write plan in place of preprocess",
        "-plans_name": _ONE_PLAN,
        "-overwrite_plans_name": "give another work folder (-o) to keep another plan",
    },
    "plan": {"-overwrite_plans_name": "give another work folder (-o) to keep another plan"},
    "train": {
        "--val": "write --resume: what is trained is scored, not trained again",
        "--val_best": _NO_BEST,
    },
    "best": {},
    "predict": {"-prev_stage_predictions": "leave it out: predict runs a cascade's first stage itself"},
    "evaluate": {
        "-l": "labels come from -djfile, or are the values that occur; leave it out",
        "-il": f"name the ignore label in {DATASET_JSON} (-djfile)",
    },
    "ensemble": {"--save_npz": "leave it out: an ensemble writes segmentations only"},
    "postprocess": {"-pp_pkl_file": "pickles are not read; write --from WORK, or --keep-largest LABEL"},
}


def add(command: str, parser: argparse.ArgumentParser) -> None:
    """Add nnU-Net's options of a command to its parser; help and completion do not show them."""
    for name, values in ACCEPTED.get(command, {}).items():
        _add(parser, name, _Ignored, nargs=values)
    for name, text in INSTEAD.get(command, {}).items():
        _add(parser, name, _Refused, nargs="*", const=text)
    for name, check in _NAMED.get(command, {}).items():
        _add(parser, name, _Checked, const=check)


def command_instead(word: str) -> str | None:
    """Return what to write for one of nnU-Net's commands, with or without its prefix; None: not one."""
    found = COMMANDS.get(word.removeprefix("nnUNetv2_"))
    if found is None and word.startswith("nnUNetv2_"):
        return word.removeprefix("nnUNetv2_")
    return found


def trainer(name: str) -> str | None:
    """Return what to write in place of `-tr NAME`; None: it is the trainer that there is."""
    if name == "nnUNetTrainer":
        return None
    for ending, option in _TRAINERS.items():
        match = re.fullmatch(f"nnUNetTrainer{ending}", name)
        if match:
            return f"write {option.format(*match.groups())}"
    return "what a trainer changes is an option of train (see train --help), or a function of your own in --loss, " + (
        "--network, --optimiser or --augmentation"
    )


def _plans(name: str) -> str | None:
    if name == "nnUNetPlans":
        return None
    planner = next((planner for planner, known in PLANNER_NAMES.items() if known.plans == name), None)
    return _ONE_PLAN + (f", made by preprocess -o WORK --planner {planner}" if planner else "")


def _gpus(count: str) -> str | None:
    if count == "1":
        return None
    return f"write torchrun --nproc-per-node {count} -m nnunet_rs train ..."


def _only(name: str) -> Callable[[str], str | None]:
    return lambda given: None if given == name else f"{name} is the only one here; leave it out"


_Check = Callable[[str], "str | None"]
_MODEL: Mapping[str, _Check] = {"-tr": trainer, "-p": _plans}
_NAMED: Mapping[str, Mapping[str, _Check]] = {  # whose value decides whether it is accepted
    "preprocess": {"-fpe": _only("DatasetFingerprintExtractor"), "-preprocessor_name": _only("DefaultPreprocessor")},
    "plan": {"-fpe": _only("DatasetFingerprintExtractor"), "-preprocessor_name": _only("DefaultPreprocessor")},
    "train": {**_MODEL, "-num_gpus": _gpus},
    "best": _MODEL,
}


def _add(parser: argparse.ArgumentParser, name: str, action: type[argparse.Action], **more: Any) -> None:
    parser.add_argument(name, dest=argparse.SUPPRESS, action=action, help=argparse.SUPPRESS, **more)


class _Hidden(argparse.Action):
    """An option without a name in the namespace."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, dest, default=argparse.SUPPRESS, **more)


class _Ignored(_Hidden):
    def __call__(self, *_: object) -> None:
        """Change nothing."""


class _Refused(_Hidden):
    def __call__(self, _: object, __: object, values: Any, option: str | None = None) -> None:
        """Say what to write instead."""
        raise argparse.ArgumentError(None, f"{' '.join((option or '', *values))} is nnU-Net's: {self.const}")


class _Checked(_Hidden):
    def __call__(self, _: object, __: object, value: Any, option: str | None = None) -> None:
        """Pass the value that there is; of others say what to write instead."""
        instead = self.const(value)
        if instead is not None:
            raise argparse.ArgumentError(None, f"{option} {value} is nnU-Net's: {instead}")


class PlannerOption(_Hidden):
    """`-pl PLANNER` of nnU-Net."""

    def __call__(self, _: object, namespace: argparse.Namespace, value: Any, option: str | None = None) -> None:
        """Set the planner that goes by its rules."""
        planner = planner_of_nnunet(value)
        if planner is None:
            known = ", ".join(names.planner for names in PLANNER_NAMES.values() if names.same)
            raise argparse.ArgumentError(None, f"{option} {value}: there are {known}; or write --planner")
        namespace.planner = planner


class Processes(_Hidden):
    """`-np N [N ...]` of nnU-Net, processes for each configuration: as many threads."""

    def __call__(self, _: object, namespace: argparse.Namespace, counts: Any, _option: str | None = None) -> None:
        """Take the greatest."""
        namespace.threads = max(counts)


class Spacing(_Hidden):
    """`-overwrite_target_spacing Z Y X` of nnU-Net."""

    def __call__(self, _: object, namespace: argparse.Namespace, spacing: Any, _option: str | None = None) -> None:
        """Set the target spacing."""
        namespace.spacing = tuple(spacing)
