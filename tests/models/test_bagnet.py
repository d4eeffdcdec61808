"""BagNets as image networks: each feature sees a patch of its size and no more, and they inflate."""

from __future__ import annotations

import pytest
import torch

import pointlift as pl
from pointlift.models.images.bagnet import BagNet, bagnet9, bagnet17, bagnet33

SMALL = {"layers": (1, 2, 1, 1), "widths": (4, 4, 8, 8), "num_classes": 3}


@pytest.mark.parametrize("build, field", [(bagnet9, 9), (bagnet17, 17), (bagnet33, 33)])
def test_a_feature_sees_its_patch_exactly(build: type[BagNet], field: int) -> None:
    net = build(widths=(4, 4, 8, 8)).double().eval()
    assert net.receptive_field == field
    picture = torch.randn(
        4, 3, 57, 57, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).requires_grad_()
    features = net.forward_features(picture)
    assert features.shape[2:] == ((57 - field) // 8 + 1, (57 - field) // 8 + 1)
    seen = torch.autograd.grad(features[:, :, 1, 2].abs().sum(), picture)[0].abs().sum((0, 1)) > 0
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    assert (int(rows.min()), int(rows.max())) == (8, 8 + field - 1)
    assert (int(columns.min()), int(columns.max())) == (16, 16 + field - 1)


def test_logits_are_the_mean_over_patches() -> None:
    net = bagnet9(**SMALL).eval()
    picture = torch.randn(1, 3, 25, 25, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        patches = torch.cat([picture[:, :, y : y + 9, x : x + 9] for y in (0, 8, 16) for x in (0, 8, 16)])
        assert torch.allclose(net(patches).mean(0), net(picture)[0], atol=1e-5)


@pytest.mark.parametrize("stem", ["linear", "inflate"])
def test_it_inflates_and_says_that_windows_are_centred(stem: str) -> None:
    net = pl.inflate(bagnet33(**SMALL), num_classes=4, stem=stem)
    assert any("centred on voxels" in note for note in net.report.notes)
    voxels = pl.voxelize(pl.PointBatch.from_list([torch.rand(50, 3), torch.rand(30, 3)]), 0.1)
    assert torch.isfinite(net.eval()(voxels)).all()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="bagnet17 has no weights"):
        bagnet17(pretrained=True)
    with pytest.raises(ValueError, match="expected four of each"):
        BagNet(kernel3=(1, 1))
    with pytest.raises(ValueError, match="patches of 17 x 17 pixels, got pictures of 16 x 40"):
        bagnet17(**SMALL)(torch.zeros(1, 3, 16, 40))
