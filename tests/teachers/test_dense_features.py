"""Maps of frozen image networks, and looking them up at pixels."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pointlift.teachers.dense_features import DenseFeatures, sample_map

HALF = ([0.5] * 3, [0.5] * 3)


@pytest.mark.parametrize(
    ("small", "large"), [((3, 4), (96, 128)), ((5, 7), (33, 50)), ((1, 6), (7, 6)), ((9, 9), (4, 5))]
)
def test_looking_up_is_upsampling(small: tuple[int, int], large: tuple[int, int]) -> None:
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 5, *small, generator=g, dtype=torch.float64)
    whole = interpolate(maps, size=large, mode="bilinear", align_corners=False)
    rows, columns = torch.meshgrid(torch.arange(large[0]), torch.arange(large[1]), indexing="ij")
    places = torch.stack([columns.flatten(), rows.flatten()], 1).double()
    jitter = torch.rand(places.shape, generator=g, dtype=torch.float64) - 0.5  # anywhere in the pixel
    for b in range(2):
        found = sample_map(maps, large, torch.full((len(places),), b), places + 0.99 * jitter)
        torch.testing.assert_close(found, whole[b].flatten(1).t(), rtol=1e-10, atol=1e-10)


def test_gradients_flow_into_the_map() -> None:
    maps = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    places = torch.tensor([[0.2, 4.0], [5.4, 5.0]], dtype=torch.float64)
    of = torch.zeros(2, dtype=torch.long)
    assert torch.autograd.gradcheck(lambda m: sample_map(m, (6, 6), of, places), (maps,))


@pytest.mark.parametrize(
    ("name", "size", "stride", "options"),
    [
        ("resnet10t", (64, 96), 32, {}),
        ("vit_tiny_patch16_224", (32, 48), 16, {"img_size": (32, 48)}),
        ("deit_tiny_distilled_patch16_224", (32, 48), 16, {"img_size": (32, 48)}),
        ("swin_tiny_patch4_window7_224", (64, 96), 32, {"img_size": (64, 96)}),
    ],
)
def test_every_family_gives_a_map(
    name: str, size: tuple[int, int], stride: int, options: dict[str, object]
) -> None:
    net = DenseFeatures(timm.create_model(name, pretrained=False, **options), *HALF, size)
    found = net(torch.rand(2, 3, *size))
    assert found.shape == (2, net.channels, size[0] // stride, size[1] // stride)
    assert net.stride == (stride, stride)


def test_tokens_stand_where_their_patches_are() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=(32, 48))
    net = DenseFeatures(vit, *HALF, (32, 48))
    tokens = vit.eval().forward_features((torch.zeros(1, 3, 32, 48) - 0.5) / 0.5)
    found = net(torch.zeros(1, 3, 32, 48))
    torch.testing.assert_close(found[0, :, 1, 2], tokens[0, 1 + 1 * 3 + 2])


def test_it_stays_frozen_in_evaluation_mode() -> None:
    net = DenseFeatures(timm.create_model("resnet10t", pretrained=False), *HALF, (64, 64))
    net.train()
    assert not any(m.training for m in net.modules())
    assert not any(p.requires_grad for p in net.parameters())
    picture = torch.rand(2, 3, 64, 64)
    before = net(picture)
    net(torch.rand(4, 3, 64, 64))
    assert torch.equal(net(picture), before) and not before.requires_grad


def test_bytes_and_shares_are_normalised_alike() -> None:
    class Sees(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    net = DenseFeatures(Sees(), [0.1, 0.2, 0.3], [0.5, 0.4, 0.2], (8, 8), layer="")
    found = net(torch.full((1, 3, 8, 8), 51, dtype=torch.uint8))
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([0.2, 0.0, -0.5]))
    torch.testing.assert_close(net(torch.full((1, 3, 8, 8), 0.2)), found)


def test_a_layer_by_its_name() -> None:
    net = DenseFeatures(timm.create_model("resnet10t", pretrained=False), *HALF, (64, 64), layer="layer2")
    assert net(torch.rand(1, 3, 64, 64)).shape[2:] == (8, 8)
    with pytest.raises(ValueError, match="no module 'layer9'"):
        DenseFeatures(timm.create_model("resnet10t", pretrained=False), *HALF, (64, 64), layer="layer9")


def test_networks_without_a_map_are_refused() -> None:
    class Vector(nn.Module):
        def forward_features(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    with pytest.raises(ValueError, match="of which no map can be made"):
        DenseFeatures(Vector(), *HALF, (64, 64))
    with pytest.raises(ValueError, match="a map of one pixel"):
        DenseFeatures(timm.create_model("resnet10t", pretrained=False), *HALF, (32, 32))
