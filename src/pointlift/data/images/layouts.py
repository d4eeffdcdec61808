"""The folders that image datasets come in: a folder per class, Tiny-ImageNet's and ImageNet's own.

Class order is that of the sorted folder names (code points), as in torchvision's ImageFolder, so that weights
from elsewhere agree with the labels here.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.images.image_set import FileImages
from pointlift.data.images.spec import ImageSpec

__all__ = [
    "FRACTALDB", "IMAGENET", "IMAGE_FOLDER", "TINY_IMAGENET", "read_fractaldb", "read_image_folder",
    "read_imagenet", "read_tiny_imagenet",
]  # fmt: skip

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# where ImageNet's validation labels are found, in order: Kaggle's file, name-label lists, the devkit's
ANNOTATIONS = (
    "LOC_val_solution.csv",
    "val/LOC_val_solution.csv",
    "val_annotations.txt",
    "val/val_annotations.txt",
    "val.txt",
    "val/val.txt",
    "ILSVRC2012_validation_ground_truth.txt",
    "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
)


def read_image_folder(root: Path, split: str = "train", val_share: float | None = None) -> FileImages:
    """A folder per class: ``<split>/<class>/...`` or ``<class>/...``, pictures at any depth below the class.

    Args:
        root: the folder.
        split: ``"train"`` or ``"val"``; with folders for the splits also ``"test"``.
        val_share: share of every class that is held out as ``"val"`` (the same files each time, at least
            one); 0.1 where the folder has no splits. With folders train and val it must be left out.

    Raises:
        MissingDataError: no such split, or no folder per class.
        DataError: a class without pictures, or whose pictures cannot be divided.
    """
    name = f"imagefolder {root} ({split})"
    if not (root / "train").is_dir():
        return _held_out(name, root, "", split, 0.1 if val_share is None else val_share)
    if val_share is not None and (root / "val").is_dir():
        raise DataError(
            f"{root}: val_share={val_share} is given, but the folder has pictures for val of its own; "
            "leave the option out"
        )
    if val_share is not None:
        return _held_out(name, root, "train", split, val_share)
    if not (root / split).is_dir():
        there = ", ".join(s for s in ("train", "val", "test") if (root / s).is_dir())
        raise MissingDataError(
            f"{root}: has no folder {split} (but {there}); hold out some of train with ?val_share=0.1, "
            "or add the folder"
        )
    classes = _classes(root / "train")
    if split != "train":
        _same_classes(root, split, classes)
    files, labels = _collect(root, {c: Path(split, c) for c in classes}, may_lack=split != "train")
    return FileImages(name, root, files, labels, classes)


def read_fractaldb(root: Path, split: str = "train", val_share: float = 0.02) -> FileImages:
    """Rendered FractalDB: ``<category>/*.png``. Nothing is held out in the published protocol;
    here ``val_share`` of every category is.

    The held-out pictures are an easy test: a category's pictures share trajectories and come in four flips
    (facts 6.2, trap T46), so that nearly every one of them has a mirror image in ``"train"``.

    With ``val_share=0`` all pictures are for training and there is no ``"val"``.
    Raises as :func:`read_image_folder`.
    """
    name = f"fractaldb {root} ({split})"
    if val_share == 0 and split == "train":
        classes = _classes(root)
        files, labels = _collect(root, {c: Path(c) for c in classes})
        return FileImages(name, root, files, labels, classes)
    return _held_out(name, root, "", split, val_share)


def read_tiny_imagenet(root: Path, split: str = "train") -> FileImages:
    """Tiny-ImageNet as it is unpacked: ``train/<wnid>/images/*.JPEG``,
    ``val/images/*.JPEG`` with ``val/val_annotations.txt``.

    Classes are those of ``wnids.txt``, sorted; titles those of ``words.txt``, if it is there.
    The test split has no labels.

    Raises:
        MissingDataError: a file or folder of the layout is absent.
        DataError: a line of the annotations that cannot be read, a class that ``wnids.txt`` does not have,
            or an unknown split.
    """
    name = f"tiny-imagenet {root} ({split})"
    wnids = root / "wnids.txt"
    if not wnids.is_file():
        raise MissingDataError(
            f"{root}: has no wnids.txt; Tiny-ImageNet's unpacked folder is expected (wnids.txt, train, val)"
        )
    classes = sorted(filter(None, (line.strip() for line in _lines(wnids))))
    if split == "train":
        files, labels = _collect(root, {c: Path("train", c) for c in classes})
    elif split == "val":
        annotations = _annotations(root / "val" / "val_annotations.txt", classes)
        files, labels = [str(Path("val", "images", file)) for file in annotations], list(annotations.values())
    else:
        raise DataError(f"{root}: Tiny-ImageNet's labelled splits are train and val, got {split!r}")
    return FileImages(name, root, files, labels, classes, _titles(root / "words.txt", classes))


def read_imagenet(root: Path, split: str = "train", annotations: str | None = None) -> FileImages:
    """ImageNet (ILSVRC 2012): ``train/<wnid>/*.JPEG``, and ``val/<wnid>/*.JPEG`` or flat ``val/*.JPEG`` with
    a file of labels.

    annotations: that file; else it is looked for in the folder under its usual names: Kaggle's
    ``LOC_val_solution.csv``, lines of file name and WordNet id or index among the sorted ids (``val.txt``),
    or the devkit's ``ILSVRC2012_validation_ground_truth.txt`` with ``meta.mat`` beside it.

    Raises:
        MissingDataError: a file or folder of the layout is absent.
        DataError: labels that cannot be read or do not fit the training classes, or an unknown split.
    """
    name = f"imagenet {root} ({split})"
    if split not in ("train", "val"):
        raise DataError(f"{root}: ImageNet's labelled splits are train and val, got {split!r}")
    for part in {"train", split}:
        if not (root / part).is_dir():
            raise MissingDataError(
                f"{root}: has no folder {part}; ImageNet's folder is expected (train/<wnid>/*.JPEG, val/...)"
            )
    classes = _classes(root / "train")
    titles = _titles(root / "LOC_synset_mapping.txt", classes)
    if split == "train" or _folders(root / "val"):
        if split == "val":
            _same_classes(root, split, classes)
        files, labels = _collect(root, {c: Path(split, c) for c in classes}, may_lack=split == "val")
        return FileImages(name, root, files, labels, classes, titles)
    file = (
        Path(annotations)
        if annotations is not None
        else next((root / a for a in ANNOTATIONS if (root / a).is_file()), None)
    )
    if file is None:
        raise MissingDataError(
            f"{root / 'val'}: the pictures lie flat and no file of labels is there; add {ANNOTATIONS[0]}, "
            "val.txt or the devkit's ground truth to the folder, or name the file with ?annotations=FILE"
        )
    if "ground_truth" in file.name:
        pictures = sorted(_pictures(root / "val"))
        found = dict(zip(pictures, _ground_truth(file, classes, len(pictures))))
    else:
        found = _annotations(file, classes)
    return FileImages(name, root, [str(Path("val", f)) for f in found], list(found.values()), classes, titles)


def _held_out(name: str, root: Path, folder: str, split: str, share: float) -> FileImages:
    """Part of every class: "val" is its first files in the order of a digest of their names,
    which depends on nothing else.
    """
    if not 0 < share < 1:
        raise DataError(
            f"{root}: val_share is {share}, expected a share between 0 and 1, "
            f"without which there is no {split}"
        )
    if split not in ("train", "val"):
        raise DataError(f"{root}: a folder without splits is divided into train and val, got {split!r}")
    classes = _classes(root / folder)
    files, labels = _collect(root, {c: Path(folder, c) for c in classes})
    members: dict[int, list[str]] = {}
    for file, label in zip(files, labels):
        members.setdefault(label, []).append(file)
    chosen: list[tuple[str, int]] = []
    for label, own in members.items():
        if len(own) < 2:
            raise DataError(
                f"{root / folder / classes[label]}: has a single picture, of which no part can be held out; "
                "add pictures"
            )
        ranked = sorted(
            own, key=lambda file: hashlib.blake2b(os.fsencode(Path(file).name), digest_size=8).digest()
        )
        held = set(ranked[: min(len(own) - 1, max(1, round(share * len(own))))])
        chosen += [(file, label) for file in own if (file in held) == (split == "val")]
    return FileImages(name, root, [file for file, _ in chosen], [label for _, label in chosen], classes)


def _folders(root: Path) -> list[str]:
    return sorted(
        entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")
    )


def _classes(root: Path) -> list[str]:
    classes = _folders(root)
    if len(classes) < 2:
        raise MissingDataError(
            f"{root}: has {len(classes)} folders of pictures, expected one for each of two classes or more"
        )
    return classes


def _same_classes(root: Path, split: str, classes: Sequence[str]) -> None:
    other = [c for c in _folders(root / split) if c not in set(classes)]
    if other:
        raise DataError(
            f"{root / split / other[0]}: there is no such class in {root / 'train'}; "
            "the folders of both must agree"
        )


def _pictures(folder: Path) -> Iterator[str]:
    """Files below a folder, relative to it, in any order."""
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(".")]
        for file in files:
            if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                yield os.path.relpath(os.path.join(place, file), folder) if place != str(folder) else file


def _collect(root: Path, places: dict[str, Path], may_lack: bool = False) -> tuple[list[str], list[int]]:
    """Files relative to ``root`` and labels of the classes in ``places``, sorted within each."""
    files: list[str] = []
    labels: list[int] = []
    for label, (name, place) in enumerate(places.items()):
        own = sorted(_pictures(root / place)) if (root / place).is_dir() else []
        if not own and not may_lack:
            raise DataError(
                f"{root / place}: has no pictures of the class {name} ({', '.join(SUFFIXES[:3])}, ...); "
                "add some or remove the folder"
            )
        files += [os.path.join(place, file) for file in own]
        labels += [label] * len(own)
    if not files:
        raise MissingDataError(
            f"{root}: has no pictures in {', '.join(str(p) for p in list(places.values())[:2])}, ..."
        )
    return files, labels


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise MissingDataError(f"{path}: no such file; it belongs to the dataset, unpack it again") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not text; unpack the dataset again") from None


def _titles(path: Path, classes: Sequence[str]) -> list[str] | None:
    """Words of WordNet ids: lines of an id, white space, and words."""
    if not path.is_file():
        return None
    words = {
        line.split(None, 1)[0]: line.split(None, 1)[1].strip()
        for line in _lines(path)
        if len(line.split(None, 1)) == 2
    }
    return [words.get(c, c) for c in classes]


def _annotations(path: Path, classes: Sequence[str]) -> dict[str, int]:
    """{file name: label} from lines "name id ..." (white space or commas),
    where id is a class or the index of one.
    """
    # a name that is a number is a name
    number = {str(i): i for i in range(len(classes))} | {c: i for i, c in enumerate(classes)}
    found: dict[str, int] = {}
    for row, line in enumerate(_lines(path), 1):
        fields = next(csv.reader([line])) if "," in line else line.split()
        fields = [word for field in fields for word in field.split()]
        if not fields or fields[0] == "ImageId":
            continue
        if len(fields) < 2 or fields[1] not in number:
            raise DataError(
                f"{path}, line {row}: got {line[:60]!r}, expected a file name and one of the {len(classes)} "
                "classes in the folder"
            )
        file = fields[0] if fields[0].lower().endswith(SUFFIXES) else f"{fields[0]}.JPEG"
        found[file] = number[fields[1]]
    if not found:
        raise DataError(f"{path}: names no pictures, expected lines of file name and class")
    return dict(sorted(found.items()))


def _ground_truth(path: Path, classes: Sequence[str], pictures: int) -> list[int]:
    """Labels from the devkit: a number (ILSVRC2012_ID) per picture in order of name;
    meta.mat beside it says which WordNet id it is.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    meta = path.parent / "meta.mat"
    if not meta.is_file():
        raise MissingDataError(
            f"{meta}: no such file; the devkit's numbers mean nothing without it, put it beside {path.name}"
        )
    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        wnid = {int(number): str(name) for number, name in zip(synsets["ILSVRC2012_ID"], synsets["WNID"])}
    except (MatReadError, ValueError, KeyError, TypeError, IndexError, OSError, NotImplementedError) as error:
        raise DataError(
            f"{meta}: is not the devkit's table of synsets ({type(error).__name__}); unpack the devkit again"
        ) from None
    numbers = [line.strip() for line in _lines(path) if line.strip()]
    if len(numbers) != pictures:
        raise DataError(
            f"{path}: has {len(numbers)} labels for {pictures} pictures in val; both must be complete"
        )
    label = {name: i for i, name in enumerate(classes)}
    unknown = [n for n in numbers if not n.isdigit() or wnid.get(int(n)) not in label]
    if unknown:
        raise DataError(
            f"{path}: the label {unknown[0]!r} is none of the classes in train; both must be complete"
        )
    return [label[wnid[int(n)]] for n in numbers]


_PHOTOGRAPHS = "photographs of many owners; non-commercial research and education, on registration"
IMAGE_FOLDER = ImageSpec(
    "imagefolder", read_image_folder, "your own pictures",
    what="a folder per class of .jpg .jpeg .png .bmp .gif .webp .tif .tiff .ppm .pgm files",
    where="yours", licence="yours",
    layout="train/<class>/*.jpg and val/<class>/*.jpg, or <class>/*.jpg, of which a share is held out",
)  # fmt: skip
IMAGENET = ImageSpec(
    "imagenet", read_imagenet, "ImageNet-1K (ILSVRC 2012)", licence=_PHOTOGRAPHS,
    what="1,281,167 training and 50,000 validation photographs of 1,000 classes, 150 GB",
    where="the ImageNet web page or the ILSVRC pages of Kaggle (ILSVRC2012_img_train.tar, "
    "ILSVRC2012_img_val.tar and the devkit)",
    layout="train/<wnid>/*.JPEG, and val/<wnid>/*.JPEG or val/*.JPEG with LOC_val_solution.csv, val.txt "
    "or the devkit's ground truth",
)  # fmt: skip
TINY_IMAGENET = ImageSpec(
    "tiny-imagenet", read_tiny_imagenet, "Tiny-ImageNet", licence=_PHOTOGRAPHS,
    what="100,000 training and 10,000 validation photographs of 200 classes, 64 x 64 pixels, 240 MB",
    where="Stanford's course CS231n (tiny-imagenet-200.zip)",
    layout="wnids.txt, words.txt, train/<wnid>/images/*.JPEG, val/images/*.JPEG, val/val_annotations.txt",
)  # fmt: skip
FRACTALDB = ImageSpec(
    "fractaldb", read_fractaldb, "FractalDB-1K / FractalDB-10K, rendered", licence="MIT",
    what="1,000 pictures of 362 x 362 pixels of each of 1,000 or 10,000 categories, 13 GB per 1,000 "
    "categories",
    where="rendered by FractalDB's published code, or by pointlift "
    "(pointlift.data.procedural.fractals.fractal_images.write_fractaldb)",
    layout="<category>/<category>_<weight>_count_<n>_flip<k>.png",
)  # fmt: skip
