"""Measuring what a network has learned: metrics with their protocol, uncertainty over seeds, neural collapse, embeddings."""

from pointlift.evaluate.classification import ClassificationResult, classification_metrics
from pointlift.evaluate.collapse import CDNVResult, cdnv
from pointlift.evaluate.curves import PairedDifference, Summary, epochs_to_target, paired_difference, speedup, summarize
from pointlift.evaluate.embedding import plot_tsne, tsne

__all__ = [
    "CDNVResult",
    "ClassificationResult",
    "PairedDifference",
    "Summary",
    "cdnv",
    "classification_metrics",
    "epochs_to_target",
    "paired_difference",
    "plot_tsne",
    "speedup",
    "summarize",
    "tsne",
]
