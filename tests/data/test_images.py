"""Image datasets by name, in every layout, and what is said about those that are absent or damaged."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from image_writers import COLOURS, write_coloured, write_imagenet, write_picture, write_tiny_imagenet
from PIL import Image
from scipy.io import savemat

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.images import IMAGE_SOURCES
from pointlift.data.images.image_set import ImageSet, read_image
from pointlift.data.images.open import describe_image_datasets, open_images
from pointlift.data.procedural.fractals.fractal_images import FractalImages, write_fractaldb
from pointlift.data.procedural.fractals.systems import (
    render,
    search_categories,
    weight_table,
    write_categories,
)
from pointlift.data.sources.options import split_source, typed_value


def grey_levels(images: ImageSet) -> list[int]:
    """The class that the brightness of every picture shows, see the writers:
    40, 80, 120 for classes 0, 1, 2.
    """
    return [round(float(np.asarray(images.read(i)).mean()) / 40) - 1 for i in range(len(images))]


def test_a_folder_with_splits(tmp_path: Path) -> None:
    root = write_coloured(tmp_path, {"train": 3, "val": 2})
    write_picture(root / "train" / ".hidden" / "x.png")
    (root / "train" / "red" / "notes.txt").write_text("no picture")
    train, val = open_images(f"imagefolder:{root}"), open_images(f"imagefolder:{root}", "val")
    assert train.classes == val.classes == train.titles == ("blue", "green", "red", "white")
    assert train.labels.tolist() == np.repeat(range(4), 3).tolist() and len(val) == 8
    for i in range(len(train)):
        mean = np.asarray(train.read(i)).mean((0, 1))
        assert np.abs(mean - COLOURS[train.classes[train.labels[i]]]).max() < 12
    copy = pickle.loads(pickle.dumps(train))
    assert np.array_equal(copy.read(5), train.read(5)) and copy.classes == train.classes
    with pytest.raises(MissingDataError, match=r"has no folder test \(but train, val\)"):
        open_images(f"imagefolder:{root}", "test")
    with pytest.raises(DataError, match="pictures for val of its own"):
        open_images(f"imagefolder:{root}?val_share=0.2")
    with pytest.raises(IndexError, match="got index 12"):
        train.read(12)


def test_a_folder_without_splits_holds_the_same_pictures_out_each_time(tmp_path: Path) -> None:
    root = write_coloured(tmp_path / "a", {"": 20}, side=4, inner="deeper/down")
    train, val = (open_images(f"imagefolder:{root}?val_share=0.25", s) for s in ("train", "val"))
    assert np.bincount(train.labels).tolist() == [15] * 4 and np.bincount(val.labels).tolist() == [5] * 4
    assert not set(train.files) & set(val.files) and len({*train.files, *val.files}) == 80
    again = open_images(f"imagefolder:{root}", "val", val_share=0.25)
    assert again.files.tolist() == val.files.tolist()
    assert len(open_images(f"imagefolder:{root}", "val")) == 8  # a tenth
    (tmp_path / "b").mkdir()
    os.rename(root, tmp_path / "b" / "moved")
    moved = open_images(f"imagefolder:{tmp_path / 'b' / 'moved'}?val_share=0.25", "val")
    assert moved.files.tolist() == val.files.tolist()
    write_coloured(tmp_path / "c", {"train": 4}, side=4)
    assert len(open_images(f"imagefolder:{tmp_path / 'c'}?val_share=0.5", "val")) == 8


def test_limited_sets_are_draws_per_class(tmp_path: Path) -> None:
    images = open_images(f"imagefolder:{write_coloured(tmp_path, {'train': 6, 'val': 1}, side=4)}")
    some = images.limited(2, seed=1)
    assert some.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and len(images.limited(99)) == 24
    same, other = images.limited(2, seed=1), images.limited(2, seed=2)
    assert all(np.array_equal(some.read(i), same.read(i)) for i in range(8))
    assert not all(np.array_equal(some.read(i), other.read(i)) for i in range(8))
    pixels = [np.asarray(images.read(i)).tobytes() for i in range(24)]
    assert all(
        np.asarray(some.read(i)).tobytes() in pixels[6 * label : 6 * label + 6]
        for i, label in enumerate(some.labels)
    )
    with pytest.raises(ValueError, match="got 0 pictures per class"):
        images.limited(0)


def test_tiny_imagenet(tmp_path: Path) -> None:
    root = write_tiny_imagenet(tmp_path)
    train, val = open_images(f"tiny-imagenet:{root}"), open_images(f"tiny-imagenet:{root}", "val")
    # sorted, as torchvision's ImageFolder would; wnids.txt is not
    assert train.classes == ("n01", "n02", "n03")
    assert train.titles == ("goldfish, Carassius auratus", "tench", "n03")
    assert train.labels.tolist() == grey_levels(train) == [0] * 4 + [1] * 4 + [2] * 4
    assert (
        val.labels.tolist() == grey_levels(val)
        and np.bincount(val.labels).tolist() == [2, 2, 2]
        and val.read(0).size == (64, 64)
    )
    with pytest.raises(DataError, match="labelled splits are train and val, got 'test'"):
        open_images(f"tiny-imagenet:{root}", "test")
    annotations = root / "val" / "val_annotations.txt"
    annotations.write_text("val_0.JPEG\tn77\t0\t0\t1\t1\n")
    with pytest.raises(
        DataError, match=r"val_annotations.txt, line 1: got 'val_0.JPEG.*one of the 3 classes"
    ):
        open_images(f"tiny-imagenet:{root}", "val")
    annotations.unlink()
    with pytest.raises(MissingDataError, match=r"val_annotations.txt: no such file"):
        open_images(f"tiny-imagenet:{root}", "val")
    (root / "wnids.txt").unlink()
    with pytest.raises(MissingDataError, match=r"has no wnids\.txt"):
        open_images(f"tiny-imagenet:{root}")


def annotate(root: Path, kind: str, truth: list[str]) -> str:
    """One of the files that ImageNet's validation labels come in; returns the options that it needs."""
    names = [f"ILSVRC2012_val_{i:08d}" for i in range(1, len(truth) + 1)]
    classes = sorted(set(truth))
    if kind == "kaggle":
        rows = [f"{n},{w} 3 4 30 40 {w} 1 2 3 4" for n, w in zip(names, truth)]
        (root / "LOC_val_solution.csv").write_text(
            "ImageId,PredictionString\n" + "\n".join(reversed(rows)) + "\n"
        )
    elif kind == "indices":
        (root / "val.txt").write_text("".join(f"{n}.JPEG {classes.index(w)}\n" for n, w in zip(names, truth)))
    elif kind == "named":
        (root / "labels.txt").write_text("".join(f"{n}.JPEG\t{w}\n" for n, w in zip(names, truth)))
        return f"?annotations={root / 'labels.txt'}"
    else:
        devkit = root / "ILSVRC2012_devkit_t12" / "data"
        devkit.mkdir(parents=True)
        numbers = {"n03": 1, "n01": 2, "n02": 3}  # the devkit's numbers do not follow the WordNet ids
        dtype = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")]
        rows = [(number, wnid, "words") for wnid, number in numbers.items()] + [
            (1001, "n99", "an inner node")
        ]
        savemat(devkit / "meta.mat", {"synsets": np.array(rows, dtype=dtype)})
        (devkit / "ILSVRC2012_validation_ground_truth.txt").write_text(
            "".join(f"{numbers[w]}\n" for w in truth)
        )
    return ""


