"""ModelNet10 and ModelNet40 in the three layouts in which they are handed around.

* ``h5`` (``modelnet40_ply_hdf5_2048``): ``ply_data_{train,test}*.h5`` with ``data`` (N, P, 3) and ``label``
  (N, 1), ``{train,test}_files.txt``, ``shape_names.txt``. Centred, unit sphere, **y up**. Read into memory.
* ``txt`` (``modelnet40_normal_resampled``): ``<class>/<class>_0001.txt`` of 10,000 lines x,y,z,nx,ny,nz,
  ``modelnet{10,40}_{train,test}.txt``, ``modelnet{10,40}_shape_names.txt``. Unit sphere, **y up**.
  Read when asked for.
* ``off`` (the original release): ``<class>/{train,test}/*.off``, meshes of any size, **z up**.
  Sampled when asked for.

Objects of the off layout have their meshes, ``dataset.mesh(i)``; those of the others too where ``meshes``
names a folder of the off layout. The files of a copy differ (facts T44): h5 has 9,840 training objects, txt
9,843.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.raw import parse_json
from pointlift.data.files.formats.text import read_text
from pointlift.data.files.mesh_files import FileMeshes, modelnet_meshes
from pointlift.data.files.points import DEFAULT_MESH_POINTS
from pointlift.data.files.reader import FileReader
from pointlift.data.sample import Sample
from pointlift.data.sources.h5_stacks import first_or_random, read_stack
from pointlift.data.sources.spec import DatasetSpec, KnownDataset, Layout, check_train_or_test

__all__ = ["SPEC", "modelnet_layout", "read_modelnet_h5", "read_modelnet_off", "read_modelnet_txt"]

SPLITS = ("train", "test")


def modelnet_layout(root: Path) -> str | None:
    """``"h5"``, ``"txt"`` or ``"off"``: which of the layouts above a folder has,
    None when it has none of them.
    """
    if any(root.glob("ply_data_*.h5")) or any((root / f"{s}_files.txt").is_file() for s in SPLITS):
        return "h5"
    if any(root.glob("modelnet*_shape_names.txt")):
        return "txt"
    if any(p.suffix.lower() == ".off" for s in SPLITS for p in root.glob(f"*/{s}/*")):
        return "off"
    return None


def read_modelnet_h5(
    root: Path,
    split: str,
    n_points: int | None = None,
    sampling: str = "first",
    seed: int = 0,
    up_axis: str = "y",
    meshes: str | None = None,
) -> CloudDataset:
    """Read the ``h5`` layout into memory; the files of a split are taken in sorted order.

    Args:
        root: the folder.
        split: ``"train"`` or ``"test"``.
        n_points: points per cloud; None: all.
        sampling: ``"first"`` points (they are stored in random order) or ``"random"`` ones,
            drawn per cloud from (seed, index).
        seed: of random sampling.
        up_axis: of the result; nothing is rotated.
        meshes: folder of the off layout with the meshes of the same objects; they are found by
            ``*_id2file.json`` and turned as the clouds.

    Raises:
        MissingDataError: a file is not there.
        DataError: a truncated or garbage file, other shapes, a label out of range, NaN,
            fewer points than ``n_points``.
    """
    check_train_or_test(root, "ModelNet", split)
    classes = _lines(
        root / "shape_names.txt", "the names of the classes, one per line in the order of the labels"
    )
    samples: list[Sample] = []
    for file in _h5_files(root, split):
        data, labels = read_stack(file, len(classes), "shape_names.txt")
        names = _object_names(file, len(data))
        for row, (cloud, label) in enumerate(zip(data, labels)):
            rows = first_or_random(sampling, n_points, len(cloud), seed, len(samples), file)
            samples.append(
                Sample(cloud[rows], int(label), path=f"{file}#{row}" + (f" ({names[row]})" if names else ""))
            )
    return _with_meshes(
        CloudDataset(samples, classes, f"ModelNet h5, {root.name}/{split}", up_axis), meshes, split
    )


def _with_meshes(dataset: CloudDataset, meshes: str | None, split: str) -> CloudDataset:
    if meshes is not None:
        dataset.meshes = modelnet_meshes(dataset, Path(meshes).expanduser(), split)
    return dataset


def _h5_files(root: Path, split: str) -> list[Path]:
    listing = root / f"{split}_files.txt"
    if listing.is_file():
        # the official lists name files as data/modelnet40_ply_hdf5_2048/ply_data_train0.h5,
        # wherever the folder is now
        names = sorted(
            {
                PurePosixPath(line.replace("\\", "/")).name
                for line in _lines(listing, "the .h5 files of the split")
            }
        )
    else:
        names = sorted(path.name for path in root.glob(f"ply_data_{split}*.h5"))
        if not names:
            raise MissingDataError(
                f"{root}: has neither {split}_files.txt nor ply_data_{split}*.h5; the folder is incomplete"
            )
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise MissingDataError(
            f"{root / missing[0]}: no such file, but {listing.name} lists it ({len(missing)} of {len(names)} "
            "missing)"
        )
    return [root / name for name in names]


def _object_names(file: Path, count: int) -> list[str] | None:
    """Names of the objects, where the folder says them in ``ply_data_train_0_id2file.json``;
    only for messages.
    """
    stem, digits = file.stem.rstrip("0123456789"), file.stem[len(file.stem.rstrip("0123456789")) :]
    listing = file.with_name(f"{stem}_{digits}_id2file.json")
    if not listing.is_file():
        return None
    names = parse_json(listing, "not readable ({}); it may be removed, only names are lost")
    if not isinstance(names, list) or len(names) != count:
        raise DataError(
            f"{listing}: should list {count} names, as many as {file.name} has clouds; it may be removed, "
            "only names are lost"
        )
    return [str(name) for name in names]


def read_modelnet_txt(
    root: Path,
    split: str,
    n_points: int | None = 1024,
    normals: bool = False,
    variant: int | None = None,
    up_axis: str = "y",
    meshes: str | None = None,
) -> CloudDataset:
    """Read the ``txt`` layout, each cloud when it is asked for.

    PointCMT's clouds (facts 4.2) are these with ``n_points=2048``:
    the first 2,048 lines of every file, neither centred nor scaled again.

    Args:
        root: the folder.
        split: ``"train"`` or ``"test"``.
        n_points: the first n of the 10,000 points; None: all.
        normals: give the normals as features.
        variant: 10 or 40, which of the lists is used; None: 40 where there is one.
        up_axis: of the result; nothing is rotated.
        meshes: folder of the off layout with the meshes of the same objects;
            they are turned as the clouds are.

    Raises:
        MissingDataError: a list or a listed file is not there.
        DataError: an object whose class is not among the names; when a cloud is read:
            anything wrong with its file.
    """
    check_train_or_test(root, "ModelNet", split)
    prefix = f"modelnet{variant}"
    if variant is None:
        prefix = next(
            (p for p in ("modelnet40", "modelnet10") if (root / f"{p}_shape_names.txt").is_file()),
            "modelnet40",
        )
    classes = _lines(root / f"{prefix}_shape_names.txt", "the names of the classes")
    index = {name: label for label, name in enumerate(classes)}
    objects = _lines(root / f"{prefix}_{split}.txt", "the objects of the split, one per line, as chair_0001")
    paths, labels = [], []
    for name in objects:
        category = name.rsplit("_", 1)[0]
        if category not in index:
            raise DataError(
                f"{root / f'{prefix}_{split}.txt'}: {name!r} belongs to no class of {prefix}_shape_names.txt"
            )
        paths.append(str(root / category / f"{name}.txt"))
        labels.append(index[category])
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise MissingDataError(
            f"{missing[0]}: no such file, but {prefix}_{split}.txt lists it ({len(missing)} of {len(paths)} "
            "missing)"
        )
    read = partial(_read_txt, n_points=n_points, normals=normals)
    dataset = CloudDataset.from_paths(
        paths, labels, read, classes, f"ModelNet txt, {root.name}/{split}", up_axis
    )
    dataset.columns = ("normals",) if normals else ()
    return _with_meshes(dataset, meshes, split)


def _read_txt(path: str, label: int, index: int, n_points: int | None, normals: bool) -> Sample:
    content = read_text(Path(path), max_rows=n_points)
    if n_points is not None and len(content.xyz) < n_points:
        raise DataError(
            f"{path}: has {len(content.xyz)} points, {n_points} were asked for; the file is truncated, "
            "or ask for fewer"
        )
    bad = np.flatnonzero(~np.isfinite(content.xyz).all(axis=1))
    if len(bad):
        raise DataError(
            f"{path}: {len(bad)} of {len(content.xyz)} points have NaN or infinite coordinates, "
            f"the first at row {bad[0]}"
        )
    if normals and content.normals is None:
        raise DataError(f"{path}: has no normals, lines x,y,z,nx,ny,nz with unit normals are expected")
    return Sample(content.xyz, label, content.normals if normals else None, path)


def read_modelnet_off(
    root: Path,
    split: str,
    n_points: int | None = 1024,
    seed: int = 0,
    normalize: str = "unit-sphere",
    up_axis: str = "z",
) -> CloudDataset:
    """Read the ``off`` layout: every mesh is sampled uniformly by area, from (seed, file name),
    when it is asked for.

    Args:
        root: the folder.
        split: ``"train"`` or ``"test"``.
        n_points: points per mesh; None: 2,048.
        seed: of the sampling.
        normalize: ``"unit-sphere"`` or ``"none"``.
        up_axis: of the result; nothing is rotated. The original meshes are z up,
            unlike the two other layouts.

    Raises:
        MissingDataError: no class has the split.
        DataError: a class folder without meshes in this split; when a mesh is read:
            anything wrong with its file.
    """
    check_train_or_test(root, "ModelNet", split)
    folders = sorted(
        p
        for p in root.iterdir()
        if p.is_dir() and not p.name.startswith((".", "__MACOSX")) and any((p / s).is_dir() for s in SPLITS)
    )
    if not folders:
        raise MissingDataError(f"{root}: has no folders <class>/{split} with .off files")
    paths, labels = [], []
    for label, folder in enumerate(folders):
        inside = (folder / split).glob("*")
        files = sorted(p for p in inside if p.suffix.lower() == ".off" and not p.name.startswith("."))
        if not files:
            raise DataError(
                f"{folder / split}: has no .off files, at least one per class is expected; "
                "the copy is incomplete"
            )
        paths += [str(p) for p in files]
        labels += [label] * len(files)
    read = FileReader(n_points, seed, normalize)
    title = f"ModelNet off, {root.name}/{split}"
    dataset = CloudDataset.from_paths(
        paths, labels, read, [p.name for p in folders], title, up_axis, FileMeshes(tuple(paths))
    )
    dataset.mesh_points = n_points or DEFAULT_MESH_POINTS
    return dataset


def _lines(path: Path, what: str) -> list[str]:
    """Non-empty stripped lines."""
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file; it should hold {what}")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not text; it should hold {what}") from None
    lines = [line for line in lines if line]
    if not lines:
        raise DataError(f"{path}: is empty; it should hold {what}")
    return lines


_TERMS = "copyright of the CAD models stays with their authors; academic use"
SPEC = DatasetSpec(
    name="modelnet",
    kind="objects",
    layouts={
        "h5": Layout(read_modelnet_h5, points="stored"),
        "txt": Layout(read_modelnet_txt, own={"normals": True}),
        "off": Layout(read_modelnet_off, points="sampled", plain={"normalize": "none"}),
    },
    detect=modelnet_layout,
    title="ModelNet is a dataset of CAD objects",
    about=(
        KnownDataset(
            "ModelNet40 / ModelNet10, sampled (h5)", "modelnet:<folder>",
            what=(
                "12,308 objects of 40 classes (9,840 train, 2,468 test) as 2,048 points in the unit "
                "sphere, y up"
            ),
            where="PointNet's project page at Stanford (modelnet40_ply_hdf5_2048)", licence=_TERMS,
            layout="ply_data_train*.h5, ply_data_test*.h5, train_files.txt, test_files.txt, shape_names.txt",
        ),
        KnownDataset(
            "ModelNet40 / ModelNet10, resampled with normals (txt)", "modelnet:<folder>",
            what="12,311 objects of 40 classes (9,843 train, 2,468 test) as 10,000 points with normals, y up",
            where="PointNet++'s project page at Stanford (modelnet40_normal_resampled)", licence=_TERMS,
            layout=(
                "<class>/<class>_0001.txt, modelnet40_shape_names.txt, modelnet40_train.txt, "
                "modelnet40_test.txt (or modelnet10_*)"
            ),
        ),
        KnownDataset(
            "ModelNet40 / ModelNet10, original meshes (off)", "modelnet:<folder>",
            what="the CAD meshes themselves, in any scale, z up; points are sampled when they are read",
            where="the Princeton ModelNet page", licence=_TERMS,
            layout="<class>/train/*.off, <class>/test/*.off",
        ),
        KnownDataset(
            "ModelNet40, ready-made views", "views.kind: folder with views.folder: <folder>",
            what=(
                "20 pictures of 224 x 224 pixels of every object, which the image network of PointCMT "
                "sees; not clouds, but beside them: they are paired with the clouds of a modelnet: source "
                "by the objects' names"
            ),
            where=(
                "rendered by multi-view networks (RotationNet's and MVCNN's project pages); PointCMT's "
                "repository names its set ModelNet40_mv_20view. pointlift renders them from the original "
                "meshes as well"
            ),
            licence=_TERMS,
            layout=(
                "<class>/{train,test}/<class>_0001_001.png and on to _020.png, three digits from 001 "
                "(checked by: data check views:<folder>)"
            ),
        ),
    ),
)  # fmt: skip
