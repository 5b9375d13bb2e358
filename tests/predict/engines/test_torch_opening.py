import torch
from nnunet_rs.model.device import Compute
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.unet import build_unet
from nnunet_rs.predict.engines.torch_opening import _cast_convolutions


def test_convolutions_that_are_cast_once_compute_what_autocast_computes(make_plan):
    torch.manual_seed(0)
    settings = make_plan().configurations["3d_fullres"]
    network = build_unet(settings, 1, 3, NetworkOptions()).eval().requires_grad_(False)
    compute, windows = Compute(torch.device("cpu"), torch.bfloat16), torch.randn(2, 1, *settings.patch_size)
    with compute.autocast():
        expected = network(windows)
        _cast_convolutions(network, compute.dtype)
        found = network(windows)
    assert torch.equal(found, expected)
    types = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    assert {kind for name, kind in types.items() if ".norm." in name} == {torch.float32}
    assert {kind for name, kind in types.items() if ".norm." not in name} == {torch.bfloat16}
