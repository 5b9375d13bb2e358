"""nnU-Net v2's plans.json, of any release and edited or not, read as a plan of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_rs.core.choices import Activation, Norm, planner_of_nnunet
from nnunet_rs.core.dataset_json import read_channels, read_labels
from nnunet_rs.core.document import decode
from nnunet_rs.core.errors import DatasetError, PlanError, among
from nnunet_rs.core.files import read_json
from nnunet_rs.core.io import FORMATS
from nnunet_rs.core.types import ChannelStats, Dataset, LabelSet
from nnunet_rs.core.workspace import DATASET_JSON
from nnunet_rs.plan.normalization import SCHEMES, Normalization, scheme_of_class
from nnunet_rs.plan.schema import Configuration, Plan, Resampling
from nnunet_rs.plan.topology import features_of
from nnunet_rs.plan.validation import check_plan

NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet")
REORIENTING = ("SimpleITKIOWithReorient", "NibabelIOWithReorient")
SPLINES, TORCH, NOTHING = "resample_data_or_seg_to_shape", "resample_torch_fornnunet", "no_resampling_hack"
_ORDERS = (0, 1, 3)
_CHOSEN = {  # options of the functions that resample: those of which any value can be run, or that change no result
    SPLINES: {"is_seg", "order", "order_z", "force_separate_z"},
    TORCH: {"is_seg", "force_separate_z", "memefficient_seg_resampling", "num_threads", "device"},
}
_FIXED: dict[str, dict[str, tuple[object, ...]]] = {  # and those of which some can
    SPLINES: {"separate_z_anisotropy_threshold": (3,)},
    TORCH: {"separate_z_anisotropy_threshold": (3,), "mode": ("linear",), "aniso_axis_mode": ("nearest-exact",)},
}
_READ = {  # what is read of a network; everything else in a plan would change it, and is refused
    "n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage",
    "n_conv_per_stage_decoder", "conv_bias", "norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin",
    "nonlin_kwargs", "deep_supervision",
}  # fmt: skip
_DEFAULTS = (None, False, 0)  # of keys that are not read


@dataclass(frozen=True, slots=True)
class NnunetNetwork:
    """One configuration of a plans.json, and how it normalises, which a plan of ours says once for all."""

    configuration: Configuration
    normalization: tuple[Normalization, ...]


@dataclass(frozen=True, slots=True)
class NnunetPlans:
    """A plans.json and its dataset.json."""

    file: Path
    content: Mapping[str, Any]
    channels: tuple[str, ...]
    labels: LabelSet
    ending: str  # of the images' files
    # Whether networks are trained by it, which asks for more than predicting with what nnU-Net trained.
    training: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Its configurations."""
        return tuple(self.content["configurations"])

    def network(self, name: str) -> NnunetNetwork:
        """Read a configuration.

        Raises
        ------
        PlanError
            There is none of this name, or it wants what cannot be done here: the text names what.
        """
        body = _resolved(self.file, self.content["configurations"], name)
        return _Reader(self.file, body, name, self.training).network(self)

    def plan(self, *names: str) -> Plan:
        """Return a plan of these configurations, or of all; a cascade's first stage comes with its second.

        Raises
        ------
        PlanError
            As `network`; or configurations that normalise or transpose differently, which one plan cannot say.
        """
        wanted = list(names or self.names)
        networks = {name: self.network(name) for name in wanted}
        for found in tuple(networks.values()):
            previous = found.configuration.previous
            if previous is not None and previous not in networks:
                networks[previous] = self.network(previous)
        first = next(iter(networks.values()))
        for name, found in networks.items():
            if found.normalization != first.normalization:
                raise PlanError(f"{self.file}: {name} normalises otherwise than {wanted[0]}; take one at a time")
        plan = Plan(
            dataset=str(self.content.get("dataset_name", self.file.parent.name)),
            recipe=planner_of_nnunet(str(self.content.get("experiment_planner_used"))) or "v2",
            transpose=_transpose(self.file, self.content),
            channels=self.channels,
            labels=self.labels,
            normalization=first.normalization,
            configurations={name: found.configuration for name, found in networks.items()},
            reorient=self.content.get("image_reader_writer") in REORIENTING,
        )
        check_plan(plan, str(self.file))
        return plan


def read_nnunet_plans(plans_file: Path, dataset_file: Path) -> NnunetPlans:
    """Read nnU-Net's plans.json and the dataset.json that belongs to it.

    Raises
    ------
    PlanError, DatasetError
        A file is missing or malformed, or images are read in a way that there is not here; file and key are named.
    """
    content = _content(plans_file)
    dataset = read_json(dataset_file, DatasetError)
    if not isinstance(dataset, dict):
        raise DatasetError(f"{dataset_file}: is no JSON object; give nnU-Net's {DATASET_JSON}")
    return NnunetPlans(
        plans_file,
        content,
        read_channels(dataset_file, dataset),
        read_labels(dataset_file, dataset),
        str(dataset.get("file_ending", ".nii.gz")),
    )


