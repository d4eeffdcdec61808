"""Made rooms in the layout in which SUN RGB-D is released (Song et al. 2015), toolbox and all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.io import savemat

from pointlift.data.procedural.rooms import DepthCamera, Frame, make_frames, make_room
from pointlift.data.procedural.scenes import scene_key
from pointlift.data.procedural.writers.sens import jpeg
from pointlift.data.procedural.writers.sunrgbd import SunBox, sun_boxes, upright_axes
from pointlift.data.sources.sunrgbd_frames import DEPTH_AXES, encode_depth
from pointlift.system.atomic import atomic_folder

__all__ = ["write_sunrgbd_release"]

CAMERA = "kv1/made"
AUTHORS = "/n/fs/sun3d/data/"
"""Where paths in the metadata begin, on the authors' machine."""
DAY = "20150101000000"


def write_sunrgbd_release(
    root: str | os.PathLike[str],
    train: int = 4,
    test: int = 2,
    camera: DepthCamera | None = None,
    seed: int = 0,
) -> Path:
    """Write ``SUNRGBD/kv1/made/room_NNNNNN`` and ``SUNRGBDtoolbox`` into a new folder; every frame is of a
    room of its own, numbers begin with 1.

    A frame has ``image`` (JPEG), ``depth`` and ``depth_bfx`` (both as measured: holes are not filled),
    ``intrinsics.txt``, ``extrinsics``, ``scene.txt`` and ``annotation3Dfinal/index.json`` (the floor plan of
    every box and its height). The toolbox has ``Metadata/SUNRGBDMeta.mat`` (v1),
    ``SUNRGBDMeta3DBB_v2.mat`` with ``SUNRGBDMeta2DBB_v2.mat``, whose boxes are the same, and
    ``traintestSUNRGBD/allsplit.mat``. Objects of which hardly anything is seen have no box. Millimetres and
    the boxes are exact; colours are JPEG's, instance numbers are not kept.

    Args:
        root: the folder to make.
        train, test: frames.
        camera: that takes them.
        seed: of the rooms.

    Raises:
        ValueError: no frames at all.
        FileExistsError: the folder is there already.
    """
    if min(train, test) < 0 or not train + test:
        raise ValueError(f"at least 1 frame is expected, got {train} and {test}.")
    rooms = [("train", i) for i in range(train)] + [("test", i) for i in range(test)]
    with atomic_folder(Path(root)) as folder:
        entries: list[dict[str, Any]] = []
        for number, (split, index) in enumerate(rooms, 1):
            room = make_room(seed, index, split)
            frame = next(make_frames(room, 1, camera, scene_key(seed, index, split)))
            boxes = sun_boxes(room, frame)
            place = f"SUNRGBD/{CAMERA}/room_{number:06d}"
            _write_frame(folder / place, frame, boxes)
            entries.append(_entry(place, frame, boxes))
        _write_toolbox(folder / "SUNRGBDtoolbox", entries, train)
    return Path(root)


