"""nnU-Net v2 beside ours: its predictor and its training step on the same weights, without what else it imports."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from nnunet_rs.plan.schema import Configuration
from torch import nn

from gpu_exam.shared import LABELS, Exam, networks, section


class _Stub(types.ModuleType):
    """A module that is not there: everything in it is a class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__version__":
            raise AttributeError(name)
        return "0.0.0" if name == "__version__" else type(name, (), {"__init__": lambda *_, **__: None})


STUBBED = {
    "SimpleITK",
    "tifffile",
    "skimage",
    "batchgenerators",
    "batchgeneratorsv2",
    "fft_conv_pytorch",
    "imagecodecs",
    "seaborn",
    "sklearn",
    "nibabel",
    "graphviz",
    "wandb",
    "hiddenlayer",
    "einops",
    "timm",
    "dicom2nifti",
    "blosc2",
    "yacs",
    "requests",
    "pandas",
    "numba",
    "cc3d",
    "tqdm",
    "acvl_utils",
    "dotenv",
}  # that nnunetv2 imports, but neither its predictor nor its losses need


class _Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what nothing else finds."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:  # noqa: ARG002
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in STUBBED else None

    def create_module(self, spec: Any) -> Any:
        module = _Stub(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: Any) -> None:
        pass


@contextmanager
def _stubbed(peer: str) -> Iterator[None]:
    """Let the peer be imported from its folder, with stubs for what is not there."""
    finder, before = _Stubs(), set(sys.modules)
    sys.path.append(peer)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        stubs = [n for n in set(sys.modules) - before if isinstance(sys.modules[n], _Stub)]
        for name in stubs:
            sys.modules.pop(name, None)


def peer_predictor(exam: Exam) -> Any:
    if not exam.arguments.peer:
        return None
    try:
        with _stubbed(exam.arguments.peer):
            from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        predictor = nnUNetPredictor(
            tile_step_size=0.5,
            use_gaussian=True,
            use_mirroring=True,
            perform_everything_on_device=True,
            device=exam.device,
            verbose=False,
            allow_tqdm=False,
        )
        exam.say(what="peer", predictor="nnunetv2 imported")
        return predictor
    except Exception as error:
        exam.say(what="peer", failed=f"{type(error).__name__}: {error}"[:300])
        return None


def their_labels(predictor: Any, network: nn.Module, image: Any, c: Configuration, classes: int) -> Any:
    predictor.network = network
    predictor.configuration_manager = types.SimpleNamespace(patch_size=list(c.patch_size))
    predictor.label_manager = types.SimpleNamespace(num_segmentation_heads=classes)
    predictor.allowed_mirroring_axes = (0, 1, 2)
    logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(image))
    return logits.cpu().float().argmax(0).numpy().astype(np.uint8)


@section(90)
def peer_iterations(exam: Exam) -> None:
    """Time nnU-Net's own training step (float16, its loss with deep supervision) on the same network and batch."""
    if not exam.arguments.peer:
        exam.say(skipped="no --peer")
        return
    with _stubbed(exam.arguments.peer):
        from dynamic_network_architectures.architectures.unet import PlainConvUNet
        from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
        from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
        from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
    tools = (PlainConvUNet, DC_and_CE_loss, DeepSupervisionWrapper, MemoryEfficientSoftDiceLoss)
    for name, compiling in (("hippocampus", False), ("large", False), ("large", True), ("hippocampus", True)):
        if compiling and (not exam.cuda or exam.left() < 90):
            exam.say(skipped=f"{name}, compiled: no time left, or no CUDA")
            continue
        try:
            _peer_iterations(exam, name, compiling, tools)
        except Exception as error:
            exam.say(who="nnU-Net", network=name, compiled=compiling, failed=f"{type(error).__name__}: {error}"[:300])
        exam.clear()


def _peer_iterations(exam: Exam, name: str, compiling: bool, tools: Any) -> None:
    PlainConvUNet, DC_and_CE_loss, DeepSupervisionWrapper, MemoryEfficientSoftDiceLoss = tools  # noqa: N806
    c = networks(exam.quick)[name]
    torch.manual_seed(0)
    network = PlainConvUNet(
        1,
        len(c.features),
        list(c.features),
        nn.Conv3d,
        [list(k) for k in c.kernels],
        [list(s) for s in c.strides],
        list(c.blocks_encoder),
        LABELS.outputs,
        list(c.blocks_decoder),
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    ).to(exam.device)
    optimiser = torch.optim.SGD(network.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
    scaler = torch.amp.GradScaler(exam.device.type, enabled=exam.cuda)
    inner = DC_and_CE_loss(
        {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False},
        {},
        weight_ce=1,
        weight_dice=1,
        ignore_label=None,
        dice_class=MemoryEfficientSoftDiceLoss,
    )
    if compiling:  # nnUNetTrainer._do_i_compile, _build_loss: its default on CUDA
        torch._dynamo.reset()
        network, inner.dc = torch.compile(network), torch.compile(inner.dc)
    heads = len(c.features) - 1
    weights = np.array([0.5**i for i in range(heads)])
    weights[-1] = 0
    loss_of = DeepSupervisionWrapper(inner, weights / weights.sum())
    data = torch.randn(c.batch_size, 1, *c.patch_size)
    target = (data > 0.5).float() + (data > 1.5).float()
    targets = [
        target[(slice(None), slice(None), *(slice(None, None, 2**i) for _ in c.patch_size))].contiguous()
        for i in range(heads)
    ]
    if exam.cuda:
        data, targets = data.pin_memory(), [t.pin_memory() for t in targets]

    def one() -> float:
        there = data.to(exam.device, non_blocking=True)
        marks = [t.to(exam.device, non_blocking=True) for t in targets]
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(exam.device.type, enabled=True) if exam.cuda else nullcontext():
            loss = loss_of(network(there), marks)
        scaler.scale(loss).backward()
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        scaler.step(optimiser)
        scaler.update()
        return float(loss.detach().cpu().numpy())

    exam.clear()
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        begun = time.perf_counter()
        one()
        first = time.perf_counter() - begun
        for _ in range(2 if exam.quick else 5):
            one()
        exam.sync()
        count = 3 if exam.quick else (40 if name == "hippocampus" else 12)
        begun = time.perf_counter()
        for _ in range(count):
            one()
        exam.sync()
        ms = 1e3 * (time.perf_counter() - begun) / count
    finally:
        torch.backends.cudnn.benchmark = before
    exam.say(
        who="nnU-Net",
        network=name,
        dtype="float16",
        compiled=compiling,
        batch=c.batch_size,
        first_s=round(first, 2),
        ms=round(ms, 3),
        **exam.memory(),
    )
