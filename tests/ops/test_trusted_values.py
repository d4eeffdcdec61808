"""Values that were checked once are not looked at again where looking would wait for a device."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pointlift.ops.neighbors.api import check_rows
from pointlift.ops.ragged import check_clouds, check_members, trusted, trusted_values

XYZ = torch.empty(6, 3, device="meta")  # whose values nobody can look at
OFFSETS = torch.empty(3, dtype=torch.int64, device="meta")
INDEX = torch.empty(4, 2, dtype=torch.int64, device="meta")
CHECKS: dict[str, Callable[[], None]] = {
    "clouds": lambda: check_clouds("xyz", XYZ, OFFSETS),
    "members": lambda: check_members("knn", XYZ, XYZ, OFFSETS, OFFSETS),
    "rows": lambda: check_rows(XYZ, INDEX),
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_no_value_on_a_device_is_looked_at(check: Callable[[], None]) -> None:
    with trusted_values():
        check()
    assert not trusted(XYZ)
    with pytest.raises((RuntimeError, NotImplementedError)):
        check()


def test_shapes_and_dtypes_are_checked_all_the_same() -> None:
    with trusted_values():
        with pytest.raises(ValueError, match=r"xyz must have shape \(N, 3\), got \(6, 2\)"):
            check_clouds("xyz", XYZ[:, :2], OFFSETS)
        with pytest.raises(ValueError, match=r"offsets must have shape \(B \+ 1,\) and dtype int64"):
            check_clouds("xyz", XYZ, OFFSETS.float())
        with pytest.raises(ValueError, match="must share dtype and device"):
            check_members("knn", XYZ, XYZ.double(), OFFSETS, OFFSETS)


def test_everything_is_checked_on_the_cpu() -> None:
    xyz = torch.zeros(2, 3)
    xyz[1, 0] = torch.nan
    with trusted_values():
        assert not trusted(xyz)
        with pytest.raises(ValueError, match="NaN or infinite coordinates"):
            check_clouds("xyz", xyz, torch.tensor([0, 2]))
        with pytest.raises(ValueError, match="must rise from 0 to the number of rows"):
            check_clouds("xyz", torch.zeros(2, 3), torch.tensor([0, 3]))
        with pytest.raises(ValueError, match="index names row 5"):
            check_rows(torch.zeros(2, 3), torch.tensor([[5]]))
