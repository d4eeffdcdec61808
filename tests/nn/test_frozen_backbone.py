"""Frozen means evaluation mode: in training, a backbone that learns nothing computes the same at every forward,
without dropout, without dropped paths and with its own statistics, while the head learns.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import pointlift as pl
from pointlift.nn import CloudNetwork, SparseDropPath

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet18": {"image_options": {"channels": (8, 16, 24, 32), "drop_path_rate": 0.6}},
    "resnet18 unet": {
        "network": "unet",
        "image_options": {"channels": (8, 16, 24, 32), "drop_path_rate": 0.6},
        "dropout": 0.5,
    },
    "tf_efficientnet_lite0 unet": {
        "network": "unet",
        "image_options": {"drop_path_rate": 0.6},
        "decoder": "simple",
    },
    "torchvision:densenet121": {"image_options": {"drop_rate": 0.5, "block_config": (1, 1, 1, 1)}},
    "res16unet14a": {"planes": (3, 4, 5, 6, 7, 6, 5, 4)},
    "vit_tiny_patch16_224": {
        "centres": 16,
        "neighbours": 8,
        "image_options": {"depth": 2, "proj_drop_rate": 0.5, "attn_drop_rate": 0.5, "drop_path_rate": 0.6},
    },
    "pointnet2-ssg-scenes": {"npoint": [32, 16, 8, 4], "nsample": [8, 8, 8, 8]},
}


def made(case: str) -> CloudNetwork:
    return pl.create_model(case.split()[0], num_classes=4, voxel_size=0.1, **NETWORKS[case])


def clouds() -> pl.PointBatch:
    generator = torch.Generator().manual_seed(0)
    return pl.PointBatch.from_list([torch.rand(n, 3, generator=generator) for n in (90, 130)])


def before_the_output_layer(net: CloudNetwork, cloud: pl.PointBatch) -> list[torch.Tensor]:
    """Features that the output layer sees: those before the head, or before the decoder of a U-Net."""
    if len(net.output_modules) == 1:
        return [net.forward_features(net.as_input(cloud))]
    return [m.features for m in net.forward_intermediates(cloud, intermediates_only=True)]


@pytest.mark.parametrize("case", NETWORKS)
def test_two_forwards_in_training_mode_are_bit_equal_while_the_head_trains(case: str) -> None:
    net = made(case)
    pl.set_finetune(net, "io")
    net.train()
    cloud = clouds()
    ends = [p for n in net.output_modules for p in net.get_submodule(n).parameters()]
    optimiser = torch.optim.SGD(ends, 0.1)
    torch.manual_seed(0)
    before = before_the_output_layer(net, cloud)
    frozen = {n: b.clone() for n, b in net.named_buffers() if net.in_backbone(n)}
    weights = [p.detach().clone() for p in ends]
    for _ in range(2):
        optimiser.zero_grad()
        net(cloud).square().sum().backward()
        optimiser.step()
    after = before_the_output_layer(net, cloud)
    assert len(before) == len(after) > 0
    assert all(torch.equal(a, b) for a, b in zip(before, after))
    assert all(torch.equal(b, frozen[n]) for n, b in net.named_buffers() if net.in_backbone(n))
    assert any(not torch.equal(p, w) for p, w in zip(ends, weights)), "the output layer has learned"


@pytest.mark.parametrize("case", [c for c in NETWORKS if "drop" in str(NETWORKS[c])])
@pytest.mark.parametrize("regime", ["io+stats", "io+bn"])
def test_statistics_move_where_they_should_and_nothing_else_is_random(case: str, regime: str) -> None:
    net = made(case)
    pl.set_finetune(net, regime)
    net.train()
    norms = [m for n, m in net.named_modules() if isinstance(m, nn.BatchNorm1d) and net.in_backbone(n)]
    assert all(m.training for m in norms)
    cloud = clouds()
    torch.manual_seed(0)
    one, other = before_the_output_layer(net, cloud), before_the_output_layer(net, cloud)
    assert all(torch.equal(a, b) for a, b in zip(one, other))  # both with the batch's own statistics
    if norms:
        assert all(int(m.num_batches_tracked) == 2 for m in norms)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", [c for c in NETWORKS if "drop" in str(NETWORKS[c])])
def test_a_network_that_learns_drops(case: str) -> None:
    """Otherwise the tests above would show nothing."""
    net = made(case).train()
    cloud = clouds()
    torch.manual_seed(0)
    one, other = before_the_output_layer(net, cloud), before_the_output_layer(net, cloud)
    assert any(not torch.equal(a, b) for a, b in zip(one, other))


def test_modes_come_and_go() -> None:
    net = made("resnet18 unet")
    pl.set_finetune(net, "io")
    dropped = [m for m in net.modules() if isinstance(m, SparseDropPath)]
    assert dropped and not any(m.training for m in dropped)
    assert net.training and net.decoder.dropout.training  # type: ignore[union-attr]
    net.eval()
    assert not any(m.training for m in net.modules())
    pl.set_finetune(net, "all")
    assert all(m.training for m in net.train().modules())
