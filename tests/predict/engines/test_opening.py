"""Which device `auto` is where a GPU may be there: one that cannot be used is said, with the reason."""

import importlib.util
import sys
import warnings

import pytest
import torch
from nnunet_rs.model.gpu_versions import why_no_gpu
from nnunet_rs.predict.engines import opening
from nnunet_rs.predict.predictor import Predictor

TOO_OLD = "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update"


@pytest.fixture
def unusable(monkeypatch):
    """A GPU whose driver is too old for PyTorch."""

    def unavailable():
        warnings.warn(TOO_OLD, stacklevel=2)
        return False

    monkeypatch.setattr(opening, "_may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    why_no_gpu.cache_clear()
    yield
    why_no_gpu.cache_clear()


@pytest.mark.usefixtures("unusable")
@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_a_gpu_whose_driver_is_too_old_is_said(make_work, engine):
    predictor = Predictor.load(make_work({"3d_fullres": (0,)}), engine=engine)
    said = "predicting on the processor, for PyTorch cannot use the GPU: The NVIDIA driver on your system is too old"
    assert [remark for remark in predictor.engine.remarks if said in remark]
    assert not predictor.engine.computes_elsewhere
    plain = Predictor.load(predictor.folders[0], "cpu", engine=engine)
    assert type(plain.engine) is type(predictor.engine)
    assert not [remark for remark in plain.engine.remarks if "GPU" in remark]


def test_a_gpu_is_left_alone_where_pytorch_is_not_installed(make_work, monkeypatch):
    pytest.importorskip("openvino")
    found = importlib.util.find_spec
    work = make_work({"3d_fullres": (0,)})
    monkeypatch.setattr(opening, "_may_have_gpu", lambda: True)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "torch" else found(name, *more)
    )
    predictor = Predictor.load(work)
    assert "OpenVINO" in predictor.engine.describe()
    assert "computed by the processor: PyTorch, which takes the GPU, is not installed" in predictor.engine.remarks


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (
            lambda patch: patch.setitem(sys.modules, "openvino", None),
            "OpenVINO is not installed (pip install openvino)",
        ),
        (
            lambda patch: patch.setattr("openvino.__version__", "2023.3.0-13775-releases/2023/3"),
            "OpenVINO 2023.3.0-13775-releases/2023/3 is too old (pip install 'openvino>=2025.1')",
        ),
    ],
    ids=["missing", "too old"],
)
def test_an_openvino_that_cannot_be_used_is_said_and_pytorch_computes(make_work, monkeypatch, broken, said) -> None:
    pytest.importorskip("openvino")
    work = make_work({"3d_fullres": (0,)})
    broken(monkeypatch)
    for engine in ("auto", "openvino"):
        predictor = Predictor.load(work, "cpu", engine=engine)
        assert predictor.engine.describe().startswith("PyTorch")
        assert f"computed by PyTorch: {said}" in predictor.engine.remarks
    assert not any(said in remark for remark in Predictor.load(work, "cpu", engine="torch").engine.remarks)
