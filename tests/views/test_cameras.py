"""Where the rigs' cameras stand, and what they see."""

from __future__ import annotations

import math

import pytest
import torch

from pointlift.views import RIGS, Rig, euler_rotations, look_at_origin, rig
from pointlift.views.simple_view import SIMPLE_VIEW_ANGLES

UP = {"x": 0, "y": 1, "z": 2}


def positions(cameras: Rig) -> torch.Tensor:
    return -cameras.rotations[:, 2] * cameras.distance


@pytest.mark.parametrize(
    ("name", "views"), [("rotationnet-20", 20), ("mvcnn-12", 12), ("simpleview-6", 6), ("axis-3", 3)]
)
@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_rigs(name: str, views: int, up: str) -> None:
    cameras = rig(name, up)  # type: ignore[arg-type]
    assert len(cameras) == views and name in RIGS
    det = torch.linalg.det(cameras.rotations)
    # SimpleView's images are mirrored
    torch.testing.assert_close(det, torch.full_like(det, 1.0 if name == "simpleview-6" else -1.0))
    # the image's downward direction never points up, and straight ahead it is exactly down
    down = cameras.rotations[:, 0, UP[up]]
    assert float(down.max()) < 1e-12
    # level
    torch.testing.assert_close(
        cameras.rotations[:, 1, UP[up]], torch.zeros(views, dtype=torch.float64), rtol=0, atol=1e-12
    )
    assert len({tuple(p) for p in positions(cameras).mul(1e6).round().tolist()}) == views


def test_dodecahedron() -> None:
    at = positions(rig("rotationnet-20"))
    gaps = torch.cdist(at, at).sort(1).values
    # every vertex has three neighbours at the edge's length, 4 / (sqrt(3) (1 + sqrt(5))) of the radius
    edge = 2.5 * 4 / (math.sqrt(3) * (1 + math.sqrt(5)))
    torch.testing.assert_close(gaps[:, 1:4], torch.full((20, 3), edge, dtype=torch.float64))
    assert float(gaps[:, 4].min()) > edge * 1.3
    assert bool((at[:-1, 1] >= at[1:, 1] - 1e-9).all())  # from above to below


def test_mvcnn_ring() -> None:
    at = positions(rig("mvcnn-12"))
    torch.testing.assert_close(at[:, 1], torch.full((12,), 2.5 * 0.5, dtype=torch.float64))  # sin 30 degrees
    around = torch.rad2deg(torch.atan2(at[:, 0], at[:, 2])) % 360
    torch.testing.assert_close(around, torch.arange(12, dtype=torch.float64) * 30)


def test_simple_view_is_the_published_one() -> None:
    cameras = rig("simpleview-6")
    assert torch.equal(cameras.rotations, euler_rotations(torch.tensor(SIMPLE_VIEW_ANGLES)))
    assert cameras.distance == 1.4 and cameras.focal == 1.0


@pytest.mark.parametrize("name", ["rotationnet-20", "mvcnn-12", "axis-3"])
def test_the_unit_sphere_lies_in_the_frame(name: str) -> None:
    cameras = rig(name)
    points = torch.nn.functional.normalize(
        torch.randn(2000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1
    )
    seen = points @ cameras.rotations.transpose(1, 2)
    depth = seen[..., 2] + cameras.distance
    place = seen[..., :2] * cameras.focal / (1 if cameras.field_of_view is None else depth[..., None])
    assert 0.9 < float(place.abs().max()) <= 1.0 and float(depth.min()) > 0


def test_fields_of_view() -> None:
    turn = rig("axis-3").rotations
    for degrees, focal in ((90.0, 1.0), (60.0, math.sqrt(3)), (50.0, 1 / math.tan(math.radians(25)))):
        assert Rig("mine", turn, 2.0, degrees).focal == pytest.approx(focal, rel=1e-15)
    assert Rig("mine", turn, 2.0, 90.0).focal == 1.0


def test_bad_rigs() -> None:
    turn = rig("axis-3").rotations
    with pytest.raises(ValueError, match="one of rotationnet-20, mvcnn-12"):
        rig("mvcnn-80")
    with pytest.raises(ValueError, match="up must be one of x, y, z"):
        rig("mvcnn-12", "w")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="orthonormal"):
        Rig("mine", turn * 2, 1.0, None)
    with pytest.raises(ValueError, match="float64"):
        Rig("mine", turn.float(), 1.0, None)
    with pytest.raises(ValueError, match="180"):
        Rig("mine", turn, 1.0, 180.0)
    with pytest.raises(ValueError, match="distance"):
        Rig("mine", turn, float("nan"), None)
    with pytest.raises(ValueError, match="along up"):
        look_at_origin(torch.tensor([[0.0, 2, 0]]))
    with pytest.raises(ValueError, match="off the origin"):
        look_at_origin(torch.zeros(1, 3))
