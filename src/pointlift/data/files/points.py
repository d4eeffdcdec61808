"""Points from a file of any supported format, checked."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.arrays import read_h5, read_npy, read_npz
from pointlift.data.files.formats.content import FileContent
from pointlift.data.files.formats.float_records import read_bin
from pointlift.data.files.formats.gltf import read_gltf
from pointlift.data.files.formats.las import read_las
from pointlift.data.files.formats.obj import read_obj
from pointlift.data.files.formats.off import read_off
from pointlift.data.files.formats.pcd import read_pcd
from pointlift.data.files.formats.ply import read_ply
from pointlift.data.files.formats.raw import tell, told_as_damaged
from pointlift.data.files.formats.stl import read_stl
from pointlift.data.files.formats.text import read_pts, read_text
from pointlift.data.files.mesh_sampling import blend_corners, face_normals, has_surface, sample_surface
from pointlift.data.sample import Sample

__all__ = [
    "DEFAULT_MESH_POINTS",
    "NONFINITE",
    "SUPPORTED",
    "PointFile",
    "is_supported",
    "read_content",
    "read_points",
    "usual_up",
]

Reader = Callable[[Path], FileContent]
READERS: dict[str, Reader] = {
    ".ply": read_ply,
    ".off": read_off,
    ".obj": read_obj,
    ".stl": read_stl,
    ".npy": read_npy,
    ".npz": read_npz,
    ".pcd": read_pcd,
    ".xyz": read_text,
    ".txt": read_text,
    ".csv": read_text,
    ".pts": read_pts,
    ".bin": read_bin,
    ".h5": read_h5,
    ".hdf5": read_h5,
    ".las": read_las,
    ".laz": read_las,
    ".glb": read_gltf,
    ".gltf": read_gltf,
}
STACKS: dict[str, Callable[[Path, int], FileContent]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".h5": read_h5,
    ".hdf5": read_h5,
}
SUPPORTED = tuple(READERS)
DEFAULT_MESH_POINTS = 2048
# by what writes such files: surveys, vehicles and robots, machine tools; modellers and games
USUAL_UP = {".las": "z", ".laz": "z", ".pts": "z", ".bin": "z", ".pcd": "z", ".stl": "z"} | {
    ".obj": "y",
    ".glb": "y",
    ".gltf": "y",
}
FEATURE_SOURCES = ("normals", "colors", "features")
NONFINITE = ("error", "drop")

Origin = tuple[float, float, float]
Float32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PointFile:
    """A cloud as read from a file.

    Attributes:
        path: the file.
        xyz: ``(N, 3)`` float32, in the file's own units, minus ``origin``.
        normals: ``(N, 3)`` float32 or None.
        colors: ``(N, 3)`` float32 in 0-1 or None.
        features: ``(N, C)`` float32 further columns, or None.
        from_mesh: whether the points were sampled on a surface.
        origin: ``(3,)`` float64 whole numbers. Zero, unless the coordinates are so far from zero (survey
            coordinates of .las files) that float32 could not tell neighbouring points apart; ``xyz + origin``
            are the file's coordinates.
        columns: ``{name: (N,) numbers}`` of the file's further columns that have names, unchecked, see
            :class:`~pointlift.data.files.formats.content.FileContent`; of sampled meshes none.
    """

    path: str
    xyz: Float32
    normals: Float32 | None = None
    colors: Float32 | None = None
    features: Float32 | None = None
    from_mesh: bool = False
    origin: Origin = (0.0, 0.0, 0.0)
    columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.xyz)

    def sample(self, label: int = -1, use: Sequence[str] = ()) -> Sample:
        """A :class:`~pointlift.data.sample.Sample` whose features are the columns named by ``use``,
        side by side.

        Args:
            label: class index, -1 when unknown.
            use: any of ``"normals"``, ``"colors"``, ``"features"``;
                none of them gives a sample without features.

        Raises:
            DataError: the file has no such columns, or there is no such name.
        """
        columns = []
        for name in use:
            if name not in FEATURE_SOURCES:
                raise DataError(
                    f"unknown feature source {name!r}, expected one of {', '.join(FEATURE_SOURCES)}"
                )
            found: Float32 | None = getattr(self, name)
            if found is None:
                raise DataError(f"{self.path}: has no {name}, so they cannot be used as features")
            columns.append(found)
        return Sample(self.xyz, label, np.concatenate(columns, axis=1) if columns else None, self.path)


def usual_up(paths: Sequence[str | os.PathLike[str]]) -> tuple[str, str]:
    """Which axis points up in most files of these formats, and why, in words: no format says it of itself but
    glTF; z where surveyors, scanners and machines write files, y where modellers do, y where nothing tells.
    """
    votes = [USUAL_UP[suffix] for path in paths if (suffix := Path(path).suffix.lower()) in USUAL_UP]
    if not votes:
        return "y", "since these files do not tell"
    up = max("zy", key=votes.count)
    known = sorted({s for path in paths if USUAL_UP.get(s := Path(path).suffix.lower()) == up})
    return up, f"as is usual in {', '.join(known)} files"


def is_supported(path: str | os.PathLike[str]) -> bool:
    """Whether the extension of ``path`` is one that :func:`read_points` reads."""
    return Path(path).suffix.lower() in READERS


def read_content(path: str | os.PathLike[str]) -> FileContent:
    """What a file holds, unsampled: vertices and faces of a mesh, or the points of a cloud.

    A cloud of a stack in an .h5, .npy or .npz file is named ``file.h5#3``.

    Raises:
        MissingDataError: there is no such file.
        DataError: unsupported extension, folder, empty, truncated or garbage file.
    """
    file, index = Path(path), None
    match = re.fullmatch(r"(.+)#(\d+)", str(path))
    if match and not file.exists():
        file, index = Path(match.group(1)), int(match.group(2))
    suffix = file.suffix.lower()
    if file.is_dir():
        raise DataError(f"{file}: is a folder, a file is expected (open folders as datasets: folder:{file})")
    if not file.exists():
        raise MissingDataError(f"{file}: no such file")
    if suffix not in READERS:
        raise DataError(
            f"{file}: the extension {suffix or '(none)'} is not supported, "
            f"expected one of {' '.join(SUPPORTED)}"
        )
    with told_as_damaged(file):
        if index is None:
            return READERS[suffix](file)
        if suffix not in STACKS:
            raise DataError(
                f"{path}: '#{index}' names a cloud of a stack, which only {' '.join(STACKS)} files can hold"
            )
        return STACKS[suffix](file, index)


def read_points(
    path: str | os.PathLike[str],
    n_points: int | None = None,
    rng: np.random.Generator | None = None,
    nonfinite: str = "error",
    use: Sequence[str] | None = None,
) -> PointFile:
    """Read a cloud, or sample the surface of a mesh.

    Args:
        path: a file of one of the formats in :data:`SUPPORTED`.
        n_points: points to return. Meshes are sampled uniformly by area and give exactly as many (None:
            2,048). Clouds give at most as many, drawn without replacement in the order of the file (None:
            all).
        rng: where the draws come from; None is a generator with seed 0,
            so that the same file gives the same points.
        nonfinite: ``"error"``, or ``"drop"`` to leave out points with NaN or infinite coordinates, normals,
            colours or features, and faces of a mesh with such corners. Columns that are such in every row,
            as of normals that were never computed, are left out with a warning either way.
        use: columns to read beside the coordinates, any of ``"normals"``, ``"colors"``, ``"features"``, so
            that what is wrong with the others does not matter; None: all that the file has.

    Raises:
        MissingDataError: there is no such file.
        DataError: anything that keeps the file from being used, in one sentence.
    """
    if n_points is not None and n_points < 1:
        raise ValueError(f"n_points is {n_points}, at least 1 is expected")
    if nonfinite not in NONFINITE:
        raise ValueError(f"nonfinite is {nonfinite!r}, 'error' or 'drop' is expected")
    content = read_content(path)
    if use is not None:
        content = _without(content, [n for n in FEATURE_SOURCES if n not in use])
    with np.errstate(invalid="ignore", over="ignore"):
        content, origin = _rebased(content)
        generator = np.random.default_rng(0) if rng is None else rng
        if content.faces is None:
            cloud = _finite_cloud(str(path), content, nonfinite)
            if n_points is not None and len(cloud.xyz) > n_points:
                cloud = _take(cloud, np.sort(generator.choice(len(cloud.xyz), n_points, replace=False)))
        else:
            mesh = _finite_mesh(str(path), content, nonfinite)
            cloud = _sampled(str(path), mesh, origin, n_points or DEFAULT_MESH_POINTS, generator)
    columns = {n: _single(path, getattr(cloud, n), n) for n in FEATURE_SOURCES}
    return PointFile(
        str(path),
        cloud.xyz.astype(np.float32),
        from_mesh=content.faces is not None,
        origin=origin,
        columns=cloud.columns,
        **columns,
    )


def _single(path: str | os.PathLike[str], values: Floats | None, what: str) -> Float32 | None:
    if values is None:
        return None
    _check_size(path, values, what)
    return values.astype(np.float32)


def _check_size(path: str | os.PathLike[str], values: Floats, what: str) -> None:
    largest, limit = float(np.abs(values).max(initial=0.0)), float(np.finfo(np.float32).max)
    if largest > limit:
        raise DataError(
            f"{path}: {what} as large as {largest:.3g} do not fit float32 (up to {limit:.3g}), "
            "scale them down"
        )


def _rebased(content: FileContent) -> tuple[FileContent, Origin]:
    """Move coordinates near zero where float32, in which everything else computes,
    would merge neighbouring points.
    """
    finite = content.xyz[np.isfinite(content.xyz).all(axis=1)]
    if not len(finite) or np.abs(finite).max() > np.finfo(np.float32).max:
        return content, (0.0, 0.0, 0.0)
    low, high = finite.min(axis=0), finite.max(axis=0)
    step = np.spacing(np.float32(np.abs(finite).max()))
    if len(finite) == 1 or step <= np.max(high - low) * 2.0**-16:
        return content, (0.0, 0.0, 0.0)
    origin = np.floor((low + high) / 2)
    return replace(content, xyz=content.xyz - origin), (float(origin[0]), float(origin[1]), float(origin[2]))


def _finite_cloud(path: str, cloud: FileContent, nonfinite: str) -> FileContent:
    if not len(cloud.xyz):
        raise DataError(f"{path}: has 0 points, at least 1 is expected")
    everywhere = np.ones(len(cloud.xyz), dtype=bool)
    cloud, kept = _finite_rows(path, cloud, "points", everywhere, nonfinite)
    if not kept.all():
        cloud = _take(cloud, np.flatnonzero(kept))
    _check_size(path, cloud.xyz, "coordinates")
    return cloud


def _finite_mesh(path: str, mesh: FileContent, nonfinite: str) -> FileContent:
    """The mesh without faces that cannot be used, or an error; vertices without a face may be anything."""
    if mesh.faces is None or not len(mesh.faces):
        return mesh
    used = np.zeros(len(mesh.xyz), dtype=bool)
    used[mesh.faces.reshape(-1)] = True
    mesh, kept = _finite_rows(path, mesh, "vertices", used, nonfinite)
    faces = mesh.faces if mesh.faces is not None else np.empty((0, 3), np.int64)
    good = kept[faces].all(axis=1)
    if not good.any():
        raise DataError(f"{path}: every face has a corner that is NaN or infinite, so there is no surface")
    mesh = replace(mesh, faces=faces[good])
    _check_size(path, mesh.xyz[faces[good]], "coordinates")
    return mesh


def _finite_rows(
    path: str,
    content: FileContent,
    what: str,
    used: npt.NDArray[np.bool_],
    nonfinite: str,
) -> tuple[FileContent, npt.NDArray[np.bool_]]:
    """The content without columns that are nowhere finite, and the rows in which all is finite."""
    kept = np.asarray(np.isfinite(content.xyz).all(axis=1))
    left = bool((kept & used).any())
    if not kept[used].all() and (nonfinite == "error" or not left):
        raise DataError(_bad_rows(path, kept, what, "coordinates", left))
    for name in FEATURE_SOURCES:
        values: Floats | None = getattr(content, name)
        if values is None:
            continue
        finite = np.asarray(np.isfinite(values).all(axis=1))
        needed = kept & used
        if not finite[needed].any():
            tell(Path(path), f"its {name} are NaN or infinite in every row and are left out")
            content = _without(content, [name])
        elif not finite[needed].all():
            if nonfinite == "error":
                raise DataError(_bad_rows(path, finite, what, name, True))
            kept = kept & finite
    if not (kept & used).any():
        raise DataError(f"{path}: every row has something that is NaN or infinite, no point is left")
    return content, kept


def _bad_rows(path: str, good: npt.NDArray[np.bool_], what: str, columns: str, some_left: bool) -> str:
    bad = np.flatnonzero(~good)
    fix = "repair the file, or leave them out with nonfinite='drop' (source?nonfinite=drop, --nonfinite drop)"
    return (
        f"{path}: {len(bad)} of {len(good)} {what} have NaN or infinite {columns}, the first at row "
        f"{bad[0]} (counted from 0); {fix if some_left else 'no point is left'}"
    )


def _without(content: FileContent, names: list[str]) -> FileContent:
    left: dict[str, Any] = dict.fromkeys(names)
    return replace(content, **left)


def _take(cloud: FileContent, rows: npt.NDArray[np.int64]) -> FileContent:
    beside = {n: None if getattr(cloud, n) is None else getattr(cloud, n)[rows] for n in FEATURE_SOURCES}
    named = {n: values[rows] for n, values in cloud.columns.items()}
    return replace(cloud, xyz=cloud.xyz[rows], columns=named, **beside)


def _sampled(
    path: str, mesh: FileContent, origin: Origin, n_points: int, rng: np.random.Generator
) -> FileContent:
    """Points on the surface, with the normals of their faces and the blended colours of their corners."""
    faces = mesh.faces
    if faces is None or not len(faces):
        raise DataError(
            f"{path}: is a mesh without faces, so it has no surface to sample; "
            "save it as .ply or .xyz to use its vertices"
        )
    if not has_surface(mesh.xyz, faces, float(np.abs(mesh.xyz[faces] + origin).max())):
        raise DataError(
            f"{path}: its surface has zero area ({len(faces)} faces, all degenerate), so it cannot be sampled"
        )
    xyz, drawn = sample_surface(mesh.xyz, faces, n_points, rng)
    corners = faces[drawn]
    normals = face_normals(mesh.xyz, corners)
    colors = (
        None
        if mesh.colors is None
        else blend_corners(xyz.astype(np.float64), mesh.xyz[corners], mesh.colors[corners])
    )
    return FileContent(xyz.astype(np.float64), normals=normals, colors=colors)
