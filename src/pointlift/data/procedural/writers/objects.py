"""Procedural objects written in the on-disk layouts of the real datasets, so that the real readers read them.

Every writer makes a whole folder or none: it is put together beside its destination and moved there when
complete.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from pointlift.data.procedural.shapes import CLASSES, make_cloud, make_mesh, mesh_seed, part_range
from pointlift.data.sample import Sample
from pointlift.system.atomic import atomic_folder

__all__ = [
    "MODELNET40_CLASSES", "SHAPENETPART", "family_for", "split_counts", "split_objects", "write_h5",
    "write_modelnet_h5", "write_modelnet_txt", "write_off", "write_shapenetpart",
]  # fmt: skip

StrPath = str | os.PathLike[str]

MODELNET40_CLASSES: tuple[str, ...] = (
    "airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone",
    "cup", "curtain", "desk", "door", "dresser", "flower_pot", "glass_box", "guitar", "keyboard", "lamp",
    "laptop", "mantel", "monitor", "night_stand", "person", "piano", "plant", "radio", "range_hood", "sink",
    "sofa", "stairs", "stool", "table", "tent", "toilet", "tv_stand", "vase", "wardrobe", "xbox",
)  # fmt: skip
"""ModelNet40's class names in label order."""

SHAPENETPART: dict[str, tuple[str, str, int]] = {
    "aeroplane": ("Airplane", "02691156", 0),
    "car": ("Car", "02958343", 8),
    "chair": ("Chair", "03001627", 12),
    "guitar": ("Guitar", "03467517", 19),
    "lamp": ("Lamp", "03636649", 24),
    "mug": ("Mug", "03797390", 36),
    "table": ("Table", "04379243", 47),
}
"""Procedural class to ShapeNetPart's category, its WordNet offset and its first part label (Yi et al. 2016).

Each has as many parts here as there; the order of the parts within a category is this package's own.
"""

_ALIASES = {
    "airplane": "aeroplane",
    "desk": "table",
    "cup": "mug",
    "flower_pot": "vase",
    "plant": "vase",
    "laptop": "monitor",
}


def family_for(class_name: str, index: int) -> str:
    """Which of ``CLASSES`` stands in for a class of another dataset:
    itself, a near relative, or one by turns.
    """
    if class_name in CLASSES:
        return class_name
    return _ALIASES.get(class_name, CLASSES[index % len(CLASSES)])


def split_counts(n_per_class: int, n_test_per_class: int | None, classes: Sequence[str]) -> dict[str, int]:
    """Objects per class of every split. Raises ValueError for counts below 1 and for classes that are none or
    repeated.
    """
    counts = {"train": n_per_class, "test": n_per_class if n_test_per_class is None else n_test_per_class}
    if min(counts.values()) < 1:
        raise ValueError(
            f"every split needs at least 1 object per class, got {counts['train']} for train and "
            f"{counts['test']} for test."
        )
    if len(set(classes)) != len(classes) or not classes:
        raise ValueError(f"classes must be one or more different names, got {list(classes)}.")
    return counts


def split_objects(
    split: str, counts: dict[str, int], classes: Sequence[str], seed: int
) -> list[tuple[int, str, str, int]]:
    """Label, file stem, family and mesh seed of every object of a split;
    test objects are numbered on after the training ones.
    """
    first = 1 if split == "train" else counts["train"] + 1
    return [
        (label, f"{name}_{first + i:04d}", family_for(name, label), mesh_seed(name, i, seed, split))
        for label, name in enumerate(classes)
        for i in range(counts[split])
    ]


