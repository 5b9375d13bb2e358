"""nnU-Net v2's own files: read its fingerprint and dataset.json, write a plan as its plans.json."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nnunet_rs.core.choices import PLANNER_NAMES, Activation, NnunetNames, Norm
from nnunet_rs.core.dataset_json import read_channels, read_document, read_labels
from nnunet_rs.core.document import decode, encode
from nnunet_rs.core.errors import DatasetError, PlanError
from nnunet_rs.core.files import keep_aside, read_json, write_json
from nnunet_rs.core.io import find_format
from nnunet_rs.core.types import ChannelStats, Dataset, Spacing3
from nnunet_rs.core.workspace import DATASET_JSON
from nnunet_rs.plan.normalization import SCHEMES
from nnunet_rs.plan.schema import (
    CasePrint,
    Configuration,
    Fingerprint,
    Plan,
    Resampling,
)
from nnunet_rs.plan.spacing import median_of_cases, reoriented, transposed
from nnunet_rs.plan.validation import check_fingerprint


@dataclass(frozen=True, slots=True)
class NnunetFiles:
    """What nnU-Net knows of a dataset when it plans."""

    dataset: Dataset  # without cases: dataset.json names none
    fingerprint: Fingerprint
    training_cases: int  # numTraining, which need not be the number of the fingerprint's cases
    reader: str  # nnU-Net's class that reads the images


_ANY_READER = "SimpleITKIO"  # reads more than there is here
_RESAMPLE, _NO_RESAMPLING = "resample_data_or_seg_to_shape", "no_resampling_hack"
_NORMS: dict[Norm, str] = {
    "instance": "torch.nn.modules.instancenorm.InstanceNorm{}d",
    "batch": "torch.nn.modules.batchnorm.BatchNorm{}d",
}
_ACTIVATIONS: dict[Activation, str] = {"leaky_relu": "torch.nn.LeakyReLU", "relu": "torch.nn.ReLU"}


@dataclass(frozen=True, slots=True)
class _NnunetFingerprint:
    """The keys of dataset_fingerprint.json that planning reads."""

    spacings: tuple[Spacing3, ...]
    shapes_after_crop: tuple[tuple[int, int, int], ...]
    foreground_intensity_properties_per_channel: dict[str, ChannelStats]
    median_relative_size_after_cropping: float


def read_nnunet(fingerprint_file: Path, dataset_file: Path) -> NnunetFiles:
    """Read nnU-Net's dataset_fingerprint.json and dataset.json.

    Parameters
    ----------
    fingerprint_file, dataset_file
        As `nnUNetv2_extract_fingerprint` writes it, and as it lies in the raw dataset's folder, whose name the plan
        takes.

    Raises
    ------
    PlanError
        The fingerprint is missing or malformed: file, key and value are named.
    DatasetError
        The same of dataset.json.
    """
    content = read_document(dataset_file)
    channels = read_channels(dataset_file, content)
    fingerprint = _read_fingerprint(fingerprint_file, len(channels))
    dataset = Dataset(
        name=dataset_file.absolute().parent.name,
        root=dataset_file.parent,
        layout="nnunet",
        channels=channels,
        labels=read_labels(dataset_file, content),
        training=(),
        ending=str(content.get("file_ending", ".nii.gz")),
    )
    return NnunetFiles(
        dataset, fingerprint, _training_cases(dataset_file, content, fingerprint), _reader(content, fingerprint)
    )


def as_nnunet(
    plan: Plan,
    fingerprint: Fingerprint | None = None,
    reader: str = "SimpleITKIO",
    *,
    norm: Norm | None = None,
    activation: Activation | None = None,
) -> dict[str, Any]:
    """Return a plan as nnU-Net v2 writes it: the content of a plans.json that its commands load.

    Parameters
    ----------
    plan, fingerprint
        The fingerprint is the one that was planned; None: sizes of the median case are those of a configuration.
    reader
        nnU-Net's class that reads the images, from `reader_of`.
    norm, activation
        Of the networks, where they have others than the plan says.
    """
    names = PLANNER_NAMES.get(plan.recipe, PLANNER_NAMES["paper"])
    spacing, shape = _median_case(plan, fingerprint)
    stats = [rule.stats for rule in plan.normalization]
    return {
        "dataset_name": plan.dataset,
        "plans_name": names.plans,
        "original_median_spacing_after_transp": list(spacing),
        "original_median_shape_after_transp": [round(size) for size in shape],
        "image_reader_writer": f"{reader}WithReorient" if plan.reorient else reader,
        "transpose_forward": list(plan.transpose),
        "transpose_backward": [plan.transpose.index(axis) for axis in range(3)],
        "configurations": {
            name: _configuration(plan.configurations[name], plan, names, (norm, activation))
            for name in ("2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres")
            if name in plan.configurations
        },
        "experiment_planner_used": names.planner,
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(channel): encode(s) for channel, s in enumerate(stats)},
    }


def write_as_nnunet(path: Path, plan: Plan, fingerprint: Fingerprint, reader: str = "SimpleITKIO") -> Path | None:
    """Write `as_nnunet` to a file, whole or not at all.

    Returns
    -------
    Path or None
        Where other content that was there is kept; see `keep_aside`.
    """
    content = as_nnunet(plan, fingerprint, reader)
    kept = keep_aside(path) if path.exists() and not _same_json(path, content) else None
    write_json(path, content)
    return kept


def _same_json(path: Path, content: dict[str, Any]) -> bool:
    try:
        return bool(read_json(path, PlanError) == json.loads(json.dumps(content)))
    except PlanError:
        return False


def _median_case(plan: Plan, fingerprint: Fingerprint | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return spacing and shape of the median case, working axes."""
    if fingerprint is not None:
        known = plan.reorient and all(case.orientation for case in fingerprint.cases)
        spacing, shape = median_of_cases(reoriented(fingerprint) if known else fingerprint)
        return transposed(spacing, plan.transpose), transposed(shape, plan.transpose)
    finest = max(plan.configurations.values(), key=lambda c: (c.dims, -c.spacing[-1]))
    ones = (1.0,) * (3 - finest.dims)
    return (*ones, *finest.spacing), (*ones, *finest.median_shape)