def plan_from_nnunet(plans_file: Path, dataset: Dataset) -> Plan:
    """Read nnU-Net's plans.json as the plan to prepare and train a dataset by.

    Name, channels and labels are the dataset's, as when nnU-Net moves plans between datasets.

    Raises
    ------
    PlanError
        The file is missing or malformed, is of another number of channels, or wants what cannot be done here.
    """
    from nnunet_rs.plan.planner import with_memory  # which predictions by nnU-Net's models have no use for

    content = _content(plans_file)
    plans = NnunetPlans(plans_file, content, dataset.channels, dataset.labels, dataset.ending, training=True)
    planner = plans.content.get("experiment_planner_used", "of a planner that is not named")
    reason = f"as {plans_file.name} of nnU-Net v2 says ({planner})"
    return with_memory(replace(plans.plan(), dataset=dataset.name, reasons=(reason,)))


def _content(plans_file: Path) -> Mapping[str, Any]:
    content = read_json(plans_file, PlanError)
    if not isinstance(content, dict) or not isinstance(content.get("configurations"), dict):
        raise PlanError(f"{plans_file}: is no plans.json of nnU-Net v2: the key configurations is missing")
    labels = content.get("label_manager", "LabelManager")
    if labels != "LabelManager":
        raise PlanError(f"{plans_file}: label_manager is {labels!r}: only LabelManager can be run")
    reader = content.get("image_reader_writer", "SimpleITKIO")
    readers = tuple(dict.fromkeys(reader for known in FORMATS for reader in known.endings.values()))
    if reader not in (*readers, *REORIENTING):
        raise PlanError(
            f"{plans_file}: images are read by {reader}, which there is not here; {among(str(reader), readers)}"
        )
    return content


