"""Where the cameras of multi-view methods stand.

A camera looks at the origin; the rows of its matrix are the directions down, right and forward of its image
(see `pointlift.ops.raster`). Rigs are made for a world whose y axis points up and turned for others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from pointlift.ops.raster import Cameras
from pointlift.views.simple_view import SIMPLE_VIEW_ANGLES, euler_rotations

__all__ = ["RIGS", "Axis", "Rig", "RigName", "look_at_origin", "rig"]

Axis = Literal["x", "y", "z"]
RigName = Literal["rotationnet-20", "mvcnn-12", "simpleview-6", "axis-3"]
RIGS: tuple[str, ...] = get_args(RigName)

DISTANCE = 2.5  # the unit sphere fills 95 % of the frame: 1 / 2.5 = sin(23.6 degrees)
FIELD_OF_VIEW = 50.0
SIMPLE_VIEW_DISTANCE = 1.4


@dataclass(frozen=True, eq=False)
class Rig:
    """V cameras around the origin that share a lens.

    rotations: (V, 3, 3) float64, rows down, right, forward of each image. distance: of the cameras from the
    origin, in units of the object. field_of_view: of the whole image, in degrees, or None for orthographic
    cameras, whose images show [-1, 1] along both axes. Raises ValueError for rotations that are not
    orthonormal and a field of view outside 0-180.
    """

    name: str
    rotations: Tensor
    distance: float
    field_of_view: float | None

    def __post_init__(self) -> None:
        r = self.rotations
        if r.ndim != 3 or r.shape[1:] != (3, 3) or r.dtype != torch.float64:
            raise ValueError(
                f"rotations of a Rig must be float64 of shape (V, 3, 3), got {tuple(r.shape)} of {r.dtype}."
            )
        if not bool(((r @ r.transpose(1, 2) - torch.eye(3, dtype=torch.float64)).abs() < 1e-6).all()):
            raise ValueError(
                f"rotations of rig {self.name!r} must be orthonormal: rows are the directions down, "
                "right and forward."
            )
        if self.field_of_view is not None and not 0 < self.field_of_view < 180:
            raise ValueError(
                "field_of_view must be between 0 and 180 degrees, or None for orthographic cameras, "
                f"got {self.field_of_view!r}."
            )
        if not math.isfinite(self.distance):
            raise ValueError(f"distance of a Rig must be a finite number, got {self.distance!r}.")

    def __len__(self) -> int:
        return len(self.rotations)

    @property
    def focal(self) -> float:
        """Half an image's width over the half width that a camera sees at distance 1;
        1 with orthographic cameras.
        """
        # tan(pi / 4) is not 1 in floating point, and pixels have edges
        if self.field_of_view is None or self.field_of_view == 90:
            return 1.0
        return 1.0 / math.tan(math.radians(self.field_of_view) / 2)

    @property
    def cameras(self) -> Cameras:
        """The rig as `pointlift.ops.raster` takes it."""
        return Cameras(self.rotations, self.distance, self.focal, self.field_of_view is None)


def look_at_origin(positions: Tensor, up: tuple[float, float, float] = (0.0, 1.0, 0.0)) -> Tensor:
    """(V, 3, 3) float64: cameras at positions (V, 3) that look at the origin, upright,
    not mirrored; distances do not count.

    Raises ValueError for a camera at the origin and for one that looks along `up`,
    which has no upright image.
    """
    at = positions.detach().to(torch.float64)
    if at.ndim != 2 or at.shape[1] != 3 or not bool((at.norm(dim=1) > 0).all()):
        raise ValueError(
            f"positions must have shape (V, 3) and lie off the origin, got {tuple(positions.shape)}."
        )
    forward = -at / at.norm(dim=1, keepdim=True)
    right = torch.linalg.cross(forward, torch.tensor(up, dtype=torch.float64).expand_as(forward))
    width = right.norm(dim=1, keepdim=True)
    if bool((width < 1e-9).any()):
        raise ValueError(
            f"A camera looks along up = {up}, so its image has no upright direction: "
            "move it or choose another up."
        )
    right = right / width
    return torch.stack([torch.linalg.cross(forward, right), right, forward], 1)


def _dodecahedron() -> Tensor:
    """(20, 3): its vertices, from the highest to the lowest and around."""
    golden = (1 + math.sqrt(5)) / 2
    inner = 1 / golden
    vertices = [(x, y, z) for x in (1.0, -1.0) for y in (1.0, -1.0) for z in (1.0, -1.0)]
    for a in (inner, -inner):
        for b in (golden, -golden):
            vertices += [(0.0, a, b), (a, b, 0.0), (b, 0.0, a)]
    return torch.tensor(
        sorted(vertices, key=lambda v: (-round(v[1], 9), math.atan2(v[0], v[2]) % (2 * math.pi))),
        dtype=torch.float64,
    )


def _ring(count: int, elevation: float) -> Tensor:
    """(count, 3) positions around the y axis, the first before the object (+z), then to its left (+x)."""
    around = [2 * math.pi * i / count for i in range(count)]
    tilt = math.radians(elevation)
    return torch.tensor(
        [(math.cos(tilt) * math.sin(a), math.sin(tilt), math.cos(tilt) * math.cos(a)) for a in around],
        dtype=torch.float64,
    )


def rig(name: str, up: Axis = "y") -> Rig:
    """The cameras of a published method, for objects in the unit sphere whose `up` axis points up.

    "rotationnet-20": the vertices of a dodecahedron, all upright, of which none lies above the object
    (Kanezaki et al., CVPR 2018, case ii); the 20 views of PointCMT's renderings. "mvcnn-12": every 30 degrees
    around the up axis, 30 degrees above (Su et al., ICCV 2015, "upright"). "simpleview-6": SimpleView's four
    views around, one from above, one from below, with its distance of 1.4 and its 90 degrees (facts 5.6), so
    that its images are mirrored and what reaches close to the sphere may be cut off, as there. "axis-3":
    along the three axes, orthographic, from the front, the left and the top.
    Their papers do not give a lens for the first two:
    the cameras stand 2.5 away and see 50 degrees, in which the sphere just fits.

    Raises ValueError for a name or an axis that there is not.
    """
    if up not in get_args(Axis):
        raise ValueError(f"up must be one of x, y, z, got {up!r}.")
    distance, field = DISTANCE, FIELD_OF_VIEW
    if name == "rotationnet-20":
        rotations = look_at_origin(_dodecahedron())
    elif name == "mvcnn-12":
        rotations = look_at_origin(_ring(12, 30.0))
    elif name == "simpleview-6":
        distance, field = SIMPLE_VIEW_DISTANCE, 90.0
        rotations = euler_rotations(torch.tensor(SIMPLE_VIEW_ANGLES, dtype=torch.float64))
    elif name == "axis-3":
        # down, right, forward; from the top, the front of the object is at the lower edge
        front, left, top = (
            ((0, -1, 0), (1, 0, 0), (0, 0, -1)),
            ((0, -1, 0), (0, 0, -1), (-1, 0, 0)),
            ((0, 0, 1), (1, 0, 0), (0, -1, 0)),
        )
        return Rig(name, _turn(torch.tensor([front, left, top], dtype=torch.float64), up), 2.0, None)
    else:
        raise ValueError(f"rig must be one of {', '.join(RIGS)}, got {name!r}.")
    return Rig(name, _turn(rotations, up), distance, field)


def _turn(rotations: Tensor, up: Axis) -> Tensor:
    """Cameras for another up axis: the axes are exchanged in a circle,
    which turns the world and does not mirror it.
    """
    shift = {"y": 0, "z": 1, "x": 2}[up]
    return rotations.roll(shift, dims=2)
