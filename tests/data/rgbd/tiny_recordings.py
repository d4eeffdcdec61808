"""Small recordings for the tests of readers: a few frames of known numbers, in any layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pointlift.data.procedural.rooms import Frame

HEIGHT, WIDTH = 12, 16
INTRINSICS = np.array([[20.0, 0, 7.5], [0, 21.0, 5.5], [0, 0, 1]])


def made_frames(count: int, seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> list[Frame]:
    """Frames of smooth colours (that a JPEG keeps) and random depths of 1 to 3 m with holes."""
    rng = np.random.default_rng([seed, count])
    rows, columns = np.mgrid[:height, :width]
    frames = []
    for i in range(count):
        color = np.stack([rows * 4 + 20, columns * 3 + 40, np.full_like(rows, 100 + i)], -1).astype(np.uint8)
        depth = rng.integers(1000, 3000, (height, width)).astype(np.uint16)
        depth[rng.random(depth.shape) < 0.2] = 0
        angle = 0.1 * i
        pose = np.eye(4)
        pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        pose[:3, 3] = [i, 0.5, 1.25]
        labels = np.zeros((height, width), np.int64)
        frames.append(
            Frame(color, depth, pose, INTRINSICS, labels, labels, (depth / 1000).astype(np.float32), labels)
        )
    return frames


def write_matrix(file: Path, matrix: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(file, matrix, fmt="%.12g")


def write_picture(file: Path, array: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file)


def write_own(root: Path, frames: list[Frame], poses: bool = True) -> Path:
    """color/img_0007.png, depth/d7.png, poses/7.txt and intrinsics.txt, numbered from 7 in steps of 3."""
    for i, frame in enumerate(frames):
        number = 7 + 3 * i
        write_picture(root / "color" / f"img_{number:04}.png", frame.color)
        write_picture(root / "depth" / f"d{number}.png", frame.depth)
        if poses:
            write_matrix(root / "poses" / f"{number}.txt", frame.pose)
    write_matrix(root / "intrinsics.txt", INTRINSICS)
    return root
