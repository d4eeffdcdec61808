"""Distances between sets of points."""

from pointlift.ops.distances.api import (
    AuctionError,
    EarthMovers,
    Matching,
    chamfer_distance,
    earth_movers_distance,
    match_points,
)

__all__ = [
    "AuctionError",
    "EarthMovers",
    "Matching",
    "chamfer_distance",
    "earth_movers_distance",
    "match_points",
]
