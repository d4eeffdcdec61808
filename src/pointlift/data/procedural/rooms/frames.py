"""Posed RGB-D frames of a room, as a hand-held depth camera records them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pointlift.data.procedural.rooms.kinds import KIND_NAMES, ROOM_OF
from pointlift.data.procedural.scenes import SceneMesh, stream
from pointlift.data.procedural.scenes.places import Occupied, Places
from pointlift.ops.raster import Cameras, rasterize

__all__ = ["DepthCamera", "Frame", "make_frames"]

Floats = npt.NDArray[np.float64]
WINDOW = KIND_NAMES.index("window")


@dataclass(frozen=True)
class DepthCamera:
    """A depth camera of the kind that ScanNet's was (structured light).

    Attributes:
        height, width: of its pictures.
        focal: in pixels, at a width of 640; ScanNet's is 577.87.
        nearest, farthest: metres that it measures.
        noise, growth: standard deviation of a depth z in metres, ``noise + growth (z - 0.4)^2``
            (Nguyen et al. 2012, for the Kinect: 0.0012 and 0.0019).
        disparity: steps per pixel of the disparity that depths are computed from, at a base of 75 mm; 0:
            depths are rounded to millimetres only.
        grazing: cosine of the angle of incidence below which nothing is measured;
            up to three times of it, ever more is.
        shadow: part of the depth by which a neighbouring pixel must be nearer to hide this one from the
            projector.
    """

    height: int = 480
    width: int = 640
    focal: float = 577.87
    nearest: float = 0.4
    farthest: float = 8.0
    noise: float = 0.0012
    growth: float = 0.0019
    disparity: int = 16
    grazing: float = 0.08
    shadow: float = 0.04

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1 or not self.focal > 0:
            raise ValueError(
                "a depth camera needs pictures of at least 1 x 1 pixel and a positive focal length, got "
                f"{self.height} x {self.width} and {self.focal}."
            )
        if not 0 <= self.nearest < self.farthest <= 65.535:
            raise ValueError(
                "depths must lie between nearest and farthest, at most 65.535 m (16 bits of millimetres), "
                f"got {self.nearest} and {self.farthest}."
            )

    @property
    def intrinsics(self) -> Floats:
        """(3, 3) float64; pixel (0, 0) has its centre at 0, 0."""
        focal = self.focal * self.width / 640
        return np.array([[focal, 0, (self.width - 1) / 2], [0, focal, (self.height - 1) / 2], [0, 0, 1]])

    def rays(self) -> Floats:
        """(H, W, 3) directions with z = 1, x to the right and y down."""
        k = self.intrinsics
        x, y = (np.arange(self.width) - k[0, 2]) / k[0, 0], (np.arange(self.height) - k[1, 2]) / k[1, 1]
        right, down = np.meshgrid(x, y)
        return np.stack([right, down, np.ones_like(right)], -1)


@dataclass(frozen=True, eq=False)
class Frame:
    """What the camera records, and what is true.

    Attributes:
        color: ``(H, W, 3)`` uint8.
        depth: ``(H, W)`` uint16 millimetres along the viewing direction, 0 where nothing was measured.
        pose: ``(4, 4)`` float64 camera to world; the camera's x points right, y down, z forward.
        intrinsics: ``(3, 3)`` float64, of both pictures.
        labels: ``(H, W)`` int64 of ``ROOM_CLASSES``, -1 where nothing is seen.
        instances: ``(H, W)`` int64 numbers of objects, -1 where nothing is seen.
        true_depth: ``(H, W)`` float32 metres, 0 where nothing is seen.
        kinds: ``(H, W)`` int64 numbers of ``KINDS``, -1 where nothing is seen.
    """

    color: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.uint16]
    pose: Floats
    intrinsics: Floats
    labels: npt.NDArray[np.int64]
    instances: npt.NDArray[np.int64]
    true_depth: npt.NDArray[np.float32]
    kinds: npt.NDArray[np.int64]


def make_frames(
    room: SceneMesh,
    count: int = 20,
    camera: DepthCamera | None = None,
    seed: int | Sequence[int] = 0,
) -> Iterator[Frame]:
    """Frames along a walk through a room, each made when it is asked for.

    The camera walks around the middle of the room above the furniture and turns once around; frame i of so
    many follows from the arguments alone. Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}.")
    camera = DepthCamera() if camera is None else camera
    key = [seed] if isinstance(seed, int) else list(seed)
    poses = walk(room, count, stream(key, "walk"))
    for i, pose in enumerate(poses):
        yield take_frame(room, pose, camera, stream(key, "frame", i))