@pytest.mark.parametrize("kind", ["kaggle", "indices", "named", "devkit"])
def test_imagenet_with_flat_validation_pictures(kind: str, tmp_path: Path) -> None:
    root, truth = write_imagenet(tmp_path)
    options = annotate(root, kind, truth)
    train, val = open_images(f"imagenet:{root}"), open_images(f"imagenet:{root}{options}", "val")
    assert train.classes == val.classes == ("n01", "n02", "n03") and train.labels.tolist() == grey_levels(
        train
    )
    assert val.labels.tolist() == grey_levels(val) == [val.classes.index(w) for w in truth]


def test_a_class_whose_name_is_a_number_is_meant_by_its_name(tmp_path: Path) -> None:
    """Of the classes 1, 10 and 2, in this order, the label 1 is the first and not the second one,
    whose index is 1.
    """
    for name in ("1", "10", "2"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "train" / name / "a.png")
    (tmp_path / "val").mkdir()
    for i in range(3):
        Image.new("RGB", (4, 4)).save(tmp_path / "val" / f"{i}.png")
    (tmp_path / "val.txt").write_text("0.png 1\n1.png 2\n2.png 10\n")
    images = open_images(f"imagenet:{tmp_path}", "val")
    assert [images.classes[label] for label in images.labels] == ["1", "2", "10"]


def test_imagenet_with_validation_folders(tmp_path: Path) -> None:
    root, truth = write_imagenet(tmp_path)
    for i, wnid in enumerate(truth, 1):
        (root / "val" / wnid).mkdir(exist_ok=True)
        os.rename(
            root / "val" / f"ILSVRC2012_val_{i:08d}.JPEG",
            root / "val" / wnid / f"ILSVRC2012_val_{i:08d}.JPEG",
        )
    (root / "LOC_synset_mapping.txt").write_text("n01 tench, Tinca tinca\nn02 goldfish\n")
    val = open_images(f"imagenet:{root}", "val")
    assert val.labels.tolist() == grey_levels(val) == [0, 0, 1, 1, 2, 2] and val.titles == (
        "tench, Tinca tinca",
        "goldfish",
        "n03",
    )
    write_picture(root / "val" / "n77" / "x.JPEG")
    with pytest.raises(DataError, match="n77: there is no such class in"):
        open_images(f"imagenet:{root}", "val")


