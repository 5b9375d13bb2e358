"""Named tensors in one safetensors file, written whole; faults name the file. Nothing unpickles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.files import write_atomically


def write_tensors(path: Path, tensors: Mapping[str, Tensor], text: str = "") -> None:
    """Write tensors, and a text into the file's header, atomically.

    Raises
    ------
    NnunetError
        The folder cannot be written or the disk is full; the file that was there stays.
    """
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        with write_atomically(path) as temporary:
            save_file(copies, temporary, metadata={"nnunet_rs": text} if text else None)
    except SafetensorError as error:  # what safetensors makes of a full disk
        raise CheckpointError(f"{path}: cannot be written: {error}; free space on this disk and run again") from error


def read_tensors(path: Path, advice: str) -> tuple[dict[str, Tensor], str]:
    """Read what `write_tensors` wrote: the tensors, on the processor, and the text.

    Raises
    ------
    CheckpointError
        The file is missing, cut or damaged; the message ends with `advice`.
    """
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("nnunet_rs", "")
            return {name: file.get_tensor(name) for name in file.keys()}, text  # noqa: SIM118 (no dictionary)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; {advice}") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: is damaged: {error}; {advice}") from error
