"""Features of all points of a cloud: what is worked out in blocks is what was computed at once."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from tiny_checkpoints import classifier

import pointlift
from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.errors import DataError
from pointlift.inflation import inflate
from pointlift.models.images.fractal_resnet import fractal_resnet
from pointlift.nn import CloudNetwork
from pointlift.ops.interpolate import three_nn_interpolate
from pointlift.tasks import point_features
from pointlift.tasks.point_features import PointFeatures, feature_colors, interpolated, point_map


def some(n: int, centres: int, channels: int, neighbours: int) -> PointFeatures:
    rng = np.random.default_rng(n)
    return PointFeatures(
        rng.normal(size=(n, 3)).astype(np.float32),
        rng.normal(size=(centres, 3)),
        rng.normal(size=(centres, channels)).astype(np.float32),
        neighbours,
        lambda d: 1.0 / (d + 0.1),
    )


@pytest.mark.parametrize(("n", "centres", "neighbours"), [(1000, 40, 8), (1000, 40, 1), (7, 3, 8), (1, 1, 1)])
def test_blocks_are_what_one_array_would_be(
    n: int, centres: int, neighbours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = some(n, centres, 5, neighbours)
    k = min(neighbours, centres)
    distance, row = (np.asarray(a).reshape(-1, k) for a in cKDTree(found.centres).query(found.points, k=k))
    weight = 1.0 / (distance + 0.1)
    weight /= weight.sum(1, keepdims=True)
    expected = np.asarray((found.values[row] * weight[:, :, None]).sum(1), dtype=np.float32)
    monkeypatch.setattr(point_features, "BLOCK", 1)
    blocks = list(found.blocks())
    assert len(blocks) == -(-n // 256) and all(b.dtype == np.float32 for b in blocks)
    assert np.array_equal(np.concatenate(blocks), expected) and np.array_equal(found.array(), expected)


def test_colours_of_small_clouds_are_those_of_all_features_and_of_large_ones_nearly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = some(3000, 60, 7, 8)
    at_once = feature_colors(found.array())
    assert np.array_equal(found.colors(), at_once)
    monkeypatch.setattr(point_features, "WHOLE", 0)
    assert np.allclose(found.colors(), at_once, atol=1e-5)
    monkeypatch.setattr(point_features, "DRAWN", 1500)
    drawn = found.colors()
    assert drawn.min() == 0 and drawn.max() == 1 and abs(np.corrcoef(drawn[:, 0], at_once[:, 0])[0, 1]) > 0.99
    narrow = some(3000, 60, 2, 8).colors()  # fewer channels than colours
    assert narrow.shape == (3000, 3) and not narrow[:, 2].any() and narrow[:, :2].any()


def test_many_points_take_less_than_200_bytes_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all neighbours' features at once would be 6 kB a point."""
    monkeypatch.setattr(point_features, "BLOCK", 2**20)
    found = some(100_000, 50, 64, 8)
    held = found.points.nbytes
    tracemalloc.start()
    try:
        for _ in found.blocks():
            pass
        of_blocks = tracemalloc.get_traced_memory()[1]
        colors = found.colors()
        of_colors = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(colors) * found.channels > point_features.WHOLE  # none of the small clouds
    assert of_blocks < 2**22 and held + of_colors < 200 * len(colors)


def test_maps_of_points_are_interpolated_as_pointnet2_does() -> None:
    found = some(500, 30, 4, 3)
    mine = interpolated(found.points, found.centres.astype(np.float32), found.values).array()
    expected = three_nn_interpolate(
        torch.from_numpy(found.values),
        torch.from_numpy(found.centres.astype(np.float32)),
        torch.from_numpy(found.points),
        torch.tensor([0, 30]),
        torch.tensor([0, 500]),
    )
    assert np.allclose(mine, expected.numpy(), atol=1e-5)


class PerPoint(CloudNetwork):
    """An MLP of each point and a maximum, as PointNet."""

    takes = "points"

    def __init__(self) -> None:
        super().__init__({"in_channels": 3, "num_classes": 2}, ["points"])
        self.points, self.head = torch.nn.Linear(3, 6), torch.nn.Linear(6, 2)

    @property
    def feature_info(self) -> list[dict[str, object]]:
        return [{"num_chs": 6, "reduction": 1, "module": "points"}]

    def forward_features(self, cloud: PointBatch) -> torch.Tensor:
        parts = self.points(cloud.xyz).split(cloud.offsets.diff().tolist())
        return torch.stack([part.amax(0) for part in parts])


def networks() -> dict[str, CloudNetwork]:
    torch.manual_seed(0)
    make = pointlift.create_model
    return {
        "pointnet2-ssg": make("pointnet2-ssg", num_classes=2),
        "dgcnn": make("dgcnn", num_classes=2, k=5, widths=[8, 12], embedding=16, head=[8]),
        "pointmlp-elite": make("pointmlp-elite", num_classes=2),
        "rscnn": make("rscnn", num_classes=2),
        "per point": PerPoint(),
        "inflated": inflate(fractal_resnet(), num_classes=2),
    }


@pytest.mark.parametrize(
    "name", ["pointnet2-ssg", "dgcnn", "pointmlp-elite", "rscnn", "per point", "inflated"]
)
def test_every_network_with_a_map_has_features_of_points(name: str) -> None:
    net = networks()[name].eval()
    rng = np.random.default_rng(0)
    seen = rng.uniform(-0.5, 0.5, (96, 3)).astype(np.float32)
    points = np.concatenate([seen[:10], rng.uniform(-0.5, 0.5, (40, 3)).astype(np.float32)])
    batch = PointBatch.from_list([torch.from_numpy(seen)])
    found = point_map(net, batch, seen, points)
    assert found is not None and found.array().shape == (50, net.feature_info[-1]["num_chs"])
    assert np.isfinite(found.array()).all()
    if name in ("dgcnn", "per point"):  # points that the network saw have their own feature
        own = net.forward_map(batch).features.detach().numpy()
        assert np.allclose(found.array()[:10], own[:10], atol=1e-4)


def test_a_network_of_pictures_has_none(tmp_path: Path) -> None:
    net = pointlift.create_model("simpleview", num_classes=2, width=4, image_size=32).eval()
    seen = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 3)).astype(np.float32)
    assert point_map(net, PointBatch.from_list([torch.from_numpy(seen)]), seen, seen) is None
    predictor = pointlift.Predictor(classifier(tmp_path / "net.safetensors", "ab", n_points=32))
    assert predictor.has_point_features
    predictor.net = net
    del predictor.__dict__["has_point_features"]
    with pytest.raises(DataError, match="SimpleView has no features on voxels, so none per point"):
        predictor.embed(seen, per="point")


def test_a_predictor_gives_features_of_points_of_pointnet2(tmp_path: Path) -> None:
    predictor = pointlift.Predictor(classifier(tmp_path / "net.safetensors", "ab", n_points=64))
    xyz = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    features = predictor.embed(xyz, per="point")
    assert features.shape == (200, 48) and np.isfinite(features).all() and features.std(0).max() > 0
    blocks = list(predictor.task.embed_points(predictor.read(xyz)))
    assert np.array_equal(np.concatenate(blocks), features)
    colors, labels = predictor.task.colors(predictor.read(xyz), predictor(xyz))
    assert colors.shape == (200, 3) and not labels and colors.min() >= 0 and colors.max() <= 1
    assert predictor.task.view(predictor.read(xyz)).colors is not None
