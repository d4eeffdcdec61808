"""Kernel orders of other libraries, against the lists written down in the reference (facts 0.2-0.5) and
against geometry.
"""

import pytest
import torch

from pointlift.ops.kernel_map import kernel_offsets
from pointlift.weights.kernel_orders import KernelSource, kernel_order

HYBRID_TO_HYPERCUBE = [
    13,
    12,
    14,
    10,
    16,
    9,
    15,
    11,
    17,
    4,
    22,
    3,
    21,
    5,
    23,
    1,
    19,
    7,
    25,
    0,
    18,
    6,
    24,
    2,
    20,
    8,
    26,
]
X_FASTEST_3 = [
    0,
    9,
    18,
    3,
    12,
    21,
    6,
    15,
    24,
    1,
    10,
    19,
    4,
    13,
    22,
    7,
    16,
    25,
    2,
    11,
    20,
    5,
    14,
    23,
    8,
    17,
    26,
]
X_FASTEST_2 = [0, 4, 2, 6, 1, 5, 3, 7]
SOURCES: tuple[KernelSource, ...] = ("minkowski", "minkowski-hybrid", "torchsparse", "spconv", "dense")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_every_order_is_a_permutation(source: KernelSource, kernel_size: int) -> None:
    assert sorted(kernel_order(source, kernel_size).tolist()) == list(range(kernel_size**3))


def test_orders_written_down_in_the_reference() -> None:
    assert kernel_order("minkowski", 3).tolist() == X_FASTEST_3
    assert kernel_order("torchsparse", 3).tolist() == X_FASTEST_3
    assert kernel_order("spconv", 3).tolist() == X_FASTEST_3
    assert kernel_order("minkowski", 2).tolist() == X_FASTEST_2
    assert kernel_order("torchsparse", 2).tolist() == list(range(8))
    assert kernel_order("dense", 3).tolist() == list(range(27))


@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5])
def test_x_fastest_orders_are_their_own_inverse(kernel_size: int) -> None:
    perm = kernel_order("minkowski", kernel_size)
    assert perm[perm].tolist() == list(range(kernel_size**3))


def test_hybrid_weights_end_up_where_the_reference_puts_them() -> None:
    hybrid = torch.arange(27)
    hypercube = torch.empty(27, dtype=torch.int64)
    hypercube[torch.tensor(HYBRID_TO_HYPERCUBE)] = hybrid  # W_hypercube[map[h]] = W_hybrid[h]
    assert torch.equal(hybrid[kernel_order("minkowski-hybrid", 3)], hypercube[kernel_order("minkowski", 3)])
    assert kernel_order("minkowski-hybrid", 3)[13] == 0  # the centre is stored first


def test_minkowski_weight_computes_the_same_convolution() -> None:
    """A weight that marks its offset by x + 10 y + 100 z must mark the same offsets in pointlift's own
    enumeration.
    """
    x_fastest = torch.tensor(
        [x + 10 * y + 100 * z for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    )
    ours = torch.as_tensor(kernel_offsets(3)).reshape(-1, 3)
    assert torch.equal(x_fastest[kernel_order("minkowski", 3)], (ours * torch.tensor([1, 10, 100])).sum(1))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="Unknown source of kernels 'open3d'"):
        kernel_order("open3d", 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="odd size, got 2"):
        kernel_order("minkowski-hybrid", 2)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        kernel_order("dense", 0)
