"""The pictures of a recipe: what they show, which objects they are of,
and that their key tells apart what differs.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError
from pointlift.data.pictures.config import ViewConfig
from pointlift.data.pictures.load import load_views
from pointlift.data.pictures.sources import ProjectedViews
from pointlift.data.sample import Sample
from pointlift.data.training_clouds import load_splits
from pointlift.views import simple_view_images

DATA = DataConfig(
    classes=["table", "mug", "aeroplane"], train_per_class=6, test_per_class=4, n_points=200, batch_size=6
)
VIEWS = ViewConfig(size=24)


def test_projections_are_simpleviews_of_the_very_clouds_that_the_student_sees() -> None:
    source = load_views(VIEWS, DATA, 3).train
    clouds = load_splits(DATA, 3).train
    images = source.images([4, 0])
    assert images.shape == (2, 6, 3, 24, 24) and images.dtype == torch.float32
    for row, index in enumerate((4, 0)):
        xyz = torch.from_numpy(clouds[index].xyz[:200])
        xyz = xyz - xyz.double().mean(0).float()
        # the unit sphere is that of all points of the cloud,
        # of which the embedded shapes have exactly n_points
        xyz = xyz / xyz.norm(dim=1).max()
        expected = simple_view_images(PointBatch.from_list([xyz]), 24)[0] / 2.4
        wrong = (images[row] - expected[:, None]).abs() > 1e-4
        assert float(wrong.float().mean()) < 0.01, "a point on the edge of a pixel may fall beside it"
    assert float(images.min()) == 0 and 0.9 < float(images.max()) <= 1


@pytest.mark.parametrize("scale", [1000.0, 1e-3])
def test_clouds_in_other_units_are_named(scale: float) -> None:
    """Millimetres without normalisation: the cameras would stand within the cloud, or see it in one pixel."""
    samples = [Sample((scale * np.eye(3)).astype(np.float32), 0, path="scan.ply") for _ in range(2)]
    dataset = CloudDataset(samples, ["chair"])
    data = replace(DATA, normalise="none")
    with pytest.raises(DataError, match=r"scan\.ply: reaches .* from the origin.*unit-sphere"):
        ProjectedViews(dataset, VIEWS, data, 0).images([0])
    assert ProjectedViews(dataset, VIEWS, DATA, 0).images([0]).max() > 0


def test_closeness_is_bright_where_depth_is_small() -> None:
    depth, near = (
        load_views(replace(VIEWS, shade=shade), DATA, 0).train.images([1]) for shade in ("depth", "closeness")
    )  # type: ignore
    hit = depth > 0
    assert torch.equal(hit, near > 0)
    torch.testing.assert_close(near[hit], 1 - 0.4 * (2.4 * depth[hit] - 0.4))
    assert float(near[hit].min()) >= 0.2 - 1e-6


@pytest.mark.parametrize("share", [{"share": 0.34}, {"shots": 2}, {"val_fraction": 0.3, "shots": 2}])
@pytest.mark.parametrize("seed", [0, 5])
def test_few_shot_draws_are_those_of_other_methods(share: dict[str, float], seed: int) -> None:
    data = replace(DATA, **share)  # type: ignore[arg-type]
    views, clouds = load_views(VIEWS, data, seed), load_splits(data, seed)
    for ours, theirs in ((views.train, clouds.train), (views.val, clouds.val), (views.test, clouds.test)):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert len(ours) == len(theirs) and ours.dataset.labels.tolist() == theirs.labels.tolist()
            assert all(np.array_equal(ours.dataset[i].xyz, theirs[i].xyz) for i in range(len(ours)))


def test_augmentation_is_a_function_of_seed_epoch_and_object() -> None:
    source = load_views(replace(VIEWS, augment=True), DATA, 3).train
    assert torch.equal(source.images([2, 5], epoch=1)[1], source.images([5], epoch=1)[0])
    assert not torch.equal(source.images([5], epoch=1), source.images([5], epoch=2))
    clean = load_views(VIEWS, DATA, 3).train
    assert torch.equal(source.images([5]), clean.images([5])), "without an epoch the objects are as they are"
    assert torch.equal(clean.images([5], epoch=1), clean.images([5]))
    assert source.key == clean.key, "features do not depend on how the network was trained"
    assert torch.equal(pickle.loads(pickle.dumps(source)).images([5], epoch=1), source.images([5], epoch=1))


def test_the_key_changes_with_the_renderer_its_settings_and_the_data() -> None:
    usual = load_views(VIEWS, DATA, 0).train.key
    assert usual == load_views(VIEWS, DATA, 7).train.key, (
        "the seed of a run changes neither objects nor pictures"
    )
    others = [
        load_views(replace(VIEWS, **change), DATA, 0).train.key  # type: ignore[arg-type]
        for change in ({"size": 25}, {"splat": 2}, {"shade": "closeness"})
    ]
    others += [
        load_views(VIEWS, replace(DATA, **change), 0).train.key  # type: ignore[arg-type]
        for change in (
            {"n_points": 199},
            {"normalise": "none"},
            {"shapes_seed": 1},
            {"shots": 3},
            {"classes": ["table", "mug", "chair"]},
        )
    ]
    others.append(load_views(VIEWS, DATA, 0).val.key)
    assert len({usual, *others}) == len(others) + 1


def test_the_key_sees_a_single_coordinate() -> None:
    source = load_views(VIEWS, DATA, 0).train
    samples = [source.dataset[i] for i in range(len(source))]
    xyz = samples[3].xyz.copy()
    xyz[7, 1] += 1e-3
    changed = CloudDataset(
        [*samples[:3], replace(samples[3], xyz=xyz), *samples[4:]],
        source.dataset.classes,
        source.dataset.name,
    )
    same = CloudDataset(samples, source.dataset.classes, source.dataset.name)
    keys = [type(source)(dataset, VIEWS, DATA, 0).key for dataset in (same, changed)]  # type: ignore[call-arg]
    assert keys[0] == source.key != keys[1]


def test_bad_views(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size is 0 and splat 1, expected at least 1"):
        ViewConfig(size=0)
    source = load_views(VIEWS, DATA, 0).train
    with pytest.raises(IndexError, match="object 18 does not exist, there are 18"):
        source.images([0, 18])
    assert source.images([]).shape == (0, 6, 3, 24, 24)
    empty = CloudDataset([Sample(np.zeros((0, 3), np.float32), 0)], ["a"])
    with pytest.raises(ValueError, match="cloud of 0 points"):
        type(source)(empty, VIEWS, DATA, 0).images([0])  # type: ignore[call-arg]