def test_imagenet_that_is_incomplete(tmp_path: Path) -> None:
    root, truth = write_imagenet(tmp_path)
    with pytest.raises(
        MissingDataError, match=r"lie flat and no file of labels is there; add LOC_val_solution\.csv"
    ):
        open_images(f"imagenet:{root}", "val")
    annotate(root, "devkit", truth)
    ground_truth = root / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt"
    ground_truth.write_text("1\n2\n")
    with pytest.raises(DataError, match="has 2 labels for 6 pictures"):
        open_images(f"imagenet:{root}", "val")
    ground_truth.write_text("1\n2\n3\n1\n2\n1001\n")
    with pytest.raises(DataError, match="the label '1001' is none of the classes"):
        open_images(f"imagenet:{root}", "val")
    (ground_truth.parent / "meta.mat").write_bytes(b"no matrix at all")
    with pytest.raises(DataError, match=r"meta\.mat: is not the devkit's table"):
        open_images(f"imagenet:{root}", "val")
    (ground_truth.parent / "meta.mat").unlink()
    with pytest.raises(MissingDataError, match=r"mean nothing without it"):
        open_images(f"imagenet:{root}", "val")
    with pytest.raises(MissingDataError, match="has no folder train"):
        open_images(f"imagenet:{root / 'train'}")


def test_rendered_fractaldb(tmp_path: Path) -> None:
    write_fractaldb(tmp_path, search_categories(2, seed=1), 16, patterns=1, iterations=200)
    train, val = open_images(f"fractaldb:{tmp_path}"), open_images(f"fractaldb:{tmp_path}", "val")
    assert (len(train), len(val)) == (196, 4) and train.classes == ("00000", "00001")  # 2 % of 100 each
    assert len(open_images(f"fractaldb:{tmp_path}?val_share=0")) == 200
    with pytest.raises(
        DataError, match="val_share is 0, expected a share between 0 and 1, without which there is no val"
    ):
        open_images(f"fractaldb:{tmp_path}", "val", val_share=0)


@pytest.mark.parametrize("per_folder", [1, None])
def test_published_category_files_are_rendered_by_the_published_protocol(
    per_folder: int | None, tmp_path: Path
) -> None:
    categories = search_categories(3, seed=1)
    write_categories(tmp_path, categories, per_folder)
    source = f"fractal-csv:{tmp_path}?size=40&patterns=2&categories=2"
    train, val = open_images(source), open_images(source, "val")
    assert (
        train.classes == ("00000", "00001")
        and np.bincount(train.labels).tolist() == [200, 200]
        and len(val) == 200
    )
    own = FractalImages(categories, 200, 40, keep_divergent=True, cache=False)
    table = weight_table(0.4)
    for i in (0, 7, 33, 111, 399):  # instance j: weight j % 25, flip j // 25 % 4, pattern j // 100
        picture = np.asarray(train.read(i))
        assert picture.shape == (40, 40, 3) and np.array_equal(picture[..., 0], own[i][0][0].numpy())
        assert set(np.unique(picture)) <= {0, 127}
    drawn = np.asarray(train.read(7))[..., 0] > 0
    # patches lie around the points of the trajectory
    patches = render(categories[0], 40, "point_gray", table[7]) > 0
    grown = (
        sum(np.roll(np.roll(patches, dy, 0), dx, 1).astype(int) for dy in (-1, 0, 1) for dx in (-1, 0, 1)) > 0
    )
    assert drawn.any() and not (drawn & ~grown).any()
    assert not {np.asarray(val.read(i)).tobytes() for i in range(30)} & {
        np.asarray(train.read(i)).tobytes() for i in range(200)
    }
    assert open_images(f"fractal-csv:{tmp_path}").read(1).size == (362, 362)
    with pytest.raises(DataError, match="has 3 categories, categories=4 are wanted"):
        open_images(f"fractal-csv:{tmp_path}?categories=4")
    for options in ("patterns=0", "w=0.7", "mode=patchy", "size=3"):
        with pytest.raises(DataError):
            open_images(f"fractal-csv:{tmp_path}?{options}").read(0)
    next(tmp_path.rglob("00001.csv")).write_text("1,2,3\n")
    with pytest.raises(DataError, match=r"00001\.csv, line 1: got 3 numbers, expected seven"):
        open_images(f"fractal-csv:{tmp_path}")


