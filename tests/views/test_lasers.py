"""Rows of range images from the order of a sweep, however it is turned, mirrored or thinned."""

from __future__ import annotations

import math

import pytest
import torch

from pointlift.core.point_batch import PointBatch
from pointlift.views import RangeView, laser_rows, sweep_rows

TILTS = (3.0, 2.0, 1.0, -2.0, -9.0, -13.0, -25.0)  # degrees, of seven lasers that are not evenly spaced


def sweep(start: float = 0.0, way: float = 1.0, steps: int = 90) -> tuple[torch.Tensor, torch.Tensor]:
    """(7 * steps, 3) points and the laser of each: one turn of every laser from `start` on, the distances
    drawn, beginnings a little unsteady.
    """
    generator = torch.Generator().manual_seed(int(10 * start) + steps)
    clouds, lasers = [], []
    for i, tilt in enumerate(TILTS):
        wobble = 1e-3 * (torch.rand(steps, generator=generator, dtype=torch.float64) - 0.5)
        turn = 2 * math.pi * torch.arange(steps, dtype=torch.float64) / steps
        around = start + way * (turn + wobble + 2e-3)
        r = 4 + 20 * torch.rand(steps, generator=generator, dtype=torch.float64)
        up = math.radians(tilt)
        ray = torch.stack([around.cos() * math.cos(up), around.sin() * math.cos(up), 0 * r + math.sin(up)], 1)
        clouds.append(r[:, None] * ray)
        lasers.append(torch.full((steps,), i))
    return torch.cat(clouds).float(), torch.cat(lasers)


@pytest.mark.parametrize("start", [0.0, 1.0, 3.1, -2.0])
@pytest.mark.parametrize("way", [1.0, -1.0], ids=["left", "right"])
def test_lasers_are_found_however_the_sweep_is_turned(start: float, way: float) -> None:
    xyz, lasers = sweep(start, way)
    assert torch.equal(laser_rows(xyz), lasers)
    found = sweep_rows(xyz, 9)
    assert found is not None and torch.equal(found, lasers)
    upward = xyz.reshape(7, -1, 3).flip(0).reshape(-1, 3)  # the lowest laser first
    found = sweep_rows(upward, 7)
    assert found is not None and torch.equal(found, lasers.flip(0))


def test_a_thinned_sweep_keeps_its_lasers() -> None:
    xyz, lasers = sweep(0.5, steps=201)
    kept = torch.rand(len(xyz), generator=torch.Generator().manual_seed(3)) < 0.5
    kept[lasers == 2] &= torch.arange(201).remainder(201) > 150  # and a laser that sees a quarter of its turn
    found = sweep_rows(xyz[kept], 7)
    assert found is not None and (found == lasers[kept]).float().mean() > 0.99


def test_points_in_another_order_show_no_lasers() -> None:
    xyz, _ = sweep()
    mixed = xyz[torch.randperm(len(xyz), generator=torch.Generator().manual_seed(0))]
    assert sweep_rows(mixed, 7) is None
    by_column = xyz.reshape(7, -1, 3).transpose(0, 1).reshape(-1, 3)  # all lasers of one direction together
    assert sweep_rows(by_column, 7) is None
    level = xyz * torch.tensor([1.0, 1.0, 0.0])  # turns, but none below the other
    assert sweep_rows(level, 7) is None
    assert sweep_rows(xyz, 6) is None  # more lasers than rows
    assert sweep_rows(xyz, 14) is None and sweep_rows(xyz, 13) is not None  # half of the picture empty
    for few in (xyz[:0], xyz[:1], xyz[:2], torch.zeros(3, 3)):
        assert sweep_rows(few, 7) is None
    assert laser_rows(xyz[:0]).tolist() == [] and laser_rows(xyz[:1]).tolist() == [0]


def test_the_view_says_what_its_rows_are() -> None:
    xyz, lasers = sweep(1.0)
    mixed = xyz.flip(0)[torch.randperm(len(xyz), generator=torch.Generator().manual_seed(0))]
    both = PointBatch.from_list([mixed, xyz, xyz[:0]])
    seen = RangeView(7, 90).project(both)
    assert seen.rows == ("directions", "lasers", "directions")
    row = seen.pixel // 90 % 7
    assert torch.equal(row[len(mixed) :], lasers)
    by_direction = RangeView(7, 90, rows="directions").project(both)
    assert by_direction.rows == ("directions",) * 3
    assert torch.equal(row[: len(mixed)], (by_direction.pixel // 90 % 7)[: len(mixed)])
    assert len(set((by_direction.pixel // 90 % 7)[len(mixed) :].tolist())) < 7  # some share a row
    given = RangeView(7, 90, rows="directions").project(PointBatch.from_list([xyz]), rows=lasers)
    assert given.rows == ("given",) and torch.equal(given.pixel // 90, lasers)
    with pytest.raises(ValueError, match=r"scan 0 of the batch is in no order that shows 4 to 7 lasers"):
        RangeView(7, 90, rows="lasers").project(both)
