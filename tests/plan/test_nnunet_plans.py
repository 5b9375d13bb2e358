from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nnunet_rs.core.errors import DatasetError, NnunetError, PlanError
from nnunet_rs.core.types import Dataset
from nnunet_rs.plan.nnunet import as_nnunet
from nnunet_rs.plan.nnunet_plans import plan_from_nnunet, read_nnunet_plans
from nnunet_rs.plan.schema import Resampling


@pytest.fixture
def files(write_nnunet_plans: Callable[..., tuple[Path, Path]], nnunet_plans: dict[str, Any]) -> Callable[..., Any]:
    """`files(edit)`: plans.json, edited, and its dataset.json."""

    def write(edit: Callable[[dict[str, Any], dict[str, Any]], object] = lambda *_: None) -> tuple[Path, Path]:
        content = copy.deepcopy(nnunet_plans)
        edit(content, content["configurations"]["3d_fullres"])
        return write_nnunet_plans(content)

    return write


def test_a_plan_comes_back_as_it_was_written_for_nnunet(files, write_nnunet_plans) -> None:
    plan = read_nnunet_plans(*files()).plan()
    assert set(plan.configurations) == {"3d_lowres", "3d_fullres", "3d_cascade_fullres"}
    assert plan.configurations["3d_cascade_fullres"].previous == "3d_lowres"
    assert plan.configurations["3d_fullres"].kernels == ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    assert plan.normalization[0].scheme == "zscore"
    again = read_nnunet_plans(*write_nnunet_plans(as_nnunet(plan))).plan()
    assert again == plan


def test_a_configuration_inherits(files) -> None:
    def edit(content: dict[str, Any], _: dict[str, Any]) -> None:
        content["configurations"]["wide"] = {"inherits_from": "3d_fullres", "batch_size": 7}

    found = read_nnunet_plans(*files(edit)).network("wide").configuration
    assert (found.name, found.batch_size) == ("wide", 7)
    assert found.patch_size == read_nnunet_plans(*files()).network("3d_fullres").configuration.patch_size


def old_style(_: dict[str, Any], c: dict[str, Any]) -> None:
    """As release 2.0 wrote it."""
    arguments = c.pop("architecture")["arch_kwargs"]
    c |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 10,
        "n_conv_per_stage_encoder": arguments["n_conv_per_stage"],
        "n_conv_per_stage_decoder": arguments["n_conv_per_stage_decoder"],
        "pool_op_kernel_sizes": arguments["strides"],
        "conv_kernel_sizes": arguments["kernel_sizes"],
    }


def test_plans_of_older_releases(files) -> None:
    new = read_nnunet_plans(*files()).network("3d_fullres").configuration
    old = read_nnunet_plans(*files(old_style)).network("3d_fullres")
    assert old.configuration.features == (4, 8, 10)
    assert (old.configuration.kernels, old.configuration.strides) == (new.kernels, new.strides)
    assert (old.configuration.norm, old.configuration.activation) == ("instance", "leaky_relu")


def resampled(function: str = "resample_data_or_seg_to_shape", **options: Any) -> Callable[..., None]:
    """Edit what is said of data (options data_...), labels (seg_...) and scores (probabilities_...), or of all."""

    def edit(_: dict[str, Any], c: dict[str, Any]) -> None:
        for kind in ("data", "seg", "probabilities"):
            c[f"resampling_fn_{kind}"] = function
            own = c[f"resampling_fn_{kind}_kwargs"]
            if "torch" in function:  # which has no orders
                del own["order"], own["order_z"]
            for key, value in options.items():
                named, _, rest = key.partition("_")
                if named == kind:
                    own[rest] = value
                elif named not in ("data", "seg", "probabilities"):
                    own[key] = value

    return edit


def left_out(option: str, *kinds: str) -> Callable[..., None]:
    def edit(_: dict[str, Any], c: dict[str, Any]) -> None:
        for kind in kinds or ("data", "seg", "probabilities"):
            del c[f"resampling_fn_{kind}_kwargs"][option]

    return edit


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (resampled(data_order=1), Resampling(order=1)),
        (resampled(data_order_z=3), Resampling(order_z=3)),
        (resampled(probabilities_order_z=1), Resampling(scores_order_z=1)),
        (resampled(force_separate_z=True), Resampling(separate_z=True)),
        (resampled(force_separate_z=False), Resampling(separate_z=False)),
        (resampled("resample_torch_fornnunet", force_separate_z=False), Resampling(order=1, separate_z=False)),
        (left_out("force_separate_z"), Resampling(separate_z=False)),  # as the function has it, and not by the spacing
        (left_out("order", "data"), Resampling()),
        (resampled(separate_z_anisotropy_threshold=3), Resampling()),
        (resampled("no_resampling_hack"), Resampling(skip=True)),
        (resampled(seg_order=0, seg_order_z=1), Resampling()),  # only training resamples labels
    ],
)
def test_ways_to_resample(edit, expected: Resampling, files) -> None:
    assert read_nnunet_plans(*files(edit)).network("3d_fullres").configuration.resampling == expected


