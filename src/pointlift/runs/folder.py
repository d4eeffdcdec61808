"""The folder of a training run: what is in it, and that nothing in it is ever lost by starting or resuming a
run.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pointlift.system.atomic import RunWriteError, atomic_write

__all__ = ["RunFolder", "RunFolderError", "RunWriteError"]

# what a run may be continued with although it differs: none of it changes a number
FREE = (
    "data.num_workers",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.checkpoint_every_n_steps",
    "trainer.wandb",
    "views.cache",
)
TIMELESS = ("constant", "plateau", "decay")  # schedules whose first steps are those of any longer run
RESULTS = ("last.ckpt", "best.safetensors", "model.safetensors", "metrics.csv", "result.json")


class RunFolderError(ValueError):
    """A folder that a run cannot be started or resumed in; the message is one sentence."""


class RunFolder:
    """`out` of a run: recipe.yaml, protocol.json, metrics.csv, last.ckpt,
    best and model.safetensors, result.json, tensorboard/.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.last, self.best, self.final = (
            self.path / n for n in ("last.ckpt", "best.safetensors", "model.safetensors")
        )
        self.metrics, self.result, self.recipe = (
            self.path / n for n in ("metrics.csv", "result.json", "recipe.yaml")
        )

    def check(self, recipe: Mapping[str, Any], resume: bool) -> None:
        """Raises RunFolderError unless a run of `recipe` may start here, or, with `resume`, go on."""
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is a file, expected a folder for the results of the run.")
        if not resume:
            there = [n for n in RESULTS if (self.path / n).exists()]
            if there and not self._stopped_in_first_epoch():
                raise RunFolderError(
                    f"{self.path} already holds a run ({', '.join(there)}): go on with it (--resume), or "
                    "choose another folder (--out)."
                )
            return
        if not self.last.is_file():
            why = (
                "its run stopped before the first checkpoint" if self.recipe.is_file() else "there is no run"
            )
            raise RunFolderError(
                f"Nothing to resume in {self.path}, {why} (no last.ckpt): start it without --resume."
            )
        self.check_same(recipe)

    def check_same(self, recipe: Mapping[str, Any]) -> None:
        """Raises RunFolderError where recipe.yaml is another one than `recipe`, or cannot be read; more
        epochs are allowed where the schedule does not depend on their number.
        """
        differing = self.differences(recipe)
        if differing and not self.is_longer(recipe):
            raise RunFolderError(
                f"The run in {self.path} has another recipe ({'; '.join(differing)}): resume with its "
                "recipe.yaml, or choose another one."
            )

    def is_longer(self, recipe: Mapping[str, Any]) -> bool:
        """Whether `recipe` is recipe.yaml with more epochs, and a run of it begins as the one here did.

        Raises RunFolderError where it has more epochs, but another schedule from its first step on.
        """
        differing = self.differing(recipe)
        there, here = differing.get("optim.epochs", (0, 0))
        if set(differing) != {"optim.epochs"} or not here > there:
            return False
        flat = dict(_flatten(_plain(recipe)))
        schedule, end = flat.get("optim.schedule"), flat.get("trainer.max_steps", -1)
        if schedule in TIMELESS and end == -1:
            return True
        what = f"the schedule {schedule} is over all of them" if end == -1 else f"max_steps {end} ends it"
        raise RunFolderError(
            f"The run in {self.path} had {there} epochs and cannot go on as one of {here}, as {what}: train "
            f"on from its weights with a schedule of its own, pointlift fit {self.recipe} "
            f"--trainer.continue_from {self.path} --optim.epochs {here - there} --out ANOTHER_FOLDER."
        )

    def _stopped_in_first_epoch(self) -> bool:
        """Whether what is here was written while the first epoch ended, before last.ckpt:
        nothing to go on with, and nothing to lose.
        """
        if not self.recipe.is_file() or any(p.exists() for p in (self.last, self.final, self.result)):
            return False
        return not self.metrics.is_file() or len(self.metrics.read_text(encoding="utf-8").splitlines()) <= 2

    def differences(self, recipe: Mapping[str, Any]) -> list[str]:
        """'key is ..., here ...' for every key whose value matters and differs from recipe.yaml's."""
        return [f"{k} is {a} there and {b} here" for k, (a, b) in self.differing(recipe).items()]

    def differing(self, recipe: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """{key: (there, here)} of every key whose value matters and differs from recipe.yaml's."""
        there, here = dict(_flatten(self.stored())), dict(_flatten(_plain(recipe)))
        # an option that came later, and is off
        new = {k for k, value in here.items() if k not in there and (value is None or value is False)}
        return {
            k: (there.get(k, "absent"), here.get(k, "absent"))
            for k in sorted(there.keys() | here.keys())
            if k not in (*FREE, *new) and there.get(k) != here.get(k)
        }

    def stored(self) -> dict[str, Any]:
        """recipe.yaml. Raises RunFolderError where it cannot be read."""
        try:
            stored = yaml.safe_load(self.recipe.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise RunFolderError(
                f"{self.recipe} cannot be read ({type(error).__name__}): "
                "without it the run cannot be resumed."
            ) from None
        if not isinstance(stored, dict):
            raise RunFolderError(f"{self.recipe} is not a recipe: without it the run cannot be resumed.")
        return stored

    def start(self, recipe: Mapping[str, Any], protocol: Mapping[str, Any]) -> None:
        """Write recipe.yaml and protocol.json, and remove what a killed run left half written.

        Raises RunFolderError where a run goes on and protocol["data"], if its protocol.json has one, is
        another: files were added or removed meanwhile, so that what it has seen already is not what it
        thinks.
        """
        self._check_data(protocol.get("data"))
        self.path.mkdir(parents=True, exist_ok=True)
        self.clean()
        self.result.unlink(missing_ok=True)  # of a finished run that becomes a longer one
        if not self.last.is_file():
            self.best.unlink(missing_ok=True)
            self.metrics.unlink(missing_ok=True)
        with self.writing("recipe.yaml") as file:
            file.write_text(
                yaml.safe_dump(_plain(recipe), sort_keys=False, allow_unicode=True), encoding="utf-8"
            )
        self.write_json("protocol.json", protocol)

    def _check_data(self, data: Any) -> None:
        file = self.path / "protocol.json"
        if data is None or not self.last.is_file() or not file.is_file():
            return
        try:
            stored = json.loads(file.read_text(encoding="utf-8")).get("data")
        except (OSError, ValueError, AttributeError) as error:
            raise RunFolderError(
                f"{file} cannot be read ({type(error).__name__}): delete it to resume without its facts."
            ) from None
        if stored is not None and stored != json.loads(json.dumps(_plain(data))):
            raise RunFolderError(
                f"The data of the run in {self.path} have changed since it stopped "
                f"({json.dumps(stored)[:200]} then, {json.dumps(_plain(data))[:200]} now): put the files "
                "back, or start in another folder."
            )

    def clean(self) -> None:
        """Remove what a killed process left half written."""
        for leftover in self.path.glob(".*.tmp.*"):
            leftover.unlink(missing_ok=True)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """`atomic_write` of a file of the run, whose failures are one sentence."""
        try:
            with atomic_write(self.path / name) as temporary:
                yield temporary
        except (OSError, RuntimeError) as error:
            # torch.save reports a full disk as RuntimeError, and Ctrl-C too
            if isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise RunWriteError(self._explain(name, error)) from error

    def _explain(self, name: str, error: BaseException) -> str:
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[0]
        try:
            free = f"{shutil.disk_usage(self.path).free / 1e6:,.0f} MB are free there"
        except OSError:
            free = "its disk cannot be asked for free space"
        if self.last.is_file():
            how = "the last checkpoint is intact, make room and go on with --resume"
        else:
            how = "make room and start again"
        return f"{self.path / name} could not be written ({reason}; {free}): {how}."

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        with self.writing(name) as file:
            file.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """metrics.csv: one row per epoch, all of them anew."""
        names = list(dict.fromkeys(k for row in rows for k in row))
        with self.writing("metrics.csv") as file, file.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, names)
            writer.writeheader()
            writer.writerows(rows)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flatten(inner, f"{prefix}{key}.")
        else:
            yield prefix + key, inner