def _lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_modelnet_h5(
    root: StrPath,
    n_per_class: int,
    n_test_per_class: int | None = None,
    n_points: int = 2048,
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
    *,
    normals: bool = True,
    noise: float = 0.0,
    shapes_per_file: int = 2048,
    list_prefix: str = "",
) -> Path:
    """Write the layout of modelnet40_ply_hdf5_2048.

    ``ply_data_{train,test}{k}.h5`` hold ``data`` (N, P, 3) float32, ``label`` (N, 1) uint8 and optionally
    ``normal`` (N, P, 3) float32; beside them lie ``{train,test}_files.txt``, ``shape_names.txt`` and
    ``ply_data_{split}_{k}_id2file.json``. Objects are shuffled over the files; clouds are y up in the unit
    sphere.

    Args:
        root: folder to make; it may exist if it is empty.
        n_per_class: training objects per class.
        n_test_per_class: test objects per class; as many as for training if None.
        n_points: points per object.
        seed: 0 or more; everything follows from it.
        classes: class names, up to 256; names that are no procedural class get a stand-in (``family_for``),
            so ``MODELNET40_CLASSES`` gives a data set of ModelNet40's shape.
        normals: write the key ``normal``.
        noise: see ``make_cloud``.
        shapes_per_file: objects per h5 file.
        list_prefix: what stands before the file names in ``*_files.txt``;
            the released archive has "data/modelnet40_ply_hdf5_2048/".

    Returns:
        The folder.

    Raises:
        ValueError: for counts below 1, more than 256 or repeated classes.
        FileExistsError: when root holds something already.
    """
    counts = split_counts(n_per_class, n_test_per_class, classes)
    if len(classes) > 256:
        raise ValueError(
            f"the layout stores labels as uint8, so at most 256 classes fit, got {len(classes)}."
        )
    if shapes_per_file < 1:
        raise ValueError(f"shapes_per_file must be at least 1, got {shapes_per_file}.")
    with atomic_folder(root) as folder:
        _lines(folder / "shape_names.txt", classes)
        for split in counts:
            objects = split_objects(split, counts, classes, seed)
            order = np.random.default_rng([seed, len(objects)]).permutation(len(objects))
            chunks = [
                [objects[i] for i in order[k : k + shapes_per_file]]
                for k in range(0, len(order), shapes_per_file)
            ]
            for k, chunk in enumerate(chunks):
                samples = [
                    make_cloud(family, s, n_points, label, noise, ("normal",) if normals else ())
                    for label, _, family, s in chunk
                ]
                write_h5(folder / f"ply_data_{split}{k}.h5", samples)
                (folder / f"ply_data_{split}_{k}_id2file.json").write_text(
                    json.dumps([stem for _, stem, _, _ in chunk]), encoding="utf-8"
                )
            _lines(
                folder / f"{split}_files.txt",
                [f"{list_prefix}ply_data_{split}{k}.h5" for k in range(len(chunks))],
            )
    return Path(root)


def write_h5(path: Path, samples: Sequence[Sample]) -> None:
    """Clouds of one length as a file of ModelNet's h5 layout:
    data (B, N, 3), label (B, 1) and, where they have features, normal.

    Raises OSError where the disk is full. The file is put together in memory, because HDF5 ends the process
    where a write of its own fails.
    """
    data = np.stack([sample.xyz for sample in samples])
    chunks = (min(64, len(data)), *data.shape[1:])
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("data", data=data, compression="gzip", compression_opts=1, chunks=chunks)
        file.create_dataset("label", data=np.array([[sample.label] for sample in samples], dtype=np.uint8))
        if samples[0].features is not None:
            normal = np.stack([np.asarray(sample.features) for sample in samples])
            file.create_dataset("normal", data=normal, compression="gzip", compression_opts=1, chunks=chunks)
    path.write_bytes(content.getbuffer())


def write_modelnet_txt(
    root: StrPath,
    n_per_class: int,
    n_test_per_class: int | None = None,
    n_points: int = 10_000,
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
    *,
    name: str = "modelnet40",
) -> Path:
    """Write the layout of modelnet40_normal_resampled: ``<class>/<class>_0001.txt`` with ``x,y,z,nx,ny,nz``
    per line.

    Beside the class folders lie ``{name}_shape_names.txt``, ``{name}_train.txt`` and ``{name}_test.txt``. The
    other arguments, the returned value and the errors are those of ``write_modelnet_h5``.
    """
    counts = split_counts(n_per_class, n_test_per_class, classes)
    with atomic_folder(root) as folder:
        _lines(folder / f"{name}_shape_names.txt", classes)
        for split in counts:
            objects = split_objects(split, counts, classes, seed)
            for label, stem, family, mesh in objects:
                sample = make_cloud(family, mesh, n_points, label, features=("normal",))
                path = folder / classes[label] / f"{stem}.txt"
                path.parent.mkdir(exist_ok=True)
                np.savetxt(
                    path,
                    np.column_stack([sample.xyz, np.asarray(sample.features)]),
                    fmt="%.6f",
                    delimiter=",",
                )
            _lines(folder / f"{name}_{split}.txt", [stem for _, stem, _, _ in objects])
    return Path(root)


