"""Readers, datasets, transforms and splits: everything between a file on disk and a :class:`~pointlift.core.sparse_tensor.PointBatch`."""
