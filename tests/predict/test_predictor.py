import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from nnunet_rs import Predictor
from nnunet_rs.core.errors import CheckpointError, DatasetError, NnunetError
from nnunet_rs.core.types import LabelSet
from nnunet_rs.model.checkpoint import save_model
from nnunet_rs.model.network_options import NetworkOptions, network_channels
from nnunet_rs.model.trained_models import find_models
from nnunet_rs.model.unet import build_unet
from nnunet_rs.predict.arrays import as_volume
from nnunet_rs.predict.exporter import Exporter
from nnunet_rs.predict.predictor import PredictOptions


@pytest.fixture
def train(tmp_path, make_metadata):
    """Save an untrained model: `train(plan, fold, configuration)` returns the work folder."""

    def make(plan, fold=0, configuration=None):
        name = configuration or next(iter(plan.configurations))
        settings = plan.configurations[name]
        torch.manual_seed(fold)
        network = build_unet(settings, *network_channels(plan, settings), NetworkOptions())
        metadata = make_metadata(plan, fold, name)
        save_model(tmp_path / "work" / "models" / name / f"fold_{fold}", network.state_dict(), metadata)
        return tmp_path / "work"

    return make


def image(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_loaded_from_work_configuration_or_fold(train, make_plan):
    work = train(make_plan(), 0)
    train(make_plan(), 1)
    array = image(9, 10, 11)
    places = [work, work / "models" / "3d_fullres"]
    both = [Predictor.load(place, "cpu")(array, (1, 1, 1)) for place in places]
    np.testing.assert_array_equal(both[0], both[1])
    assert both[0].shape == array.shape
    assert both[0].dtype == np.uint8
    one = Predictor.load(work / "models" / "3d_fullres" / "fold_1", "cpu")
    same = Predictor.load(work, "cpu", folds=[1], configuration="3d_fullres")
    assert one.folders == same.folders == (work / "models" / "3d_fullres" / "fold_1",)
    np.testing.assert_array_equal(one(array, (1, 1, 1)), same(array, (1, 1, 1)))
    assert len(Predictor.load(work, "cpu").engine.networks) == 2


def test_what_cannot_be_loaded_is_said(train, make_plan, tmp_path):
    plan = make_plan()
    work = train(plan, 0)
    for place, message in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path, "holds no finished model"),
        (work / "models", "holds no finished model"),
    ):
        with pytest.raises(CheckpointError, match=message):
            Predictor.load(place, "cpu")
    with pytest.raises(CheckpointError, match="fold 3 is not trained; there is fold 0"):
        Predictor.load(work, "cpu", folds=[0, 3])
    with pytest.raises(CheckpointError, match="fold_K"):
        Predictor.load(work, "cpu", configuration="2d")
    with pytest.raises(CheckpointError, match="not of 2d"):
        find_models(work / "models" / "3d_fullres", "2d")
    with pytest.raises(CheckpointError, match="is the model of fold 0"):
        find_models(work / "models" / "3d_fullres" / "fold_0", folds=[1])
    train(make_plan(dataset="another"), 1)
    with pytest.raises(CheckpointError, match="another plan"):
        Predictor.load(work, "cpu")
    with pytest.raises(NnunetError, match="device"):
        Predictor.load(work, "abacus", folds=[0])


def test_several_configurations_must_be_chosen_from(train, make_plan):
    plan, flat = make_plan(), make_plan(patch_size=(8, 8))
    both = replace(plan, configurations={**plan.configurations, **flat.configurations})
    train(both, 0, "3d_fullres")
    work = train(both, 0, "2d")
    with pytest.raises(CheckpointError, match="2d, 3d_fullres; name the configuration"):
        Predictor.load(work, "cpu")
    flat_one = Predictor.load(work, "cpu", configuration="2d")
    assert flat_one.configuration.dims == 2
    with pytest.warns(DeprecationWarning, match=r"Predictor\.settings is now Predictor\.configuration"):
        assert flat_one.settings == flat_one.configuration


@pytest.mark.parametrize(
    ("array", "spacing", "message"),
    [
        (image(2, 5, 6, 7), (1, 1, 1), r"2 channels, the model takes 1 \(MR\)"),
        (image(6, 7), (1, 1, 1), "has shape"),
        (image(5, 6, 7), (1, 0, 1), "spacing"),
        (image(5, 6, 7), (1, -1, 1), "spacing"),
        (image(5, 6, 7), (1, 1), "spacing"),
        (image(5, 6, 7) * np.nan, (1, 1, 1), "not finite"),
        (np.zeros((5, 6, 7)), (1, 1, 1), "zero everywhere"),
    ],
)
def test_bad_images_are_refused(array, spacing, message, make_predictor):
    with pytest.raises(DatasetError, match=message):
        make_predictor()(array, spacing)


def test_any_number_type_will_do(make_predictor):
    predictor = make_predictor()
    array = (100 * image(7, 8, 9)).astype(np.int16)
    expected = predictor(array.astype(np.float64), (1, 1, 1))
    np.testing.assert_array_equal(predictor(array, (1, 1, 1)), expected)
    np.testing.assert_array_equal(predictor(array[None], (1, 1, 1)), expected)


