"""ScanNet v2 (Dai et al. 2017): rooms scanned with a depth camera, as meshes (facts 2.6).

``scans/scene0000_00/scene0000_00_vh_clean_2.ply`` is a coloured mesh in metres, **z up**, whose vertices are
the points that the benchmark scores; ``..._vh_clean_2.labels.ply`` has their labels as NYU40 numbers, and the
segments, aggregation and label table of the release give the same together with instances. The split lists
``scannetv2_{train,val,test}.txt`` are the benchmark's: 1,201, 312 and 100 scans, the last without labels.

Scenes are not turned to the axes for segmentation; ``axis_align`` does it, for detection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.content import FileContent
from pointlift.data.files.formats.raw import tell
from pointlift.data.files.mesh_sampling import vertex_normals
from pointlift.data.files.points import read_content
from pointlift.data.files.scans import near_zero
from pointlift.data.sample import Sample
from pointlift.data.scene_labels import IGNORED, SceneLabels
from pointlift.data.sources.scannet_annotation import axis_alignment, read_annotation
from pointlift.data.sources.scene_columns import chosen_columns, feature_rows
from pointlift.data.sources.spec import DatasetSpec, KnownDataset, Layout

__all__ = ["LABELS", "SPEC", "read_scannet"]

CLASSES = {
    1: "wall", 2: "floor", 3: "cabinet", 4: "bed", 5: "chair", 6: "sofa", 7: "table", 8: "door", 9: "window",
    10: "bookshelf", 11: "picture", 12: "counter", 14: "desk", 16: "curtain", 24: "refrigerator",
    28: "shower curtain", 33: "toilet", 34: "sink", 36: "bathtub", 39: "otherfurniture",
}  # fmt: skip
GLITCHES = (50, 149)
"""Numbers that are no NYU40 label, in scene0270_00, scene0270_02 and scene0384_00: they have no class."""
LABELS = SceneLabels(
    tuple(CLASSES.values()),
    dict.fromkeys((*range(41), *GLITCHES), IGNORED) | {number: label for label, number in enumerate(CLASSES)},
    tuple(CLASSES),
    rule="20 of the NYU40 classes, all others have none",
)
"""The 20 classes of the benchmark."""
MESH, TRUTH = "_vh_clean_2.ply", "_vh_clean_2.labels.ply"
HAS = ("colors", "normals")
PLACES = ("scans", "scans_test", "")


def read_scannet(
    root: str | Path,
    split: str = "train",
    use: Sequence[str] = (),
    axis_align: bool = False,
) -> CloudDataset:
    """The scans of a split, each a scene of the vertices of its mesh, read when asked for.

    Args:
        root: the folder with ``scans`` and the split lists.
        split: ``"train"``, ``"val"``, ``"test"`` (no labels: ``part`` is -1 everywhere), or ``"all"``: every
            scan under ``scans``.
        use: features, any of ``"colors"`` and ``"normals"`` (of the mesh, blended at its vertices).
        axis_align: turn and shift by the scan's ``axisAlignment``, as detection does.

    Returns:
        scenes with ``part`` and, where the aggregation of the release is there, ``instance``.

    Raises:
        MissingDataError: no such folder, list, scan or labels.
        DataError: when a scan is read, anything wrong with its files, counts that differ among them.
    """
    root = Path(root)
    if not root.is_dir():
        raise MissingDataError(SPEC.how_to_get(root))
    scans = _scans(root, split)
    title = f"ScanNet, {root.name}/{split}"
    use = chosen_columns(title, use, HAS)
    labelled = split != "test"
    if labelled:
        _need_labels(scans)
    paths = [str(scan) for scan in scans]
    read = _ScanReader(use, axis_align, labelled)
    dataset = CloudDataset.from_paths(paths, [-1] * len(paths), read, LABELS.names, title, "z")
    dataset.scene_labels, dataset.columns = LABELS, use
    truth = LABELS.rule if labelled else "no labels: the benchmark's server has those of the test"
    turned = "turned to the axes" if axis_align else "not turned to the axes"
    dataset.account = f"{len(paths)} scans, labels on the vertices of {MESH}, {turned}; {truth}"
    return dataset


@dataclass(frozen=True)
class _ScanReader:
    use: tuple[str, ...]
    axis_align: bool
    labelled: bool

    def __call__(self, path: str, label: int, index: int) -> Sample:
        scan = Path(path)
        mesh = read_content(scan / f"{scan.name}{MESH}")
        if not len(mesh.xyz) or not np.isfinite(mesh.xyz).all():
            raise DataError(f"{scan}: its mesh has no vertices, or some that are NaN or infinite")
        part, instance = np.full(len(mesh.xyz), IGNORED), None
        if self.labelled:
            part, instance = _truth(scan, len(mesh.xyz))
        placed, normals = mesh.xyz, _normals(mesh) if "normals" in self.use else None
        if self.axis_align:
            matrix = axis_alignment(scan)
            placed = placed @ matrix[:3, :3].T + matrix[:3, 3]
            normals = None if normals is None else normals @ matrix[:3, :3].T
        xyz, origin = near_zero(placed)
        features = feature_rows(path, self.use, {"colors": mesh.colors, "normals": normals})
        return Sample(xyz, label, features, path, part, instance, extras={"origin": origin})


def _truth(scan: Path, vertices: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]:
    """Labels of the vertices, and instances where the release's annotation is there."""
    file = scan / f"{scan.name}{TRUTH}"
    annotation = read_annotation(scan, vertices)
    if file.is_file():
        columns = read_content(file).columns
        if "label" not in columns:
            raise DataError(
                f"{file}: its vertices have no property 'label', got {', '.join(columns) or 'none'}"
            )
        raw = np.asarray(columns["label"]).astype(np.int64)
    else:
        assert annotation is not None  # one of both is there, or the reader has refused the scan
        raw = annotation.nyu40
    if len(raw) != vertices:
        raise DataError(
            f"{file}: labels {len(raw)} vertices but the mesh has {vertices}; they are of different scans, "
            "or "
            "one file is truncated"
        )
    glitches = int(np.isin(raw, GLITCHES).sum())
    if glitches:
        tell(file, f"{glitches} vertices have the labels 50 or 149, which are no class; they are ignored")
    return LABELS.map(raw, str(file)), None if annotation is None else annotation.instance


