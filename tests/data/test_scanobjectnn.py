"""ScanObjectNN in both layouts, as written from procedural objects and as damaged."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scan_writers import write_scanobjectnn, write_scanobjectnn_raw

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.sources.scanobjectnn import CLASSES, VARIANTS, read_scanobjectnn, scanobjectnn_layout


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scanobjectnn(tmp_path_factory.mktemp("scan") / "ScanObjectNN", 1, 1, n_points=64, seed=1)


@pytest.fixture(scope="module")
def written_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scanobjectnn_raw(tmp_path_factory.mktemp("raw") / "ScanObjectNN", 2, 1, (80, 120), seed=1)


@pytest.fixture
def h5(tmp_path: Path, written: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "data"))


@pytest.fixture
def raw(tmp_path: Path, written_raw: Path) -> Path:
    return Path(shutil.copytree(written_raw, tmp_path / "data"))


def test_layout_as_published(written: Path) -> None:
    files = sorted(str(p.relative_to(written)) for p in written.rglob("*.h5"))
    assert (
        "main_split_nobg/test_objectdataset.h5" in files
        and "main_split/training_objectdataset_augmentedrot_scale75.h5" in files
    )
    assert len(files) == 2 * len(VARIANTS)
    with h5py.File(written / "main_split" / "training_objectdataset.h5", "r") as file:
        assert {k: (v.shape, v.dtype.kind) for k, v in file.items()} == {
            "data": ((15, 64, 3), "f"), "label": ((15,), "i"), "mask": ((15, 64), "i")
        }  # fmt: skip
        assert set(np.unique(file["mask"][()])) == {-1, 0}
    with h5py.File(written / "main_split_nobg" / "training_objectdataset.h5", "r") as file:
        assert set(file) == {"data", "label"}


def test_variants(written: Path) -> None:
    for name in VARIANTS:
        train, test = (
            read_scanobjectnn(written, "train", variant=name),
            read_scanobjectnn(written, "test", variant=name.upper().replace("-", "_")),
        )
        copies = 5 if name.startswith("pb") else 1
        assert (
            train.classes == CLASSES
            and train.up_axis == "y"
            and train.counts().tolist() == [copies] * 15 == test.counts().tolist()
        )
        with h5py.File(
            written / f"main_split{VARIANTS[name][0]}" / f"test_objectdataset{VARIANTS[name][1]}.h5", "r"
        ) as file:
            np.testing.assert_array_equal(np.stack([test[i].xyz for i in range(len(test))]), file["data"][()])
    assert len(read_scanobjectnn(written, "train")) == 75, "the hardest variant is the default"


def test_points_mask_and_normalisation(written: Path) -> None:
    whole = read_scanobjectnn(written, "train", variant="obj-bg", foreground=True)
    with h5py.File(written / "main_split" / "training_objectdataset.h5", "r") as file:
        mask = file["mask"][()]
    for i in range(15):
        part = whole[i].part
        assert part is not None and np.array_equal(part, (mask[i] != -1).astype(int)) and 0 < part.mean() < 1
    first = read_scanobjectnn(written, "train", 20, "obj-bg", foreground=True, normalize="unit-sphere")[3]
    assert first.xyz.shape == (20, 3) and abs(np.linalg.norm(first.xyz, axis=1).max() - 1) < 1e-6
    np.testing.assert_array_equal(first.part, whole[3].part[:20])  # type: ignore[index]
    drawn = [
        read_scanobjectnn(written, "train", 20, "obj-bg", sampling="random", foreground=True, seed=s)[3]
        for s in (0, 0, 1)
    ]
    assert np.array_equal(drawn[0].xyz, drawn[1].xyz) and not np.array_equal(drawn[0].xyz, drawn[2].xyz)
    rows = [int(np.flatnonzero((whole[3].xyz == point).all(axis=1))[0]) for point in drawn[0].xyz]
    np.testing.assert_array_equal(drawn[0].part, whole[3].part[rows])  # type: ignore[index]


def test_archive_folder_and_other_folds(tmp_path: Path, h5: Path) -> None:
    (tmp_path / "top").mkdir()
    shutil.move(h5, tmp_path / "top" / "h5_files")
    root = tmp_path / "top"
    assert (
        scanobjectnn_layout(root) == "h5" and len(read_scanobjectnn(root, "train", variant="obj-only")) == 15
    )
    with pytest.raises(MissingDataError, match=r"split2_nobg.training_objectdataset.h5: no such file"):
        read_scanobjectnn(root, "train", variant="obj-only", fold=2)
    (root / "h5_files" / "main_split_nobg").rename(root / "h5_files" / "split2_nobg")
    assert len(read_scanobjectnn(root, "train", variant="obj-only", fold=2)) == 15


def change(root: Path, key: str, how: Callable[[np.ndarray], np.ndarray | None]) -> None:
    with h5py.File(root / "main_split" / "training_objectdataset.h5", "a") as file:
        value = how(file[key][()])
        del file[key]
        if value is not None:
            file[key] = value


def with_nan(data: np.ndarray) -> np.ndarray:
    data[2, 5] = np.nan
    return data


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda r: change(r, "data", lambda x: None),
            "'data' and 'label' are expected in it, it has label, mask",
        ),
        (
            lambda r: change(r, "label", lambda x: x + 1),
            "the label of cloud 14 is 15, 0 to 14 is expected by ScanObjectNN's 15 classes",
        ),
        (lambda r: change(r, "label", lambda x: x[:3]), "15 whole numbers are expected"),
        (lambda r: change(r, "mask", lambda x: None), "'mask' are expected in it, it has data, label"),
        (lambda r: change(r, "mask", lambda x: x[:, :9]), r"'mask' has shape \(15, 9\).*\(15, 64\)"),
        (lambda r: change(r, "mask", lambda x: x + 0.5), "whole numbers"),
        (lambda r: change(r, "data", with_nan), "1 of 15 clouds have NaN.*cloud 2.*row 5"),
        (lambda r: change(r, "data", lambda x: x[..., 0]), r"\(N, P, 3\)"),
        (lambda r: (r / "main_split" / "training_objectdataset.h5").write_bytes(b"no"), "not an .h5 file"),
        (
            lambda r: (r / "main_split" / "training_objectdataset.h5").unlink(),
            "no such file, it holds the split 'train' of obj-bg",
        ),
    ],
)
def test_damaged_h5(h5: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(h5)
    with pytest.raises(DataError, match=words) as error:
        read_scanobjectnn(h5, "train", variant="obj-bg", foreground=True)
    assert "\n" not in str(error.value) and str(h5) in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "val"}, "no split 'val'"),
        ({"variant": "obj-nobg"}, "no variant 'obj-nobg', one of obj-bg, obj-only"),
        ({"n_points": 65}, "have 64 points, 65 were asked for"),
        ({"n_points": 0}, "at least 1"),
        ({"sampling": "fps"}, "'first' or 'random'"),
        ({"normalize": "box"}, "unit-sphere, none"),
        ({"fold": 5}, "no fold 5"),
        ({"colors": True, "variant": "obj-only"}, "which alone have colours"),
        ({"foreground": True, "variant": "obj-only"}, "no background to tell"),
    ],
)
def test_bad_arguments(written: Path, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_scanobjectnn(written, **{"split": "train", **arguments})  # type: ignore[arg-type]


def ordered(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows[np.lexsort(rows.T[::-1])])


def test_raw_objects(written_raw: Path) -> None:
    assert scanobjectnn_layout(written_raw) == "raw"
    whole = read_scanobjectnn(written_raw, "train", None, "obj-bg", colors=True, foreground=True)
    alone = read_scanobjectnn(written_raw, "train", None, "obj-only", colors=True)
    assert (
        whole.counts().tolist() == [2] * 15
        and read_scanobjectnn(written_raw, "test", variant="obj-only").counts().tolist() == [1] * 15
    )
    for i in range(0, 30, 7):
        rows = np.fromfile(whole.paths[i], "<f4")[1:].reshape(-1, 11)
        assert f"/{CLASSES[whole.labels[i]]}/" in whole.paths[i]
        sample, own = whole[i], alone[i]
        assert sample.features is not None and sample.part is not None and own.features is not None
        stored = np.column_stack([rows[:, :3], rows[:, 6:9] / 255, rows[:, 10] != 2])  # 2: the writer's floor
        read = np.column_stack([sample.xyz, sample.features, sample.part])
        np.testing.assert_allclose(ordered(read), ordered(stored), atol=1e-6)
        assert not np.array_equal(sample.xyz, rows[:, :3]), "the first points are random ones"
        np.testing.assert_allclose(
            ordered(np.column_stack([own.xyz, own.features])),
            ordered(stored[rows[:, 10] != 2, :6]),
            atol=1e-6,
        )
        assert own.part is None
    drawn = read_scanobjectnn(
        written_raw, "train", 60, "obj-only", colors=True, seed=4, normalize="unit-sphere"
    )
    drawn = pickle.loads(pickle.dumps(drawn))
    np.testing.assert_array_equal(drawn[5].xyz, drawn[5].xyz)
    assert (
        drawn[5].xyz.shape == (60, 3) == drawn[5].features.shape
        and abs(np.linalg.norm(drawn[5].xyz, axis=1).max() - 1) < 1e-6
    )  # type: ignore[union-attr]


def test_h5_is_preferred_until_colours_are_asked_for(written: Path, raw: Path) -> None:
    shutil.copytree(written, raw, dirs_exist_ok=True)
    assert scanobjectnn_layout(raw) == "h5 and raw"
    assert len(read_scanobjectnn(raw, "train", variant="obj-only")) == 15
    assert len(read_scanobjectnn(raw, "train", variant="obj-only", colors=True)) == 30
    with pytest.raises(
        DataError, match=r"pb-t50-rs of fold 0 is in the \.h5 files alone; give variant=obj-only"
    ):
        read_scanobjectnn(raw, "train", colors=True)


def listing(root: Path) -> Path:
    return root / "object_dataset" / "split_new.txt"


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


def rewrite(root: Path, how: Callable[[np.ndarray], np.ndarray]) -> None:
    path = root / "object_dataset" / "bag" / "train_bag_00000.bin"
    values = np.fromfile(path, "<f4")
    rows = how(values[1:].reshape(-1, 11).copy())
    np.concatenate([values[:1], rows.ravel()]).astype("<f4").tofile(path)


def with_column(column: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def how(rows: np.ndarray) -> np.ndarray:
        rows[3 if np.isnan(value) else slice(None), column] = value
        return rows

    return how


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda r: listing(r).unlink(), "should have a line 'object.bin class"),
        (lambda r: listing(r).write_text("\n"), "lists no object of the split 'train'"),
        (lambda r: edit(listing(r), "\t0\n", "\t0 t p\n"), "line 1 is .*'object.bin class' or"),
        (lambda r: edit(listing(r), "\t0\n", "\t15\n"), "line 1 has the class '15', 0 to 14"),
        (lambda r: edit(listing(r), "\t0\n", "\t4\n"), "said to be a chair, but lies among bag"),
        (lambda r: edit(listing(r), "train_bag", "train_bug"), "train_bug_00000.bin: no such file"),
        (lambda r: rewrite(r, lambda rows: rows[:-1]), "announces .* points.*truncated or something else"),
        (lambda r: (r / "object_dataset" / "bag" / "train_bag_00000.bin").write_bytes(b""), "has 0 bytes"),
        (lambda r: rewrite(r, with_column(1, float("nan"))), "1 of .* points have NaN.*row 3"),
        (lambda r: rewrite(r, with_column(10, 2.0)), "none of its .* points has a semantic label above 2"),
        (lambda r: rewrite(r, with_column(7, -3.0)), "its colours reach from -3"),
        (lambda r: shutil.rmtree(r / "object_dataset"), "object_dataset"),
    ],
)
def test_damaged_raw(raw: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(raw)
    with pytest.raises(DataError, match=words) as error:
        read_scanobjectnn(raw, "train", 50, "obj-only", colors=True)[0]
    assert "\n" not in str(error.value) and str(raw) in str(error.value)


def test_small_objects_and_other_marks(raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert 80 <= len(read_scanobjectnn(raw, "train", 500, "obj-only")[0]) <= 120, "all it has"
    with pytest.raises(DataError, match="n_points is 0"):
        read_scanobjectnn(raw, "train", 0, "obj-only")
    edit(listing(raw), "\t0\n", "\t0\tp\n")
    assert len(read_scanobjectnn(raw, "train", 50, "obj-only")) == 30
    assert "marks other than t (p) are taken for the training set" in caplog.text
