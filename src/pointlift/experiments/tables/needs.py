"""What a table reads from disk, whether it is there, and where to get it: one sentence, before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pointlift.data.errors import MissingDataError
from pointlift.data.known import KnownDataset, describe_datasets
from pointlift.data.known_images import describe_image_datasets
from pointlift.experiments.tables.fingerprint import DATA, canonical, path_in
from pointlift.experiments.tables.plan import Plan, Run

__all__ = ["check_needs", "missing_paths", "needed_paths"]


def needed_paths(runs: Iterable[Run]) -> dict[str, str]:
    """{text in a recipe: its path} of everything in the data folder that some runs read, in order."""
    found: dict[str, str] = {}
    for run in runs:
        for text in _texts(canonical(run.content)):
            path = path_in(text) if DATA in text else None
            if path is not None:
                found[text] = path
    return found


def missing_paths(plan: Plan, runs: Iterable[Run]) -> dict[str, Path]:
    """{text in a recipe: the path that it stands for} of what some runs need and the data folder lacks."""
    places = {text: Path(path.replace(DATA, plan.data)).expanduser() for text, path in needed_paths(runs).items()}
    return {text: place for text, place in places.items() if not place.exists()}


def check_needs(plan: Plan, runs: Iterable[Run]) -> None:
    """Raises MissingDataError, one sentence that says what is missing, where to get it, under which terms, and how it should look."""
    missing = missing_paths(plan, runs)
    if not missing:
        return
    parts = [_sentence(text, place) for text, place in missing.items()]
    needs = [n for n in plan.table.needs if not _datasets(n)]
    notes = f"; {'; '.join(needs)}" if needs else ""
    how = f"nothing was run: put it there, name another folder with --data (now {plan.data!r}), or use --scale toy"
    raise MissingDataError(f"table {plan.table.id} ({plan.scale}) needs what is not there: {'; '.join(parts)}{notes}; {how}")


def _sentence(text: str, place: Path) -> str:
    datasets = _by_source(text)
    if not datasets:
        what = "a file of weights" if re.search(r"\.\w+$", place.name) else "a folder"
        return f"{place} ({what}) does not exist"
    layouts = " or ".join(f"{d.layout} (from {d.where})" for d in datasets)
    names = datasets[0].name.partition(",")[0]
    return f"{place} does not exist, {names} ({datasets[0].licence}) is expected there as {layouts}"


def _by_source(text: str) -> list[KnownDataset]:
    """The datasets that a source such as 'modelnet:...' or 'pixels:imagenet:...' may be."""
    kinds = re.findall(r"([A-Za-z][\w-]+):", text.partition("?")[0])
    return [d for kind in reversed(kinds) for d in _known() if d.source.startswith(f"{kind}:")]


def _datasets(need: str) -> list[KnownDataset]:
    """Known datasets that a short name such as 'modelnet40' means."""
    return [d for d in _known() if _short(need) in _short(d.name + d.source)]


def _known() -> tuple[KnownDataset, ...]:
    return (*describe_datasets(), *describe_image_datasets())


def _short(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _texts(content: Mapping[str, Any]) -> Iterator[str]:
    queue: list[Any] = list(content.values())
    while queue:
        value = queue.pop(0)
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            queue += value.values()
        elif isinstance(value, list | tuple):
            queue += value
