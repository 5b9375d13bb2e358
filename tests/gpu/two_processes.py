"""What each of two processes under torchrun does in the audit: a training of every recipe on its own pretended GPU."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import pretended
import torch
from nnunet_rs.core.progress import Silent
from nnunet_rs.model.distributed import joined
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import FAST, PAPER, V2
from nnunet_rs.model.train import train_fold
from torch import distributed as dist

# Not batch norm: what its processes send each other would have to be values.
WAYS = [
    (recipe, more)
    for recipe in (PAPER, V2, FAST)
    for more in ({}, {"precision": "float16"}, {"deep_supervision": True})
]
COMPILED = [(V2, {"compile": True}), (FAST, {"compile": True, "deep_supervision": True})]


def main(work: Path, ways: list[tuple[Any, dict[str, Any]]]) -> None:
    pretended.take_cudnns_place(pretended.Gpu())
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    begin = dist.init_process_group

    def by_gloo(backend: str | None = None, *arguments, **named) -> None:  # NCCL would ask real GPUs
        begin("gloo", *arguments, **named)

    dist.init_process_group = by_gloo
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    with joined(device):
        for recipe, more in ways:
            options = TrainOptions(
                recipe=recipe, epochs=1, batches=2, validation_batches=1, batch_size=3, device=str(device),
                threads=1, fresh=True, **more,
            )  # fmt: skip
            result = train_fold(work, "3d_fullres", 0, options, Silent())
            assert result.finished or int(os.environ["RANK"]) > 0, (recipe.name, more)


if __name__ == "__main__":
    main(Path(sys.argv[1]), COMPILED if "compiled" in sys.argv else WAYS)
    sys.stdout.flush()
    os._exit(0)
