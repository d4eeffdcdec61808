"""RS-CNN for classification (Liu et al., CVPR 2019, section 4.1;
facts 5.4), single-scale neighbourhoods, name "rscnn".
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch
from pointlift.nn import CloudNetwork
from pointlift.nn.classifier import classifier
from pointlift.nn.cloud_network import check_one_each, own_arguments
from pointlift.nn.relation_shape import RelationShapeConv
from pointlift.nn.set_abstraction import GlobalSetAbstraction

__all__ = ["RSCNN"]


class RSCNN(CloudNetwork):
    """Relation-shape convolutions, one global shared layer with a maximum, and a fully connected classifier.

    Args:
        in_channels: width of `cloud.features` (N, in_channels), which starts with xyz; 3: `cloud.xyz` alone.
        num_classes: width of the logits.
        npoint, radii, nsample, widths: centres per cloud, radius in the units of the coordinates (the unit
            sphere), neighbours beside the centre, and outputs of the convolutions, one number each per level.
        raised: channels that the first level takes coordinates to before it weighs them.
        embedding: width of the global layer.
        head: widths of the classifier's hidden layers: (512, 256), or (512,) as PointCMT has it (facts T40).
        dropout: behind each of them.
        aliasing: the relation vector of the released code,
            whose "absolute" coordinates are relative by mistake (facts T41).

    The mapping from relations to weights has half as many hidden channels as its level has outputs in the
    first level, a quarter further on. The input layer is the first level, the output layer the whole
    classifier. Clouds may differ in size; in evaluation each is treated as if it were alone. A cloud with
    fewer points than centres or neighbours repeats points. Sampling begins at the first point of a cloud.

    As released, further levels own the normalisation of `raised` channels too, which only the first one uses:
    they count among the parameters, nothing trains them (`fixed`).

    Raises ValueError for arguments that do not fit each other.
    """

    maps_of = "levels"

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 40,
        npoint: Sequence[int] = (512, 128),
        radii: Sequence[float] = (0.23, 0.32),
        nsample: Sequence[int] = (48, 64),
        widths: Sequence[int] = (128, 512),
        raised: int = 16,
        embedding: int = 1024,
        head: Sequence[int] = (512, 256),
        dropout: float = 0.5,
        aliasing: bool = False,
    ) -> None:
        super().__init__(own_arguments(locals()), ["levels.0"])
        check_one_each("RS-CNN", "level", npoint=npoint, radii=radii, nsample=nsample, widths=widths)
        if (
            in_channels < 3
            or num_classes < 1
            or not 0 <= dropout < 1
            or min([raised, embedding, *head]) < 1
            or min(widths) < 4
        ):
            raise ValueError(
                f"RS-CNN: got in_channels={in_channels}, num_classes={num_classes}, dropout={dropout}, "
                f"raised={raised}, widths={list(widths)}, embedding={embedding}, head={list(head)}; "
                "expected 3 channels or more (xyz first), a class, a dropout of at least 0 and below 1, "
                "widths of at least 4, and positive numbers."
            )
        self.levels = nn.ModuleList()
        channels = in_channels - 3
        for level, (centres, radius, neighbours, width) in enumerate(zip(npoint, radii, nsample, widths)):
            hidden, lifted = (width // 4, None) if level else (width // 2, raised)
            self.levels.append(
                RelationShapeConv(centres, radius, neighbours, channels, width, hidden, lifted, aliasing)
            )
            channels = width
        self.idle = nn.ModuleList(nn.BatchNorm1d(raised) for _ in widths[1:]).requires_grad_(False)
        self.fixed = frozenset(f"idle.{name}" for name, _ in self.idle.named_parameters())
        self.whole = GlobalSetAbstraction(channels, (embedding,), bias=True)
        self.head = classifier(embedding, head, num_classes, dropout)

    def forward_features(self, cloud: PointBatch) -> Tensor:
        """(B, embedding): one embedding per cloud.

        Raises ValueError for an empty cloud, features of another width, and a single cloud in training mode,
        where batch normalisation is not defined.
        """
        self.check_clouds(cloud)
        features = self.extra_features(cloud)
        xyz, offsets = cloud.xyz, cloud.offsets
        for level in self.levels:
            xyz, features, offsets = level(xyz, features, offsets)
        embedding: Tensor = self.whole(xyz, features, offsets)
        return embedding