def walk(room: SceneMesh, count: int, rng: np.random.Generator) -> Floats:
    """(count, 4, 4) poses: of 30 drawn walks the one that stays farthest from all things."""
    size = room.vertices[room.faces[room.kinds == KIND_NAMES.index("floor")]].reshape(-1, 3).max(0)[:2]
    places = Places(float(size[0]), float(size[1]))
    places.taken = [
        Occupied(b[0], b[1], b[3], b[4], b[6], b[2] - b[5] / 2, b[2] + b[5] / 2) for b in room.boxes
    ]
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    best, widest = None, -1.0
    for _ in range(30):
        radius, start, height = (
            rng.uniform(0.05, 0.22, 2) * size,
            rng.uniform(0, 2 * np.pi),
            rng.uniform(1.3, 1.75),
        )
        middle = size * rng.uniform(0.42, 0.58, 2)
        x, y = middle[0] + radius[0] * np.cos(turn + start), middle[1] + radius[1] * np.sin(turn + start)
        z = height + 0.08 * np.sin(3 * turn + start)
        room_left = min(places.clearance(a, b, c - 0.25, c + 0.25) for a, b, c in zip(x, y, z))
        if room_left > widest:
            best, widest = (x, y, z, start), room_left
    assert best is not None
    x, y, z, start = best
    # seen from the middle of the walk, the camera looks across it, so that walls are not too near
    look = turn + start + np.pi + rng.uniform(-0.5, 0.5)
    tilt = np.radians(-14) + np.radians(7) * np.sin(2 * turn + rng.uniform(0, 2 * np.pi))
    roll = np.radians(rng.uniform(-2, 2, count))
    return np.stack([pose_of((a, b, c), *angles) for a, b, c, *angles in zip(x, y, z, look, tilt, roll)])


def pose_of(place: Sequence[float], heading: float, tilt: float, roll: float = 0.0) -> Floats:
    """(4, 4) camera to world of a camera that looks along a heading about z, so much above the horizon."""
    forward = np.array([np.cos(heading) * np.cos(tilt), np.sin(heading) * np.cos(tilt), np.sin(tilt)])
    right = np.array([np.sin(heading), -np.cos(heading), 0.0])
    down = np.cross(forward, right)
    pose = np.eye(4)
    pose[:3, 0] = np.cos(roll) * right + np.sin(roll) * down
    pose[:3, 1] = np.cos(roll) * down - np.sin(roll) * right
    pose[:3, 2], pose[:3, 3] = forward, place
    return pose


def take_frame(room: SceneMesh, pose: Floats, camera: DepthCamera, rng: np.random.Generator) -> Frame:
    """The frame that a camera takes from a pose."""
    eye = pose[:3, 3]
    true, face = _drawn(room, pose, camera)
    seen = face >= 0
    rays = (camera.rays() @ pose[:3, :3].T)[seen]
    normals, colors = room.seen(eye + rays * true[seen][:, None], face[seen], eye)
    facing = np.zeros(true.shape)
    facing[seen] = np.abs(np.einsum("nk,nk->n", normals, rays)) / np.sqrt(np.einsum("nk,nk->n", rays, rays))
    color = np.ones((*true.shape, 3), np.float32)
    color[seen] = colors
    color += rng.standard_normal(color.shape, np.float32) * 0.012
    names = np.where(seen, room.kinds[face], -1)
    return Frame(
        (color.clip(0, 1) * 255 + 0.5).astype(np.uint8),
        _measured(true, facing, names == WINDOW, camera, rng),
        pose,
        camera.intrinsics,
        np.where(seen, ROOM_OF[names], -1),
        np.where(seen, room.instances[face], -1),
        true,
        names,
    )


