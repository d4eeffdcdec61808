"""S3DIS in its official text layout: tiny rooms written by hand, with the defects of the release."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from pointlift.data.errors import DataError, DataWarning, MissingDataError
from pointlift.data.scene_check import check_scenes
from pointlift.data.sources.open import available_splits, describe_source, open_clouds, open_dataset
from pointlift.data.sources.s3dis import read_s3dis, s3dis_labels

FACTS_13 = [
    "ceiling", "floor", "wall", "beam", "column", "window", "door", "table", "chair", "sofa", "bookcase",
    "board", "clutter",
]  # fmt: skip
FACTS_14 = [
    "clutter", "beam", "board", "bookcase", "ceiling", "chair", "column", "door", "floor", "sofa", "stairs",
    "table", "wall", "window",
]  # fmt: skip


def room(root: Path, area: int, name: str, objects: dict[str, list[str]]) -> Path:
    folder = root / f"Area_{area}" / name
    (folder / "Annotations").mkdir(parents=True)
    for file, lines in objects.items():
        (folder / "Annotations" / f"{file}.txt").write_bytes(
            "".join(f"{ln}\n" for ln in lines).encode("latin-1")
        )
    (folder / f"{name}.txt").write_text("".join(f"{ln}\n" for ls in objects.values() for ln in ls))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "Stanford3dDataset_v1.2_Aligned_Version"
    room(
        base,
        1,
        "office_1",
        {
            "chair_2": ["1.5 -2.25 0.125 10 20 30", "1 2 3 255 0 0"],
            "chair_10": ["0 0 0 1 1 1"],
            "stairs_1": ["4.000 5.000 6.000 0 0 255"],
            "floor_1": ["7 8 9 51 102 153"],
        },
    )
    room(base, 5, "hallway_6", {"ceiling_1": ["1 1 1 0 0 0"], "clutter_1": ["2 2 2 255 255 255"]})
    return base


def test_points_colours_labels_and_objects(root: Path) -> None:
    dataset = read_s3dis(root, "train", use=("colors",))
    assert len(dataset) == 1 and dataset.columns == ("colors",) and dataset.up_axis == "z"
    assert list(dataset.classes) == FACTS_13
    scene = dataset[0]
    # files by class, then number: chair_2, chair_10, floor_1, stairs_1
    assert scene.xyz.tolist() == [[1.5, -2.25, 0.125], [1, 2, 3], [0, 0, 0], [7, 8, 9], [4, 5, 6]]
    assert scene.part is not None and scene.instance is not None and scene.features is not None
    assert [FACTS_13[i] for i in scene.part] == ["chair", "chair", "chair", "floor", "clutter"]
    assert scene.instance.tolist() == [0, 0, 1, 2, 3]
    np.testing.assert_allclose(scene.features[3], [0.2, 0.4, 0.6], rtol=1e-6)
    assert scene.label == -1 and scene.path.endswith("office_1")


@pytest.mark.parametrize(
    ("options", "names", "stairs"),
    [
        ({}, FACTS_13, 12),
        ({"stairs": "ignore"}, FACTS_13, -1),
        ({"stairs": "class"}, [*FACTS_13, "stairs"], 13),
        ({"classes": "image2point"}, FACTS_14, 10),
        ({"classes": "pointcontrast"}, [n for n in FACTS_14 if n != "stairs"], -1),
        ({"classes": "pointcontrast", "stairs": "clutter"}, [n for n in FACTS_14 if n != "stairs"], 0),
    ],
)
def test_orders_and_stairs(root: Path, options: dict[str, str], names: list[str], stairs: int) -> None:
    text = "&".join(f"{k}={v}" for k, v in options.items())
    dataset = open_dataset(f"s3dis:{root}?{text}", "train")
    assert list(dataset.classes) == names and dataset.scene_labels is not None
    part = dataset[0].part
    assert part is not None and part[-1] == stairs and names[int(part[0])] == "chair"
    assert dataset.scene_labels.rule in dataset.account


def test_stairs_of_image2point_cannot_go() -> None:
    with pytest.raises(DataError, match="take classes=pointcontrast"):
        s3dis_labels("image2point", "ignore")


def test_splits_by_area(root: Path) -> None:
    assert available_splits(str(root)) == ("train", "test") and describe_source(str(root)) == "s3dis"
    assert [Path(p).name for p in read_s3dis(root, "test").paths] == ["hallway_6"]
    assert [Path(p).name for p in read_s3dis(root, "val").paths] == ["hallway_6"]
    assert [Path(p).name for p in read_s3dis(root, "train", test_area=1).paths] == ["hallway_6"]
    assert len(read_s3dis(root, "all")) == 2 and len(read_s3dis(root, "all", areas=["5"])) == 1
    with pytest.raises(MissingDataError, match="has the areas 1, 5"):
        read_s3dis(root, "test", test_area=3)
    with pytest.raises(MissingDataError, match="no rooms Area_4"):
        read_s3dis(root, areas=["4"])
    with pytest.raises(DataError, match="no split 'dev'"):
        read_s3dis(root, "dev")


def test_control_bytes_are_repaired_and_counted(root: Path) -> None:
    file = root / "Area_5" / "hallway_6" / "Annotations" / "ceiling_1.txt"
    # within a number (a 0 belongs there), and between two numbers
    file.write_bytes(b"1.5 2.5 103.0\x100000 7 8 9\n1 2 3 4 5 6\n22.5\x1033.5 1.25 10 20 30\n")
    dataset = read_s3dis(root, "test", use=("colors",))
    with pytest.warns(DataWarning, match=r"ceiling_1\.txt: 2 lines with a stray control byte.*first 1, 3"):
        scene = dataset[0]
    np.testing.assert_allclose(scene.xyz[:3], [[1.5, 2.5, 103.0], [1, 2, 3], [22.5, 33.5, 1.25]])


def test_stray_files_are_counted(root: Path) -> None:
    for place in ("Area_1/.DS_Store", "Area_1/office_1/.DS_Store", "Area_1/office_1/Annotations/.DS_Store"):
        (root / place).write_bytes(b"\x00\x01Bud1")
    (root / "Area_1" / "office_1" / "Annotations" / "Icon").touch()
    dataset = read_s3dis(root)
    assert "4 stray files passed over" in dataset.account and len(dataset[0]) == 5
    (root / ".DS_Store").touch()
    assert len(read_s3dis(root)) == 1


def test_aligned_and_not_are_told_apart(root: Path) -> None:
    assert "archive aligned" in read_s3dis(root).account
    with pytest.raises(DataError, match=r"no \*_alignmentAngle.txt"):
        read_s3dis(root, align=True)
    angles = root / "Area_1" / "Area_1_alignmentAngle.txt"
    angles.write_text("## Global alignment angle ##\n## Disjoint Space Name ##\noffice_1 90\n")
    whole, turned = read_s3dis(root), read_s3dis(root, align=True)
    assert "not aligned (rooms as scanned)" in whole.account and "stray" not in whole.account
    assert "turned by its angles" in turned.account
    before, after = whole[0].xyz, turned[0].xyz
    middle = (before.min(0) + before.max(0)) / 2
    dx, dy = (before - middle)[:, 0], (before - middle)[:, 1]
    np.testing.assert_allclose(after[:, 0] - middle[0], dy, atol=1e-5)  # a quarter turn back
    np.testing.assert_allclose(after[:, 1] - middle[1], -dx, atol=1e-5)
    np.testing.assert_allclose(after[:, 2], before[:, 2])
    angles.write_text("office_1 a quarter\n")
    with pytest.raises(DataError, match="line 1 is 'office_1 a quarter'"):
        read_s3dis(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1 2 3 4 5 6\n1 2 3 4 5\n", "line 2 is '1 2 3 4 5', six numbers"),
        (b"1 2 3 4 5 6\n1 2 x 4 5 6\n", "line 2 is '1 2 x 4 5 6'"),
        (b"1 2 3 4 5 6 7\n", "line 1"),
        (b"1 2 nan 4 5 6\n", "line 1"),
        (b"1 2 3 400 5 6\n", "colours outside 0-255"),
    ],
)
def test_damaged_lines_are_named(root: Path, text: bytes, message: str) -> None:
    (root / "Area_5" / "hallway_6" / "Annotations" / "clutter_1.txt").write_bytes(text)
    with pytest.raises(DataError, match=message):
        read_s3dis(root, "test")[0]


def test_other_notations_are_read_too(root: Path) -> None:
    (root / "Area_5" / "hallway_6" / "Annotations" / "clutter_1.txt").write_bytes(b"1e1 -2.5E0 3 4 5 6\n")
    assert read_s3dis(root, "test")[0].xyz[1].tolist() == [10, -2.5, 3]


def test_what_is_missing_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"Annotations/<class>_<number>.txt"):
        open_dataset(f"s3dis:{tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match=r"has no normals, so they cannot be features; it has colors"):
        read_s3dis(root, use=("normals",))
    with pytest.raises(DataError, match="unknown column 'color'"):
        read_s3dis(root, use=("color",))
    room(root, 2, "office_9", {"lamp_1": ["1 2 3 4 5 6"]})
    with pytest.raises(DataError, match="objects of the class 'lamp'"):
        read_s3dis(root)
    (root / "Area_2" / "office_9" / "Annotations" / "lamp_1.txt").write_text("")
    (root / "Area_2" / "office_9" / "Annotations" / "lamp_1.txt").rename(
        root / "Area_2" / "office_9" / "Annotations" / "beam_1.txt"
    )
    with pytest.raises(DataError, match="hold no points"):
        read_s3dis(root)[1]
    (root / "Area_3" / "office_2").mkdir(parents=True)
    with pytest.raises(DataError, match="has no folder Annotations"):
        read_s3dis(root)


def test_far_coordinates_keep_their_digits(root: Path) -> None:
    file = root / "Area_5" / "hallway_6" / "Annotations" / "clutter_1.txt"
    file.write_text("".join(f"512345.{k:03d} 5412345.5 12 0 0 0\n" for k in range(0, 900, 100)))
    scene = read_s3dis(root, "test")[0]
    origin = scene.extras["origin"]
    assert origin.dtype == np.float64 and (origin == np.floor(origin)).all() and origin[0] == 512345
    back = scene.xyz[1:].astype(np.float64) + origin
    np.testing.assert_allclose(back[:, 0], [512345 + k / 10 for k in range(9)], atol=1e-4)


def test_it_goes_to_workers_and_whole_through_open_dataset(root: Path) -> None:
    dataset = open_dataset(str(root), "train", n_points=2, use=("colors",))
    again = pickle.loads(pickle.dumps(dataset))
    assert len(dataset[0]) == len(again[0]) == 5  # scenes are never thinned out
    own = open_clouds(str(root), "train", "own")
    assert own.columns == ("colors",)


@pytest.mark.real
def test_the_real_room(real_data: Path) -> None:
    root = real_data / "s3dis" / "Stanford3dDataset_v1.2_Aligned_Version"
    scene = read_s3dis(root, "test", use=("colors",))[0]
    assert len(scene) == 120_000 and scene.part is not None and scene.features is not None
    # every point of the room's own file is there, whatever its order
    whole = np.loadtxt(root / "Area_5" / "office_1" / "office_1.txt")
    ours = np.round(scene.xyz.astype(np.float64), 3)
    assert np.array_equal(ours[np.lexsort(ours.T)], whole[np.lexsort(whole[:, :3].T), :3])
    assert (np.round(scene.features * 255) == 128).all()
    report = check_scenes(f"s3dis:{root}")
    assert report.ok and report.splits[0].neighbours[1] == pytest.approx(8.90, abs=0.02)
    assert any("no point is beam" in text for text in report.warnings)
