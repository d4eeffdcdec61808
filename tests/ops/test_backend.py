"""Which implementation runs, and what a refusal says."""

from __future__ import annotations

import multiprocessing
import os

import pytest
import torch

from pointlift.ops import backend as backend_module
from pointlift.ops.backend import BackendError, backend, choose, implementation

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_the_device_and_the_dtype_choose() -> None:
    assert choose("sparse_conv", CPU) == ("cpu", "native kernel for cpu tensors")
    half = choose("sparse_conv", CPU, torch.bfloat16)
    assert half.name == "reference" and "float32 and float64, not torch.bfloat16" in half.reason
    gpu = choose("sparse_conv", CUDA)
    assert (
        gpu.name == "reference"
        and gpu.reason == "cuda kernel not used: there is no triton kernel for sparse_conv yet"
    )
    assert implementation("sparse_conv", CPU).__name__ == "pointlift.ops.sparse_conv.cpu"


def test_wishes_are_scoped_and_the_argument_is_stronger() -> None:
    with backend("reference"):
        assert choose("kernel_map", CPU) == ("reference", "asked for by name")
        assert choose("kernel_map", CPU, wish="cpu").name == "cpu"
        with backend(None):
            assert choose("kernel_map", CPU).name == "cpu"
        assert choose("kernel_map", CPU).name == "reference"
    assert choose("kernel_map", CPU).name == "cpu"


@pytest.mark.parametrize(
    "name,device,dtype,sentence",
    [
        (
            "cpu",
            CUDA,
            torch.float32,
            "Backend 'cpu' was asked for sparse_pool, but the tensors are on cuda: ",
        ),
        (
            "cpu",
            CPU,
            torch.float16,
            "but the numba kernels compute in float32 and float64, not torch.float16: ",
        ),
        ("cuda", CPU, torch.float32, "but the tensors are on cpu: "),
        ("cuda", CUDA, torch.float32, "but there is no triton kernel for sparse_pool yet: "),
    ],
)
def test_refusals(name: str, device: torch.device, dtype: torch.dtype, sentence: str) -> None:
    with pytest.raises(BackendError) as refused:
        choose("sparse_pool", device, dtype, name)
    assert sentence in str(refused.value)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="reference, cpu, cuda or None"), backend("gpu"):
        pass


def test_a_forked_worker_uses_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "_IMPORT_PID", os.getpid() + 1)
    assert "forked worker" in choose("kernel_map", CPU).reason
    with pytest.raises(BackendError, match="forked worker"):
        choose("kernel_map", CPU, wish="cpu")


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform has no fork")
def test_a_really_forked_process_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    table = torch.zeros(1, 4, dtype=torch.int32)
    implementation("sparse_pool", CPU).sum_forward(torch.ones(2, 2), table)  # the parent's threads run
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        name = choose("sparse_pool", CPU).name
        total = implementation("sparse_pool", CPU).sum_forward(torch.ones(2, 2), table).sum().item()
        os.write(write, f"{name} {total}".encode())
        os._exit(0)
    os.close(write)
    _, status = os.waitpid(child, 0)
    assert status == 0 and os.read(read, 100) == b"reference 8.0"
    os.close(read)
