"""Sparse convolution on the pairs of a kernel map."""

from pointlift.ops.sparse_conv.api import sparse_conv

__all__ = ["sparse_conv"]
