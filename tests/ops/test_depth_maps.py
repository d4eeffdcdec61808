"""Depth images of clouds against a loop that is written down from the formula, and where pixels end."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pointlift.ops.depth_maps import depth_maps

EYE = torch.eye(3, dtype=torch.float64)[None]
SIZE = 128


def oracle(
    points: list[list[float]], rotation: list[list[float]], distance: float, size: int, splat: int = 1
) -> np.ndarray:
    """Facts 5.6, one point and one pixel after the other, in Python's own numbers."""
    above, below = np.zeros((size, size)), np.zeros((size, size))
    for p in points:
        x, y, z = (sum(r * q for r, q in zip(row, p)) for row in rotation)
        z += distance
        if z <= 0:
            continue
        for i in range(splat):
            for j in range(splat):
                row = math.ceil((x / z + 1) * (size / 2) - splat / 2 + i)
                column = math.ceil((y / z + 1) * (size / 2) - splat / 2 + j)
                if 0 <= row < size and 0 <= column < size:
                    above[row, column] += z * (1 / z)
                    below[row, column] += 1 / z
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def one(points: list[list[float]], distance: float = 0.0, splat: int = 1, backend: str = "cpu") -> Tensor:
    """The (128, 128) image of one cloud that a camera sees along z."""
    xyz = torch.tensor(points, dtype=torch.float64).reshape(-1, 3)
    images = depth_maps(xyz, torch.tensor([0, len(xyz)]), EYE, distance, SIZE, splat, backend)  # type: ignore[arg-type]
    return images[0, 0]


def edges() -> list[list[float]]:
    """Points that lie on the edges of pixels and one float beside them,
    at depths where that can be said exactly.
    """
    at = [(p + 0.5) / 64 - 1 for p in (-1, 0, 1, 63, 64, 126, 127, 128)]
    at = [v for a in at for v in (np.nextafter(a, -9), a, np.nextafter(a, 9))]
    return [[a * z, b * z, z] for z in (0.5, 1.0, 2.0) for a in at for b in at[::5]]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("splat", [1, 2, 4])
