"""Tables, plots, and HTML with a 3D viewer that work anywhere: no network, no other files."""

from pointlift.report.embedding import plot_tsne
from pointlift.report.page import Report
from pointlift.report.tables import (
    console_table,
    csv_table,
    format_mean_std,
    markdown_table,
    write_csv,
    write_markdown,
)
from pointlift.report.viewer import ViewCloud, viewer_html, write_view

__all__ = [
    "Report",
    "ViewCloud",
    "console_table",
    "csv_table",
    "format_mean_std",
    "markdown_table",
    "plot_tsne",
    "viewer_html",
    "write_csv",
    "write_markdown",
    "write_view",
]
