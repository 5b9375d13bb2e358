"""A trained model, loaded once and applied to images in memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.choices import EngineName
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.labels import encode_labels
from nnunet_rs.core.progress import Share, Task
from nnunet_rs.core.resources import available_memory
from nnunet_rs.core.types import FloatArray, FoldName, IntArray, Labels, Shape, Volume
from nnunet_rs.core.workspace import fold_name
from nnunet_rs.data.mirroring import AXES, image_axes
from nnunet_rs.data.preprocess import Prepared, find_configuration, prepare
from nnunet_rs.data.previous_labels import on_grid
from nnunet_rs.data.resampling import described, require_memory, scores_axis
from nnunet_rs.model.metadata import ModelMetadata, common_mirror_axes
from nnunet_rs.model.model_file import model_source
from nnunet_rs.model.nnunet_models import FINAL, first_stage_folder, holds_nnunet_models
from nnunet_rs.model.staleness import plan_differences
from nnunet_rs.model.trained_models import find_models
from nnunet_rs.plan.schema import Configuration, Plan
from nnunet_rs.predict.arrays import as_volume, require_volume
from nnunet_rs.predict.blend import OutputActivation
from nnunet_rs.predict.channels import require_channels
from nnunet_rs.predict.engines.engine import Engine
from nnunet_rs.predict.engines.opening import open_models
from nnunet_rs.predict.engines.unloaded import describe_models
from nnunet_rs.predict.export import OutputGrid, ProbabilitySink, ScoreConverter, export_labels, export_probabilities
from nnunet_rs.predict.exporter import Exporter
from nnunet_rs.predict.fold_agreement import FoldAgreement
from nnunet_rs.predict.options import PredictOptions as PredictOptions
from nnunet_rs.predict.orientation import seen_orientation
from nnunet_rs.predict.prediction_json import PREDICTION
from nnunet_rs.predict.probabilities import probabilities_of
from nnunet_rs.predict.sliding_window import ScoreBlock, WindowOptions, sliding_window_scores
from nnunet_rs.predict.window_grid import sliding_window_grid
from nnunet_rs.predict.window_source import Previous

SinkMaker = Callable[[OutputGrid, Prepared], ProbabilitySink]


@dataclass(frozen=True, slots=True, eq=False)
class Predictor:
    """One configuration's networks (one or several folds), averaged. Safe to call from several threads."""

    engine: Engine
    all_metadata: tuple[ModelMetadata, ...]  # one per network
    options: PredictOptions
    previous: Predictor | None = None  # cascade: whose segmentation is a further input
    folders: tuple[Path, ...] = ()  # of the models, as they were read; of a zip they are gone

    @classmethod
    def load(
        cls,
        model_dir: str | Path,
        device: str = "auto",
        folds: Sequence[FoldName] | None = None,
        *,
        configuration: str | None = None,
        options: PredictOptions | None = None,
        engine: EngineName | None = None,
        previous_folds: Sequence[FoldName] | None = None,
        networks: bool = True,
    ) -> Predictor:
        """Load trained models.

        Parameters
        ----------
        model_dir
            WORK/models/CONFIGURATION, one of its fold folders, or WORK itself; or models of nnU-Net v2: a dataset's
            results, a model's folder, or a zip of `nnUNetv2_export_model_to_zip`; or a one-file model of
            `export --format file`. A cascade's first stage is looked for beside it.
        device
            "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1", "mps".
        folds
            Which folds to average, or "all" for the network of all cases; None: all folds that are trained.
        configuration
            Which configuration of WORK; may be left out where only one is trained.
        options
            Step, mirroring, precision, engine.
        engine
            "torch", "openvino" (on processors, faster there, and without PyTorch) or "auto"; None: as in the options.
            Where OpenVINO cannot compute a model PyTorch does, and `engine.remarks` says why.
        previous_folds
            Of a cascade: which folds of its first stage to average; None: all that are trained. Cases that were trained
            on want the one fold that did not see them.
        networks
            Whether networks are loaded; without, it tells of models (`plan`, `describe`) and predicts nothing.

        Raises
        ------
        CheckpointError
            No such model, a damaged one, folds trained with different plans, or a cascade without its first stage.
        NnunetError
            No such device or precision, or an engine that is not installed.
        """
        options = options or PredictOptions()
        options = options if engine is None else replace(options, engine=engine)
        with model_source(Path(model_dir)) as folder:
            return cls._load(folder, device, folds, configuration, options, previous_folds, networks)

    @classmethod
    def _load(
        cls,
        model_dir: Path,
        device: str,
        folds: Sequence[FoldName] | None,
        configuration: str | None,
        options: PredictOptions,
        previous_folds: Sequence[FoldName] | None,
        networks: bool,
    ) -> Predictor:
        folders = find_models(model_dir, configuration, folds, options.nnunet, unfinished=options.unfinished)
        opened = open_models(folders, device, options) if networks else describe_models(folders, options)
        _require_one_plan(folders, opened.all_metadata)
        predictor = cls(opened.engine, opened.all_metadata, options, folders=folders)
        lower = predictor.configuration.previous
        if lower is None:
            return predictor
        home = first_stage_folder(folders[0], lower)
        _require_first_stage(home, predictor)
        last = replace(options, nnunet=replace(options.nnunet, checkpoint=FINAL))  # what the second stage has learnt by
        first_options = options if holds_nnunet_models(home) else last
        first = cls._load(home, device, previous_folds, None, first_options, None, networks)
        _require_same_data(home, first.plan, predictor.plan)
        return replace(predictor, previous=first)

    @property
    def plan(self) -> Plan:
        """What the networks were trained for."""
        return self.all_metadata[0].plan

    @property
    def configuration(self) -> Configuration:
        """The configuration of the networks."""
        return find_configuration(self.plan, self.all_metadata[0].configuration)

    @property
    def settings(self) -> Configuration:
        """The earlier name of `configuration`."""
        warnings.warn("Predictor.settings is now Predictor.configuration", DeprecationWarning, stacklevel=2)
        return self.configuration

    @property
    def mirror_axes(self) -> Shape:
        """Axes of the patch, 0 the first, along which prediction mirrors: those that every network has learnt by."""
        return common_mirror_axes(self.all_metadata) if self.options.mirror else ()

    def __call__(self, array: NDArray[np.generic], spacing: Sequence[float]) -> IntArray:
        """Segment an image in memory.

        Parameters
        ----------
        array
            (c, z, y, x), or (z, y, x) of a model with one channel; any number type, intensities and the directions of
            the axes as in the training images' files.
        spacing
            Of z, y, x, in mm.

        Returns
        -------
        ndarray
            (z, y, x), uint8 or uint16: values as in the training labels' files.

        Raises
        ------
        DatasetError
            No array (an image object of SimpleITK or nibabel, a path): the text says what to give. A wrong number of
            channels or axes, a spacing that is not positive or by which the image would become a single voxel or far
            too large, an image that is not finite or zero everywhere.
        """
        return self.predict_volume(as_volume(array, spacing)).data

    def describe(self) -> dict[str, Any]:
        """Return what determines this predictor's results, for the record: models, step, mirroring."""
        body = {
            "dataset": self.plan.dataset,
            "configuration": self.configuration.name,
            "models": {fold_name(metadata.fold): metadata.digest for metadata in self.all_metadata},
            "step": self.options.step,
            "mirror": bool(self.mirror_axes),
            "mirror_axes": [
                AXES[axis] for axis in image_axes(self.mirror_axes, self.configuration.dims, self.plan.transpose)
            ],
            "averages": "logits" if self._activation() == "none" else "probabilities",
            "previous": None if self.previous is None else self.previous.describe(),
            **({} if self.options.precision == "auto" else {"precision": self.options.precision}),
        }
        return PREDICTION.wrap(body)

    def predict_volume(self, volume: Volume, task: Task | None = None) -> Labels:
        """Segment an image; `task` advances by every window's share of 1. Errors as `__call__`."""
        return Labels(self.predict_prepared(self.prepare(volume), task), volume.spacing, volume.header)

    def prepare(self, volume: Volume, *, overwrite: bool = False, orientation: str | None = None) -> Prepared:
        """Bring an image to the network's grid (a cascade: to that of both stages); errors as `__call__`.

        With `overwrite` the image's memory may be used. It is turned to `orientation`; None: to `seen_orientation`.
        """
        require_volume(volume)
        require_channels(volume, self.plan)
        first = None if self.previous is None else self.previous.prepare(volume)
        threads = self.options.threads
        orientation = orientation or seen_orientation(volume, self.all_metadata)
        name, turned = self.configuration.name, orientation
        own = prepare(volume, self.plan, name, threads=threads, overwrite=overwrite, orientation=turned)
        return replace(own, first=first)

    def predict_prepared(
        self,
        prepared: Prepared,
        task: Task | None = None,
        make_sink: SinkMaker | None = None,
        agreement: FoldAgreement | None = None,
    ) -> IntArray:
        """Segment what `prepare` returned.

        Parameters
        ----------
        prepared
            The image on the network's grid.
        task
            Where every window is reported, as its share of 1.
        make_sink
            Opens the place that takes the probabilities, once the way back is known.
        agreement
            Learns how far the networks agree.

        Returns
        -------
        ndarray
            File values (z, y, x) on the image's grid, uint8 or uint16.
        """
        with Exporter() as exporter:
            return self.predict_windows(prepared, exporter, task, make_sink, agreement)()

    def predict_windows(
        self,
        prepared: Prepared,
        exporter: Exporter,
        task: Task | None = None,
        make_sink: SinkMaker | None = None,
        agreement: FoldAgreement | None = None,
    ) -> Callable[[], IntArray]:
        """Predict all windows of what `prepare` returned; what is returned waits for the labels, in any thread.

        Where a device predicts, the exporter makes the last of them while the next case's windows are predicted; on
        processors they are finished here. Otherwise as `predict_prepared`.
        """
        output = self.output_grid(prepared)
        sink = None if make_sink is None else make_sink(output, prepared)
        blocks = self._blocks(prepared, output, task, agreement, exporter, by_rows=sink is None)
        beside = exporter if self.engine.computes_elsewhere else None
        return export_labels(blocks, output, prepared.geometry, self._converter(), sink, beside)

    def predict_probabilities(self, array: NDArray[np.generic], spacing: Sequence[float]) -> FloatArray:
        """Predict the probabilities of an image in memory, on the image's whole grid.

        Parameters
        ----------
        array, spacing
            As of `__call__`.

        Returns
        -------
        ndarray
            float32 (c, z, y, x): a channel for each class, the background first, which add up to 1 in each voxel; of a
            model with regions a channel for each region, each by itself between 0 and 1. It takes 4 c z y x bytes;
            `predict_folder` with `save_probabilities` writes them without ever holding them whole.

        Raises
        ------
        DatasetError
            As `__call__`.
        """
        return probabilities_of(self, as_volume(array, spacing))

    def stream_probabilities(
        self,
        prepared: Prepared,
        output: OutputGrid,
        exporter: Exporter,
        task: Task | None = None,
        agreement: FoldAgreement | None = None,
    ) -> Iterator[tuple[int, FloatArray]]:
        """Yield (first plane, probabilities (c, planes, a, b)) on the grid of `output`, a few planes at a time."""
        blocks = self._blocks(prepared, output, task, agreement, exporter, by_rows=False)
        return export_probabilities(blocks, output, self._converter(), beside=self.engine.computes_elsewhere)

    def output_grid(self, prepared: Prepared, axis: int | None = None) -> OutputGrid:
        """Lay the windows (along a working axis, or the best one) and tell where their scores go."""
        size = cast("tuple[int, int, int]", prepared.image.shape[1:])
        window_grid = sliding_window_grid(size, self.configuration.patch_size, self.options.step, axis)
        return OutputGrid.of(window_grid, prepared.geometry, scores_axis(prepared.geometry, self.configuration))

    def _blocks(
        self,
        prepared: Prepared,
        output: OutputGrid,
        task: Task | None,
        agreement: FoldAgreement | None,
        exporter: Exporter,
        *,
        by_rows: bool,
    ) -> Iterator[ScoreBlock]:
        self._require_room(prepared, output, exporter)
        windows = self._windows(prepared, output)
        known = self._first_segmentation(prepared, windows, task, exporter)
        share = None if task is None else Share(task, 1.0 / windows)
        options = WindowOptions(self.mirror_axes, self._activation(), self.options.batch, by_rows)
        grid, counts = output.window_grid, None
        if agreement is not None:
            every = 2 if self.engine.computes_elsewhere else 1  # a device waits while voxels are counted
            counts = agreement.counts(self.plan.labels, len(self.all_metadata), grid, every)
        return sliding_window_scores(self.engine, prepared.image, grid, options, share, previous=known, counts=counts)

    def _require_room(self, prepared: Prepared, output: OutputGrid, exporter: Exporter) -> None:
        """Refuse, before any window is predicted, a volume whose scores and labels do not fit into memory.

        Where memory is short the case before is waited for, whose scores may still be there.
        """
        window_grid, geometry = output.window_grid, prepared.geometry
        scores = 4 * (self.plan.labels.outputs + 1) * prod((window_grid.tile[0], *window_grid.padded[1:]))
        needed = scores + prod(output.shape)
        if needed > available_memory():
            exporter.wait()
        said = described(geometry.cropped_shape, geometry.working_spacing, self.configuration)
        require_memory(needed, f"{said}, with the scores of {self.plan.labels.outputs} outputs")

    def _windows(self, prepared: Prepared, output: OutputGrid) -> int:
        """Count the windows of all stages."""
        own = len(output.window_grid.starts)
        if self.previous is None or prepared.first is None:
            return own
        return own + self.previous._windows(prepared.first, self.previous.output_grid(prepared.first))

    def _first_segmentation(
        self, prepared: Prepared, windows: int, task: Task | None, exporter: Exporter
    ) -> Previous | None:
        """Segment by the first stage, and bring that to this stage's grid as training cases' were brought there."""
        if self.previous is None or prepared.first is None:
            return None
        own = self.previous._windows(prepared.first, self.previous.output_grid(prepared.first))
        share = None if task is None else Share(task, own / windows)
        found = self.previous.predict_windows(prepared.first, exporter, share)()
        labels = encode_labels(found, self.plan.labels)
        there = on_grid(labels, prepared.geometry, self.configuration, threads=self.options.threads)
        return Previous(there, self.plan.labels.count)

    def _converter(self) -> ScoreConverter:
        return ScoreConverter(self.plan.labels, self._activation() != "none", self.options.threads)

    def _activation(self) -> OutputActivation:
        """Return what is averaged over windows, mirror images and folds: probabilities (paper), or logits (v2)."""
        if self.plan.recipe != "paper":
            return "none"
        return "sigmoid" if self.plan.labels.regions else "softmax"


def _require_first_stage(home: Path, cascade: Predictor) -> None:
    if not home.is_dir():
        raise CheckpointError(
            f"{home}: {cascade.configuration.name} is the second stage of a cascade, and its first stage is not there; "
            f"keep the models of {home.name} beside it, or train them"
        )


def _require_same_data(home: Path, first: Plan, second: Plan) -> None:
    if (first.labels, first.channels) != (second.labels, second.channels):
        raise CheckpointError(
            f"{home}: was trained with other labels or channels than the cascade's second stage; train that again"
        )


def _require_one_plan(folders: Sequence[Path], all_metadata: Sequence[ModelMetadata]) -> None:
    first = all_metadata[0]
    for folder, metadata in zip(folders, all_metadata, strict=True):
        differ = list(plan_differences(first.plan, metadata.plan, first.configuration))
        if metadata.configuration != first.configuration:
            differ.insert(0, "configuration")
        if differ:
            raise CheckpointError(
                f"{folder}: was trained with another plan than {folders[0].name} (other {', '.join(differ)}); average "
                "folds of one plan only: name them (-f), or train the others again"
            )
