"""`data:` of a recipe opens every kind of source: with all its points, its own features, and no normalisation but what it asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pointlift.data.procedural.mesh_writers import write_mesh_folder
from pointlift.data.procedural.scan_writers import write_scanobjectnn, write_scanobjectnn_raw
from pointlift.data.procedural.writers import write_shapenetpart
from pointlift.experiments.clouds import load_splits, preprocessing
from pointlift.experiments.configs import DataConfig


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
    config = DataConfig(f"scanobjectnn:{root}?variant=obj-only&colors=true", n_points=64, augment=False, features="xyz+own")
    features = drawn(config, 6, False)[0]
    assert features.shape == (64, 6) and features[:, 3:].min() >= 0 and features[:, 3:].max() <= 1 and features[:, 3:].std() > 0


def test_shapenetpart_gives_categories_and_normals(tmp_path: Path) -> None:
    root = write_shapenetpart(tmp_path / "parts", 2, 1, n_points=(100, 120))
    config = DataConfig(f"shapenetpart:{root}", n_points=64, augment=False, features="xyz+own")
    features = drawn(config, 6, False)[0]
    np.testing.assert_allclose(np.linalg.norm(features[:, 3:], axis=1), 1, atol=1e-2)  # written with six digits


@pytest.mark.parametrize(("features", "channels"), [("xyz", 3), ("xyz+own", 6)])
def test_meshes_give_clouds_and_surfaces(tmp_path: Path, features: str, channels: int) -> None:
    root = write_mesh_folder(tmp_path / "meshes", 2, 1, classes=("chair", "lamp"))
    config = DataConfig(f"meshes:{root}", n_points=128, augment=False, features=features)  # type: ignore[arg-type]
    assert drawn(config, channels, False)[0].shape == (128, channels)
    train = load_splits(config, 0).train
    assert len(train) == 4 and len(train.mesh(0).faces) > 0
