"""A model's network as an ONNX or OpenVINO file, with what describes its input and output beside it, and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nnunet_rs import __version__
from nnunet_rs.core.document import encode, render
from nnunet_rs.core.errors import CheckpointError, NnunetError
from nnunet_rs.core.files import write_bytes
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.text import counted
from nnunet_rs.core.types import FloatArray
from nnunet_rs.core.workspace import ModelFolder
from nnunet_rs.data.mirroring import AXES, image_axes
from nnunet_rs.model.metadata import ModelMetadata, read_metadata
from nnunet_rs.model.weights import Arrays, read_weights, require_weights
from nnunet_rs.plan.files import plan_to_json
from nnunet_rs.predict.engines.openvino_engine import why_not_openvino
from nnunet_rs.predict.engines.openvino_graph import build_graph

NetworkFormat = Literal["onnx", "openvino"]
KIND, VERSION = "nnunet_rs network", 1
CLOSE = 1e-3  # of the largest score: how far the file's scores may be from the network's


@dataclass(frozen=True, slots=True)
class ExportedNetwork:
    """A file that was written."""

    path: Path
    description: Path
    difference: float  # the largest, between the file's scores and the network's, as a share of the largest score


def export_networks(
    folders: Sequence[Path],
    target: Path,
    form: NetworkFormat,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[ExportedNetwork, ...]:
    """Write the networks of models for other runtimes.

    Parameters
    ----------
    folders
        Of folds: WORK/models/CONFIGURATION/fold_K.
    target
        A folder, made if it is not there. It gets CONFIGURATION_fold_K.onnx, or .xml and .bin, and beside each a .json
        with all that preparing an image and reading the scores takes: spacing, axes, normalisation, labels, windows.
    form
        "onnx": opset 17, any number of windows at a time; "openvino": OpenVINO's own.
    overwrite
        Keep files aside that this tool did not make, instead of refusing.
    progress
        Where every network is reported.

    Returns
    -------
    tuple of ExportedNetwork
        In order of the folders.

    Raises
    ------
    CheckpointError
        A model is missing or damaged, or has a network of the user's own.
    NnunetError
        A library is not installed, files are there that this tool did not make, the folder cannot be written; or what
        was written computes something else than the network, and then it is removed.
    """
    progress = progress or Silent()
    _require_libraries(form)
    models = [_Model.of(folder) for folder in folders]
    endings = (".onnx", ".json") if form == "onnx" else (".xml", ".bin", ".json")
    written = []
    with (
        Outputs(target, kind="networks", overwrite=overwrite, say=progress.say) as outputs,
        progress.task("export", len(models)) as task,
    ):
        outputs.require([target / f"{model.name}{ending}" for model in models for ending in endings])
        for model in models:
            with outputs.new_files(model.name) as staged:
                difference = model.write(staged, form)
            path = target / f"{model.name}{endings[0]}"
            written.append(ExportedNetwork(path, path.with_suffix(".json"), difference))
            task.advance(1, model.name)
    return tuple(written)


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    metadata: ModelMetadata
    weights: Arrays

    @classmethod
    def of(cls, folder: Path) -> _Model:
        metadata = read_metadata(folder)
        if metadata.own_network is not None:
            raise CheckpointError(
                f"{folder}: its network is {metadata.own_network}, the user's own: use torch.onnx.export with it"
            )
        file = ModelFolder(folder).weights_file
        weights = read_weights(file, metadata.digest)
        require_weights(weights, metadata.plan_configuration, metadata.channels, metadata.network, str(file))
        return cls(metadata, weights)

    @property
    def name(self) -> str:
        return f"{self.metadata.configuration}_fold_{self.metadata.fold}"

    def write(self, folder: Path, form: NetworkFormat) -> float:
        """Write the files, read them back, and return by how much their scores differ."""
        path = folder / f"{self.name}{'.onnx' if form == 'onnx' else '.xml'}"
        _WRITERS[form](self.metadata, self.weights, path)
        write_bytes(path.with_suffix(".json"), (render(describe(self.metadata, path.name)) + "\n").encode())
        return self.check(path)

    def check(self, path: Path) -> float:
        """Compute one window by the file and by the network."""
        from nnunet_rs.predict.engines.openvino_engine import the_core

        m, core = self.metadata, the_core()
        shape = (1, m.channels[0], *m.plan_configuration.patch_size)
        window = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        read = core.read_model(path)
        read.reshape(list(shape))
        expected = _scores(core, build_graph(m.plan_configuration, m.channels[0], m.network, self.weights), window)
        largest = float(abs(expected).max()) or 1.0
        difference = float(abs(_scores(core, read, window) - expected).max()) / largest
        if not difference <= CLOSE:
            raise NnunetError(
                f"{path.name}: its scores differ by {difference:.2g} of the largest from the network's, more than "
                f"{CLOSE}; it is not kept"
            )
        return difference


def _scores(core: Any, model: Any, window: FloatArray) -> FloatArray:
    request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    request.infer({0: window})
    return np.array(request.get_output_tensor(0).data)


def _require_libraries(form: NetworkFormat) -> None:
    reason = why_not_openvino()
    if reason:
        raise NnunetError(f"what is exported is checked with OpenVINO: {reason}")
    if form == "onnx":
        try:
            import onnx  # noqa: F401
        except ImportError as error:
            raise NnunetError(
                "--format onnx takes the package onnx, which is not installed: pip install onnx"
            ) from error


def _write_onnx(metadata: ModelMetadata, weights: Arrays, path: Path) -> None:
    import onnx

    from nnunet_rs.exchange.onnx_graph import build_onnx

    model = build_onnx(metadata, weights)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _write_openvino(metadata: ModelMetadata, weights: Arrays, path: Path) -> None:
    import openvino

    graph = build_graph(metadata.plan_configuration, metadata.channels[0], metadata.network, weights)
    openvino.save_model(graph, path, compress_to_fp16=False)


_WRITERS: Mapping[NetworkFormat, Callable[[ModelMetadata, Arrays, Path], None]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
}


def describe(metadata: ModelMetadata, file: str) -> dict[str, Any]:
    """Return all that preparing an image for a network, and reading its scores, takes."""
    plan, configuration = metadata.plan, metadata.plan_configuration
    logits = plan.recipe != "paper"
    axes = image_axes(metadata.mirror_axes or (), configuration.dims, plan.transpose)
    return {
        "format": KIND,
        "version": VERSION,
        "library": __version__,
        "network": file,
        "configuration": configuration.name,
        "fold": metadata.fold,
        "input": {
            "name": "window",
            "shape": ["batch", metadata.channels[0], *configuration.patch_size],
            "channels": [*plan.channels, *_previous(metadata)],
        },
        "output": {
            "name": "scores",
            "shape": ["batch", metadata.channels[1], *configuration.patch_size],
            "channels": [region.name for region in plan.labels.regions] or list(plan.labels.names),
            "activation": "sigmoid" if plan.labels.regions else "softmax",
        },
        "before": [
            *_orientation(metadata),
            f"axes z, y, x of the image in the order {list(plan.transpose)}",
            "crop to the smallest box that holds all voxels that are not 0 in some channel",
            "normalise each channel as plan.normalization says",
            f"resample to voxels of {list(configuration.spacing)} mm"
            + (" in the plane; slices stay as they are" if configuration.dims == 2 else ""),
        ],
        "windows": {
            "size": list(configuration.patch_size),
            "step": 0.5,
            "weight": "Gaussian, standard deviation an eighth of the size",
            "mirror_axes": [AXES[axis] for axis in axes],
            "mean_of": "logits" if logits else "probabilities",
        },
        "after": [
            "resample the mean scores to the cropped image, and decide: the greatest channel, or of regions those of "
            "at least one half, painted in their order",
            "put the crop back, and the axes in the image's order; values as plan.labels says",
        ],
        "plan": plan_to_json(plan),
        "model": {"digest": metadata.digest, "source": metadata.source, "network": encode(metadata.network)},
    }


def _orientation(metadata: ModelMetadata) -> list[str]:
    """Say which way the image's axes must run, where it is known."""
    if metadata.plan.reorient:
        return ["turn the image to right, anterior, superior (x, y, z)"]
    if not metadata.orientations:
        return []
    stored = ", ".join(f"{codes} ({counted(count, 'case')})" for codes, count in metadata.orientations.items())
    return [f"the image's axes x, y, z run as those of training images' files: {stored}"]


def _previous(metadata: ModelMetadata) -> list[str]:
    """Name the channels of a cascade's first segmentation."""
    if metadata.plan_configuration.previous is None:
        return []
    return [f"{name} of {metadata.plan_configuration.previous}, 0 or 1" for name in metadata.plan.labels.names[1:]]
