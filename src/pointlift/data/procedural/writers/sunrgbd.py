"""Made rooms in the layout that VoteNet extracts from SUN RGB-D (Qi et al. 2019)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.io import savemat

from pointlift.data.procedural.rooms import KINDS, DepthCamera, Frame, make_frames, make_room
from pointlift.data.procedural.scenes import SceneMesh, scene_key
from pointlift.data.procedural.writers.sens import jpeg
from pointlift.data.sources.sunrgbd_frames import DEPTH_AXES
from pointlift.system.atomic import atomic_folder

__all__ = ["SUN_NAMES", "SunBox", "sun_boxes", "sun_points", "upright_axes", "write_sunrgbd"]

Floats = npt.NDArray[np.float64]
SUN_NAMES: dict[str, str] = {"couch": "sofa", "whiteboard": "whiteboard", "trash can": "garbage_bin"}
"""What SUN RGB-D calls kinds that are not called the same."""
SEEN = 80  # pixels of an object, below which it has no label


class SunBox(NamedTuple):
    """A labelled object: its name, its box (7,) in upright axes around the camera, and where it is in the
    picture: left, top, width, height in pixels.
    """

    name: str
    box: Floats
    rectangle: tuple[float, float, float, float]


def upright_axes(frame: Frame) -> tuple[Floats, Floats]:
    """(3, 3) from the room's axes to upright ones, whose y is the heading of the camera and z up, and (3, 3)
    ``Rtilt`` from the camera's depth axes to the upright ones.
    """
    forward = frame.pose[:2, 2] / np.linalg.norm(frame.pose[:2, 2])
    turn = np.array([[forward[1], -forward[0], 0], [forward[0], forward[1], 0], [0, 0, 1.0]])
    return turn, turn @ frame.pose[:3, :3] @ DEPTH_AXES.T


def sun_points(frame: Frame) -> Floats:
    """(N, 6) points that were measured in upright axes around the camera, with colours of 0-1."""
    rows, columns = np.nonzero(frame.depth)
    z = frame.depth[rows, columns] / 1000.0
    k = frame.intrinsics
    own = np.stack([(columns - k[0, 2]) / k[0, 0] * z, (rows - k[1, 2]) / k[1, 1] * z, z], 1)
    turn = upright_axes(frame)[0] @ frame.pose[:3, :3]
    return np.concatenate([own @ turn.T, frame.color[rows, columns] / 255.0], axis=1)


def sun_boxes(room: SceneMesh, frame: Frame) -> list[SunBox]:
    """The objects with boxes that a frame sees."""
    turn, _ = upright_axes(frame)
    angle = np.arctan2(turn[1, 0], turn[0, 0])
    found = []
    for box, kind, instance in zip(room.boxes, room.box_kinds, room.box_instances):
        seen = np.nonzero(frame.instances == instance)
        if len(seen[0]) < SEEN:
            continue
        own = np.array([*(turn @ (box[:3] - frame.pose[:3, 3])), *box[3:6], box[6] + angle])
        top, left = seen[0].min(), seen[1].min()
        rectangle = (float(left), float(top), float(np.ptp(seen[1]) + 1), float(np.ptp(seen[0]) + 1))
        name = KINDS[int(kind)].name
        found.append(SunBox(SUN_NAMES.get(name, name).replace(" ", "_"), own, rectangle))
    return found


def write_sunrgbd(
    root: str | os.PathLike[str],
    train: int = 4,
    val: int = 2,
    camera: DepthCamera | None = None,
    points: int = 50_000,
    seed: int = 0,
) -> Path:
    """Write ``sunrgbd_trainval/{depth/*.mat, image/*.jpg, calib/*.txt, label/*.txt, label_v1/*.txt}`` and
    the two lists of numbers into a new folder; every picture is of a room of its own, numbers begin with 1.

    ``depth/NNNNNN.mat`` holds ``instance`` (N, 6): measured points in upright axes (x right, y forward, z up)
    and colours of 0-1; ``calib`` the tilt (row 1) and the intrinsics (row 2), column by column; a line of
    ``label`` is ``class xmin ymin width height cx cy cz w l h ox oy`` with half sizes, w before l, and the
    direction of the box's first axis. Lengths have 6 decimals, pictures are JPEG; instance numbers are not
    kept.

    Args:
        root: the folder to make.
        train, val: pictures.
        camera: that takes them.
        points: of a picture at most, drawn at random.
        seed: of the rooms.

    Raises:
        ValueError: no pictures at all.
        FileExistsError: the folder is there already.
    """
    if min(train, val) < 0 or not train + val or points < 1:
        raise ValueError(f"at least 1 picture of 1 point is expected, got {train}, {val} and {points}.")
    pictures = [("train", i) for i in range(train)] + [("val", i) for i in range(val)]
    with atomic_folder(Path(root)) as folder:
        place = folder / "sunrgbd_trainval"
        for name in ("depth", "image", "calib", "label", "label_v1"):
            (place / name).mkdir(parents=True)
        for number, (split, index) in enumerate(pictures, 1):
            room, key = make_room(seed, index, split), scene_key(seed, index, split)
            frame = next(make_frames(room, 1, camera, key))
            _write_picture(place, f"{number:06d}", room, frame, points, np.random.default_rng(key))
        for name, numbers in (("train", range(1, train + 1)), ("val", range(train + 1, train + val + 1))):
            (place / f"{name}_data_idx.txt").write_text("".join(f"{i}\n" for i in numbers), encoding="ascii")
    return Path(root)


def _write_picture(
    place: Path, name: str, room: SceneMesh, frame: Frame, points: int, rng: np.random.Generator
) -> None:
    cloud = sun_points(frame)
    cloud = cloud[np.sort(rng.permutation(len(cloud))[:points])]
    savemat(str(place / "depth" / f"{name}.mat"), {"instance": cloud}, do_compression=True)
    (place / "image" / f"{name}.jpg").write_bytes(jpeg(frame.color))
    calib = [
        " ".join(f"{v:.9f}" for v in matrix.T.reshape(-1))
        for matrix in (upright_axes(frame)[1], frame.intrinsics)
    ]
    (place / "calib" / f"{name}.txt").write_text("".join(f"{row}\n" for row in calib), encoding="ascii")
    lines = []
    for box in sun_boxes(room, frame):
        x, y, z, length, width, height, heading = box.box
        values = (
            *box.rectangle,
            x,
            y,
            z,
            width / 2,
            length / 2,
            height / 2,
            np.cos(heading),
            np.sin(heading),
        )
        lines.append(f"{box.name} " + " ".join(f"{value:.6f}" for value in values))
    for folder in ("label", "label_v1"):
        (place / folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