def _read_fingerprint(file: Path, channels: int) -> Fingerprint:
    content = read_json(file, PlanError)
    known = _known(content)
    found = decode(_NnunetFingerprint, known, f"{file}:")
    if len(found.spacings) != len(found.shapes_after_crop):
        raise PlanError(
            f"{file}: spacings has {len(found.spacings)} entries, shapes_after_crop {len(found.shapes_after_crop)}: "
            f"they must have one per case"
        )
    stats = found.foreground_intensity_properties_per_channel
    if set(stats) != {str(channel) for channel in range(channels)}:
        raise PlanError(
            f"{file}: foreground_intensity_properties_per_channel has {', '.join(stats) or 'nothing'}: must have the "
            f"{channels} channels that {DATASET_JSON} declares, numbered from 0"
        )
    cases = tuple(
        CasePrint(f"number {index}", shape, shape, spacing)  # shapes before the crop are not told
        for index, (shape, spacing) in enumerate(zip(found.shapes_after_crop, found.spacings, strict=True))
    )
    ordered = tuple(stats[str(channel)] for channel in range(channels))
    fingerprint = Fingerprint(cases, ordered, found.median_relative_size_after_cropping)
    check_fingerprint(fingerprint, str(file))
    return fingerprint


def _known(content: Any) -> Any:
    """Leave out keys that planning does not read; other releases write more of them."""
    if not isinstance(content, dict):
        return content
    kept = {f.name: content[f.name] for f in fields(_NnunetFingerprint) if f.name in content}
    stats = kept.get("foreground_intensity_properties_per_channel")
    if isinstance(stats, dict):
        names = {f.name for f in fields(ChannelStats)}
        kept["foreground_intensity_properties_per_channel"] = {
            channel: {key: item for key, item in row.items() if key in names} if isinstance(row, dict) else row
            for channel, row in stats.items()
        }
    return kept