def test_every_backend_agrees_with_the_loop(backend: str, splat: int) -> None:
    generator = torch.Generator().manual_seed(splat)
    inside = (torch.rand(600, 3, generator=generator) - 0.5).to(torch.float64)
    # in front, behind and beside the frame
    around = (torch.rand(200, 3, generator=generator) * 8 - 4).to(torch.float64)
    xyz = torch.cat([inside, around, torch.tensor(edges(), dtype=torch.float64)])
    turns = torch.stack(
        [EYE[0], torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).double(), EYE[0][[2, 0, 1]], -EYE[0]]
    )
    images = depth_maps(xyz, torch.tensor([0, len(xyz)]), turns, 0.25, 64, splat, backend)[0]  # type: ignore[arg-type]
    for image, turn in zip(images, turns.tolist()):
        expected = oracle(xyz.tolist(), turn, 0.25, 64, splat)
        assert np.array_equal(image.numpy() > 0, expected > 0)
        np.testing.assert_allclose(image.numpy(), expected, rtol=1e-6)  # float32 rounds at 6e-8


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_pixel_is_open_below_and_closed_above(backend: str) -> None:
    """Pixel p holds (p - 1, p] of (x / z + 1) * 64 - 1/2; the frame ends at -1 (out) and 127 (in)."""
    for p in (0, 1, 63, 64, 127):
        edge = (p + 0.5) / 64 - 1
        assert one([[edge, 0, 1]], backend=backend).nonzero().tolist() == [[p, 64]]
        assert one([[edge - 1e-9, 0, 1]], backend=backend).nonzero().tolist() == [[p, 64]]
        beyond = one([[edge + 1e-9, 0, 1]], backend=backend).nonzero().tolist()
        assert beyond == ([[p + 1, 64]] if p < 127 else [])
    low = -0.5 / 64 - 1
    assert one([[low, 0, 1]], backend=backend).nonzero().tolist() == []
    assert one([[0, low + 1e-9, 1]], backend=backend).nonzero().tolist() == [[64, 0]]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_pixels_hold_the_harmonic_mean_and_not_the_nearest(backend: str) -> None:
    image = one([[0, 0, 1], [0, 0, 3]], backend=backend)
    assert image[64, 64].item() == 1.5 and int((image > 0).sum()) == 1
    assert one([[0, 0, 1], [0, 0, 1], [0, 0, 3]], backend=backend)[64, 64].item() == pytest.approx(
        3 / (2 + 1 / 3), rel=1e-6
    )


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_points_behind_and_at_the_camera(backend: str) -> None:
    assert one([[0, 0, -1e-9], [0.1, 0, -2]], backend=backend).sum() == 0
    assert one([[0, 0, 0.5]], distance=-0.75, backend=backend).sum() == 0
    # the second is beside it, at an angle of 90 degrees
    at = one([[0, 0, 0], [1, 0, 0], [0, 0, 1e-7]], backend=backend)
    # documented: no depth counts as less
    assert at.nonzero().tolist() == [[64, 64]] and at[64, 64].item() == 2.0**-14


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_order_of_points_does_not_matter_to_the_last_bit(backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(5000, 3, generator=generator) - 0.5

    def look(cloud: Tensor) -> Tensor:
        return depth_maps(cloud, torch.tensor([0, len(cloud)]), EYE, 1.4, 16, backend=backend)  # type: ignore[arg-type]

    first = look(xyz)
    assert 0 < int((first > 0).sum()) < 256  # about twenty points per pixel, whose sums could differ
    for seed in range(5):
        assert torch.equal(
            first, look(xyz[torch.randperm(5000, generator=torch.Generator().manual_seed(seed))])
        )


def test_backends_agree_to_the_last_bit_on_ragged_clouds() -> None:
    generator = torch.Generator().manual_seed(1)
    offsets = torch.tensor([0, 700, 700, 701, 1500])
    xyz = torch.randn(1500, 3, generator=generator) * 0.5
    turns = torch.linalg.qr(torch.randn(3, 3, 3, generator=generator, dtype=torch.float64))[0]
    fast = depth_maps(xyz, offsets, turns, size=(48, 32), backend="cpu")
    assert fast.shape == (4, 3, 48, 32) and fast[1].sum() == 0 and fast.dtype == torch.float32
    assert torch.equal(fast, depth_maps(xyz, offsets, turns, size=(48, 32), backend="reference"))
    for b in range(4):
        alone = xyz[offsets[b] : offsets[b + 1]]
        assert torch.equal(fast[b], depth_maps(alone, torch.tensor([0, len(alone)]), turns, size=(48, 32))[0])


def test_coordinates_far_beyond_integers_are_outside_the_frame() -> None:
    far = [[1e18, 0, 1e-18], [-1e18, 1e18, 0]]
    for backend in ("reference", "cpu"):
        assert one(far, backend=backend).sum() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splat": 3}, "splat must be 1 or an even number of pixels, got 3"),
        ({"size": 0}, "height must be an integer of at least 1, got 0"),
        ({"size": (8, 2.5)}, "width must be an integer of at least 1, got 2.5"),
        ({"distance": float("nan")}, "distance must be a finite number"),
        ({"rotations": torch.eye(3)}, r"rotations must be finite floats of shape \(V, 3, 3\), got \(3, 3\)"),
        ({"xyz": torch.full((4, 3), torch.nan)}, "4 of 4 rows of xyz have NaN or infinite coordinates"),
        ({"offsets": torch.tensor([0, 3])}, "offsets must rise from 0 to the number of rows"),
    ],
)
def test_bad_input_is_told_in_a_sentence(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "xyz": torch.zeros(4, 3),
        "offsets": torch.tensor([0, 4]),
        "rotations": EYE,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        depth_maps(**arguments)  # type: ignore[arg-type]
