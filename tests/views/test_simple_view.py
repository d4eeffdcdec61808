"""SimpleView's six cameras: where they stand, and what they see of a point."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from pointlift.core.sparse_tensor import PointBatch
from pointlift.views import SIMPLE_VIEW_ANGLES, euler_rotations, simple_view_images


def test_rotations_are_rx_ry_rz() -> None:
    angles = torch.tensor([*SIMPLE_VIEW_ANGLES, (12.0, -34.0, 56.0), (-450.0, 180.0, 720.0)])
    expected = torch.from_numpy(Rotation.from_euler("XYZ", angles.numpy(), degrees=True).as_matrix())
    found = euler_rotations(angles)
    assert torch.allclose(found, expected, atol=1e-12)
    assert set(found[:6].flatten().tolist()) <= {-1.0, 0.0, 1.0}  # quarter turns are exact
    with pytest.raises(ValueError, match=r"shape \(V, 3\)"):
        euler_rotations(torch.zeros(3))


def test_six_cameras_look_at_the_origin_from_six_sides() -> None:
    towards = euler_rotations(torch.tensor(SIMPLE_VIEW_ANGLES))[:, 2]  # depth grows along it
    assert sorted(map(tuple, towards.int().tolist())) == sorted(
        (s * (a == 0), s * (a == 1), s * (a == 2)) for a in range(3) for s in (-1, 1)
    )


def test_one_point_by_hand() -> None:
    """p = (.25, .5, -.125). The first camera turns x to y and y to -x: q = (-.5, .25, -.125), depth 1.275."""
    images = simple_view_images(PointBatch.from_list([torch.tensor([[0.25, 0.5, -0.125]])]))
    assert images.shape == (1, 6, 128, 128) and (images > 0).sum((2, 3)).tolist() == [[1] * 6]
    row, column = math.ceil((-0.5 / 1.275 + 1) * 64 - 0.5), math.ceil((0.25 / 1.275 + 1) * 64 - 0.5)
    assert images[0, 0].nonzero().tolist() == [[row, column]] and images[
        0, 0, row, column
    ].item() == pytest.approx(1.275, rel=1e-6)
    depths = sorted(images.amax((2, 3))[0].tolist())
    assert depths == pytest.approx(sorted(1.4 + s * c for c in (0.25, 0.5, 0.125) for s in (-1, 1)), rel=1e-6)


def test_the_frame_cuts_the_unit_sphere_as_the_original_does() -> None:
    """At distance 1.4 a camera sees 45 degrees to each side:
    a point beside the centre of the sphere is inside, one nearer is not.
    """
    sphere = PointBatch.from_list([torch.tensor([[0.0, -0.99, 0.0], [0.0, -0.8, -0.6], [0.0, -0.8, -0.55]])])
    # depths 1.4, .8 (its edge, 127.5: outside) and .85
    assert int((simple_view_images(sphere)[0, 0] > 0).sum()) == 2


def test_size_and_empty_clouds() -> None:
    cloud = PointBatch.from_list([torch.zeros(0, 3), torch.zeros(1, 3)])
    images = simple_view_images(cloud, size=16)
    assert images.shape == (2, 6, 16, 16) and images[0].sum() == 0
    assert images[1].nonzero().tolist() == [[v, 8, 8] for v in range(6)]
