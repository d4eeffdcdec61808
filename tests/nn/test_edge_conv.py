"""EdgeConv against the tensor of edges that the paper writes down, in training and evaluation,
forwards and backwards.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointlift.nn.edge_conv import EdgeConv


def layer_and_data(momentum: float | None = 0.1, n: int = 30, k: int = 5) -> tuple[EdgeConv, Tensor, Tensor]:
    torch.manual_seed(0)
    layer = EdgeConv(4, 9).double()
    layer.norm.momentum = momentum
    with torch.no_grad():
        # negative ones turn the maximum around; the middle one is zero
        layer.norm.weight.copy_(torch.linspace(-1, 1, 9))
        layer.norm.bias.normal_()
    x = torch.randn(n, 4, dtype=torch.float64) + 3
    return layer, x.requires_grad_(), torch.randint(n, (n, k))


def all_edges(layer: EdgeConv, norm: nn.BatchNorm1d, x: Tensor, index: Tensor) -> Tensor:
    """Equation 8 with the edge features of equation 7, [x_j - x_i, x_i]."""
    n, k = index.shape
    neighbour, own = x[index], x[:, None].expand(n, k, -1)
    hidden = norm(F.linear(torch.cat([neighbour - own, own], 2), layer.linear.weight).flatten(0, 1))
    return F.leaky_relu(hidden, 0.2).view(n, k, -1).max(1).values


@pytest.mark.parametrize("momentum", [0.1, None])
def test_equals_the_tensor_of_edges(momentum: float | None) -> None:
    layer, x, index = layer_and_data(momentum)
    norm = nn.BatchNorm1d(9, momentum=momentum).double()
    norm.load_state_dict(layer.norm.state_dict())
    for step in range(3):
        found, expected = layer(x, index), all_edges(layer, norm, x, index)
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)  # float64, sums of 150 edges
        weight = torch.randn_like(found)
        # at weight zero all edges are equal and any of them may have the gradient: it is zero but for it
        chosen = layer.norm.weight.ne(0)
        wanted = (x, layer.linear.weight)
        for a, b in zip(
            torch.autograd.grad((found * weight).sum(), wanted),
            torch.autograd.grad((expected * weight).sum(), wanted),
        ):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)
        (a,) = torch.autograd.grad((layer(x, index) * weight).sum(), layer.norm.weight)
        (b,) = torch.autograd.grad((all_edges(layer, norm, x, index) * weight).sum(), norm.weight)
        assert torch.allclose(a[chosen], b[chosen], rtol=1e-9, atol=1e-9)
        for name, value in norm.state_dict().items():
            assert torch.allclose(layer.norm.state_dict()[name], value, rtol=1e-12), (step, name)
    layer.eval(), norm.eval()
    assert torch.allclose(layer(x, index), all_edges(layer, norm, x, index), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
def test_gradcheck(training: bool) -> None:
    layer, x, index = layer_and_data(n=7, k=3)
    layer.train(training)
    parameters = dict(layer.named_parameters())
    values = [x, *(p.detach().clone().requires_grad_() for p in parameters.values())]
    values[2].data[4] = 0.4  # not zero, where the gradient jumps

    def call(x: Tensor, *given: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(layer, dict(zip(parameters, given)), (x, index))
        return out

    assert torch.autograd.gradcheck(call, tuple(values))


def test_statistics_far_from_the_origin() -> None:
    """Points a thousand units away in float32: the variance of the edges is small beside their squares,
    and is not lost.
    """
    torch.manual_seed(0)
    layer = EdgeConv(3, 8)
    x = torch.rand(200, 3) + 1000
    index = torch.cdist(x.double(), x.double()).topk(5, largest=False).indices
    exact = EdgeConv(3, 8).double()
    exact.load_state_dict(layer.state_dict())
    found, expected = layer(x, index), exact(x.double(), index)
    # products of 1000 have an error of 1e-4 in float32 and are divided by a standard deviation of about 0.2
    assert (found.double() - expected).abs().max() < 5e-3


def test_errors() -> None:
    with pytest.raises(ValueError, match="slope=-1"):
        EdgeConv(3, 8, -1)
    with pytest.raises(ValueError, match="1 edges in training mode"):
        EdgeConv(3, 8)(torch.zeros(1, 3), torch.zeros(1, 1, dtype=torch.int64))
    rows = torch.zeros(5, 2, dtype=torch.int64)
    for features, index, words in (
        (torch.zeros(5, 4), rows, "features must have shape \\(N, 3\\)"),
        (torch.zeros(5, 3), rows[:1], "index must have shape \\(5, k\\)"),
        (torch.zeros(5, 3), rows[:3], "index must have shape \\(5, k\\)"),
        (torch.zeros(5, 3), rows[:, :0], "at least one neighbour"),
        (torch.zeros(5, 3), rows + 5, "names row 5"),
    ):
        with pytest.raises(ValueError, match=words):
            EdgeConv(3, 8).eval()(features, index)