def _normals(mesh: FileContent) -> npt.NDArray[np.float64] | None:
    if mesh.normals is not None or mesh.faces is None:
        return mesh.normals
    return vertex_normals(mesh.xyz, mesh.faces)


def _scans(root: Path, split: str) -> list[Path]:
    if split not in ("train", "val", "test", "all"):
        raise DataError(f"{root}: ScanNet has no split {split!r}, one of train, val, test, all is expected")
    if split == "all":
        found = sorted(f.parent for f in root.glob(f"scans/*/*{MESH}"))
        if not found:
            raise MissingDataError(SPEC.how_to_get(root))
        return found
    file = _list(root, split)
    if file is None:
        raise MissingDataError(
            f"{root}: has no scannetv2_{split}.txt, the list of this split; it is in the benchmark's "
            "repository "
            "(Tasks/Benchmark), or read the split all"
        )
    names = file.read_text(encoding="utf-8-sig").split()
    if not names:
        raise DataError(f"{file}: names no scans, a line such as scene0000_00 each is expected")
    scans = [_scan(root, name) for name in names]
    missing = [name for name, scan in zip(names, scans) if scan is None]
    if missing:
        raise MissingDataError(
            f"{root}: has no {missing[0]}/{missing[0]}{MESH}, which {file.name} lists "
            f"({len(missing)} of {len(names)} scans are missing)"
        )
    return [scan for scan in scans if scan is not None]


def _scan(root: Path, name: str) -> Path | None:
    return next((root / p / name for p in PLACES if (root / p / name / f"{name}{MESH}").is_file()), None)


def _list(root: Path, split: str) -> Path | None:
    files = [root / folder / f"scannetv2_{split}.txt" for folder in ("", "splits", "meta_data")]
    return next((file for file in files if file.is_file()), None)


def _need_labels(scans: Sequence[Path]) -> None:
    def labelled(scan: Path) -> bool:
        return (scan / f"{scan.name}{TRUTH}").is_file() or bool(list(scan.glob("*.aggregation.json")))

    missing = [scan for scan in scans if not labelled(scan)]
    if missing:
        raise MissingDataError(
            f"{missing[0]}: has neither {missing[0].name}{TRUTH} nor an aggregation, {len(missing)} of "
            f"{len(scans)} scans have no labels; fetch these files, or read the split test"
        )


def _splits(place: str) -> tuple[str, ...]:
    root = Path(place).expanduser()
    return tuple(s for s in ("train", "val", "test") if _list(root, s) is not None) or ("all",)


def _detect(root: Path) -> str | None:
    return "" if any(root.glob(f"scans/*/*{MESH}")) or any(root.glob(f"scans_test/*/*{MESH}")) else None


SPEC = DatasetSpec(
    name="scannet",
    kind="scene",
    layouts={"": Layout(read_scannet, points="all", own={"use": HAS})},
    detect=_detect,
    splits=_splits,
    title="ScanNet is a dataset of scanned rooms with labelled points",
    about=(
        KnownDataset(
            "ScanNet v2", "scannet:<folder>",
            what=(
                "1,613 scans of rooms (1,201 train, 312 val, 100 test without labels) as coloured meshes "
                "with "
                "labels of 20 classes and instances, metres, z up"
            ),
            where="scan-net.org, with the split lists of its benchmark's repository",
            licence="terms of use of ScanNet; research",
            layout=(
                "scans/<scan>/<scan>_vh_clean_2.ply with _vh_clean_2.labels.ply, or .segs.json and "
                ".aggregation.json and scannetv2-labels.combined.tsv above; scannetv2_{train,val,test}.txt"
            ),
        ),
    ),
)  # fmt: skip
