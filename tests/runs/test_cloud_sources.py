"""`data:` of a recipe opens every kind of source: with all its points, its own features,
and no normalisation but what it asks for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

import pointlift
from pointlift.commands.main import main
from pointlift.data.config import DataConfig
from pointlift.data.procedural.writers.objects import (
    MODELNET40_CLASSES,
    write_modelnet_txt,
    write_shapenetpart,
)
from pointlift.data.training_clouds import load_splits, preprocessing
from pointlift.tasks import open_task
from pointlift.tasks.classify import Classify
from pointlift.weights.checkpoints import save_checkpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from folder_writers import write_mesh_folder
from scan_writers import write_scanobjectnn, write_scanobjectnn_raw


def drawn(config: DataConfig, channels: int, training: bool) -> list[np.ndarray]:
    """The first training cloud under three seeds, as the network sees it."""
    cloud, transform = load_splits(config, 0).train[0], preprocessing(config, channels, training)
    return [np.asarray(transform(cloud, np.random.default_rng(seed)).features) for seed in range(3)]


def test_scanobjectnn_thins_at_random_in_training(tmp_path: Path) -> None:
    root = write_scanobjectnn(tmp_path / "scans", 2, 1, 256, variants=("pb-t50-rs",))
    config = DataConfig(f"scanobjectnn:{root}?variant=pb-t50-rs", n_points=64, augment=False)
    one, two, _ = drawn(config, 3, True)
    assert one.shape == (64, 3) and not np.array_equal(one, two)
    assert len(load_splits(config, 0).train[0]) == 256
    first, again, _ = drawn(config, 3, False)
    assert np.array_equal(first, again)


def test_coloured_scans_give_their_colours(tmp_path: Path) -> None:
    root = write_scanobjectnn_raw(tmp_path / "scans", 2, 1)
    config = DataConfig(
        f"scanobjectnn:{root}?variant=obj-only&colors=true", n_points=64, augment=False, features="xyz+own"
    )
    features = drawn(config, 6, False)[0]
    assert (
        features.shape == (64, 6)
        and features[:, 3:].min() >= 0
        and features[:, 3:].max() <= 1
        and features[:, 3:].std() > 0
    )


def test_shapenetpart_gives_categories_and_normals(tmp_path: Path) -> None:
    root = write_shapenetpart(tmp_path / "parts", 2, 1, n_points=(100, 120))
    config = DataConfig(f"shapenetpart:{root}", n_points=64, augment=False, features="xyz+own")
    features = drawn(config, 6, False)[0]
    # written with six digits
    np.testing.assert_allclose(np.linalg.norm(features[:, 3:], axis=1), 1, atol=1e-2)


@pytest.mark.parametrize(("features", "channels"), [("xyz", 3), ("xyz+own", 6)])
def test_meshes_give_clouds_and_surfaces(tmp_path: Path, features: str, channels: int) -> None:
    root = write_mesh_folder(tmp_path / "meshes", 2, 1, classes=("chair", "lamp"))
    config = DataConfig(f"meshes:{root}", n_points=128, augment=False, features=features)  # type: ignore[arg-type]
    assert drawn(config, channels, False)[0].shape == (128, channels)
    train = load_splits(config, 0).train
    assert len(train) == 4 and len(train.mesh(0).faces) > 0


def test_training_points_are_random_ones_of_a_farthest_point_sample(tmp_path: Path) -> None:
    root, rng = tmp_path / "clouds", np.random.default_rng(0)
    for name in ("a", "b"):
        for split in ("train", "test"):
            (root / split / name).mkdir(parents=True)
            np.save(root / split / name / "0.npy", rng.random((400, 3), dtype=np.float32) ** 3)
    config = DataConfig(f"folder:{root}", n_points=80, augment=False, normalise="none", batch_size=2)
    spread = replace(config, fps_points=80, read_points=400)
    cloud = load_splits(spread, 0).train[0].xyz
    for chosen in drawn(spread, 3, True):
        covered = cdist(cloud, chosen).min(axis=1).max()
        assert covered <= pdist(chosen).min(), (
            "no point is farther from the chosen ones than they are from each other: that is greedy"
        )
        assert all((cloud == point).all(1).any() for point in chosen)
    one, two, _ = (set(map(tuple, c)) for c in drawn(spread, 3, True))
    assert one != two, "the first one is random"
    fewer = set(map(tuple, drawn(replace(spread, n_points=60), 3, True)[0]))
    assert len(fewer) == 60 and fewer < one, "random ones of the chosen, whose draw comes first"
    # evaluation is as it was
    np.testing.assert_array_equal(drawn(config, 3, False)[0], drawn(spread, 3, False)[0])


def test_a_text_file_is_read_as_far_as_training_needs_it(tmp_path: Path) -> None:
    root = write_modelnet_txt(tmp_path / "clouds", 1, 1, 200, classes=MODELNET40_CLASSES)
    config = DataConfig(f"modelnet:{root}", n_points=32, fps_points=64, read_points=128, augment=False)
    splits = load_splits(config, 0)
    assert len(splits.train[0]) == 128 and len(splits.val[0]) == 32
    assert drawn(config, 3, True)[0].shape == (32, 3)


@pytest.mark.parametrize(
    ("n_points", "chosen", "read"),
    [(64, 32, 128), (64, 128, 100), (None, 64, 128), (64, 128, None), (64, None, 128)],
)
def test_numbers_of_points_that_do_not_fit(
    n_points: int | None, chosen: int | None, read: int | None
) -> None:
    with pytest.raises(ValueError, match="n_points <= fps_points <= read_points, or null for the last two"):
        DataConfig(n_points=n_points, fps_points=chosen, read_points=read)


def coloured_meshes(folder: Path) -> str:
    return f"meshes:{write_mesh_folder(folder, 2, 1, classes=('chair', 'lamp'))}"


def shapes_with_normals(folder: Path) -> str:
    return f"shapenetpart:{write_shapenetpart(folder, 2, 1, n_points=(100, 120), classes=('chair', 'lamp'))}"


@pytest.mark.parametrize("write", [coloured_meshes, shapes_with_normals])
def test_evaluation_sees_the_features_that_were_trained_with(
    tmp_path: Path, write: Callable[[Path], str]
) -> None:
    source = write(tmp_path / "data")
    config = DataConfig(source, n_points=64, features="xyz+own")
    test, transform = load_splits(config, 3).val, preprocessing(config, 6, training=False)
    net = pointlift.create_model("fractal_resnet", num_classes=len(test.classes), in_channels=6)
    stored = {
        "image_model": "fractal_resnet", "inflate": net.arguments, "num_classes": len(test.classes),
        "classes": list(test.classes), "in_channels": 6, "features": "xyz+own", "voxel_size": 0.2,
        "up_axis": "y", "regime": "all", "n_points": 64,
    }  # fmt: skip
    checkpoint = str(save_checkpoint(tmp_path / "model.safetensors", net, stored))
    task = open_task(checkpoint)
    assert isinstance(task, Classify)
    seen = task.prepared(task.open(source, "test", 3))
    for index, sample in enumerate(seen):
        expected = transform(test[index], np.random.default_rng(0))
        assert np.array_equal(sample.features, expected.features) and sample.label == expected.label  # type: ignore[arg-type]
    assert main(["evaluate", checkpoint, "--data", source, "--out", str(tmp_path / "evaluation")]) == 0
