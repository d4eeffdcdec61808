"""The 2D twin of PointContrast's encoder: its size in 2D and inflated,
and that it trains as an image classifier.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pointlift as pl
from pointlift.models.images.pointcontrast_resnet import PointContrastResNet, pointcontrast_resnet34


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_inflated_it_has_the_size_of_the_released_network() -> None:
    """Facts 1.5: stem 2,656, stages with the strided convolutions between them 24,611,136,
    head 10,360 for 40 classes.
    """
    net = pl.inflate(pointcontrast_resnet34(), num_classes=40)
    assert parameters(net) == 24_624_152
    assert (parameters(net.stem), parameters(net.backbone), parameters(net.head)) == (
        2_656,
        24_611_136,
        10_360,
    )
    state = net.state_dict()
    strided = {n: tuple(state[f"backbone.layer{n}.down.conv.weight"].shape) for n in (2, 3, 4)}
    assert strided == {2: (8, 32, 32), 3: (8, 64, 64), 4: (8, 128, 128)}
    assert all(state[f"backbone.layer{n}.0.shortcut.0.weight"].shape[0] == 1 for n in (2, 3, 4))
    assert not any("shifted" in note or "windows" in note for note in net.report.notes)


def test_load_stages_counts_four_stages() -> None:
    net = pl.inflate(pointcontrast_resnet34(widths=(2, 2, 3, 3), depths=(1, 1, 1, 1)), load_stages=(2, 3, 4))
    fresh = [r.name for r in net.report.rows if r.fate == "re-initialised" and r.name.startswith("layer")]
    assert fresh and all(n.startswith("layer1.") for n in fresh)
    with pytest.raises(ValueError, match="stages 1 to 4"):
        pl.inflate(pointcontrast_resnet34(widths=(2, 2, 3, 3), depths=(1, 1, 1, 1)), load_stages=(5,))


def test_pictures() -> None:
    net = pointcontrast_resnet34(num_classes=7).eval()
    with torch.inference_mode():
        assert net.forward_features(torch.zeros(1, 3, 64, 96)).shape == (1, 256, 2, 3)
        assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
        small = pointcontrast_resnet34(num_classes=0, stem="small", in_channels=1).eval()
        assert small.forward_features(torch.zeros(1, 1, 32, 32)).shape == (1, 256, 4, 4)
        assert small(torch.zeros(1, 1, 32, 32)).shape == (1, 256)


def test_it_learns_pictures() -> None:
    generator = torch.Generator().manual_seed(0)
    net = PointContrastResNet(2, (4, 4, 8, 8), (1, 1, 1, 1), stem="small", generator=generator)
    pictures = torch.randn(16, 3, 16, 16, generator=generator)
    labels = (torch.arange(16) % 2).long()
    pictures[labels == 1, 0] += 1.0
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(20):
        loss = nn.functional.cross_entropy(net(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1, "two classes that differ in one channel; guessing costs 0.69"


def test_a_seed_makes_the_weights() -> None:
    a, b = (PointContrastResNet(3, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="released none"):
        pointcontrast_resnet34(pretrained=True)
    with pytest.raises(ValueError, match="four positive widths"):
        pointcontrast_resnet34(widths=(1, 2, 3))
    with pytest.raises(ValueError, match="stem must be"):
        pointcontrast_resnet34(stem="deep")
