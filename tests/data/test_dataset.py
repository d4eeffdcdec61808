from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from pointlift.core.mesh import Mesh
from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError
from pointlift.data.sample import Sample
from pointlift.system.atomic import atomic_write


def read_cloud(path: str, label: int, index: int) -> Sample:
    return Sample(np.full((2, 3), index), label, path=path)


def lazy() -> CloudDataset:
    return CloudDataset.from_paths(
        [f"p{i}" for i in range(6)], [0, 1, 0, 1, -1, 0], read_cloud, ("a", "b"), "lazy", "z"
    )


def test_lazy_and_memory_agree_and_pickle() -> None:
    dataset = lazy()
    memory = CloudDataset([dataset[i] for i in range(6)], ("a", "b"), "memory", "z")
    for both in (dataset, memory, pickle.loads(pickle.dumps(dataset))):
        assert (
            len(both) == 6
            and both.labels.tolist() == [0, 1, 0, 1, -1, 0]
            and both.counts().tolist() == [3, 2]
        )
        assert both[3].xyz[0, 0] == 3 and both[-1].path == "p5"
        with pytest.raises(IndexError, match="cloud 6"):
            both[6]


def test_subset_keeps_the_original_index() -> None:
    part = lazy().subset([4, 1, -1]).subset([2, 0])
    assert [s.path for s in (part[0], part[1])] == ["p5", "p4"] == part.paths
    assert (
        part[0].xyz[0, 0] == 5
        and part.labels.tolist() == [0, -1]
        and part.classes == ("a", "b")
        and part.up_axis == "z"
    )
    with pytest.raises(IndexError, match="cloud 6"):
        lazy().subset([6])


def test_bad_datasets() -> None:
    with pytest.raises(ValueError, match="label 2 of cloud 1"):
        CloudDataset([Sample(np.zeros((1, 3)), 0), Sample(np.zeros((1, 3)), 2)], ("a", "b"))
    with pytest.raises(ValueError, match="up_axis"):
        CloudDataset([], (), up_axis="up")
    with pytest.raises(ValueError, match="1 paths but 2 labels"):
        CloudDataset.from_paths(["a"], [0, 1], read_cloud, ("a", "b"))
    for arguments in (
        {"xyz": np.zeros((3, 2))},
        {"xyz": np.zeros((3, 3)), "features": np.zeros((2, 1))},
        {"xyz": np.zeros((3, 3)), "part": np.zeros(2)},
    ):
        with pytest.raises(ValueError, match="is expected"):
            Sample(**arguments)


def test_atomic_write_replaces_on_success_only(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "result.csv"
    with atomic_write(target) as temporary:
        assert temporary.suffix == ".csv" and temporary.parent == target.parent and not target.exists()
        temporary.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old" and os.listdir(target.parent) == ["result.csv"]
    target.chmod(0o640)
    with atomic_write(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new" and target.stat().st_mode & 0o777 == 0o640
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    with atomic_write(link) as temporary:
        temporary.write_text("through")
    assert link.is_symlink() and target.read_text() == "through"
    with pytest.raises(IsADirectoryError), atomic_write(tmp_path):
        pass


class Triangles:
    """Mesh i is a triangle of side i + 1."""

    def __call__(self, index: int) -> Mesh:
        return Mesh(torch.eye(3) * (index + 1), torch.tensor([[0, 1, 2]]))


def test_meshes_stay_with_their_clouds() -> None:
    dataset = CloudDataset.from_paths(
        [f"p{i}" for i in range(6)], [0, 1, 0, 1, -1, 0], read_cloud, ("a", "b"), "lazy", "z", Triangles()
    )
    for one in (dataset, dataset.in_memory(), pickle.loads(pickle.dumps(dataset))):
        part = one.subset([4, 1, -1]).subset([2, 0]).in_memory()
        for whole in (one, part):
            for i in range(-len(whole), len(whole)):
                assert float(whole.mesh(i).vertices.max()) == float(whole[i].xyz[0, 0]) + 1
        with pytest.raises(IndexError, match="object 2 does not exist, there are 2"):
            part.mesh(2)
    assert lazy().meshes is None and lazy().subset([0]).in_memory().meshes is None
    with pytest.raises(DataError, match=r"lazy: has clouds only, no meshes; render from meshes:<folder>"):
        lazy().mesh(0)
