import json
from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.errors import CheckpointError, NnunetError
from nnunet_rs.exchange import export_network
from nnunet_rs.exchange.export_network import export_networks
from nnunet_rs.exchange.onnx_graph import build_onnx
from nnunet_rs.model.checkpoint import load_model, save_model
from nnunet_rs.model.metadata import read_metadata
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.unet import build_unet
from nnunet_rs.predict.engines.openvino_engine import the_core


@pytest.fixture
def work(make_work):
    return make_work({"3d_fullres": (0, 1)})


def record(work: Path, fold: int, **values) -> None:
    """Let model.json of a fold say so."""
    path = work / "models" / "3d_fullres" / f"fold_{fold}" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def computed(path: Path, window):
    request = the_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    request.infer({0: window})
    return np.array(request.get_output_tensor(0).data)


@pytest.mark.parametrize(("form", "ending"), [("onnx", ".onnx"), ("openvino", ".xml")])
def test_a_network_goes_out_and_computes_the_same(work, tmp_path: Path, form, ending, capsys):
    target = tmp_path / "networks"
    record(work, 1, orientations={"LPS": 2, "RAS": 1})
    assert main(["export", str(work), "-o", str(target), "--format", form, "-q"]) == 0
    for fold in (0, 1):
        network, metadata = load_model(work / "models" / "3d_fullres" / f"fold_{fold}")
        path = target / f"3d_fullres_fold_{fold}{ending}"
        window = (
            np.random.default_rng(1).normal(size=(1, 1, *metadata.plan_configuration.patch_size)).astype(np.float32)
        )
        import torch

        np.testing.assert_allclose(computed(path, window), network(torch.from_numpy(window)).numpy(), atol=1e-3)
        told = json.loads(path.with_suffix(".json").read_text())
        assert (told["network"], told["fold"]) == (path.name, fold)
        assert told["input"]["shape"] == ["batch", 1, *metadata.plan_configuration.patch_size]
        assert ("LPS (2 cases), RAS (1 case)" in told["before"][0]) == (fold == 1)
        assert told["output"]["channels"] == ["background", "large", "small"]
        assert told["plan"]["configurations"]["3d_fullres"]["spacing"] == list(metadata.plan_configuration.spacing)
    (target / f"3d_fullres_fold_0{ending}").write_text("edited")
    assert main(["export", str(work), "-o", str(target), "--format", form, "-q"]) == 1
    assert "was changed since this tool made it" in capsys.readouterr().err


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    "options",
    [NetworkOptions(), NetworkOptions("relu", "batch"), NetworkOptions(downsampling="max_pool", deep_supervision=True)],
)
def test_onnx_of_every_kind(make_plan, make_metadata, tmp_path: Path, residual, options):
    from dataclasses import asdict, replace

    import onnx
    import torch

    plan = make_plan(patch_size=(8, 12, 12))
    (c,) = plan.configurations.values()
    plan = replace(plan, configurations={c.name: replace(c, residual=residual)})
    metadata = make_metadata(plan)
    metadata = replace(metadata, config=replace(metadata.config, **asdict(options)))
    torch.manual_seed(0)
    network = build_unet(plan.configurations[c.name], 1, 3, options).eval().requires_grad_(False)
    model = build_onnx(metadata, {name: tensor.numpy() for name, tensor in network.state_dict().items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(tmp_path / "a.onnx"))
    windows = np.random.default_rng(1).normal(size=(3, 1, 8, 12, 12)).astype(np.float32)
    np.testing.assert_allclose(
        computed(tmp_path / "a.onnx", windows), network(torch.from_numpy(windows)).numpy(), atol=1e-4
    )


def test_what_computes_something_else_is_not_kept(work, tmp_path: Path, monkeypatch):
    folder = work / "models" / "3d_fullres" / "fold_0"

    def wrong(metadata, weights, path):
        export_network._write_openvino(metadata, {name: 2 * array for name, array in weights.items()}, path)

    monkeypatch.setattr(export_network, "_WRITERS", {"openvino": wrong})
    with pytest.raises(NnunetError, match=r"differ by .* it is not kept"):
        export_networks([folder], tmp_path / "out", "openvino")
    assert not list((tmp_path / "out").glob("3d_fullres*"))


def test_networks_of_the_users_own_are_refused_by_name(work, tmp_path: Path):
    from dataclasses import replace

    folder = work / "models" / "3d_fullres" / "fold_0"
    network, _ = load_model(folder)
    metadata = read_metadata(folder)
    own = replace(metadata, config=replace(metadata.config, network="mine:net"))
    save_model(folder, network.state_dict(), own)
    with pytest.raises(CheckpointError, match="its network is mine:net"):
        export_networks([folder], tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()


def test_a_library_that_is_missing_is_named(work, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(NnunetError, match="pip install onnx"):
        export_networks([work / "models" / "3d_fullres" / "fold_0"], tmp_path / "out", "onnx")