def _one_based(intrinsics: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Intrinsics whose first pixel is 1, as MATLAB counts."""
    return intrinsics + np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]])


def _write_frame(folder: Path, frame: Frame, boxes: Sequence[SunBox]) -> None:
    for name in ("image", "depth", "depth_bfx", "extrinsics", "annotation3Dfinal"):
        (folder / name).mkdir(parents=True)
    (folder / "image" / f"{folder.name}.jpg").write_bytes(jpeg(frame.color))
    for name in ("depth", "depth_bfx"):
        Image.fromarray(encode_depth(frame.depth)).save(folder / name / f"{folder.name}.png")
    _write_rows(folder / "intrinsics.txt", _one_based(frame.intrinsics))
    tilt = DEPTH_AXES.T @ upright_axes(frame)[1] @ DEPTH_AXES
    _write_rows(folder / "extrinsics" / f"{DAY}.txt", np.column_stack([tilt, np.zeros(3)]))
    (folder / "scene.txt").write_text("room\n", encoding="ascii")
    objects = [{"name": box.name, "polygon": [_polygon(box)]} for box in boxes]
    text = json.dumps({"date": DAY, "name": folder.name, "objects": objects})
    (folder / "annotation3Dfinal" / "index.json").write_text(text, encoding="ascii")


def _write_rows(file: Path, rows: npt.NDArray[np.float64]) -> None:
    file.write_text("".join(" ".join(f"{v:.9f}" for v in row) + "\n" for row in rows), encoding="ascii")


def _axes(box: SunBox) -> npt.NDArray[np.float64]:
    """(3, 3) the axes of a box as rows: across, against its heading, upwards; it faces against the second."""
    c, s = np.cos(box.box[6]), np.sin(box.box[6])
    return np.array([[-s, c, 0], [-c, -s, 0], [0, 0, 1.0]])


def _half(box: SunBox) -> npt.NDArray[np.float64]:
    """(3,) half sizes along these axes."""
    length, width, height = box.box[3:6]
    return np.array([width, length, height]) / 2


def _polygon(box: SunBox) -> dict[str, Any]:
    """Corners of the floor plan: from the first to the second runs the first axis, then the second; heights
    are counted downwards.
    """
    axes, half = _axes(box), _half(box)
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    corners = box.box[:2] + (signs * half[:2]) @ axes[:2, :2]
    low, high = box.box[2] - half[2], box.box[2] + half[2]
    return {
        "rectangle": 1, "X": corners[:, 0].tolist(), "Z": corners[:, 1].tolist(), "Ymin": -high, "Ymax": -low,
    }  # fmt: skip


def _entry(place: str, frame: Frame, boxes: Sequence[SunBox]) -> dict[str, Any]:
    """The struct of a frame, with all that v1 and v2 have."""
    name = place.rpartition("/")[2]
    rows = []
    for number, box in enumerate(boxes, 1):
        row = {
            "basis": _axes(box),
            "coeffs": _half(box)[None],
            "centroid": box.box[None, :3],
            "classname": box.name,
            "sequenceName": place,
            "orientation": -_axes(box)[None, 1],
            "gtBb2D": np.array([box.rectangle]),
            "label": float(number),
        }
        rows.append(row)
    return {
        "sequenceName": place,
        "groundtruth3DBB": _struct(rows),
        "rgbpath": f"{AUTHORS}{place}/image/{name}.jpg",
        "depthpath": f"{AUTHORS}{place}/depth_bfx/{name}.png",
        "rgbname": f"{name}.jpg",
        "depthname": f"{name}.png",
        "sensorType": "kv1",
        "valid": 1.0,
        "Rtilt": upright_axes(frame)[1],
        "K": _one_based(frame.intrinsics),
    }


def _struct(rows: Sequence[Mapping[str, Any]]) -> npt.NDArray[Any]:
    """Dicts of the same keys as a MATLAB struct array (1, n), [] where there are none."""
    if not rows:
        return np.empty((0, 0))
    made = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for column, row in enumerate(rows):
        made[0, column] = tuple(row.values())
    return made


def _write_toolbox(folder: Path, entries: Sequence[Mapping[str, Any]], train: int) -> None:
    for name in ("Metadata", "traintestSUNRGBD"):
        (folder / name).mkdir(parents=True)
    flat = [
        {"sequenceName": e["sequenceName"], "groundtruth2DBB": _without(e["groundtruth3DBB"], ("basis",))}
        for e in entries
    ]
    second = [{**e, "groundtruth3DBB": _without(e["groundtruth3DBB"], ("gtBb2D",))} for e in entries]
    for file, name, rows in (
        ("SUNRGBDMeta.mat", "SUNRGBDMeta", entries),
        ("SUNRGBDMeta3DBB_v2.mat", "SUNRGBDMeta", second),
        ("SUNRGBDMeta2DBB_v2.mat", "SUNRGBDMeta2DBB", flat),
    ):
        savemat(str(folder / "Metadata" / file), {name: _struct(rows)}, do_compression=True)
    places = [AUTHORS + str(entry["sequenceName"]) for entry in entries]
    lists = {"alltrain": places[:train], "alltest": places[train:]}
    cells = {name: _cells(paths) for name, paths in lists.items()}
    savemat(str(folder / "traintestSUNRGBD" / "allsplit.mat"), cells)


def _cells(texts: Sequence[str]) -> npt.NDArray[Any]:
    """A MATLAB cell array (1, n) of texts."""
    made = np.empty((1, len(texts)), dtype=object)
    made[0, :] = texts
    return made


def _without(boxes: npt.NDArray[Any], fields: Sequence[str]) -> npt.NDArray[Any]:
    """Structs without some of their fields."""
    if boxes.dtype.names is None:
        return boxes
    kept = [name for name in boxes.dtype.names if name not in fields]
    return _struct([{name: row[name] for name in kept} for row in boxes[0]])