def _training_cases(file: Path, content: dict[str, Any], fingerprint: Fingerprint) -> int:
    count = content.get("numTraining", len(fingerprint.cases))
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise DatasetError(f"{file}: numTraining is {count!r}; give the number of training cases, at least 1")
    return count


def _reader(content: dict[str, Any], fingerprint: Fingerprint) -> str:
    named = content.get("overwrite_image_reader_writer", "None")
    if isinstance(named, str) and named != "None":
        return named
    return reader_of(str(content.get("file_ending", ".nii.gz")), fingerprint)


def reader_of(ending: str, fingerprint: Fingerprint | None = None) -> str:
    """Return nnU-Net's class that reads images with this file ending."""
    ending, cases = ending.lower(), () if fingerprint is None else fingerprint.cases
    known = find_format(Path(f"x{ending}"))
    if known is None:
        return _ANY_READER
    slices = bool(cases) and all(1 in case.shape_after_crop for case in cases)
    return (known.nnunet_slices if slices else {}).get(ending) or known.endings.get(ending, _ANY_READER)


def _configuration(
    configuration: Configuration, plan: Plan, names: NnunetNames, layers: tuple[Norm | None, Activation | None]
) -> dict[str, Any]:
    if configuration.previous is not None and "3d_fullres" in plan.configurations:
        return {"inherits_from": "3d_fullres", "previous_stage": configuration.previous}
    prefix = names.shared if configuration.name in ("2d", "3d_fullres") else names.plans
    following = [c.name for c in plan.configurations.values() if c.previous == configuration.name]
    return {
        "data_identifier": f"{prefix}_{configuration.name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": configuration.batch_size,
        "patch_size": list(configuration.patch_size),
        "median_image_size_in_voxels": list(configuration.median_shape),
        "spacing": list(configuration.spacing),
        "normalization_schemes": [SCHEMES[rule.scheme].nnunet_name for rule in plan.normalization],
        "use_mask_for_norm": [rule.use_mask for rule in plan.normalization],
        **_resampling(configuration.resampling),
        "architecture": _architecture(
            configuration, layers[0] or configuration.norm, layers[1] or configuration.activation
        ),
        "batch_dice": configuration.batch_dice,
        **({"previous_stage": configuration.previous} if configuration.previous else {}),
        **({"next_stage": following[0]} if following else {}),
    }


def _resampling(rule: Resampling) -> dict[str, Any]:
    def orders(is_seg: bool, order: int, order_z: int) -> dict[str, Any]:
        return {"is_seg": is_seg, "order": order, "order_z": order_z, "force_separate_z": rule.separate_z}

    function = _NO_RESAMPLING if rule.skip else _RESAMPLE
    return {
        "resampling_fn_data": function,
        "resampling_fn_seg": function,
        "resampling_fn_data_kwargs": orders(False, rule.order, rule.order_z),
        "resampling_fn_seg_kwargs": orders(True, 1, 0),
        "resampling_fn_probabilities": function,
        "resampling_fn_probabilities_kwargs": orders(False, 1, rule.scores_order_z),
    }


def _architecture(configuration: Configuration, norm: Norm, activation: Activation) -> dict[str, Any]:
    dims = configuration.dims
    network = "ResidualEncoderUNet" if configuration.residual else "PlainConvUNet"
    blocks = "n_blocks_per_stage" if configuration.residual else "n_conv_per_stage"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{network}",
        "arch_kwargs": {
            "n_stages": len(configuration.strides),
            "features_per_stage": list(configuration.features),
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [list(kernel) for kernel in configuration.kernels],
            "strides": [list(stride) for stride in configuration.strides],
            blocks: list(configuration.blocks_encoder),
            "n_conv_per_stage_decoder": list(configuration.blocks_decoder),
            "conv_bias": True,
            "norm_op": _NORMS[norm].format(dims),
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": _ACTIVATIONS[activation],
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
