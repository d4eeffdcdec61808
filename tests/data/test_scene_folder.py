"""The user's own scans: every format, labels in columns and beside, names, splits, and what goes wrong."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from pointlift.data.errors import DataError, DataWarning, MissingDataError
from pointlift.data.files.scans import read_scan
from pointlift.data.sources.class_names import read_class_file
from pointlift.data.sources.open import available_splits, open_clouds, open_dataset
from pointlift.data.sources.scene_columns import need_labels
from pointlift.data.sources.scene_folder import read_scene_folder

N = 12
RNG = np.random.default_rng(7)
XYZ = RNG.uniform(-5, 5, (N, 3)).round(3)
RGB = RNG.integers(0, 256, (N, 3))
LABELS = np.array([0, 2, 2, 5, 5, 5, 0, 2, 5, 5, 2, 0])


def ply(path: Path, xyz: np.ndarray = XYZ, called: str = "label", **columns: np.ndarray) -> None:
    named = columns or {"red": RGB[:, 0], "green": RGB[:, 1], "blue": RGB[:, 2], called: LABELS}
    head = [f"property double {a}" for a in "xyz"] + [f"property int {name}" for name in named]
    rows = np.column_stack([xyz, *named.values()])
    lines = [" ".join(f"{v:.12g}" for v in row) for row in rows]
    text = ["ply", "format ascii 1.0", f"element vertex {len(xyz)}", *head, "end_header", *lines, ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text))


def test_labels_of_every_format(tmp_path: Path) -> None:
    table = np.column_stack([XYZ, RGB, LABELS])
    ply(tmp_path / "ply" / "a.ply")
    ply(tmp_path / "named" / "a.ply", called="scalar_Classification")
    for name in ("npy", "npz", "txt", "csv", "pcd", "las", "label", "labels", "seg", "beside", "alone"):
        (tmp_path / name).mkdir()
    fields = [
        ("x", "f8"),
        ("y", "f8"),
        ("z", "f8"),
        ("red", "u1"),
        ("green", "u1"),
        ("blue", "u1"),
        ("sem", "i4"),
    ]
    rows = np.array([tuple(row) for row in table], dtype=fields)
    np.save(tmp_path / "npy" / "a.npy", rows)
    np.savez(tmp_path / "npz" / "a.npz", points=XYZ, colors=RGB.astype(np.uint8), labels=LABELS)
    np.savetxt(tmp_path / "txt" / "a.txt", table, header="x y z red green blue semantic", fmt="%.6g")
    np.savetxt(
        tmp_path / "csv" / "a.csv", table, header="X,Y,Z,R,G,B,Class", comments="", delimiter=",", fmt="%.6g"
    )
    pcd = (
        "VERSION .7\nFIELDS x y z r g b label\nSIZE 8 8 8 1 1 1 4\nTYPE F F F U U U U\nCOUNT 1 1 1 1 1 1 1\n"
    )
    pcd += f"WIDTH {N}\nHEIGHT 1\nPOINTS {N}\nDATA ascii\n"
    (tmp_path / "pcd" / "a.pcd").write_text(
        pcd + "".join(" ".join(f"{v:g}" for v in r) + "\n" for r in table)
    )
    for name in ("label", "labels", "seg", "beside", "alone"):
        ply(tmp_path / name / "a.ply", red=RGB[:, 0], green=RGB[:, 1], blue=RGB[:, 2])
    (tmp_path / "label" / "a.label").write_bytes(LABELS.astype("<u4").tobytes())
    (tmp_path / "labels" / "a.labels").write_text("\n".join(map(str, LABELS)) + "\n")
    (tmp_path / "seg" / "a.seg").write_text("\n".join(map(str, LABELS)))
    np.save(tmp_path / "beside" / "a_labels.npy", LABELS)
    np.save(tmp_path / "alone" / "segment.npy", LABELS[:, None])
    for folder in sorted(tmp_path.iterdir()):
        if folder.name == "las":
            continue
        dataset = read_scene_folder(folder, "all", use=("colors",))
        assert dataset.classes == ("class 0", "class 2", "class 5"), folder.name
        scene = dataset[0]
        assert scene.part is not None and scene.part.tolist() == [[0, 2, 5].index(v) for v in LABELS], (
            folder.name
        )
        np.testing.assert_allclose(scene.xyz, XYZ, atol=1e-5)
        np.testing.assert_allclose(scene.features, RGB / 255, atol=1e-6)
        assert "numbered" in dataset.account and dataset.up_axis == "z"


def las(path: Path, classification: np.ndarray, shift: float = 0.0) -> None:
    laspy = pytest.importorskip("laspy", reason="the extra 'las' is not installed")
    data = laspy.LasData(laspy.LasHeader(point_format=2, version="1.2"))
    data.header.scales = np.full(3, 1e-3)
    data.header.offsets = np.floor(XYZ.min(axis=0) + shift)
    data.x, data.y, data.z = (XYZ + shift).T
    data.red = data.green = data.blue = np.full(N, 65535, np.uint16)
    data.intensity = np.full(N, 65535, np.uint16)
    data.classification = classification.astype(np.uint8)
    stream = io.BytesIO()
    data.write(stream, do_compress=False)
    path.write_bytes(stream.getvalue())


def test_las_has_the_names_of_its_standard_and_intensity(tmp_path: Path) -> None:
    las(tmp_path / "a.las", LABELS, shift=512_000.0)
    dataset = read_scene_folder(tmp_path, "all", use=("intensity", "colors"))
    assert dataset.classes == ("ground", "high vegetation") and "LAS standard" in dataset.account
    scene = dataset[0]
    assert scene.part is not None and scene.part.tolist() == [{0: -1, 2: 0, 5: 1}[v] for v in LABELS]
    assert scene.features is not None and np.array_equal(scene.features, np.ones((N, 4)))
    np.testing.assert_allclose(scene.xyz + scene.extras["origin"], XYZ + 512_000, atol=1e-3)


def test_las_that_was_never_classified_is_unlabelled(tmp_path: Path) -> None:
    las(tmp_path / "a.las", LABELS.clip(max=1))
    dataset = read_scene_folder(tmp_path, "all")
    assert dataset.scene_labels is None and "predict only" in dataset.account


def test_instances_in_the_upper_half_of_label_files(tmp_path: Path) -> None:
    ply(tmp_path / "a.ply", red=RGB[:, 0])
    words = LABELS.astype(np.uint32) | (np.arange(N, dtype=np.uint32) << 16)
    (tmp_path / "a.label").write_bytes(words.astype("<u4").tobytes())
    scene = read_scene_folder(tmp_path, "all")[0]
    assert scene.instance is not None and scene.instance.tolist() == [-1, *range(1, N)]


def test_columns_without_names(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.txt", np.column_stack([XYZ, RGB, LABELS]), fmt="%.6g")
    plain = read_scene_folder(tmp_path, "all")
    assert plain.scene_labels is None and "say ?labels=" in plain.account
    dataset = open_dataset(f"scenes:{tmp_path}?labels=7&use=colors", "all")
    scene = dataset[0]
    assert scene.part is not None and scene.part.tolist() == [[0, 2, 5].index(v) for v in LABELS]
    np.testing.assert_allclose(scene.features, RGB / 255, atol=1e-6)
    with pytest.raises(DataError, match="has no column 9"):
        open_dataset(f"scenes:{tmp_path}?labels=9", "all")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "# mine\n0 floor\n2 wall\n\n5 wall\n"),
        ("classes.json", '{"classes": {"0": "floor", "2": "wall", "5": "wall"}}'),
        ("classes.yaml", "0: floor\n2: wall\n5: wall\n"),
    ],
)
def test_names_from_a_file(tmp_path: Path, file: str, text: str) -> None:
    ply(tmp_path / "a.ply")
    (tmp_path / file).write_text(text)
    dataset = read_scene_folder(tmp_path, "all")
    assert dataset.classes == ("floor", "wall") and f"2 classes of {file}" in dataset.account
    part = dataset[0].part
    assert part is not None and part.tolist() == [int(v > 0) for v in LABELS]


def test_names_alone_are_numbered_from_zero(tmp_path: Path) -> None:
    ply(tmp_path / "a.ply")
    (tmp_path / "classes.txt").write_text("floor\nwall\ndoor\n")
    with pytest.raises(DataError, match=r"5 points have the labels 5, which are none of the 3 classes"):
        read_scene_folder(tmp_path, "all")[0]
    dataset = open_dataset(f"scenes:{tmp_path}?ignore=5", "all")
    part = dataset[0].part
    assert part is not None and part.tolist() == [v if v < 5 else -1 for v in LABELS]
    with pytest.raises(DataError, match="whole numbers divided by commas"):
        open_dataset(f"scenes:{tmp_path}?ignore=door", "all")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no classes"),
        ("floor\n2 wall\n", "'floor' has no number but other lines have"),
        ("1 floor\n1 wall\n", "names the number 1 twice"),
        ("floor\nfloor\n", "names the class 'floor' twice"),
    ],
)
def test_wrong_names(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_class_file(tmp_path / "classes.txt")
    (tmp_path / "classes.yaml").write_text("a: [")
    with pytest.raises(DataError, match=r"classes\.yaml: is damaged"):
        read_class_file(tmp_path / "classes.yaml")
    ply(tmp_path / "a.ply")
    with pytest.raises(DataError, match=r"has classes\.txt and classes\.yaml"):
        read_scene_folder(tmp_path)


def test_ignored_numbers_leave_no_class(tmp_path: Path) -> None:
    ply(tmp_path / "a.ply")
    dataset = read_scene_folder(tmp_path, "all", ignore=["0"])
    assert dataset.classes == ("class 2", "class 5")


def test_folders_of_splits(tmp_path: Path) -> None:
    for place in ("Train/a", "Train/b", "validation/c", "test/deeper/d"):
        ply(tmp_path / f"{place}.ply")
    (tmp_path / "notes.md").touch()
    (tmp_path / "Train" / "README.txt").write_text("about")
    assert available_splits(f"scenes:{tmp_path}") == ("train", "val", "test")
    dataset = read_scene_folder(tmp_path, "train")
    assert [Path(p).name for p in dataset.paths] == ["a.ply", "b.ply"]
    assert "2 other files passed over" in dataset.account
    assert len(read_scene_folder(tmp_path, "val")) == 1 and len(read_scene_folder(tmp_path, "all")) == 4
    ply(tmp_path / "e.ply")
    with pytest.raises(DataError, match="others outside, such as"):
        read_scene_folder(tmp_path)


def test_scans_without_splits_are_drawn(tmp_path: Path) -> None:
    for name in "abcdefg":
        ply(tmp_path / f"{name}.ply")
    assert available_splits(f"scenes:{tmp_path}") == ("all",)
    train, test = (read_scene_folder(tmp_path, s, seed=3) for s in ("train", "test"))
    assert len(train) == 5 and len(test) == 2 and not set(train.paths) & set(test.paths)
    assert read_scene_folder(tmp_path, "test", seed=3).paths == test.paths
    assert "2 of 7 scans are drawn for the test (seed 3)" in train.account
    assert {tuple(read_scene_folder(tmp_path, "test", seed=s).paths) for s in range(6)} != {tuple(test.paths)}
    assert len(read_scene_folder(tmp_path, "test", holdout=0.01)) == 1
    assert len(read_scene_folder(tmp_path, "train", holdout=0.99)) == 1
    with pytest.raises(MissingDataError, match="only has the splits train, test and all"):
        read_scene_folder(tmp_path, "val")


def test_one_scan_is_cut_in_space(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    xyz = rng.uniform(0, 1, (1000, 3)) * (3, 8, 2)  # y is the longer side
    ply(tmp_path / "a.ply", xyz, label=rng.integers(0, 2, 1000))
    train, test = (read_scene_folder(tmp_path, s) for s in ("train", "test"))
    a, b = train[0], test[0]
    assert len(a) == 700 and len(b) == 300 and a.xyz[:, 1].max() < b.xyz[:, 1].min()
    assert "cut in space" in train.account and "70 % of its points" in train.account
    a, b = (open_dataset(f"scenes:{tmp_path}?gap=0.5", s)[0] for s in ("train", "test"))
    assert 0.5 <= b.xyz[:, 1].min() - a.xyz[:, 1].max() < 0.6
    assert a.part is not None and len(a.part) == len(a) < 700
    with pytest.raises(DataError, match="use a smaller gap"):
        read_scene_folder(tmp_path, "test", gap=50)[0]


def test_unlabelled_scans_serve_predict_only(tmp_path: Path) -> None:
    ply(tmp_path / "a.ply", red=RGB[:, 0])
    ply(tmp_path / "b.ply", red=RGB[:, 0])
    dataset = read_scene_folder(tmp_path, "all")
    assert dataset.scene_labels is None and dataset.classes == () and "predict only" in dataset.account
    assert (np.asarray(dataset[0].part) == -1).all()
    with pytest.raises(DataError, match="it serves predict only"):
        need_labels(dataset)
    ply(tmp_path / "c.ply")
    assert "2 of them have no labels" in read_scene_folder(tmp_path, "all").account


def test_columns_that_some_scans_lack(tmp_path: Path) -> None:
    ply(tmp_path / "a.ply")
    ply(tmp_path / "b.ply", label=LABELS)
    with pytest.raises(DataError, match=r"1 of its scans have no colors.*missing=drop"):
        read_scene_folder(tmp_path, "all", use=("colors",))
    dataset = read_scene_folder(tmp_path, "all", use=("colors",), missing="drop")
    assert dataset.columns == () and "colors are left out, 1 scans lack them" in dataset.account
    assert dataset[0].features is None
    own = open_clouds(f"scenes:{tmp_path}", "all", "own")
    assert own.columns == () and "colors are left out" in own.account
    (tmp_path / "classes.txt").write_text("0 a\n2 b\n5 c\n")  # then nothing is read beforehand
    lazy = read_scene_folder(tmp_path, "all", use=("colors",))
    with pytest.raises(DataError, match=r"b\.ply: has no colors, which other scenes have"):
        lazy[1]


@pytest.mark.parametrize("suffix", ["ply", "npy", "txt", "csv"])
def test_survey_coordinates_keep_their_digits(tmp_path: Path, suffix: str) -> None:
    xyz = XYZ + (512_345.0, 5_412_345.0, 300.0)
    file = tmp_path / f"a.{suffix}"
    if suffix == "ply":
        ply(file, xyz)
    elif suffix == "npy":
        np.save(file, xyz)
    else:
        head = {"header": "x,y,z", "comments": "", "delimiter": ","} if suffix == "csv" else {}
        np.savetxt(file, xyz, fmt="%.3f", **head)
    scene = read_scene_folder(tmp_path, "all")[0]
    origin = scene.extras["origin"]
    assert origin.shape == (3,) and (origin == np.floor(origin)).all() and abs(scene.xyz).max() < 50
    np.testing.assert_allclose(scene.xyz.astype(np.float64) + origin, xyz, atol=1e-5)


def test_one_outlier_is_kept_and_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    xyz = np.concatenate([rng.uniform(0, 5, (999, 3)), [[0.0, 8000.0, 0.0]]]) + (512_345, 5_412_345, 0)
    np.save(tmp_path / "a.npy", xyz)
    with pytest.warns(DataWarning, match=r"1 of 1000 points \(0\.1 %\) lie far outside"):
        cloud = read_scan(tmp_path / "a.npy")
    assert len(cloud) == 1000
    back = cloud.xyz.astype(np.float64) + cloud.origin
    np.testing.assert_allclose(back[:999], xyz[:999], atol=1e-5)  # the outlier costs the others no digits


def test_vertices_of_meshes_are_the_points(tmp_path: Path) -> None:
    text = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    text += "property uchar label\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    (tmp_path / "a.ply").write_text(text + "0 0 0 4\n1 0 0 4\n0 1 0 6\n3 0 1 2\n")
    scene = read_scene_folder(tmp_path, "all")[0]
    assert scene.xyz.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert scene.part is not None and scene.part.tolist() == [0, 0, 1]


def test_mixed_up_counts_and_labels_that_are_none(tmp_path: Path) -> None:
    ply(tmp_path / "a.ply", red=RGB[:, 0])
    np.save(tmp_path / "a_labels.npy", LABELS[:-1])
    with pytest.raises(DataError, match=r"a_labels\.npy: has 11 labels but a\.ply has 12 points"):
        read_scene_folder(tmp_path)
    np.save(tmp_path / "a_labels.npy", LABELS + 0.5)
    with pytest.raises(DataError, match=r"label 0\.5 of point 0 is no whole number"):
        read_scene_folder(tmp_path)
    np.save(tmp_path / "a_labels.npy", LABELS)
    (tmp_path / "a.seg").write_text("1 2 three")
    with pytest.raises(DataError, match=r"has labels in a_labels\.npy and in a\.seg"):
        read_scene_folder(tmp_path)
    (tmp_path / "a_labels.npy").unlink()
    with pytest.raises(DataError, match="neither a whole number per line"):
        read_scene_folder(tmp_path)


def test_bad_scans_and_options(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no such folder"):
        read_scene_folder(tmp_path / "nowhere")
    with pytest.raises(MissingDataError, match="has no scans"):
        read_scene_folder(tmp_path)
    np.savetxt(tmp_path / "a.xyz", np.where(np.arange(N)[:, None] == 3, np.nan, XYZ))
    with pytest.raises(
        DataError, match="1 of 12 points have NaN or infinite coordinates, the first at row 3"
    ):
        read_scene_folder(tmp_path)
    np.savetxt(tmp_path / "a.xyz", XYZ)
    for options, message in (
        ({"split": "dev"}, "unknown split 'dev'"),
        ({"holdout": 1.0}, "held-out share is 1"),
        ({"missing": "zero"}, "error or drop"),
        ({"up_axis": "w"}, "one of x, y, z"),
        ({"use": ("colors",)}, "has no colors"),
        ({"labels": "kind"}, "has no column 'kind'"),
    ):
        with pytest.raises(DataError, match=message):
            read_scene_folder(tmp_path, **options)  # type: ignore[arg-type]
    (tmp_path / "a.xyz").write_text("")
    with pytest.raises(DataError, match="empty"):
        read_scene_folder(tmp_path)


def test_y_up_is_turned_and_it_goes_to_workers(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", XYZ)
    dataset = read_scene_folder(tmp_path, "all", up_axis="y")
    np.testing.assert_allclose(dataset[0].xyz[:, 2], XYZ[:, 1], atol=1e-6)
    assert np.linalg.det(np.linalg.lstsq(XYZ, dataset[0].xyz, rcond=None)[0]) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(pickle.loads(pickle.dumps(dataset))[0].xyz, dataset[0].xyz)


def test_any_scenes_can_be_cut_in_space(tmp_path: Path) -> None:
    for name, scale in (("train/a", (9, 1, 1)), ("train/b", (1, 9, 1))):
        (tmp_path / name).mkdir(parents=True)
        rng = np.random.default_rng(0)
        np.save(tmp_path / name / "coord.npy", (rng.uniform(0, 1, (200, 3)) * scale).astype(np.float32))
        np.save(tmp_path / name / "segment.npy", rng.integers(0, 2, 200))
    source = f"pointcept:{tmp_path}?cut=0.6&cut_gap=0.2"
    assert available_splits(source) == ("train", "test")
    train, test = open_dataset(source, "train"), open_dataset(source, "test")
    assert len(train) == len(test) == 2 and train.scene_labels is not None and "cut in space" in train.account
    for i, axis in enumerate((0, 1)):
        a, b = train[i].xyz[:, axis], test[i].xyz[:, axis]
        assert 0.2 <= b.min() - a.max() < 0.5 and 100 < len(a) <= 120 and 60 < len(b) <= 80
    assert len(pickle.loads(pickle.dumps(test))[0]) == len(test[0])
    with pytest.raises(DataError, match="got 'val'"):
        open_dataset(source, "val")
    with pytest.raises(DataError, match="between 0 and 1"):
        open_dataset(f"pointcept:{tmp_path}?cut=7", "train")
    with pytest.raises(DataError, match="cut=half should be a number"):
        open_dataset(f"pointcept:{tmp_path}?cut=half", "train")
