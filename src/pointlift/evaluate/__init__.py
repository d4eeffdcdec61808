"""Measuring what a network has learned: metrics with their protocol, uncertainty over seeds,
neural collapse, embeddings.
"""

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
    "CDNVResult",
    "ClassificationResult",
    "PairError",
    "PairedDifference",
    "ProbeResult",
    "RademacherEstimate",
    "Summary",
    "TransferBound",
    "cdnv",
    "classification_metrics",
    "deviation_term",
    "epochs_to_target",
    "halfspace_rademacher_bound",
    "halfspace_rademacher_estimate",
    "knn",
    "linear_probe",
    "linear_rademacher_estimate",
    "nearest_mean_error",
    "paired_difference",
    "speedup",
    "summarize",
    "transfer_bound",
    "tsne",
]
