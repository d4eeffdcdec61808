"""Tables whose runs take seconds, for the tests of the runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

NET = Path(__file__).resolve().parents[1] / "runs" / "tiny_net.py"
TINY = {
    "model.image_model": f"{NET}:build",
    "data.classes": ["table", "mug", "aeroplane"],
    "data.train_per_class": 4,
    "data.test_per_class": 2,
    "data.n_points": 64,
    "data.voxel_size": 0.25,
    "data.batch_size": 4,
    "data.shots": None,
    "optim.epochs": 2,
    "trainer.deterministic": True,
}


def table(**changes: Any) -> dict[str, Any]:
    """The content of a definition with two rows, two columns and a toy scale of one seed."""
    content: dict[str, Any] = {
        "title": "Few shots, small",
        "value": "val_accuracy",
        "rows": [{"name": "2-shot", "set": {"data.shots": 2}}, {"name": "4-shot", "set": {"data.shots": 4}}],
        "columns": [
            {"name": "scratch", "set": {"model.regime": "scratch"}},
            {"name": "FIP-IO", "set": {"model.regime": "io"}},
        ],
        "paper": {"2-shot": {"scratch": "12.3 ± 0.4"}},
        "scales": {"toy": {"recipe": "image2point/demo.yaml", "set": dict(TINY), "seeds": 1}},
    }
    return {**content, **changes}


def write_table(folder: Path, name: str = "tiny", **changes: Any) -> Path:
    """The definition as a file."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(table(**changes), sort_keys=False), encoding="utf-8")
    return path
