import json
import locale
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino
import openvino.opset13 as opset13
import pytest
import torch
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.model.device import choose_compute
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.unet import build_unet
from nnunet_rs.predict.engines import openvino_engine
from nnunet_rs.predict.engines.engine import mirror_images
from nnunet_rs.predict.engines.openvino_engine import compile_graphs
from nnunet_rs.predict.engines.openvino_graph import build_graph
from nnunet_rs.predict.engines.torch_engine import TorchEngine
from nnunet_rs.predict.predictor import PredictOptions, Predictor


@pytest.fixture
def engines(make_plan):
    """The same two networks by OpenVINO and by PyTorch."""
    (c,) = make_plan().configurations.values()
    networks, graphs = [], []
    for seed in (0, 1):
        torch.manual_seed(seed)
        built = build_unet(c, 1, 3).eval().requires_grad_(False)
        networks.append(built)
        weights = {name: tensor.numpy() for name, tensor in built.state_dict().items()}
        graphs.append(build_graph(c, 1, NetworkOptions(), weights))
    compute = choose_compute(torch.device("cpu"), "float32")
    return compile_graphs(graphs, "float32", 1), TorchEngine(tuple(networks), compute)


@pytest.mark.parametrize("large", [openvino_engine.LARGE, 0])
def test_folds_and_mirror_images_are_those_of_torch(engines, monkeypatch, large: int):
    """Two windows at a time, or one where their scores are large."""
    monkeypatch.setattr(openvino_engine, "LARGE", large)
    windows = np.random.default_rng(0).normal(size=(3, 1, 8, 8, 8)).astype(np.float32)
    sums = []
    for engine in engines:
        total = {axes: np.zeros((3, 3, 8, 8, 8)) for axes in mirror_images((0, 2))}
        for scored in engine.scores(windows, (0, 2)):
            total[scored.mirrored][scored.windows] += np.asarray(scored.scores)
        sums.append(total)
    for axes, expected in sums[1].items():
        np.testing.assert_allclose(sums[0][axes], expected, atol=2e-5)


def test_two_windows_at_a_time_have_the_scores_of_one(make_plan):
    (c,) = make_plan().configurations.values()
    weights = {name: tensor.numpy() for name, tensor in build_unet(c, 1, 3).state_dict().items()}
    windows = np.random.default_rng(0).normal(size=(3, 1, 8, 8, 8)).astype(np.float32)
    found = []
    for streams in (1, 2):
        engine = compile_graphs([build_graph(c, 1, NetworkOptions(), weights)], "float32", 2, streams=streams)
        assert engine.networks[0].get_property("NUM_STREAMS") == streams
        found.append({(one.mirrored, one.windows.start): one.scores.copy() for one in engine.scores(windows, (0, 1))})
    assert len(found[0]) == 12
    for key, expected in found[0].items():
        np.testing.assert_allclose(found[1][key], expected, atol=1e-5)


def test_what_goes_wrong_in_compiling_is_told_by_the_first_window(make_plan, monkeypatch):
    class Broken:
        def compile_model(self, *_):
            raise RuntimeError("no such operator")

    monkeypatch.setattr(openvino_engine, "the_core", Broken)
    engine = compile_graphs([object()], "float32", 1)
    with pytest.raises(RuntimeError, match="no such operator"):
        next(engine.scores(np.zeros((1, 1, 8, 8, 8), np.float32), ()))


def deep() -> openvino.Model:
    """Twelve convolutions: what takes a while to compile."""
    rng = np.random.default_rng(0)
    x = image = opset13.parameter([1, 4, 8, 8, 8], np.float32)
    for _ in range(12):
        kernel = opset13.constant(rng.normal(size=(4, 4, 3, 3, 3)).astype(np.float32))
        x = opset13.relu(opset13.convolution(x, kernel, [1] * 3, [1] * 3, [1] * 3, [1] * 3))
    return openvino.Model([x], [image])


def test_several_compiled_at_once_leave_the_locale_as_it_was(tmp_path: Path):
    """OpenVINO sets it to C while it compiles; two threads that did so left it there."""
    before = locale.setlocale(locale.LC_ALL)
    for number in range(8):
        parts = range(3)
        engines = [compile_graphs([deep(), deep()], "float32", 2, tmp_path / f"{number}_{part}") for part in parts]
        for engine in engines:
            assert len(engine.networks) == 2
        assert locale.setlocale(locale.LC_ALL) == before


def test_folds_share_the_memory_of_windows_and_scores(engines):
    engine, windows = engines[0], np.ones((3, 1, 8, 8, 8), np.float32)
    places = {scored.scores.ctypes.data for scored in engine.scores(windows, (0,))}
    assert len(places) == 2
    assert {scored.scores.ctypes.data for scored in engine.scores(windows, ())} == places


def test_a_caller_that_stops_half_way_can_begin_again(engines):
    engine, windows = engines[0], np.ones((4, 1, 8, 8, 8), np.float32)
    started = engine.scores(windows, (0,))
    first = next(started).scores.copy()
    started.close()
    np.testing.assert_array_equal(next(engine.scores(windows, (0,))).scores, first)


