"""The datasets that pointlift reads: what each is, where it comes from, under which terms, and how its folder looks."""

from __future__ import annotations

from dataclasses import dataclass

from pointlift.data.files.meshes import MESH_SUFFIXES

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


_CAD_TERMS = "copyright of the CAD models stays with their authors; academic use"
_DATASETS = (
    KnownDataset(
        name="procedural shapes",
        source="procedural:shapes",
        what="14 classes of CAD-like objects with part labels, made on the spot from a seed; any size",
        where="part of pointlift, nothing to download",
        licence="as pointlift",
        layout="none; options as in procedural:shapes?train=40&test=20",
    ),
    KnownDataset(
        name="ModelNet40 / ModelNet10, sampled (h5)",
        source="modelnet:<folder>",
        what="12,308 objects of 40 classes (9,840 train, 2,468 test) as 2,048 points in the unit sphere, y up",
        where="PointNet's project page at Stanford (modelnet40_ply_hdf5_2048)",
        licence=_CAD_TERMS,
        layout="ply_data_train*.h5, ply_data_test*.h5, train_files.txt, test_files.txt, shape_names.txt",
    ),
    KnownDataset(
        name="ModelNet40 / ModelNet10, resampled with normals (txt)",
        source="modelnet:<folder>",
        what="12,311 objects of 40 classes (9,843 train, 2,468 test) as 10,000 points with normals, y up",
        where="PointNet++'s project page at Stanford (modelnet40_normal_resampled)",
        licence=_CAD_TERMS,
        layout="<class>/<class>_0001.txt, modelnet40_shape_names.txt, modelnet40_train.txt, modelnet40_test.txt (or modelnet10_*)",
    ),
    KnownDataset(
        name="ModelNet40 / ModelNet10, original meshes (off)",
        source="modelnet:<folder>",
        what="the CAD meshes themselves, in any scale, z up; points are sampled when they are read",
        where="the Princeton ModelNet page",
        licence=_CAD_TERMS,
        layout="<class>/train/*.off, <class>/test/*.off",
    ),
    KnownDataset(
        name="ModelNet40, ready-made views",
        source="views.kind: folder with views.folder: <folder>",
        what=(
            "20 pictures of 224 x 224 pixels of every object, which the image network of PointCMT sees; not clouds, but beside them: they "
            "are paired with the clouds of a modelnet: source by the objects' names"
        ),
        where=(
            "rendered by multi-view networks (RotationNet's and MVCNN's project pages); PointCMT's repository names its set "
            "ModelNet40_mv_20view. pointlift renders them from the original meshes as well"
        ),
        licence=_CAD_TERMS,
        layout=(
            "<class>/{train,test}/<class>_0001_001.png and on to _020.png, three digits from 001 (checked by: data check views:<folder>)"
        ),
    ),
    KnownDataset(
        name="ScanObjectNN",
        source="scanobjectnn:<folder>",
        what=(
            "2,902 objects of 15 classes from indoor scans (2,309 train, 581 test; perturbed 11,416 and 2,882) as 2,048 points, y up; "
            "variants obj-bg, obj-only, pb-t25, pb-t25-r, pb-t50-r, pb-t50-rs (the default)"
        ),
        where="ScanObjectNN's project page at HKUST, on agreeing to its terms (h5_files.zip; object_dataset.zip for colours)",
        licence="terms of use of ScanObjectNN, ScanNet and SceneNN; research",
        layout=(
            "main_split/{training,test}_objectdataset*.h5 and main_split_nobg/... (or the same in h5_files/); with colors=true "
            "object_dataset/<class>/*.bin and object_dataset/split_new.txt"
        ),
    ),
    KnownDataset(
        name="ShapeNetPart",
        source="shapenetpart:<folder>",
        what=(
            "16,881 objects of 16 categories (12,137 train, 1,870 val, 2,874 test) as about 2,600 points with normals and part labels "
            "(50 parts), y up"
        ),
        where="Stanford, via PointNet++'s project page (shapenetcore_partanno_segmentation_benchmark_v0_normal)",
        licence="terms of use of ShapeNet; research",
        layout="synsetoffset2category.txt, train_test_split/shuffled_{train,val,test}_file_list.json, <synset>/*.txt",
    ),
    KnownDataset(
        name="your own meshes",
        source="meshes:<folder>",
        what=f"a folder per class of {' '.join(MESH_SUFFIXES)} files: clouds are sampled on them, and views of them can be rendered",
        where="yours",
        licence="yours",
        layout="<class>/... or train/<class>/..., test/<class>/... (and val/<class>/...)",
    ),
    KnownDataset(
        name="your own files",
        source="folder:<folder>",
        what="a folder per class of .ply .off .obj .stl .npy .npz .pcd .xyz .txt .h5 .las .laz files",
        where="yours",
        licence="yours",
        layout="<class>/... or train/<class>/..., test/<class>/... (and val/<class>/...)",
    ),
    KnownDataset(
        name="images as clouds of their pixels",
        source="pixels:<image source>",
        what="every image a cloud of points (column, row, 1) in pixels with red, green, blue in 0-1, to pre-train networks of points on",
        where="that of the images: imagenet:, tiny-imagenet:, imagefolder:, fractaldb: or fractal-csv:<folder>, or procedural:fractals",
        licence="that of the images",
        layout="that of the images; options as in pixels:imagenet:<folder>?crop=224, without a crop images are taken as they are",
    ),
)


def describe_datasets() -> tuple[KnownDataset, ...]:
    """Every dataset that :func:`~pointlift.data.sources.open.open_dataset` opens."""
    return _DATASETS
