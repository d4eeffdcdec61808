"""Rows in the order of small keys: of their clouds, cells, leaves, voxels."""

from __future__ import annotations

from numba import njit

__all__ = ["counting_sort"]


@njit(cache=True, boundscheck=False, error_model="numpy")
def counting_sort(key, start, places):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """places (N,): the rows of key (N,) by their keys, rising within each;
    start (keys + 1,), zeros before: where each key's places begin.
    """
    for i in range(key.size):
        start[key[i] + 1] += 1
    for k in range(start.size - 1):
        start[k + 1] += start[k]
    at = start[:-1].copy()
    for i in range(key.size):
        places[at[key[i]]] = i
        at[key[i]] += 1
