"""Made scenes, written in official layouts and read by the real readers: the same points and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pointlift.data.dataset import CloudDataset
from pointlift.data.procedural.streets import Lidar
from pointlift.data.procedural.writers.rooms import s3dis_scan, write_s3dis
from pointlift.data.procedural.writers.scannet import write_scannet
from pointlift.data.procedural.writers.streets import write_semantickitti
from pointlift.data.sources.open import open_dataset
from pointlift.data.sources.pointcept import write_scene
from pointlift.data.sources.semantickitti_submission import check_submission, write_submission

SMALL = Lidar(beams=16, azimuths=128)


def test_s3dis(tmp_path: Path) -> None:
    root = write_s3dis(tmp_path / "Stanford3dDataset_v1.2_Aligned_Version", {1: 1, 5: 1}, 1500, 3)
    for split, area in (("train", 1), ("test", 5)):
        read = open_dataset(f"s3dis:{root}", split, None, use=("colors",))
        assert len(read) == 1 and read.scene_labels is not None
        found = read[0]
        _, made = s3dis_scan(area, 0, 1500, 3)
        assert made.part is not None and found.part is not None and made.features is not None
        assert found.features is not None
        origin = found.extras.get("origin", np.zeros(3))
        ours, theirs = (
            np.lexsort(np.column_stack([np.round(xyz, 3), part]).T)
            for xyz, part in ((made.xyz.astype(float), made.part), (found.xyz + origin, found.part))
        )
        assert np.allclose(made.xyz[ours], (found.xyz + origin)[theirs], atol=2e-3)
        assert np.array_equal(made.part[ours], found.part[theirs])
        assert np.allclose(made.features[ours], found.features[theirs], atol=0.003)


def test_semantickitti_and_its_submissions(tmp_path: Path) -> None:
    root = write_semantickitti(tmp_path / "dataset", {0: 1, 8: 1, 11: 1}, SMALL, 2)
    made: CloudDataset = open_dataset(f"semantickitti:{root}", "val", None, use=("intensity",))
    sample = made[0]
    raw = np.fromfile(root / "sequences/08/velodyne/000000.bin", "<f4").reshape(-1, 4)
    assert np.array_equal(sample.xyz, raw[:, :3]) and sample.part is not None and (sample.part >= 0).any()
    test = open_dataset(f"semantickitti:{root}", "test", None)
    assert test[0].part is not None and (test[0].part == -1).all()
    labels = np.arange(len(test[0])) % 19
    assert write_submission(tmp_path / "out", [(test.paths[0], labels)]) == 1
    written = np.fromfile(tmp_path / "out/sequences/11/predictions/000000.label", "<u4")
    again = test.scene_labels
    assert again is not None and np.array_equal(again.map(written, "x"), labels)
    report = check_submission(tmp_path / "out", root, ("11",))
    assert not report.problems


def test_scannet(tmp_path: Path) -> None:
    root = write_scannet(tmp_path / "scannet", 1, 1, edge=0.5, seed=4)
    for split in ("train", "val"):
        read = open_dataset(f"scannet:{root}", split, None, use=("colors",))
        sample = read[0]
        assert sample.part is not None and len(read.classes) == 20
        found = {read.classes[i] for i in np.unique(sample.part[sample.part >= 0])}
        assert {"wall", "floor"} <= found
        floor = sample.xyz[sample.part == read.classes.index("floor")]
        assert np.ptp(floor[:, 2]) < 0.05, "scans are turned about z alone"


def test_a_scene_as_arrays_and_back(tmp_path: Path) -> None:
    made = open_dataset("procedural:rooms?train=1&points=800", "train", None, use=("colors",))
    assert made.scene_labels is not None
    write_scene(tmp_path / "arrays" / "train" / "room", made[0], made.columns)
    read = open_dataset(
        f"pointcept:{tmp_path / 'arrays'}?classes={','.join(made.classes)}", "train", None, use=("colors",)
    )
    there, here = read[0], made[0]
    assert there.features is not None and here.features is not None
    assert there.part is not None and here.part is not None
    assert np.array_equal(there.xyz, here.xyz) and np.array_equal(there.part, here.part)
    assert np.abs(there.features - here.features).max() <= 0.5 / 255 + 1e-6, "colours are bytes there"