def test_another_process_must_load_its_own(engines, monkeypatch):
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(NnunetError, match="forked"):
        next(engines[0].scores(np.ones((1, 1, 8, 8, 8), np.float32), ()))


def test_labels_are_those_of_torch(make_work):
    work = make_work({"3d_fullres": (0, 1)})
    image = np.random.default_rng(0).normal(size=(12, 30, 26)).astype(np.float32)
    options = PredictOptions(precision="float32")
    mine, theirs = (
        Predictor.load(work, "cpu", options=options, engine=engine).predict_probabilities(image, (3.0, 1.0, 1.0))
        for engine in ("openvino", "torch")
    )
    np.testing.assert_allclose(mine, theirs, atol=1e-4)
    best = np.sort(theirs, axis=0)
    clear = best[-1] - best[-2] > 1e-4
    np.testing.assert_array_equal(mine.argmax(0)[clear], theirs.argmax(0)[clear])


# What takes long to import, and a plain prediction does without.
BESIDE = (
    "torch", "scipy.ndimage", "pydicom", "openvino.tools.ovc", "nnunet_rs.report.statistics", "nnunet_rs.data.augment",
    "nnunet_rs.exchange.dicom.predictions", "nnunet_rs.plan.nnunet_plans",
)  # fmt: skip
SCRIPT = f"""
import gc, json, sys
from pathlib import Path
from nnunet_rs.cli import main
code = main(["predict", sys.argv[1], "-i", *sys.argv[3:], "-o", sys.argv[2], "-q", "--save-probabilities"])
found = [name for name in {BESIDE} if name in sys.modules]
print(json.dumps({{"code": code, "imported": found, "collects": gc.isenabled()}}))
"""


def test_a_prediction_imports_no_torch_and_nothing_else_that_is_slow(make_work, tmp_path: Path):
    """The whole command: two folds, mirrored, probabilities saved."""
    work = make_work({"3d_fullres": (0, 1)})
    images = json.loads((work / "dataset.json").read_text())
    assert images
    folder = next(path for path in tmp_path.rglob("imagesTr"))
    command = [sys.executable, "-c", SCRIPT, str(work), str(tmp_path / "out"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"code": 0, "imported": [], "collects": True}
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 5


def compiled(make_plan, cache):
    (c,) = make_plan().configurations.values()
    torch.manual_seed(0)
    weights = {name: tensor.numpy() for name, tensor in build_unet(c, 1, 3).state_dict().items()}
    (scored,) = compile_graphs([build_graph(c, 1, NetworkOptions(), weights)], "float32", 1, cache).scores(
        np.ones((1, 1, 8, 8, 8), np.float32), ()
    )
    return scored.scores.copy()


def test_compiled_networks_are_kept_and_damaged_ones_made_again(make_plan, tmp_path: Path):
    expected = compiled(make_plan, None)
    cache = tmp_path / "not" / "there"
    np.testing.assert_array_equal(compiled(make_plan, cache), expected)
    (blob,) = cache.glob("*.blob")
    np.testing.assert_array_equal(compiled(make_plan, cache), expected)
    assert list(cache.glob("*.blob")) == [blob]
    for content in (blob.read_bytes()[: blob.stat().st_size // 2], b"something else" * 100):
        blob.write_bytes(content)
        np.testing.assert_array_equal(compiled(make_plan, cache), expected)


def test_the_oldest_compiled_networks_go(make_plan, tmp_path: Path, monkeypatch):
    (tmp_path / "old.blob").write_bytes(bytes(100))
    os.utime(tmp_path / "old.blob", (1, 1))
    (tmp_path / "other.txt").write_text("not a compiled network")
    compiled(make_plan, tmp_path)
    monkeypatch.setattr(openvino_engine, "CACHE_BYTES", next(tmp_path.glob("[0-9]*.blob")).stat().st_size + 10)
    compiled(make_plan, tmp_path)
    assert not (tmp_path / "old.blob").exists()
    assert (tmp_path / "other.txt").exists()
    assert len(list(tmp_path.glob("*.blob"))) == 1


def test_a_cache_that_cannot_be_made_is_done_without(make_plan, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    np.testing.assert_array_equal(compiled(make_plan, tmp_path / "file" / "cache"), compiled(make_plan, None))


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_after_a_prediction_in_another_thread_is_heard() -> None:
    """OpenVINO leaves a stack for signal handlers set that it has freed, if its last core goes in another thread."""
    code = """if True:
        import gc, os, signal, threading
        from nnunet_rs.predict.engines.openvino_engine import choose_precision, the_core
        held = [the_core()]
        choose_precision("auto")
        thread = threading.Thread(target=lambda: (held.clear(), gc.collect()))
        thread.start()
        thread.join()
        signal.signal(signal.SIGTERM, lambda *_: print("heard"))
        os.kill(os.getpid(), signal.SIGTERM)
    """
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "heard\n"), ended.stderr
