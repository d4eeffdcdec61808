"""The results directory that tables, runners and machines share: one folder per run, named by its key.

In the directory:
    cells/<key>/run/             what the method leaves: result.json, model.safetensors, metrics.csv,
                                 protocol.json, ...
    cells/<key>/cell.json        the record of a finished run; written last
    cells/<key>/failed.json      why it failed, where that is worth remembering
    cells/<key>/log.txt          everything that it printed
    cells/<key>/claim.<n>        who runs it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointlift.system.atomic import read_json, write_json
from pointlift.tables.fingerprint import FORMAT

__all__ = ["Record", "Store"]


@dataclass(frozen=True)
class Record:
    """What cell.json says. info: commit, versions, hardware and label of the run."""

    key: str
    metrics: dict[str, float]
    best: dict[str, float]
    seconds: float
    recipe_hash: str
    code: str
    info: dict[str, Any]


class Store:
    """The runs in a results directory."""

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out)

    def folder(self, key: str) -> Path:
        return self.out / "cells" / key

    def run(self, key: str) -> Path:
        """The `out` of the method."""
        return self.folder(key) / "run"

    def log(self, key: str) -> Path:
        return self.folder(key) / "log.txt"

    def record(self, key: str) -> Record | None:
        """The finished run, or None: not finished, or its record is damaged or of another format,
        which is then never read.
        """
        content = _read(self.folder(key) / "cell.json")
        if content is None or content.get("format") != FORMAT or content.get("key") != key:
            return None
        try:
            return Record(**{name: content[name] for name in Record.__dataclass_fields__})
        except KeyError:
            return None

    def finish(self, record: Record) -> None:
        """Write the record; the run counts as finished from now on."""
        write_json(self.folder(record.key) / "cell.json", {"format": FORMAT, **record.__dict__})
        (self.folder(record.key) / "failed.json").unlink(missing_ok=True)
        # the optimizer's state, which doubles the size of a run: nothing is left to resume
        (self.run(record.key) / "last.ckpt").unlink(missing_ok=True)

    def failure(self, key: str) -> str | None:
        """Why the run failed, if that is remembered."""
        content = _read(self.folder(key) / "failed.json")
        return (
            str(content["why"])
            if content is not None and content.get("format") == FORMAT and "why" in content
            else None
        )

    def fail(self, key: str, why: str, info: Mapping[str, Any]) -> None:
        write_json(
            self.folder(key) / "failed.json", {"format": FORMAT, "key": key, "why": why, "info": dict(info)}
        )

    def forget_failure(self, key: str) -> None:
        (self.folder(key) / "failed.json").unlink(missing_ok=True)

    def started(self, key: str) -> bool:
        """Whether there is a run to go on with."""
        return (self.run(key) / "last.ckpt").is_file()

    def strangers(self, wanted: Iterable[tuple[str, str]]) -> tuple[int, int]:
        """How many of the recipes (pairs of recipe hash and key) were run by other code,
        and how many records cannot be read.
        """
        hashes, keys = {h for h, _ in wanted}, {k for _, k in wanted}
        others: set[str] = set()
        foreign = 0
        for file in self.out.glob("cells/*/cell.json"):
            if file.parent.name in keys and self.record(file.parent.name) is not None:
                continue
            content = _read(file)
            if content is None or content.get("format") != FORMAT:
                foreign += 1
            elif content.get("recipe_hash") in hashes:
                others.add(content["recipe_hash"])
        return len(others), foreign


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = read_json(path)
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None
