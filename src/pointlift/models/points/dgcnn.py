"""DGCNN for classification (Wang et al., ACM Transactions on Graphics 2019, section 4.1;
facts 5.3), name "dgcnn".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch
from pointlift.nn import CloudNetwork
from pointlift.nn.classifier import classifier
from pointlift.nn.cloud_network import own_arguments
from pointlift.nn.edge_conv import EdgeConv
from pointlift.ops.feature_neighbors import feature_knn
from pointlift.ops.neighbors import knn

__all__ = ["DGCNN"]


class DGCNN(CloudNetwork):
    """Edge convolutions on graphs drawn anew in every layer, a shared layer on all their outputs,
    and a fully connected classifier.

    Args:
        in_channels: width of `cloud.features` (N, in_channels), which starts with xyz; 3: `cloud.xyz` alone.
        num_classes: width of the logits.
        k: neighbours of a point, itself among them: 20 for clouds of 1,024 points, 40 for 2,048.
            A cloud with fewer points repeats them.
        widths: outputs of the edge convolutions. The graph of the first is drawn between coordinates, that of
            each further one between the features of the layer before.
        embedding: width of the shared layer, which sees the outputs of all edge convolutions; its maximum and
            its mean over the points are the embedding of a cloud, twice as wide.
        head: widths of the classifier's hidden layers: (512, 256), or (512,) as PointCMT has it (facts T40).
            As released, all but the first have a bias.
        dropout: behind each of them.
        slope: of every LeakyReLU.

    The input layer is the first edge convolution, the output layer the whole classifier. Clouds may differ in
    size; in evaluation each is treated as if it were alone.

    Raises ValueError for arguments out of range.
    """

    maps_of = "edges"

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 40,
        k: int = 20,
        widths: Sequence[int] = (64, 64, 128, 256),
        embedding: int = 1024,
        head: Sequence[int] = (512, 256),
        dropout: float = 0.5,
        slope: float = 0.2,
    ) -> None:
        super().__init__(own_arguments(locals()), ["edges.0"])
        if in_channels < 3 or num_classes < 1 or k < 1 or not widths or min([*widths, *head, embedding]) < 1:
            raise ValueError(
                f"DGCNN: got in_channels={in_channels}, num_classes={num_classes}, k={k}, "
                f"widths={list(widths)}, embedding={embedding}, head={list(head)}; expected 3 channels or "
                "more (xyz first), a class, a neighbour and positive widths."
            )
        if not 0 <= dropout < 1 or not 0 <= slope <= 1:
            raise ValueError(
                f"DGCNN: got dropout={dropout}, slope={slope}; "
                "expected a dropout of 0 to below 1 and a slope of 0 to 1."
            )
        self.k = k
        inputs = [in_channels, *widths[:-1]]
        self.edges = nn.ModuleList(EdgeConv(wide, out, slope) for wide, out in zip(inputs, widths))
        self.shared = nn.Sequential(
            nn.Linear(sum(widths), embedding, bias=False),
            nn.BatchNorm1d(embedding),
            nn.LeakyReLU(slope, inplace=True),
        )
        biases = [False] * min(1, len(head)) + [True] * (len(head) - 1)
        activation = partial(nn.LeakyReLU, slope, inplace=True)
        self.head = classifier(2 * embedding, head, num_classes, dropout, biases, activation)

    def forward_features(self, cloud: PointBatch) -> Tensor:
        """(B, 2 embedding): maximum and mean over the points of each cloud.

        Raises ValueError for an empty cloud, features of another width, features that are not finite, and a
        single cloud in training mode, where batch normalisation is not defined.
        """
        self.check_clouds(cloud)
        extra = self.extra_features(cloud)
        features = cloud.xyz if extra is None else torch.cat([cloud.xyz, extra], dim=1)
        _, index = knn(cloud.xyz, cloud.xyz, self.k, cloud.offsets, cloud.offsets, repeat=True)
        outputs = []
        for layer, edge in enumerate(self.edges):
            if layer:
                index = feature_knn(features, self.k, cloud.offsets, repeat=True)
            features = edge(features, index)
            outputs.append(features)
        hidden: Tensor = self.shared(torch.cat(outputs, dim=1))
        counts = cloud.offsets.diff().tolist()
        if len(set(counts)) == 1:
            dense = hidden.view(len(counts), counts[0], -1)
            return torch.cat([dense.amax(dim=1), dense.mean(dim=1)], dim=1)
        parts = hidden.split(counts)
        return torch.stack([torch.cat([part.amax(dim=0), part.mean(dim=0)]) for part in parts])