def _drawn(
    room: SceneMesh, pose: Floats, camera: DepthCamera
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """(H, W) depths in metres, and faces, -1 where there is none.

    Faces wholly beside the view or behind the camera are left out before: a camera amid a room has most of
    them there.
    """
    right, down, forward, eye = (pose[:3, i] for i in range(4))
    focal = camera.intrinsics[0, 0]
    own = (room.vertices - eye) @ np.stack([right, down, forward], 1)
    reach = own[:, 2:] * np.array([camera.width, camera.height]) / (2 * focal)
    outside = np.concatenate([own[:, :2] > reach, own[:, :2] < -reach, own[:, 2:] <= 0], axis=1)
    corner = outside[room.faces]
    visible = np.flatnonzero(~(corner[:, 0] & corner[:, 1] & corner[:, 2]).any(1))
    if not len(visible):
        shape = (camera.height, camera.width)
        return np.zeros(shape, np.float32), np.full(shape, -1, np.int64)
    # the rasteriser fills its frame with -1 to 1 both ways: rows are stretched where pixels are square
    lens = np.stack([down * camera.width / camera.height, right, forward])
    found = rasterize(
        torch.from_numpy(room.vertices - eye),
        torch.from_numpy(room.faces[visible]),
        Cameras(torch.from_numpy(lens)[None], 0.0, focal * 2 / camera.width),
        (camera.height, camera.width),
    )
    face = found.face[0].numpy()
    return found.depth[0].numpy(), np.where(face < 0, -1, visible[face])


def _measured(
    true: npt.NDArray[np.float32],
    facing: Floats,
    glass: npt.NDArray[np.bool_],
    camera: DepthCamera,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint16]:
    """(H, W) millimetres with noise, steps and holes."""
    z = true.astype(np.float64)
    z += (camera.noise + camera.growth * (z - 0.4) ** 2) * rng.standard_normal(z.shape, np.float32)
    if camera.disparity:
        scale = 0.075 * camera.intrinsics[0, 0] * camera.disparity
        z = scale / np.maximum(np.rint(scale / np.maximum(z, 1e-3)), 1)
    luck = rng.random(z.shape, np.float32)
    lost = (true < camera.nearest) | (z < camera.nearest) | (z > camera.farthest)
    lost |= facing < camera.grazing * (1 + 2 * luck)
    lost |= (luck < 0.002) | _shadows(true, camera.shadow)
    lost |= glass & (_patches(z.shape, rng) < 0.6)
    return np.where(lost, 0, np.rint(z * 1000)).astype(np.uint16)


def _shadows(true: npt.NDArray[np.float32], share: float) -> npt.NDArray[np.bool_]:
    """Pixels whose right neighbours, up to three, are nearer by a share of the depth: the projector stands to
    the right of the camera, and they lie in a shadow of it.
    """
    hidden = np.zeros(true.shape, bool)
    for step in (1, 2, 3):
        hidden[:, :-step] |= true[:, step:] < true[:, :-step] * (1 - share)
    return hidden


def _patches(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Numbers of 0-1 in patches of 16 x 16 pixels."""
    rows, columns = -(-shape[0] // 16), -(-shape[1] // 16)
    coarse = rng.random((rows, columns), np.float32)
    return np.kron(coarse, np.ones((16, 16), np.float32))[: shape[0], : shape[1]]