def test_procedural_fractals() -> None:
    source = "procedural:fractals?categories=2&size=24&train=30&val=5"
    train, val = open_images(source), open_images(source, "val")
    assert (len(train), len(val), len(train.classes)) == (60, 10, 2) and train.read(0).size == (24, 24)
    assert not {np.asarray(val.read(i)).tobytes() for i in range(10)} & {
        np.asarray(train.read(i)).tobytes() for i in range(60)
    }
    copy = pickle.loads(pickle.dumps(train))
    assert np.array_equal(copy.read(3), train.read(3))
    categories, seed = (
        ("categories=0", "categories=0 should be at least 1"),
        ("seed=-1", "seed=-1 should be at least 0"),
    )
    for bad, words in (categories, seed, ("train=0", "train=0"), ("size=small", "whole number")):
        with pytest.raises(DataError, match=words):
            open_images(f"procedural:fractals?{bad}")
    with pytest.raises(DataError, match="unknown procedural images 'shapes'"):
        open_images("procedural:shapes")
    with pytest.raises(DataError, match="has the splits train and val, got 'test'"):
        open_images(source, "test")


def test_sources_that_do_not_exist(tmp_path: Path) -> None:
    cases = {
        "imagnet:data": "did you mean imagenet:data",
        "data/imagenet": "expected one of imagefolder:",
        "imagenet:": "did you mean imagenet:<folder>",
        f"imagefolder:{tmp_path}?share=0.1": "unknown option 'share', did you mean 'val_share'",
        f"imagefolder:{tmp_path}?val_share": "name=value is expected",
        f"imagefolder:{tmp_path}?val_share=x": "should be a number",
        f"imagefolder:{tmp_path}": "has 0 folders of pictures",
        f"fractal-csv:{tmp_path}": "holds none of its files; FractalDB categories",
    }
    for source, words in cases.items():
        with pytest.raises(DataError, match=words):
            open_images(source)
    for kind in IMAGE_SOURCES:
        if kind == "procedural":
            continue
        with pytest.raises(MissingDataError) as caught:
            open_images(f"{kind}:{tmp_path / 'absent'}")
        text, known = (
            str(caught.value),
            next(d for d in describe_image_datasets() if d.source.startswith(f"{kind}:")),
        )
        assert (
            all(part in text for part in (known.what, known.where, known.licence, known.layout))
            and "\n" not in text
        )


def test_empty_classes_and_single_pictures(tmp_path: Path) -> None:
    root = write_coloured(tmp_path, {"": 2}, side=4)
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="empty: has no pictures of the class empty"):
        open_images(f"imagefolder:{root}")
    write_picture(root / "empty" / "x.png")
    with pytest.raises(DataError, match="empty: has a single picture"):
        open_images(f"imagefolder:{root}")


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0garbage"])
def test_damaged_pictures_are_named(content: bytes, tmp_path: Path) -> None:
    root = write_coloured(tmp_path, {"train": 2, "val": 1}, suffix=".jpg")
    broken = root / "train" / "green" / "green_1.jpg"
    broken.write_bytes(content)
    images = open_images(f"imagefolder:{root}")
    with pytest.raises(
        DataError, match=r"green_1\.jpg: cannot be read as a picture \(.*\); replace the file or remove it"
    ):
        images.read(3)
    whole = (root / "train" / "red" / "red_0.jpg").read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"green_1\.jpg: cannot be read as a picture \(.*(?i:truncated)"):
        images.read(3)
    broken.unlink()
    with pytest.raises(MissingDataError, match=r"green_1\.jpg: no such file"):
        images.read(3)


def test_every_kind_of_picture_becomes_rgb(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(np.dstack([grey, grey, grey, grey])).save(tmp_path / "alpha.png")
    for name in ("grey", "deep", "alpha"):
        picture = read_image(tmp_path / f"{name}.png")
        assert picture.mode == "RGB" and np.array_equal(np.asarray(picture), np.dstack([grey] * 3))


def test_options_in_sources() -> None:
    assert split_source("a:b:c?x=1&y=2=3") == ("a", "b:c", {"x": "1", "y": "2=3"})
    assert split_source("plain/folder") == ("", "plain/folder", {})
    assert [
        typed_value(k, "n", v)
        for k, v in ((int, "3"), (float, "1e-2"), (bool, "yes"), (int | None, "4"), (str, "5"), (int, 6))
    ] == [
        3,
        0.01,
        True,
        4,
        "5",
        6,
    ]
    with pytest.raises(DataError, match="should be true or false"):
        typed_value(bool, "n", "perhaps")