def test_a_second_stage_resamples_labels(files) -> None:
    edit = resampled(seg_order_z=1)
    with pytest.raises(PlanError, match="resampling_fn_seg_kwargs"):
        read_nnunet_plans(*files(lambda content, c: (edit(content, c), c.update(previous_stage="3d_lowres")))).plan()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (resampled(seg_order_z=1), "resampling_fn_seg_kwargs"),
        (lambda _, c: c["architecture"]["arch_kwargs"].update(dropout_op="torch.nn.Dropout3d"), "dropout_op"),
        (lambda _, c: c["architecture"]["arch_kwargs"].update(conv_bias=False), "conv_bias"),
    ],
)
def test_what_prediction_does_without_is_refused_in_training(edit, said: str, files) -> None:
    plans, dataset_file = files(edit)
    described = read_nnunet_plans(plans, dataset_file)
    dataset = Dataset("Made", plans.parent, "nnunet", described.channels, described.labels, ())
    described.network("3d_fullres")
    with pytest.raises(PlanError, match=said):
        plan_from_nnunet(plans, dataset)


def within(*path: str, value: Any) -> Callable[..., None]:
    """Set a value within the configuration."""

    def edit(_: dict[str, Any], c: dict[str, Any]) -> None:
        for key in path[:-1]:
            c = c[key]
        c[path[-1]] = value

    return edit


NETWORK = ("architecture", "network_class_name")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (within(*NETWORK, value="a.b.PrimusM"), "network_class_name is 'a.b.PrimusM': PlainConvUNet and Residual"),
        (within("preprocessor_name", value="MyPreprocessor"), "preprocessor_name is 'MyPreprocessor'"),
        (within("architecture", "arch_kwargs", "norm_op", value="x.GroupNorm"), "norm_op is 'x.GroupNorm'"),
        (within("architecture", "arch_kwargs", "nonlin", value="torch.nn.GELU"), "nonlin is 'torch.nn.GELU'"),
        (within("architecture", "arch_kwargs", "nonlin_first", value=True), "nonlin_first is True"),
        (within("architecture", "arch_kwargs", "of_next_year", value=[1]), "of_next_year is [1]"),
        (within("architecture", "arch_kwargs", "norm_op_kwargs", value={"eps": 0.01}), "norm_op_kwargs is"),
        (within("architecture", "arch_kwargs", "norm_op_kwargs", value={"track_running_stats": True}), "_kwargs is"),
        (within("architecture", "arch_kwargs", "squeeze_excitation", value=True), "squeeze_excitation is True"),
        (within("normalization_schemes", value=["PercentileNormalization"]), "there is no such normalisation here"),
        (within("normalization_schemes", value=[]), "dataset.json has 1 channels"),
        (within("patch_size", value="big"), "patch_size is 'big': must be a list"),
        (within("patch_size", value=[4, 8, 7]), "must be a multiple of"),
        (within("inherits_from", value="3d_fullres"), "inherits from itself (3d_fullres → 3d_fullres)"),
        (within("inherits_from", value="4d"), "configuration 4d is not there"),
        (resampled("resample_data_or_seg_to_spacing"), "resampling_fn_data is 'resample_data_or_seg_to_spacing'"),
        (resampled(data_order=2), "resampling_fn_data_kwargs is"),
        (resampled(separate_z_anisotropy_threshold=5), "separate_z_anisotropy_threshold 3 can be run"),
        (resampled(of_next_year=1), "of_next_year is not known here"),
        (resampled("resample_torch_fornnunet", mode="nearest"), "mode linear can be run"),
        (left_out("order", "probabilities"), "resampling_fn_probabilities_kwargs is (3, 0, None)"),
        (lambda content, _: content.update(label_manager="Mine"), "label_manager is 'Mine'"),
        (resampled(probabilities_order=0), "resampling_fn_probabilities_kwargs is"),
        (resampled(data_force_separate_z=True), "force_separate_z is"),
    ],
)
def test_what_cannot_be_run_is_named(edit, said: str, files) -> None:
    with pytest.raises(NnunetError) as caught:
        read_nnunet_plans(*files(edit)).plan("3d_fullres")
    assert "plans.json: " in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("reader", ["SimpleITKIOWithReorient", "NibabelIOWithReorient"])
def test_readers_that_reorient(reader: str, files) -> None:
    plan = read_nnunet_plans(*files(lambda content, _: content.update(image_reader_writer=reader))).plan()
    assert plan.reorient
    assert as_nnunet(plan)["image_reader_writer"].endswith("WithReorient")
    with pytest.raises(PlanError, match="images are read by MyReader"):
        read_nnunet_plans(*files(lambda content, _: content.update(image_reader_writer="MyReader")))


def test_other_files_are_refused(tmp_path: Path, files) -> None:
    plans, dataset = files()
    with pytest.raises(PlanError, match="no such file"):
        read_nnunet_plans(tmp_path / "none.json", dataset)
    with pytest.raises(PlanError, match=r"is no plans\.json of nnU-Net v2"):
        read_nnunet_plans(dataset, dataset)
    with pytest.raises(DatasetError, match="channel_names"):
        read_nnunet_plans(plans, plans)


def test_plans_of_the_oracles_are_read(shared: Path) -> None:
    for path in sorted((shared / "oracles" / "models").rglob("plans.json")):
        found = read_nnunet_plans(path, path.with_name("dataset.json")).plan()
        assert found.configurations