def test_label_values_decide_the_type(make_predictor):
    labels = LabelSet(("background", "a", "b"), (0, 1, 999))
    assert make_predictor(labels=labels)(image(5, 6, 7), (1, 1, 1)).dtype == np.uint16


def test_threads_do_not_disturb_each_other(make_predictor):
    predictor = make_predictor(folds=2, mirror=True)
    arrays = [image(8 + i, 9, 10) for i in range(4)]
    expected = [predictor(array, (1, 1, 1)) for array in arrays]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda array: predictor(array, (1, 1, 1)), arrays))
    for result, single in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, single)


class Counted:
    """A task that adds up."""

    def __init__(self):
        self.done = 0.0

    def advance(self, count=1, note=""):
        self.done += count


def test_a_cascade_feeds_its_first_stage_to_the_second(train, make_plan):
    plan = make_plan()
    (full,) = plan.configurations.values()
    low = replace(full, name="3d_lowres", spacing=(2.0, 2.0, 2.0))
    cascade = replace(full, name="3d_cascade_fullres", previous="3d_lowres")
    plan = replace(plan, configurations={c.name: c for c in (full, low, cascade)})
    train(plan, 0, "3d_lowres")
    work = train(plan, 0, "3d_cascade_fullres")
    predictor = Predictor.load(
        work, "cpu", configuration="3d_cascade_fullres", options=PredictOptions(mirror=False, engine="torch")
    )
    seen = []
    predictor.engine.networks[0].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    array = image(8, 8, 8)
    counted = Counted()
    result = predictor.predict_volume(as_volume(array, (1, 1, 1)), counted).data
    assert counted.done == pytest.approx(1)
    first = Predictor.load(work, "cpu", configuration="3d_lowres", options=PredictOptions(mirror=False))
    lower = first(array, (1, 1, 1))
    assert result.shape == array.shape
    one_hot = seen[0][0, 1:].numpy()
    np.testing.assert_array_equal(one_hot, [lower == 1, lower == 4])


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bfloat16_stays_close_to_float32(train, make_plan, engine):
    if engine == "openvino":
        openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
        if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            pytest.skip("OpenVINO computes in bfloat16 on processors that have it, and this one has not")
    work = train(make_plan(), 0)
    array = image(12, 12, 12)
    exact, rough = (
        Predictor.load(work, "cpu", options=PredictOptions(precision=precision, engine=engine))(array, (1, 1, 1))
        for precision in ("float32", "bfloat16")
    )
    assert (exact == rough).mean() > 0.95


def test_prediction_loads_no_training():
    code = "import sys, nnunet_rs.predict.folder; sys.exit('nnunet_rs.model.train' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = "import sys, nnunet_rs.evaluate.folders; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("trained", "named"), [((0, 1, 2), "zyx"), ((1,), "y"), ((), ""), (None, "")])
def test_prediction_mirrors_what_training_did(make_predictor, make_metadata, trained, named):
    """The mean over the mirror images that model.json names, made by hand."""
    plain = make_predictor(patch_size=(8, 8, 8))
    all_metadata = (replace(plain.all_metadata[0], mirror_axes=trained),)
    found = replace(plain, all_metadata=all_metadata, options=PredictOptions())
    assert (found.describe()["mirror_axes"], found.describe()["mirror"]) == (list(named), bool(named))
    prepared = found.prepare(as_volume(image(8, 8, 8), (1, 1, 1)))
    (_, scores), *_ = found.stream_probabilities(prepared, found.output_grid(prepared, axis=0), Exporter())
    network, window = plain.engine.networks[0], torch.from_numpy(prepared.image[None])
    axes = [axis + 2 for axis in trained or ()]
    sets = [chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count)]
    expected = torch.stack([network(window.flip(flip)).softmax(1).flip(flip) for flip in sets]).mean(0)[0]
    np.testing.assert_allclose(scores, expected[:, : scores.shape[1]].numpy(), atol=1e-5)
    assert replace(found, options=PredictOptions(mirror=False)).describe()["mirror_axes"] == []


def test_axes_are_those_of_the_image(make_predictor):
    turned = make_predictor(patch_size=(8, 8, 8), transpose=(2, 0, 1))
    all_metadata = (replace(turned.all_metadata[0], mirror_axes=(0,)),)
    assert replace(turned, all_metadata=all_metadata, options=PredictOptions()).describe()["mirror_axes"] == ["x"]
    flat = make_predictor(patch_size=(8, 8), mirror=True)
    assert flat.describe()["mirror_axes"] == ["y", "x"]


def test_folds_mirror_along_the_axes_that_all_have(make_predictor):
    pair = make_predictor(folds=2, patch_size=(8, 8, 8))
    all_metadata = tuple(
        replace(metadata, mirror_axes=axes)
        for metadata, axes in zip(pair.all_metadata, [(0, 1, 2), (0, 2)], strict=True)
    )
    assert replace(pair, all_metadata=all_metadata, options=PredictOptions()).mirror_axes == (0, 2)


def test_the_earlier_name_of_the_configuration_is_taken_with_a_warning(make_predictor):
    predictor = make_predictor()
    with pytest.warns(DeprecationWarning, match=r"Predictor\.settings is now Predictor\.configuration"):
        assert predictor.settings == predictor.configuration
