"""The students' forward passes once more, cloud by cloud and layer by layer, with nothing of pointlift in
them: what `test_architecture_values.py` compares the networks with.

Written from the papers and from the facts page (5.1 to 5.5), in evaluation mode. Each takes the weights of a
network (its state dict), one cloud xyz (N, 3), and the numbers of the architecture; it gives what every level
or layer puts out, and the logits last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["plain_dgcnn", "plain_pointmlp", "plain_pointnet2", "plain_rscnn"]

Weights = Mapping[str, Tensor]


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    out = x @ w[f"{name}.weight"].T
    return out + w[f"{name}.bias"] if f"{name}.bias" in w else out


def normed(w: Weights, name: str, x: Tensor) -> Tensor:
    """Batch normalisation by the running statistics, eps 1e-5."""
    deviation = (w[f"{name}.running_var"] + 1e-5).sqrt()
    return (x - w[f"{name}.running_mean"]) / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]


def leaky(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def relu(x: Tensor) -> Tensor:
    return leaky(x, 0.0)


def farthest(xyz: Tensor, count: int) -> list[int]:
    """Rows of `count` points: the first, then always the one that is farthest from those there are."""
    chosen, nearest = [0], (xyz - xyz[0]).norm(dim=1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (xyz - xyz[chosen[-1]]).norm(dim=1))
    return chosen


def balls(centres: Tensor, xyz: Tensor, radius: float, count: int) -> Tensor:
    """(Q, count) rows of the first `count` points nearer than the radius; the first of them fills up."""
    rows = []
    for centre in centres:
        inside = ((xyz - centre).norm(dim=1) < radius).nonzero()[:, 0].tolist()[:count]
        rows.append(inside + inside[:1] * (count - len(inside)))
    return torch.tensor(rows)


def nearest(query: Tensor, points: Tensor, count: int) -> Tensor:
    """(Q, count) rows of the nearest points."""
    return torch.cdist(query, points, compute_mode="donot_use_mm_for_euclid_dist").argsort(1)[:, :count]


def head_of(w: Weights, x: Tensor, slope: float = 0.0) -> Tensor:
    """The classifier behind an embedding (C,): 512, 256, classes; dropout does nothing here."""
    for layer in (0, 4):
        x = leaky(normed(w, f"head.{layer + 1}", linear(w, f"head.{layer}", x)), slope)
    return linear(w, "head.8", x)


def shared(w: Weights, name: str, x: Tensor, layers: int) -> Tensor:
    for layer in range(layers):
        x = relu(normed(w, f"{name}.{layer}.1", linear(w, f"{name}.{layer}.0", x)))
    return x


def plain_pointnet2(
    w: Weights,
    xyz: Tensor,
    npoint: Sequence[int],
    radii: Sequence[Sequence[float]],
    nsample: Sequence[Sequence[int]],
) -> list[Tensor]:
    """Set abstraction twice, every scale [x_j - centre, f_j] through three layers and a maximum; then all."""
    outputs: list[Tensor] = []
    features: Tensor | None = None
    for level, centres in enumerate(npoint):
        chosen = farthest(xyz, centres)
        scales = []
        for scale, (radius, count) in enumerate(zip(radii[level], nsample[level])):
            near = balls(xyz[chosen], xyz, radius, count)
            group = xyz[near] - xyz[chosen][:, None]
            if features is not None:
                group = torch.cat([group, features[near]], 2)
            scales.append(shared(w, f"levels.{level}.mlps.{scale}", group, 3).amax(1))
        xyz, features = xyz[chosen], torch.cat(scales, 1)
        outputs.append(features)
    assert features is not None
    embedding = shared(w, "whole.mlp", torch.cat([xyz, features], 1), 3).amax(0)
    return [*outputs, embedding, head_of(w, embedding)]


def plain_dgcnn(w: Weights, xyz: Tensor, k: int, slope: float) -> list[Tensor]:
    """Four edge convolutions, each on the graph of its own input; [max, mean] of a layer on all four."""
    outputs: list[Tensor] = []
    x = xyz
    for layer in range(4):
        near = nearest(x, x, k)
        own = x[:, None].expand(-1, k, -1)
        edges = linear(w, f"edges.{layer}.linear", torch.cat([x[near] - own, own], 2))
        x = leaky(normed(w, f"edges.{layer}.norm", edges), slope).amax(1)
        outputs.append(x)
    hidden = leaky(normed(w, "shared.1", linear(w, "shared.0", torch.cat(outputs, 1))), slope)
    embedding = torch.cat([hidden.amax(0), hidden.mean(0)])
    return [*outputs, embedding, head_of(w, embedding, slope)]


def plain_rscnn(
    w: Weights, xyz: Tensor, npoint: Sequence[int], radii: Sequence[float], nsample: Sequence[int]
) -> list[Tensor]:
    """Relation-shape convolutions: the centre beside its neighbours, weighed by what relations map to."""
    outputs: list[Tensor] = []
    features: Tensor | None = None
    for level, centres in enumerate(npoint):
        name = f"levels.{level}"
        chosen = farthest(xyz, centres)
        near = balls(xyz[chosen], xyz, radii[level], nsample[level])
        near = torch.cat([torch.tensor(chosen)[:, None], near], 1)
        own = xyz[chosen][:, None].expand(-1, near.shape[1], -1)
        delta = xyz[near] - own
        relation = torch.cat([delta.norm(dim=2, keepdim=True), own, xyz[near], delta], 2)
        weights = relu(normed(w, f"{name}.mapping.1", linear(w, f"{name}.mapping.0", relation)))
        weights = linear(w, f"{name}.mapping.3", weights)
        seen = delta if features is None else torch.cat([delta, features[near]], 2)
        if level == 0:
            seen = relu(normed(w, f"{name}.lift.1", linear(w, f"{name}.lift.0", seen)))
        pooled = relu(normed(w, f"{name}.norm", weights * seen)).amax(1)
        raised = linear(w, f"{name}.raising.0", pooled)
        xyz, features = xyz[chosen], relu(normed(w, f"{name}.raising.1", raised))
        outputs.append(features)
    assert features is not None
    embedding = shared(w, "whole.mlp", torch.cat([xyz, features], 1), 1).amax(0)
    return [*outputs, embedding, head_of(w, embedding)]


def residual(w: Weights, name: str, x: Tensor) -> Tensor:
    hidden = relu(normed(w, f"{name}.layers.1", linear(w, f"{name}.layers.0", x)))
    return relu(x + normed(w, f"{name}.layers.4", linear(w, f"{name}.layers.3", hidden)))


def plain_pointmlp(
    w: Weights, xyz: Tensor, npoint: Sequence[int], k: int, pre: Sequence[int], pos: Sequence[int]
) -> list[Tensor]:
    """Sample, group, geometric affine with one deviation per cloud, residual blocks around a maximum."""
    outputs: list[Tensor] = []
    x = relu(normed(w, "embedding.1", linear(w, "embedding.0", xyz)))
    for stage, centres in enumerate(npoint):
        name = f"stages.{stage}"
        chosen = farthest(xyz, centres)
        near = nearest(xyz[chosen], xyz, k)
        anchors = x[chosen][:, None].expand(-1, k, -1)
        difference = x[near] - anchors
        difference = difference / (difference.std() + 1e-5)
        moved = difference * w[f"{name}.affine.alpha"] + w[f"{name}.affine.beta"]
        hidden = relu(
            normed(w, f"{name}.norm", linear(w, f"{name}.transfer", torch.cat([moved, anchors], 2)))
        )
        for block in range(pre[stage]):
            hidden = residual(w, f"{name}.pre.{block}", hidden)
        hidden = hidden.amax(1)
        for block in range(pos[stage]):
            hidden = residual(w, f"{name}.pos.{block}", hidden)
        xyz, x = xyz[chosen], hidden
        outputs.append(x)
    embedding = x.amax(0)
    return [*outputs, embedding, head_of(w, embedding)]