def _resolved(file: Path, configurations: Mapping[str, Any], name: str, below: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a configuration with the keys that it inherits."""
    found = configurations.get(name)
    if not isinstance(found, dict) or name in below:
        there = ", ".join(configurations)
        reason = (
            f"inherits from itself ({' → '.join((*below, name))})" if name in below else f"is not there; {there} are"
        )
        raise PlanError(f"{file}: configuration {name} {reason}")
    parent = found.get("inherits_from")
    if parent is None:
        return dict(found)
    return _resolved(file, configurations, str(parent), (*below, name)) | found


def _transpose(file: Path, content: Mapping[str, Any]) -> tuple[int, int, int]:
    found = content.get("transpose_forward")
    if not isinstance(found, list) or sorted(found, key=str) != [0, 1, 2]:
        raise PlanError(f"{file}: transpose_forward is {found!r}: must be a permutation of 0, 1, 2")
    return found[0], found[1], found[2]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one configuration; each problem names file, configuration and key."""

    file: Path
    body: dict[str, Any]
    name: str
    training: bool

    def network(self, plans: NnunetPlans) -> NnunetNetwork:
        preprocessor = self.body.get("preprocessor_name", "DefaultPreprocessor")
        if preprocessor != "DefaultPreprocessor":
            raise self.refused("preprocessor_name", preprocessor, "only DefaultPreprocessor can be run")
        layers = self._layers()
        dims = len(self.get("patch_size", list))
        configuration = Configuration(
            name=self.name,
            spacing=tuple(map(float, self.get("spacing", list)[-dims:])),
            patch_size=self._sizes("patch_size", self.get("patch_size", list)),
            batch_size=self.get("batch_size", int),
            median_shape=self._median_shape(dims),
            strides=self._table("strides", layers["strides"], dims),
            kernels=self._table("kernel_sizes", layers["kernel_sizes"], dims),
            features=self._sizes("features_per_stage", layers["features_per_stage"]),
            blocks_encoder=self._sizes("blocks of the encoder", layers["blocks_encoder"]),
            blocks_decoder=self._sizes("n_conv_per_stage_decoder", layers["blocks_decoder"]),
            residual=layers["network"] == "ResidualEncoderUNet",
            batch_dice=bool(self.body.get("batch_dice", False)),
            inplane_augmentation=dims == 3 and max(self.body["patch_size"]) / self.body["patch_size"][0] > 3,
            memory_estimate=0,
            previous=self.body.get("previous_stage"),
            resampling=self._resampling(),
            norm=layers["norm"],
            activation=layers["activation"],
        )
        return NnunetNetwork(configuration, self._normalization(plans))

    def refused(self, key: str, value: object, advice: str) -> PlanError:
        return PlanError(f"{self.file}: configuration {self.name}: {key} is {value!r}: {advice}")

    def get(self, key: str, kind: type) -> Any:
        value = self.body.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.refused(key, value, f"must be a {kind.__name__}")
        return value

    def _sizes(self, key: str, values: Any) -> tuple[int, ...]:
        if not isinstance(values, Sequence) or not all(isinstance(v, int) and v > 0 for v in values):
            raise self.refused(key, values, "must be whole numbers above 0")
        return tuple(values)

    def _table(self, key: str, rows: Any, dims: int) -> tuple[tuple[int, ...], ...]:
        if not isinstance(rows, Sequence):
            raise self.refused(key, rows, "must be a list with an entry per stage")
        return tuple(self._sizes(key, [row] * dims if isinstance(row, int) else row) for row in rows)

    def _median_shape(self, dims: int) -> tuple[float, ...]:
        found = self.body.get("median_image_size_in_voxels") or self.body["patch_size"]
        if not isinstance(found, list) or not all(isinstance(v, int | float) and v > 0 for v in found):
            raise self.refused("median_image_size_in_voxels", found, "must be numbers above 0")
        return tuple(map(float, found[-dims:]))

    def _layers(self) -> dict[str, Any]:
        """Return the network's layers, as plans since release 2.5 describe them, or as older ones did."""
        architecture = self.body.get("architecture")
        if not isinstance(architecture, dict):
            return self._old_layers()
        network = str(architecture.get("network_class_name")).rpartition(".")[2]
        if network not in NETWORKS:
            known = " and ".join(NETWORKS)
            raise self.refused("network_class_name", architecture.get("network_class_name"), f"{known} can be run")
        arguments = architecture.get("arch_kwargs")
        if not isinstance(arguments, dict):
            raise self.refused("arch_kwargs", arguments, "must be a table")
        self._check_network(arguments)
        counts = arguments.get("n_blocks_per_stage" if network == "ResidualEncoderUNet" else "n_conv_per_stage")
        stages = arguments.get("n_stages", len(arguments.get("features_per_stage") or ()))
        decoder = arguments.get("n_conv_per_stage_decoder")
        return {
            "network": network,
            "features_per_stage": arguments.get("features_per_stage"),
            "kernel_sizes": arguments.get("kernel_sizes"),
            "strides": arguments.get("strides"),
            "blocks_encoder": [counts] * stages if isinstance(counts, int) else counts,
            "blocks_decoder": [decoder] * (stages - 1) if isinstance(decoder, int) else decoder,
            "norm": self._norm(arguments),
            "activation": self._activation(arguments),
        }

    def _check_network(self, arguments: dict[str, Any]) -> None:
        """Refuse what our blocks do not have.

        Dropout does nothing in prediction, and a convolution without biases is one whose biases are 0; a network that
        is trained here would be another one than nnU-Net's.
        """
        for key, value in arguments.items():
            if key not in _READ and value not in _DEFAULTS:
                raise self.refused(f"arch_kwargs.{key}", value, "there is no such network here")
        if self.training and arguments.get("dropout_op") is not None:
            raise self.refused("arch_kwargs.dropout_op", arguments["dropout_op"], "only None can be trained")
        if self.training and not arguments.get("conv_bias", False):
            raise self.refused("arch_kwargs.conv_bias", False, "only True can be trained")

    def _norm(self, arguments: dict[str, Any]) -> Norm:
        """Read the norm."""
        options = arguments.get("norm_op_kwargs") or {}
        unknown = {key: value for key, value in options.items() if key not in ("eps", "affine", "momentum")}
        if options.get("eps", 1e-5) != 1e-5 or not options.get("affine", True) or any(unknown.values()):
            raise self.refused("arch_kwargs.norm_op_kwargs", options, "only eps 1e-5, affine can be run")
        norm = str(arguments.get("norm_op")).rpartition(".")[2]
        if norm.startswith("InstanceNorm"):
            return "instance"
        if norm.startswith("BatchNorm"):
            return "batch"
        raise self.refused("arch_kwargs.norm_op", arguments.get("norm_op"), "InstanceNorm and BatchNorm can be run")

    def _activation(self, arguments: dict[str, Any]) -> Activation:
        name = str(arguments.get("nonlin")).rpartition(".")[2]
        slope = (arguments.get("nonlin_kwargs") or {}).get("negative_slope", 0.01)
        if name == "ReLU":
            return "relu"
        if name == "LeakyReLU" and slope == 0.01:
            return "leaky_relu"
        found = f"{name}(negative_slope={slope})" if name == "LeakyReLU" else arguments.get("nonlin")
        raise self.refused("arch_kwargs.nonlin", found, "LeakyReLU with the slope 0.01 and ReLU can be run")

    def _old_layers(self) -> dict[str, Any]:
        """Return the layers of a plan of release 2.0 to 2.4."""
        network = self.body.get("UNet_class_name")
        if network not in NETWORKS:
            raise self.refused("UNet_class_name", network, f"{' and '.join(NETWORKS)} can be run")
        strides = self.body.get("pool_op_kernel_sizes")
        base, most = self.get("UNet_base_num_features", int), self.get("unet_max_num_features", int)
        stages = len(strides) if isinstance(strides, list) else 0
        return {
            "network": network,
            "features_per_stage": list(features_of(stages, base, most)),
            "kernel_sizes": self.body.get("conv_kernel_sizes"),
            "strides": strides,
            "blocks_encoder": self.body.get("n_conv_per_stage_encoder"),
            "blocks_decoder": self.body.get("n_conv_per_stage_decoder"),
            "norm": "instance",
            "activation": "leaky_relu",
        }

    def _normalization(self, plans: NnunetPlans) -> tuple[Normalization, ...]:
        names, masks = self.get("normalization_schemes", list), self.get("use_mask_for_norm", list)
        if len(names) != len(plans.channels) or len(masks) != len(plans.channels):
            raise self.refused("normalization_schemes", names, f"{DATASET_JSON} has {len(plans.channels)} channels")
        stats = plans.content.get("foreground_intensity_properties_per_channel") or {}
        return tuple(
            Normalization(self._scheme(name), bool(mask), self._stats(stats, channel))
            for channel, (name, mask) in enumerate(zip(names, masks, strict=True))
        )

    def _scheme(self, name: object) -> str:
        found = scheme_of_class(name)
        if found is None:
            known = ", ".join(scheme.nnunet_name for scheme in SCHEMES.values())
            raise self.refused("normalization_schemes", name, f"there is no such normalisation here; there are {known}")
        return found

    def _stats(self, stats: Any, channel: int) -> ChannelStats | None:
        found = stats.get(str(channel)) if isinstance(stats, dict) else None
        if not isinstance(found, dict):
            return None
        keys = ("mean", "std", "median", "min", "max", "percentile_00_5", "percentile_99_5")
        where = f"{self.file}: foreground_intensity_properties_per_channel.{channel}"
        return decode(ChannelStats, {key: found.get(key) for key in keys}, where)

    def _resampling(self) -> Resampling:
        functions = {key: self.body.get(f"resampling_fn_{key}", SPLINES) for key in ("data", "seg", "probabilities")}
        if set(functions.values()) == {NOTHING}:
            return Resampling(skip=True)
        if not self.training and self.body.get("previous_stage") is None:
            del functions["seg"]  # only training and a cascade's second stage resample labels
        for key, function in functions.items():
            if function not in (SPLINES, TORCH):
                raise self.refused(f"resampling_fn_{key}", function, f"{SPLINES}, {TORCH}, {NOTHING} (all) can be run")
        found = {key: self._orders(key, function) for key, function in functions.items()}
        for key, allowed in {"seg": ((1, 0),), "probabilities": ((1, 0), (1, 1))}.items():
            if key in found and found[key][:2] not in allowed:
                advice = f"(order, order_z) {' or '.join(map(str, allowed))} can be run"
                raise self.refused(f"resampling_fn_{key}_kwargs", found[key], advice)
        separate = {orders[2] for orders in found.values()}
        if len(separate) > 1:
            raise self.refused("force_separate_z", sorted(map(str, separate)), "must be the same for all")
        (order, order_z, axis), scores = found["data"], found["probabilities"]
        return Resampling(order=order, order_z=order_z, scores_order_z=scores[1], separate_z=axis)

    def _orders(self, key: str, function: str) -> tuple[int, int, bool | None]:
        """Return order, order along a coarse axis, and whether that axis is taken apart (None: by the spacing).

        What is left out has the value that nnU-Net's function gives it.
        """
        given = self.body.get(f"resampling_fn_{key}_kwargs")
        if given is None:
            return 1 if key != "data" or function == TORCH else 3, 0, None
        for option, value in given.items():
            fixed = _FIXED[function].get(option, ())
            if option not in _CHOSEN[function] and value not in fixed:
                advice = (
                    f"{option} {' or '.join(map(str, fixed))} can be run" if fixed else f"{option} is not known here"
                )
                raise self.refused(f"resampling_fn_{key}_kwargs", given, advice)
        separate = given.get("force_separate_z", None if function == TORCH else False)
        orders = (1, 0) if function == TORCH else (given.get("order", 3), given.get("order_z", 0))
        if not set(orders) <= set(_ORDERS) or separate not in (None, True, False):
            raise self.refused(f"resampling_fn_{key}_kwargs", given, f"orders {_ORDERS} can be run")
        return *orders, separate
