"""The datasets that pointlift reads: what each is, where it comes from, under which terms, and how its folder looks."""

from __future__ import annotations

from dataclasses import dataclass

from pointlift.data.meshes import MESH_SUFFIXES

__all__ = ["KnownDataset", "describe_datasets"]


@dataclass(frozen=True)
class KnownDataset:
    """One line of ``pointlift data list``.

    Attributes:
        name: what people call it.
        source: what to write as a recipe's data source.
        what: content and size.
        where: the official place, by name.
        licence: terms, in short; the official page decides.
        layout: files that are expected in the folder.
    """

    name: str
    source: str
    what: str
    where: str
    licence: str
    layout: str


def describe_datasets() -> tuple[KnownDataset, ...]:
    """Every dataset that :func:`~pointlift.data.source.open_dataset` opens."""
    terms = "copyright of the CAD models stays with their authors; academic use"
    return (
        KnownDataset(
            "procedural shapes",
            "procedural:shapes",
            "14 classes of CAD-like objects with part labels, made on the spot from a seed; any size",
            "part of pointlift, nothing to download",
            "as pointlift",
            "none; options as in procedural:shapes?train=40&test=20",
        ),
        KnownDataset(
            "ModelNet40 / ModelNet10, sampled (h5)",
            "modelnet:<folder>",
            "12,308 objects of 40 classes (9,840 train, 2,468 test) as 2,048 points in the unit sphere, y up",
            "PointNet's project page at Stanford (modelnet40_ply_hdf5_2048)",
            terms,
            "ply_data_train*.h5, ply_data_test*.h5, train_files.txt, test_files.txt, shape_names.txt",
        ),
        KnownDataset(
            "ModelNet40 / ModelNet10, resampled with normals (txt)",
            "modelnet:<folder>",
            "12,311 objects of 40 classes (9,843 train, 2,468 test) as 10,000 points with normals, y up",
            "PointNet++'s project page at Stanford (modelnet40_normal_resampled)",
            terms,
            "<class>/<class>_0001.txt, modelnet40_shape_names.txt, modelnet40_train.txt, modelnet40_test.txt (or modelnet10_*)",
        ),
        KnownDataset(
            "ModelNet40 / ModelNet10, original meshes (off)",
            "modelnet:<folder>",
            "the CAD meshes themselves, in any scale, z up; points are sampled when they are read",
            "the Princeton ModelNet page",
            terms,
            "<class>/train/*.off, <class>/test/*.off",
        ),
        KnownDataset(
            "ModelNet40, ready-made views",
            "views.kind: folder with views.folder: <folder>",
            "20 pictures of 224 x 224 pixels of every object, which the image network of PointCMT sees; not clouds, but beside them: they "
            "are paired with the clouds of a modelnet: source by the objects' names",
            "rendered by multi-view networks (RotationNet's and MVCNN's project pages); PointCMT's repository names its set "
            "ModelNet40_mv_20view. pointlift renders them from the original meshes as well",
            terms,
            "<class>/{train,test}/<class>_0001_001.png and on to _020.png, three digits from 001 (checked by: data check views:<folder>)",
        ),
        KnownDataset(
            "ScanObjectNN",
            "scanobjectnn:<folder>",
            "2,902 objects of 15 classes from indoor scans (2,309 train, 581 test; perturbed 11,416 and 2,882) as 2,048 points, y up; "
            "variants obj-bg, obj-only, pb-t25, pb-t25-r, pb-t50-r, pb-t50-rs (the default)",
            "ScanObjectNN's project page at HKUST, on agreeing to its terms (h5_files.zip; object_dataset.zip for colours)",
            "terms of use of ScanObjectNN, ScanNet and SceneNN; research",
            "main_split/{training,test}_objectdataset*.h5 and main_split_nobg/... (or the same in h5_files/); with colors=true "
            "object_dataset/<class>/*.bin and object_dataset/split_new.txt",
        ),
        KnownDataset(
            "ShapeNetPart",
            "shapenetpart:<folder>",
            "16,881 objects of 16 categories (12,137 train, 1,870 val, 2,874 test) as about 2,600 points with normals and part labels "
            "(50 parts), y up",
            "Stanford, via PointNet++'s project page (shapenetcore_partanno_segmentation_benchmark_v0_normal)",
            "terms of use of ShapeNet; research",
            "synsetoffset2category.txt, train_test_split/shuffled_{train,val,test}_file_list.json, <synset>/*.txt",
        ),
        KnownDataset(
            "your own meshes",
            "meshes:<folder>",
            f"a folder per class of {' '.join(MESH_SUFFIXES)} files: clouds are sampled on them, and views of them can be rendered",
            "yours",
            "yours",
            "<class>/... or train/<class>/..., test/<class>/... (and val/<class>/...)",
        ),
        KnownDataset(
            "your own files",
            "folder:<folder>",
            "a folder per class of .ply .off .obj .stl .npy .npz .pcd .xyz .txt .h5 .las .laz files",
            "yours",
            "yours",
            "<class>/... or train/<class>/..., test/<class>/... (and val/<class>/...)",
        ),
        KnownDataset(
            "images as clouds of their pixels",
            "pixels:<image source>",
            "every image a cloud of points (column, row, 1) in pixels with red, green, blue in 0-1, to pre-train networks of points on",
            "that of the images: imagenet:, tiny-imagenet:, imagefolder:, fractaldb: or fractal-csv:<folder>, or procedural:fractals",
            "that of the images",
            "that of the images; options as in pixels:imagenet:<folder>?crop=224, without a crop images are taken as they are",
        ),
    )
