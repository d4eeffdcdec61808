"""Measuring what a network has learned: metrics with their protocol, uncertainty over seeds,
neural collapse, embeddings.
"""

from pointlift.evaluate.adaptation_bound import AdaptationBound, adaptation_bound
from pointlift.evaluate.classification import ClassificationResult, classification_metrics
from pointlift.evaluate.collapse import CDNVResult, cdnv
from pointlift.evaluate.curves import (
    PairedDifference,
    Summary,
    epochs_to_target,
    paired_difference,
    speedup,
    summarize,
)
from pointlift.evaluate.discrepancy import halfspace_discrepancy, joint_error, linear_discrepancy
from pointlift.evaluate.embedding import tsne
from pointlift.evaluate.probe import ProbeResult, knn, linear_probe
from pointlift.evaluate.rademacher import (
    RademacherEstimate,
    halfspace_rademacher_bound,
    halfspace_rademacher_estimate,
    linear_rademacher_estimate,
)
from pointlift.evaluate.transfer_bound import (
    PairError,
    TransferBound,
    deviation_term,
    nearest_mean_error,
    transfer_bound,
)

__all__ = [
    "AdaptationBound",
    "CDNVResult",
    "ClassificationResult",
    "PairError",
    "PairedDifference",
    "ProbeResult",
    "RademacherEstimate",
    "Summary",
    "TransferBound",
    "adaptation_bound",
    "cdnv",
    "classification_metrics",
    "deviation_term",
    "epochs_to_target",
    "halfspace_discrepancy",
    "halfspace_rademacher_bound",
    "halfspace_rademacher_estimate",
    "joint_error",
    "knn",
    "linear_discrepancy",
    "linear_probe",
    "linear_rademacher_estimate",
    "nearest_mean_error",
    "paired_difference",
    "speedup",
    "summarize",
    "transfer_bound",
    "tsne",
]