def write_off(
    root: StrPath,
    n_per_class: int,
    n_test_per_class: int | None = None,
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
    *,
    up_axis: str = "z",
    glued_header: bool = False,
) -> Path:
    """Write the layout of ModelNet's meshes: ``<class>/{train,test}/<class>_0001.off``.

    As there, objects stand with z up, come in arbitrary units away from the origin,
    and numbers run on from train to test.

    Args:
        root, n_per_class, n_test_per_class, seed, classes: as in ``write_modelnet_h5``.
        up_axis: "z" as in ModelNet, or "y".
        glued_header: write "OFF" and the counts on one line without a space,
            the well-known defect of many ModelNet files.

    Returns:
        The folder.

    Raises:
        ValueError: for counts below 1, repeated classes or another up axis.
        FileExistsError: when root holds something already.
    """
    counts = split_counts(n_per_class, n_test_per_class, classes)
    if up_axis not in ("y", "z"):
        raise ValueError(f"up_axis must be 'y' or 'z', got {up_axis!r}.")
    with atomic_folder(root) as folder:
        for split in counts:
            for label, stem, family, mesh_id in split_objects(split, counts, classes, seed):
                mesh = make_mesh(family, mesh_id)
                vertices = mesh.vertices.astype(np.float64)
                if up_axis == "z":
                    vertices = vertices[:, [0, 2, 1]] * [1, -1, 1]
                rng = np.random.default_rng([mesh_id, 1])
                vertices = vertices * rng.uniform(10, 100) + rng.uniform(-50, 50, 3)
                head = f"{len(vertices)} {len(mesh.faces)} 0"
                rows = ["OFF" + head] if glued_header else ["OFF", head]
                rows += [f"{x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices.tolist()]
                rows += [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
                _lines(folder / classes[label] / split / f"{stem}.off", rows)
    return Path(root)


def write_shapenetpart(
    root: StrPath,
    n_per_class: int,
    n_test_per_class: int | None = None,
    n_val_per_class: int = 1,
    n_points: tuple[int, int] = (2000, 3000),
    seed: int = 0,
    classes: Sequence[str] = tuple(SHAPENETPART),
) -> Path:
    """Write the layout of shapenetcore_partanno_segmentation_benchmark_v0_normal.

    ``synsetoffset2category.txt``, ``train_test_split/shuffled_{train,val,test}_file_list.json`` and
    ``<synset>/<id>.txt`` with ``x y z nx ny nz label`` per line, y up.
    Part labels are ShapeNetPart's own numbers.

    Args:
        root, n_per_class, n_test_per_class, seed: as in ``write_modelnet_h5``.
        n_val_per_class: validation objects per class; may be 0.
        n_points: smallest and largest number of points per object;
            it differs from object to object, as there.
        classes: which keys of ``SHAPENETPART``.

    Returns:
        The folder.

    Raises:
        ValueError: for counts out of range or a class that ShapeNetPart lacks.
        FileExistsError: when root holds something already.
    """
    counts = {**split_counts(n_per_class, n_test_per_class, classes), "val": n_val_per_class}
    if n_val_per_class < 0 or not 2 <= n_points[0] <= n_points[1]:
        raise ValueError(
            "n_val_per_class must be 0 or more and n_points (low, high) from 2 up, "
            f"got {n_val_per_class} and {n_points}."
        )
    for name in classes:
        if name not in SHAPENETPART:
            raise ValueError(
                f"ShapeNetPart has no counterpart of {name!r}; choose among {', '.join(SHAPENETPART)}."
            )
    with atomic_folder(root) as folder:
        _lines(
            folder / "synsetoffset2category.txt",
            [f"{SHAPENETPART[name][0]}\t{SHAPENETPART[name][1]}" for name in classes],
        )
        for split, count in counts.items():
            listed = []
            for name in classes:
                _, synset, first = SHAPENETPART[name]
                for i in range(count):
                    mesh_id = mesh_seed(name, i, seed, split)
                    size = int(np.random.default_rng([mesh_id, 2]).integers(n_points[0], n_points[1] + 1))
                    sample = make_cloud(name, mesh_id, size, 0, features=("normal",))
                    part = np.asarray(sample.part) - part_range(name).start + first
                    stem = f"{name}_{split}_{i:04d}"
                    path = folder / synset / f"{stem}.txt"
                    path.parent.mkdir(exist_ok=True)
                    np.savetxt(
                        path, np.column_stack([sample.xyz, np.asarray(sample.features), part]), fmt="%.6f"
                    )
                    listed.append(f"shape_data/{synset}/{stem}")
            order = np.random.default_rng([seed, len(listed)]).permutation(len(listed))
            path = folder / "train_test_split" / f"shuffled_{split}_file_list.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps([listed[i] for i in order]), encoding="utf-8")
    return Path(root)
