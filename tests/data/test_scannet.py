"""ScanNet v2 in its official layout: meshes of a few vertices written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pointlift.data.errors import DataError, DataWarning, MissingDataError
from pointlift.data.files.points import read_points
from pointlift.data.sources.open import available_splits, describe_source
from pointlift.data.sources.scannet import LABELS, read_scannet

FACTS_20 = {
    1: "wall", 2: "floor", 3: "cabinet", 4: "bed", 5: "chair", 6: "sofa", 7: "table", 8: "door", 9: "window",
    10: "bookshelf", 11: "picture", 12: "counter", 14: "desk", 16: "curtain", 24: "refrigerator",
    28: "shower curtain", 33: "toilet", 34: "sink", 36: "bathtub", 39: "otherfurniture",
}  # fmt: skip
TABLE = "id\traw_category\tnyu40id\n1\twall\t1\n2\toffice chair\t5\n3\tlamp\t35\n"
# four corners of a level square and one vertex of no triangle
XYZ = np.array([[0, 0, 1], [2, 0, 1], [2, 3, 1], [0, 3, 1], [5, 5, 5]], dtype="<f4")
FACES = [[0, 1, 2], [0, 2, 3]]


def write_ply(path: Path, xyz: np.ndarray, labels: list[int] | None = None) -> None:
    fields = [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("red", "u1"),
        ("green", "u1"),
        ("blue", "u1"),
        ("alpha", "u1"),
    ]
    head = ["property float x", "property float y", "property float z"]
    head += [f"property uchar {name}" for name in ("red", "green", "blue", "alpha")]
    if labels is not None:
        fields.append(("label", "<u2"))
        head.append("property ushort label")
    rows = np.zeros(len(xyz), dtype=fields)
    rows["x"], rows["y"], rows["z"] = xyz.T
    rows["red"], rows["green"], rows["blue"], rows["alpha"] = 51, 102, 255, 255
    if labels is not None:
        rows["label"] = labels
    faces = b"".join(bytes([3]) + np.array(f, "<i4").tobytes() for f in FACES)
    text = ["ply", "format binary_little_endian 1.0", f"element vertex {len(xyz)}", *head]
    text += [f"element face {len(FACES)}", "property list uchar int vertex_indices", "end_header", ""]
    path.write_bytes("\n".join(text).encode() + rows.tobytes() + faces)


def scan(root: Path, name: str, labels: list[int] | None = None, place: str = "scans") -> Path:
    folder = root / place / name
    folder.mkdir(parents=True)
    write_ply(folder / f"{name}_vh_clean_2.ply", XYZ)
    if labels is not None:
        write_ply(folder / f"{name}_vh_clean_2.labels.ply", XYZ, labels)
    alignment = "0 -1 0 10 1 0 0 20 0 0 1 30 0 0 0 1"
    (folder / f"{name}.txt").write_text(f"axisAlignment = {alignment}\ncolorHeight = 968\n")
    return folder


def annotate(folder: Path, segments: list[int], groups: list[tuple[str, list[int]]]) -> None:
    name = folder.name
    (folder / f"{name}_vh_clean_2.0.010000.segs.json").write_text(json.dumps({"segIndices": segments}))
    content = {"segGroups": [{"id": i, "label": la, "segments": s} for i, (la, s) in enumerate(groups)]}
    (folder / f"{name}.aggregation.json").write_text(json.dumps(content))
    (folder.parent.parent / "scannetv2-labels.combined.tsv").write_text(TABLE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    scan(tmp_path, "scene0000_00", [1, 5, 39, 40, 0])
    scan(tmp_path, "scene0011_00", [2, 2, 2, 2, 2])
    scan(tmp_path, "scene0707_00", None, "scans_test")
    for split, name in (("train", "scene0000_00"), ("val", "scene0011_00"), ("test", "scene0707_00")):
        (tmp_path / f"scannetv2_{split}.txt").write_text(f"{name}\n")
    return tmp_path


def test_the_classes_are_the_benchmarks() -> None:
    assert LABELS.names == tuple(FACTS_20.values()) and list(LABELS.written) == list(FACTS_20)
    everything = np.arange(41)
    expected = [list(FACTS_20).index(i) if i in FACTS_20 else -1 for i in range(41)]
    assert LABELS.map(everything, "a file").tolist() == expected


def test_vertices_colours_labels(root: Path) -> None:
    dataset = read_scannet(root, "train", use=("colors",))
    scene = dataset[0]
    assert np.array_equal(scene.xyz, XYZ) and dataset.columns == ("colors",)
    assert scene.features is not None and scene.part is not None
    np.testing.assert_allclose(scene.features, np.tile([0.2, 0.4, 1.0], (5, 1)), rtol=1e-6)
    assert scene.part.tolist() == [0, 4, 19, -1, -1] and scene.instance is None
    assert describe_source(str(root)) == "scannet" and available_splits(str(root)) == ("train", "val", "test")


def test_normals_of_the_mesh(root: Path) -> None:
    scene = read_scannet(root, "train", use=("normals", "colors"))[0]
    assert scene.features is not None and scene.features.shape == (5, 6)
    np.testing.assert_allclose(scene.features[:, :3], [[0, 0, 1]] * 4 + [[0, 0, 0]], atol=1e-7)


def test_segments_and_aggregation_give_the_same_and_instances(root: Path) -> None:
    folder = root / "scans" / "scene0000_00"
    annotate(folder, [10, 11, 12, 12, 13], [("wall", [10]), ("office chair", [11, 12]), ("lamp", [13])])
    with_ply = read_scannet(root)[0]
    assert with_ply.instance is not None and with_ply.instance.tolist() == [0, 1, 1, 1, 2]
    (folder / "scene0000_00_vh_clean_2.labels.ply").unlink()
    scene = read_scannet(root)[0]
    assert scene.part is not None and scene.part.tolist() == [0, 4, 4, 4, -1]  # a lamp is none of the 20
    assert scene.instance is not None and scene.instance.tolist() == [0, 1, 1, 1, 2]


def test_glitches_are_mapped_and_counted(root: Path) -> None:
    folder = root / "scans" / "scene0000_00"
    write_ply(folder / "scene0000_00_vh_clean_2.labels.ply", XYZ, [50, 1, 149, 50, 2])
    with pytest.warns(DataWarning, match="3 vertices have the labels 50 or 149"):
        scene = read_scannet(root)[0]
    assert scene.part is not None and scene.part.tolist() == [-1, 0, -1, -1, 1]
    write_ply(folder / "scene0000_00_vh_clean_2.labels.ply", XYZ, [41, 1, 1, 1, 1])
    with pytest.raises(DataError, match="1 points have the labels 41"):
        read_scannet(root)[0]


def test_the_test_split_has_no_labels(root: Path) -> None:
    dataset = read_scannet(root, "test")
    assert (np.asarray(dataset[0].part) == -1).all() and "no labels" in dataset.account


def test_scans_are_turned_to_the_axes_only_if_asked(root: Path) -> None:
    assert "not turned" in read_scannet(root).account
    scene = read_scannet(root, axis_align=True, use=("normals",))[0]
    x, y, z = XYZ.T
    np.testing.assert_allclose(scene.xyz, np.stack([10 - y, 20 + x, 30 + z], axis=1))
    file = root / "scans" / "scene0000_00" / "scene0000_00.txt"
    file.write_text("colorHeight = 968\naxisAlignment = 1 0 0\n")
    with pytest.raises(DataError, match=r"scene0000_00\.txt: line 2"):
        read_scannet(root, axis_align=True)[0]
    file.write_text("colorHeight = 968\n")
    with pytest.raises(DataError, match="no line 'axisAlignment = '"):
        read_scannet(root, axis_align=True)[0]
    file.unlink()
    with pytest.raises(MissingDataError, match="axisAlignment"):
        read_scannet(root, axis_align=True)[0]
    assert len(read_scannet(root)[0]) == 5


def test_what_is_missing_is_said(root: Path) -> None:
    scan(root, "scene0001_00")
    (root / "scannetv2_train.txt").write_text("scene0000_00\nscene0001_00\n")
    with pytest.raises(MissingDataError, match="1 of 2 scans have no labels"):
        read_scannet(root)
    (root / "scannetv2_train.txt").write_text("scene0000_00\nscene0002_00\n")
    with pytest.raises(
        MissingDataError, match=r"scene0002_00_vh_clean_2.ply, which scannetv2_train.txt lists \(1 of 2"
    ):
        read_scannet(root)
    (root / "scannetv2_val.txt").unlink()
    with pytest.raises(MissingDataError, match=r"no scannetv2_val\.txt"):
        read_scannet(root, "val")
    with pytest.raises(DataError, match="no split 'dev'"):
        read_scannet(root, "dev")
    with pytest.raises(DataError, match="has no intensity"):
        read_scannet(root, "test", use=("intensity",))


def test_without_lists_there_is_the_split_all(root: Path) -> None:
    for file in root.glob("*.txt"):
        file.unlink()
    assert available_splits(f"scannet:{root}") == ("all",) and len(read_scannet(root, "all")) == 2


def test_counts_that_differ_are_refused(root: Path) -> None:
    folder = root / "scans" / "scene0000_00"
    write_ply(folder / "scene0000_00_vh_clean_2.labels.ply", XYZ[:4], [1, 1, 1, 1])
    with pytest.raises(DataError, match="labels 4 vertices but the mesh has 5"):
        read_scannet(root)[0]
    annotate(folder, [1, 2, 3], [("wall", [1])])
    with pytest.raises(DataError, match="segments of 3 vertices but the mesh has 5"):
        read_scannet(root)[0]
    annotate(folder, [1, 2, 3, 4, 5], [("piano", [1])])
    with pytest.raises(DataError, match="label 'piano', which scannetv2-labels"):
        read_scannet(root)[0]
    (root / "scannetv2-labels.combined.tsv").unlink()
    with pytest.raises(MissingDataError, match=r"scannetv2-labels\.combined\.tsv: no such file"):
        read_scannet(root)[0]
    (folder / "scene0000_00.aggregation.json").write_text("{}")
    (root / "scannetv2-labels.combined.tsv").write_text(TABLE)
    with pytest.raises(DataError, match="no list 'segGroups'"):
        read_scannet(root)[0]


@pytest.mark.real
def test_the_real_points(real_data: Path) -> None:
    cloud = read_points(real_data / "scannet" / "scene0000_00.bin")
    assert (
        len(cloud) == 40_684
        and cloud.colors is not None
        and 0 <= cloud.colors.min() <= cloud.colors.max() <= 1
    )
