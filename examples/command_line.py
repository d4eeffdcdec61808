"""What the examples share: the words of their command lines, and runs that go on where they were stopped."""

import argparse
from pathlib import Path
from typing import Any

import pointlift as pl

OUT = "runs/examples"


def arguments(about: str | None, name: str, **others: tuple[Any, str]) -> argparse.Namespace:
    """--out, the folder of what the example writes, and others by name: their defaults, and what they are."""
    parser = argparse.ArgumentParser(description=(about or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(OUT, name), help="folder of what is written")
    for other, (default, text) in others.items():
        kind: dict[str, Any] = {"action": "store_true"} if default is False else {"default": default}
        parser.add_argument(f"--{other}", help=text, **kind)
    return parser.parse_args()


def fit(recipe: Any, out: Path, **settings: Any) -> Any:
    """`pl.fit`, which goes on where the folder holds a run of the recipe already."""
    return pl.fit(recipe, out, resume=(out / "recipe.yaml").is_file(), **settings)
