"""Named tensors in one safetensors file, written whole; errors name the file. Nothing unpickles."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.files import write_atomically


def write_tensors(path: Path, tensors: Mapping[str, Tensor], text: str = "") -> None:
    """Write tensors, and a text of one line into the file's header, atomically. With a text comes a hash of all.

    Raises
    ------
    NnunetError
        The folder cannot be written or the disk is full; the file that was there stays.
    """
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        with write_atomically(path) as temporary:
            save_file(copies, temporary, metadata=_described(copies, text) if text else None)
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
            said = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; {advice}") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged: {error}; {advice}") from error
    text, _, digest = said.get("nnunet_rs", "").partition("\n")
    if digest and digest != _digest(tensors, text):
        raise CheckpointError(f"{path}: is damaged: it is not what was written (BLAKE2 differs); {advice}")
    return tensors, text


def _described(tensors: Mapping[str, Tensor], text: str) -> dict[str, str]:
    """Return the file's metadata: the text, and in a second line the hash of all (several keys come in any order)."""
    return {"nnunet_rs": f"{text}\n{_digest(tensors, text)}"}


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """Return the hash of all that a file holds: safetensors itself has none."""
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
