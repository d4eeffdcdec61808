"""Sparse convolution: numba and torch against loops, against dense convolution,
and against its own adjoint.
"""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from sparse_oracle import conv_by_loops, random_coords, weight_gradient_by_loops
from torch import Tensor

from pointlift.core.sparse_tensor import Level, SparseTensor
from pointlift.ops._numba.threading import set_threads
from pointlift.ops.backend import BackendError
from pointlift.ops.backend import backend as run_with
from pointlift.ops.kernel_map import KernelMap, kernel_map
from pointlift.ops.sparse_conv import cpu, reference, sparse_conv

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
CHANNELS = [(1, 1, 1), (3, 5, 1), (61, 7, 1), (16, 64, 1), (5, 130, 1)]  # in, out, groups
CHANNELS += [(8, 8, 8), (17, 17, 17), (4, 12, 4), (6, 10, 2), (32, 32, 8), (30, 45, 15)]


def sparse(coords: Tensor, channels: int, dtype: torch.dtype, seed: int = 0) -> SparseTensor:
    g = torch.Generator().manual_seed(seed)
    return SparseTensor(torch.randn(len(coords), channels, generator=g, dtype=dtype), coords)


def weights(kernel: int, c_in: int, c_out: int, groups: int, dtype: torch.dtype) -> Tensor:
    g = torch.Generator().manual_seed(1)
    w = torch.randn(kernel, c_in // groups, c_out, generator=g, dtype=dtype)
    return w / (kernel * c_in / groups) ** 0.5


def error(a: Tensor, b: Tensor) -> float:
    a, b = a.detach(), b.detach()
    return (
        float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1))
        if a.numel()
        else 0.0
    )


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("c_in,c_out,groups", CHANNELS)
@pytest.mark.parametrize("kernel_size,stride", [(3, 1), (2, 2)])
def test_forward_and_gradients_equal_loops(
    c_in: int, c_out: int, groups: int, kernel_size: int, stride: int, dtype: torch.dtype, backend: str
) -> None:
    x = sparse(random_coords(2, side=4), c_in, dtype)
    kmap, _ = kernel_map(x.maps, x.level, kernel_size, stride)
    w = weights(kernel_size**3, c_in, c_out, groups, dtype).requires_grad_()
    features = x.features.requires_grad_()
    out = sparse_conv(features, w, kmap, groups=groups, backend=backend)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=dtype)
    out.backward(grad)
    assert features.grad is not None and w.grad is not None
    assert (
        out.dtype == dtype
        and error(out.detach(), conv_by_loops(features, w, kmap.table, groups)) < TOLERANCE[dtype]
    )
    assert error(w.grad, weight_gradient_by_loops(features, grad, kmap.table, groups)) < TOLERANCE[dtype]
    turned = (
        w.detach()
        .reshape(w.shape[0], c_in // groups, groups, c_out // groups)
        .permute(0, 3, 2, 1)
        .reshape(w.shape[0], -1, c_in)
    )
    assert error(features.grad, conv_by_loops(grad, turned, kmap.reverse, groups)) < TOLERANCE[dtype]


@pytest.mark.parametrize("side", [1, 2, 7, 13])
def test_odd_sizes_and_block_edges(side: int, dtype: torch.dtype) -> None:
    x = sparse(random_coords(side, batch=3, side=side, fill=0.5 if side > 2 else 1.0), 9, dtype)
    kmap, _ = kernel_map(x.maps, x.level, 3)
    w = weights(27, 9, 35, 1, dtype)
    fast, slow = (
        sparse_conv(x.features, w, kmap, backend="cpu"),
        sparse_conv(x.features, w, kmap, backend="reference"),
    )
    assert error(fast, slow) < TOLERANCE[dtype]


def grid(n: int, batch: int = 2) -> Tensor:
    return torch.tensor(
        list(itertools.product(range(batch), range(n), range(n), range(n))), dtype=torch.int32
    )


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5])
def test_full_grid_equals_conv3d(
    kernel_size: int, stride: int, dilation: int, groups: int, dtype: torch.dtype, backend: str
) -> None:
    n, c_in, c_out = 5, 4, 8 if groups < 4 else 4
    x = sparse(grid(n), c_in, dtype)
    kmap, level = kernel_map(x.maps, x.level, kernel_size, stride, dilation, backend=backend)
    w = weights(kernel_size**3, c_in, c_out, groups, dtype)
    out = x.at_level(sparse_conv(x.features, w, kmap, groups=groups, backend=backend), level)
    reach = dilation * (kernel_size // 2), dilation * (kernel_size // 2)
    before, after = reach if kernel_size % 2 else (0, dilation * (kernel_size - 1))
    dense_weight = w.reshape(kernel_size, kernel_size, kernel_size, c_in // groups, c_out).permute(
        4, 3, 0, 1, 2
    )
    dense = F.conv3d(
        F.pad(x.dense(), (before, after) * 3), dense_weight, stride=stride, dilation=dilation, groups=groups
    )
    assert dense.shape[2:] == (-(-n // stride),) * 3
    assert error(out.dense(), dense) < TOLERANCE[dtype]


@pytest.mark.parametrize(
    "kernel_size,stride,dilation", [(3, 1, 1), (3, 2, 1), (2, 2, 1), (4, 1, 1), (3, 1, 2), (5, 2, 1)]
)
def test_reached_sites_equal_a_dense_convolution_of_scattered_voxels(
    kernel_size: int, stride: int, dilation: int, backend: str
) -> None:
    coords = random_coords(9, side=6, fill=0.06, low=8)
    x = sparse(coords, 3, torch.float64)
    kmap, level = kernel_map(x.maps, x.level, kernel_size, stride, dilation, sites="reach", backend=backend)
    w = weights(kernel_size**3, 3, 4, 1, torch.float64)
    out = x.at_level(sparse_conv(x.features, w, kmap, backend=backend), level)
    box = 24
    low = dilation * (kernel_size // 2) if kernel_size % 2 else 0
    high = dilation * (kernel_size - 1) - low
    dense_weight = w.reshape(kernel_size, kernel_size, kernel_size, 3, 4).permute(4, 3, 0, 1, 2)
    dense = F.conv3d(
        F.pad(x.dense((box,) * 3, (0, 0, 0)), (low, high) * 3), dense_weight, stride=stride, dilation=dilation
    )
    cells = tuple(dense.shape[2:])
    assert error(out.dense(cells, (0, 0, 0)), dense) < 1e-12  # also zero wherever no site was made


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kernel_size,stride,transposed", [(3, 1, False), (2, 2, False), (3, 2, True)])
def test_gradcheck(groups: int, kernel_size: int, stride: int, transposed: bool, backend: str) -> None:
    x = sparse(random_coords(4, batch=1, side=3, fill=0.5), 4, torch.float64)
    kmap, _ = kernel_map(x.maps, x.level, kernel_size, stride)
    kmap = kmap.transposed() if transposed else kmap
    features = torch.randn(
        kmap.n_in, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    w = weights(kernel_size**3, 4, 4, groups, torch.float64).requires_grad_()
    bias = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).requires_grad_()
    # every element of our own kernels where there are few, random directions elsewhere
    fast = kernel_size > 2 or backend == "reference"
    assert torch.autograd.gradcheck(
        lambda a, b, c: sparse_conv(a, b, kmap, c, groups, backend), (features, w, bias), fast_mode=fast
    )


@pytest.mark.parametrize("kernel_size,stride,groups", [(3, 1, 1), (2, 2, 1), (3, 2, 2), (4, 2, 6)])
def test_transposed_convolution_is_the_adjoint(
    kernel_size: int, stride: int, groups: int, backend: str
) -> None:
    x = sparse(random_coords(7), 6, torch.float64)
    down, coarse = kernel_map(x.maps, x.level, kernel_size, stride, backend=backend)
    up, fine = kernel_map(x.maps, coarse, kernel_size, stride, transposed=True, backend=backend)
    assert fine == x.level
    w = weights(kernel_size**3, 6, 6, groups, torch.float64)
    y = torch.randn(down.n_out, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    adjoint = w.reshape(-1, 6 // groups, groups, 6 // groups).permute(0, 3, 2, 1).reshape(w.shape)
    left = (sparse_conv(x.features, w, down, groups=groups, backend=backend) * y).sum()
    right = (x.features * sparse_conv(y, adjoint, up, groups=groups, backend=backend)).sum()
    assert abs(float(left - right)) < 1e-10 * abs(float(left)) + 1e-10


def test_order_of_the_input_rows_does_not_matter(backend: str) -> None:
    coords = random_coords(12)
    x = sparse(coords, 5, torch.float64)
    order = torch.randperm(len(coords), generator=torch.Generator().manual_seed(0))
    shuffled = SparseTensor(x.features[order], coords[order])
    w = weights(27, 5, 6, 1, torch.float64)
    outs = [
        sparse_conv(t.features, w, kernel_map(t.maps, t.level, 3, backend=backend)[0], backend=backend)
        for t in (x, shuffled)
    ]
    assert torch.equal(outs[0], outs[1])


def test_clouds_of_a_batch_do_not_touch(backend: str) -> None:
    x = sparse(random_coords(13, batch=3), 4, torch.float64)
    w = weights(125, 4, 4, 1, torch.float64)
    whole = sparse_conv(x.features, w, kernel_map(x.maps, x.level, 5)[0], backend=backend)
    for b in range(3):
        mine = x.batch == b
        alone = SparseTensor(x.features[mine], x.coords[mine])
        out = sparse_conv(alone.features, w, kernel_map(alone.maps, Level(1), 5)[0], backend=backend)
        assert error(out, whole[mine]) < 1e-13


@pytest.mark.parametrize("groups", [1, 2, 32])
def test_results_do_not_depend_on_threads_or_runs(groups: int) -> None:
    x = sparse(random_coords(14, batch=4, side=12), 32, torch.float32)
    kmap, _ = kernel_map(x.maps, x.level, 3)
    w = weights(27, 32, 32, groups, torch.float32)
    grad = torch.randn(kmap.n_out, 32, generator=torch.Generator().manual_seed(4))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            results.append(
                (
                    cpu.forward(x.features, w, kmap.table, groups),
                    cpu.input_gradient(grad, w, kmap.reverse, groups),
                    cpu.weight_gradient(x.features, grad, kmap.pairs, groups),
                )
            )
    finally:
        torch.set_num_threads(before)
        set_threads()
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other))


@pytest.mark.parametrize("c_in,c_out", [(6, 40), (7, 40), (40, 7), (23, 97), (64, 16)])
@pytest.mark.parametrize("pairs", [1, 127, 128, 129, 390])
def test_weight_gradient_of_every_path(c_in: int, c_out: int, pairs: int) -> None:
    """Few or many channels, one or several panels of columns, strips of pairs that end anywhere; one thread
    takes all columns of a task, many threads take them panel by panel."""
    g = torch.Generator().manual_seed(pairs)
    x, grad = torch.randn(90, c_in, generator=g), torch.randn(80, c_out, generator=g)
    table = torch.full((5, 80), -1)
    taken = torch.randperm(400, generator=g)[:pairs]
    table.view(-1)[taken] = torch.randint(0, 90, (len(taken),), generator=g)
    kmap = KernelMap(table.int(), 90)
    expected = weight_gradient_by_loops(x.double(), grad.double(), kmap.table, 1)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(cpu.weight_gradient(x, grad, kmap.pairs, 1))
    finally:
        torch.set_num_threads(before)
        set_threads()
    assert error(found[0], expected) < 1e-5
    assert torch.equal(*found)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_many_pairs_of_one_offset_are_summed_over_chunks(groups: int) -> None:
    n = 3 * 4096 + 17
    kmap = KernelMap(torch.arange(n, dtype=torch.int32)[None], n)
    g = torch.Generator().manual_seed(0)
    x, grad = torch.randn(n, 8, generator=g), torch.randn(n, 8, generator=g)
    slow = reference.weight_gradient(x.double(), grad.double(), kmap.pairs, groups)
    assert error(cpu.weight_gradient(x, grad, kmap.pairs, groups), slow) < 1e-5
    w = torch.randn(1, 8 // groups, 8, generator=g)
    assert (
        error(
            cpu.forward(x, w, kmap.table, groups),
            reference.forward(x.double(), w.double(), kmap.table, groups),
        )
        < 1e-6
    )


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_no_rows(groups: int, dtype: torch.dtype, backend: str) -> None:
    for n_in, n_out in ((0, 0), (0, 3), (3, 0)):
        kmap = KernelMap(torch.full((8, n_out), -1, dtype=torch.int32), n_in)
        x = torch.ones(n_in, 4, dtype=dtype, requires_grad=True)
        w = torch.ones(8, 4 // groups, 4, dtype=dtype, requires_grad=True)
        out = sparse_conv(x, w, kmap, groups=groups, backend=backend)
        out.sum().backward()
        assert torch.equal(out.detach(), torch.zeros(n_out, 4, dtype=dtype))
        assert x.grad is not None and torch.equal(x.grad, torch.zeros(n_in, 4, dtype=dtype))
        assert w.grad is not None and torch.equal(w.grad, torch.zeros_like(w))


def test_single_voxel_sees_the_centre_only(backend: str) -> None:
    x = SparseTensor(torch.tensor([[2.0, 3.0]]), torch.tensor([[0, -9, 4, 4]], dtype=torch.int32))
    w = torch.zeros(27, 2, 1)
    w[13] = torch.tensor([[10.0], [1.0]])
    w[0] = 99.0
    out = sparse_conv(x.features, w, kernel_map(x.maps, x.level, 3)[0], torch.tensor([0.5]), backend=backend)
    assert out.tolist() == [[23.5]]


def test_frozen_parts_get_no_gradient(backend: str) -> None:
    x = sparse(random_coords(4), 3, torch.float32)
    kmap, _ = kernel_map(x.maps, x.level, 3)
    w = weights(27, 3, 3, 1, torch.float32)
    features = x.features.clone().requires_grad_()
    sparse_conv(features, w, kmap, backend=backend).sum().backward()
    assert features.grad is not None and w.grad is None
    w.requires_grad_()
    sparse_conv(x.features, w, kmap, backend=backend).sum().backward()
    assert w.grad is not None


def test_autocast_runs_the_reference_in_half_precision() -> None:
    x = sparse(random_coords(4), 8, torch.float32)
    kmap, _ = kernel_map(x.maps, x.level, 3)
    w = weights(27, 8, 8, 1, torch.float32).requires_grad_()
    exact = sparse_conv(x.features, w, kmap)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = sparse_conv(x.features, w, kmap)
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16 and w.grad is not None and w.grad.dtype == torch.float32
    assert error(out.float(), exact) < 0.05


def test_refusals() -> None:
    x = sparse(random_coords(4), 4, torch.float32)
    kmap, _ = kernel_map(x.maps, x.level, 3)
    w = weights(27, 4, 4, 1, torch.float32)
    with pytest.raises(ValueError, match=r"x must have shape \(\d+, 4\)"):
        sparse_conv(x.features[:, :3], w, kmap)
    with pytest.raises(ValueError, match="27 offsets, but the kernel map has 8"):
        sparse_conv(x.features, w, kernel_map(x.maps, x.level, 2)[0])
    with pytest.raises(ValueError, match="multiple of groups"):
        sparse_conv(x.features, w[:, :2, :3], kmap, groups=2)
    with pytest.raises(ValueError, match="cast one of them"):
        sparse_conv(x.features, w.double(), kmap)
    with pytest.raises(ValueError, match="move the module or the input"):
        sparse_conv(x.features, w.to("meta"), kmap)
    half = (x.features.half(), w.half(), kmap)
    with pytest.raises(
        BackendError, match=r"numba kernels compute in float32 and float64, not torch\.float16"
    ):
        sparse_conv(*half, backend="cpu")
    with run_with("cuda"), pytest.raises(BackendError, match="the tensors are on cpu"):
        sparse_conv(x.features, w, kmap)
