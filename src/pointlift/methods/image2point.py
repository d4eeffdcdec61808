"""Image2Point: fine-tune an inflated image network on point clouds (Xu et al.,
v2 sections 3-4 and appendix A; v1 section 4).

inflate the image network                                       pointlift.inflate
freeze what the regime says                                     set_finetune
for every batch of clouds:
    voxels <- mean of the points in each cube of 0.05           the network itself, on the device
    loss   <- cross entropy of net(voxels) and the classes      Classification
    SGD with momentum 0.9 and weight decay 1e-4, the learning rate falling from 0.1 to 0 along one cosine
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pointlift.data.training_clouds import load_splits
from pointlift.methods.base import Place, Training
from pointlift.methods.classification import Classification
from pointlift.methods.cloud_classifiers import CloudClassifier, classifier_training

__all__ = ["Image2Point"]


@dataclass(frozen=True)
class Image2Point(CloudClassifier):
    """Fine-tune (or train from scratch) an inflated image network, or any network of clouds,
    on labelled clouds.

    The defaults are the paper's for ModelNet (v2, appendix A).
    The last epoch is what is reported and exported (facts T12).
    """

    method: ClassVar[str] = "image2point"
    out: ClassVar[str] = "runs/image2point"

    def build(self, place: Place) -> Training:
        """Raises what `load_splits` and `build_network` raise."""
        splits = load_splits(self.data, self.seed)
        clouds, net, settings = self.student(splits, self.seed)
        module = Classification(net, len(splits.train.classes), **settings)
        return classifier_training(module, clouds, self.model, self.optim)
