"""What all tests share: the real data sets where they are there, and small made-up ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

# PyTorch is not loaded yet. Networks of tests are too small for threads, which wait for each other on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # where a test asks for several
settings.register_profile("untimed", deadline=None)  # a busy machine is no fault
settings.register_profile(  # `make fuzz`
    "fuzz", deadline=None, max_examples=int(os.environ.get("FUZZ_INPUTS", "100")), print_blob=True
)
settings.load_profile("fuzz" if "FUZZ_INPUTS" in os.environ else "untimed")


pytest_plugins = ["model_fixtures", "browser"]  # small plans, models and images; a browser for pages
LABELS = {"background": 0, "large": 1, "small": 2}


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep nothing in the home of whoever tests."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def shared() -> Path:
    """The folder `shared` beside the checkout: real data sets and oracles. Tests that need it skip without it."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder.name} beside the checkout")
    return folder


@pytest.fixture
def save_nifti() -> Callable[..., Path]:
    """`save_nifti(path, array, spacing=(1, 1, 1))`: write (z, y, x) or (c, z, y, x) as NIfTI, spacing z, y, x."""
    return _save_nifti


@pytest.fixture
def made_up_case() -> Callable[..., tuple[NDArray[np.int16], NDArray[np.uint8]]]:
    """`made_up_case(seed, shape, channels=1)`: an image (c, z, y, x), int16, zero margin, and labels 0, 1, 2."""
    return _case


@pytest.fixture(scope="session")
def write_raw() -> Callable[..., Path]:
    """`write_raw(root, cases=4, ...)`: write a small data set in nnU-Net's raw layout; see `_raw` for the arguments."""
    return _raw


@pytest.fixture
def raw_dataset(tmp_path: Path) -> Callable[..., Path]:
    """`raw_dataset(cases=4, ...)`: the same in this test's own folder."""

    def make(name: str = "Dataset001_Made", **arguments: Any) -> Path:
        return _raw(tmp_path / name, **arguments)

    return make


@pytest.fixture
def decathlon_dataset(tmp_path: Path) -> Callable[..., Path]:
    """`decathlon_dataset(cases=4, ...)`: the same in the Decathlon's layout, several channels in 4-D files."""

    def make(name: str = "Task01_Made", **arguments: Any) -> Path:
        return _decathlon(tmp_path / name, **arguments)

    return make


def _save_nifti(path: Path, array: NDArray[Any], spacing: Sequence[float] = (1, 1, 1)) -> Path:
    voxels = np.moveaxis(array, 0, -1) if array.ndim == 4 else array  # (z, y, x[, c])
    affine = np.diag([*reversed(spacing), 1.0])
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels.transpose(2, 1, 0, *range(3, voxels.ndim)), affine), path)
    return path


def _case(
    seed: int, shape: Sequence[int] = (10, 24, 20), channels: int = 1
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    chance = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    centre = chance.uniform(-0.2, 0.2, (3, 1, 1, 1))
    distance = np.sqrt(((grid - centre) ** 2).sum(axis=0))
    labels = np.zeros(shape, np.uint8)
    labels[distance < 0.6] = 1
    labels[distance < 0.3] = 2
    scale = np.array([100, 40, -70, 20])[:channels, np.newaxis, np.newaxis, np.newaxis]
    image = 200 + scale * labels + chance.normal(0, 8, (channels, *shape))
    image[:, np.abs(grid).max(axis=0) > 0.95] = 0
    return image.round().astype(np.int16), labels


def _raw(
    root: Path,
    *,
    cases: int = 4,
    channels: Sequence[str] = ("MRI",),
    labels: dict[str, Any] = LABELS,
    shape: Sequence[int] = (10, 24, 20),
    spacing: Sequence[float] = (3, 1, 1),
    **keys: Any,
) -> Path:
    """Write cases `case_0` … with sizes that grow by a voxel along y; `keys` go into dataset.json."""
    for index in range(cases):
        image, truth = _case(index, (shape[0], shape[1] + index, shape[2]), len(channels))
        for channel, part in enumerate(image):
            _save_nifti(root / "imagesTr" / f"case_{index}_{channel:04d}.nii.gz", part, spacing)
        _save_nifti(root / "labelsTr" / f"case_{index}.nii.gz", truth, spacing)
    names = {str(number): name for number, name in enumerate(channels)}
    content = {"channel_names": names, "labels": labels, "numTraining": cases, "file_ending": ".nii.gz", **keys}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def _decathlon(
    root: Path,
    *,
    cases: int = 4,
    channels: Sequence[str] = ("MRI",),
    labels: dict[str, Any] = LABELS,
    shape: Sequence[int] = (10, 24, 20),
    spacing: Sequence[float] = (3, 1, 1),
    **keys: Any,
) -> Path:
    """Write cases `case_0` …; `keys` go into dataset.json."""
    entries = []
    for index in range(cases):
        image, truth = _case(index, (shape[0], shape[1] + index, shape[2]), len(channels))
        _save_nifti(root / "imagesTr" / f"case_{index}.nii.gz", image if len(channels) > 1 else image[0], spacing)
        _save_nifti(root / "labelsTr" / f"case_{index}.nii.gz", truth, spacing)
        entries.append({"image": f"./imagesTr/case_{index}.nii.gz", "label": f"./labelsTr/case_{index}.nii.gz"})
    modality = {str(number): name for number, name in enumerate(channels)}
    turned = {str(value): name for name, value in labels.items()}
    content = {"modality": modality, "labels": turned, "numTraining": cases, "training": entries, "test": [], **keys}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def _nnunet_configuration(**changes: Any) -> dict[str, Any]:
    arguments = {
        "n_stages": 3,
        "features_per_stage": [4, 6, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    network = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    return {
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [8, 16, 16],
        "median_image_size_in_voxels": [10.0, 25.0, 20.0],
        "spacing": [3.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "architecture": {"network_class_name": network, "arch_kwargs": arguments},
        "batch_dice": False,
        **changes,
    }


@pytest.fixture
def nnunet_plans() -> dict[str, Any]:
    """The content of a plans.json with 3d_fullres and a cascade that inherits from it."""
    stats = {
        "mean": 1.0,
        "std": 2.0,
        "median": 1.0,
        "min": -3.0,
        "max": 9.0,
        "percentile_00_5": -2.0,
        "percentile_99_5": 8.0,
    }
    return {
        "dataset_name": "Dataset007_Made",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "configurations": {
            "3d_lowres": _nnunet_configuration(spacing=[6.0, 2.0, 2.0]),
            "3d_fullres": _nnunet_configuration(),
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
        "foreground_intensity_properties_per_channel": {"0": stats},
    }


@pytest.fixture
def write_nnunet_plans(tmp_path: Path, nnunet_plans: dict[str, Any]) -> Callable[..., tuple[Path, Path]]:
    """`write_nnunet_plans(content=nnunet_plans, **dataset keys)`: the two files."""

    def write(content: dict[str, Any] = nnunet_plans, folder: Path = tmp_path, **keys: Any) -> tuple[Path, Path]:
        folder.mkdir(parents=True, exist_ok=True)
        dataset = {"channel_names": {"0": "MRI"}, "labels": LABELS, "numTraining": 3, "file_ending": ".nii.gz", **keys}
        for name, value in (("plans.json", content), ("dataset.json", dataset)):
            (folder / name).write_text(json.dumps(value))
        return folder / "plans.json", folder / "dataset.json"

    return write
