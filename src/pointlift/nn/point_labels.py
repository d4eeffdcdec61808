"""Networks on voxels that label every point."""

from __future__ import annotations

from torch import Tensor

from pointlift.core.sparse_tensor import PointBatch, SparseTensor
from pointlift.nn.cloud_network import CloudNetwork
from pointlift.ops.ragged import trusted_values
from pointlift.ops.voxelize import voxelize

__all__ = ["VoxelLabeller"]


class VoxelLabeller(CloudNetwork):
    """A network on voxels with a feature, and logits, per point: what all points of a voxel share.

    Called with a PointBatch it gives a row per point, in their order; called with a SparseTensor a row per
    voxel. Voxels carry the mean of their points' features, or of their coordinates where points have none.
    """

    takes = "voxels"

    def as_input(self, cloud: PointBatch | SparseTensor) -> PointBatch | SparseTensor:
        """The cloud as it is: `voxels` makes voxels of it. Raises TypeError for anything else,
        ValueError for features of another width than the network takes.
        """
        if isinstance(cloud, SparseTensor):
            got = cloud.features.shape[1]
        elif isinstance(cloud, PointBatch):
            got = 3 if cloud.features is None else cloud.features.shape[1]
        else:
            raise TypeError(
                f"{type(self).__name__} takes a PointBatch or a SparseTensor, got {type(cloud).__name__}: "
                "make one of them with PointBatch.from_list or pointlift.voxelize."
            )
        if got != self.in_channels:
            raise ValueError(
                f"This {type(self).__name__} takes features of {self.in_channels} channels, got {got}: "
                "give it the features that it was made for, or build it with other in_channels."
            )
        return cloud

    def voxels(self, cloud: PointBatch | SparseTensor) -> SparseTensor:
        """The cloud's voxels, whose grid starts at the lowest of each cloud."""
        if isinstance(cloud, SparseTensor):
            return cloud
        return voxelize(cloud, self.voxel_size, origin="cloud")

    def forward_map(self, cloud: PointBatch | SparseTensor) -> SparseTensor:
        """The last of the intermediate maps."""
        found: SparseTensor = self.forward_intermediates(cloud, 1, intermediates_only=True)[0]
        return found

    def forward_voxels(self, voxels: SparseTensor) -> SparseTensor:
        """(M, C) on the input's voxels: what the head makes logits of."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_voxels.")

    def forward_features(self, cloud: PointBatch | SparseTensor) -> Tensor:
        """(N, C), a row per point of a PointBatch; (M, C), a row per voxel of a SparseTensor."""
        out = self.forward_voxels(self.voxels(cloud))
        return out.to_points() if isinstance(cloud, PointBatch) else out.features

    def forward(self, cloud: PointBatch | SparseTensor) -> Tensor:
        """(N, num_classes) logits per point of a PointBatch, (M, num_classes) per voxel of a SparseTensor.

        The head works on voxels, of which there are fewer than points, so that no feature is ever held per
        point. Raises as `as_input`, and ValueError for a single voxel in training mode.
        """
        given = self.as_input(cloud)
        with trusted_values():
            out = self.forward_voxels(self.voxels(given))
        logits = self.forward_head(out.features)
        return out.with_features(logits).to_points() if isinstance(cloud, PointBatch) else logits
