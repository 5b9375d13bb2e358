import errno

import pytest
from nnunet_rs.core.errors import DatasetError, among, doing, is_out_of_memory, named, noted


def test_the_name_that_was_meant_comes_first() -> None:
    names = ("2d", "3d_fullres", "3d_lowres")
    assert among("3d_fulres", names) == "did you mean 3d_fullres? there are 2d, 3d_fullres, 3d_lowres"
    assert among("x", names) == "there are 2d, 3d_fullres, 3d_lowres"
    assert among("x", ("2d",)) == "there is 2d"


def test_what_was_being_done_is_noted_innermost_first() -> None:
    def work() -> None:
        with doing("epoch 3"), doing("case a"):
            raise KeyError("x")

    with pytest.raises(KeyError) as raised:
        work()
    assert noted(raised.value) == ("case a", "epoch 3")
    assert named(raised.value) == "KeyError: 'x', in case a, epoch 3"


def test_an_error_of_ours_says_it_itself() -> None:
    def work() -> None:
        with doing("case a"):
            raise DatasetError("a.nii: what\nis wrong")

    with pytest.raises(DatasetError) as raised:
        work()
    assert noted(raised.value) == ()
    assert named(raised.value) == "a.nii: what is wrong"
    assert named(ValueError()) == "ValueError"


class OutOfMemoryError(RuntimeError):
    """As torch.OutOfMemoryError, which this package's core does not import."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("FIND was unable to find an engine to execute this computation"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 5 bytes"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_an_allocation_that_fails_is_known_in_every_form(error: Exception) -> None:
    assert is_out_of_memory(error)
    compiled = RuntimeError("backend='inductor' raised")
    compiled.__cause__ = error
    assert is_out_of_memory(compiled)


@pytest.mark.parametrize(
    "error", [RuntimeError("shape"), ValueError("out of memory"), OSError(errno.EACCES, "Permission denied")]
)
def test_other_errors_are_not_about_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)
