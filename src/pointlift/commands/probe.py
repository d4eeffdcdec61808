"""`pointlift probe`: how well frozen features tell classes apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pointlift.commands.feature_labels import Embedded

__all__ = ["probe"]


def probe(
    given: str,
    *,
    data: str | None = None,
    test: str | None = None,
    labels: str | None = None,
    method: Literal["both", "linear", "knn"] = "both",
    classifier: Literal["svm", "logistic"] = "svm",
    c: float | None = None,
    folds: int = 5,
    k: int = 5,
    seed: int = 0,
    split: str = "test",
    image_model: str | None = None,
    batch_size: int = 32,
    out: str | None = None,
) -> int:
    """How well frozen features tell classes apart: a linear classifier and nearest neighbours of them, fitted
    to the training split and measured on the test split.

    Args:
        given: a .safetensors file that pointlift wrote, with --data; or the .npz of features that embed made
            of the training files, with --test.
        data: where labelled data are, with any classes, e.g. folder:FOLDER (see: pointlift data list).
        test: the .npz that embed made of the test files, by the same checkpoint.
        labels: a .csv with the columns file and class for the files of both .npz (default: a file's class is
            the folder it lies in).
        method: both, linear or knn.
        classifier: the linear one, svm or logistic.
        c: inverse weight of its penalty (default: by cross-validation on the training split).
        folds: of that cross-validation.
        k: nearest neighbours, by cosine.
        seed: of the folds.
        split: of --data that is tested.
        image_model: name or file.py:function of the image model, for checkpoints made from one of your own.
        batch_size: clouds that the network sees at a time.
        out: also write the numbers with their protocol to this .json file.

    Examples:
        pointlift probe runs/mine/model.safetensors --data folder:my_scans
        pointlift probe train.npz --test test.npz --method knn --k 20
    """
    from pathlib import Path

    from pointlift.evaluate.probe import ProbeResult, knn, linear_probe
    from pointlift.report import console_table
    from pointlift.system.atomic import write_json

    sides = _sides(given, data, test, labels, split, image_model, batch_size)
    train, tested = sides.train, sides.test
    rows: list[list[Any]] = []
    found: dict[str, ProbeResult] = {}
    arguments = ((train.features, train.labels), (tested.features, tested.labels), sides.classes)
    if method != "knn":
        name = f"linear ({classifier})"
        found[name] = linear_probe(*arguments, classifier, c, folds, seed)
    if method != "linear":
        found[f"kNN (k {k})"] = knn(*arguments, k)
    for name, one in found.items():
        metrics = one.metrics
        rows.append([name, 100 * metrics.overall_accuracy, 100 * metrics.class_mean_accuracy])
    print(console_table(["probe", "accuracy %", "class mean %"], rows, digits=2), end="")
    for name, one in found.items():
        print(f"{name}: " + ", ".join(f"{key} {_said(value)}" for key, value in one.protocol.items()))
    protocol = {**sides.protocol, "train": len(train.labels), "test": len(tested.labels)}
    print("protocol: " + ", ".join(f"{key} {_said(value)}" for key, value in protocol.items()))
    if out is not None:
        content = {
            name: {"metrics": one.metrics.to_dict(), "protocol": one.protocol} for name, one in found.items()
        }
        write_json(Path(out), {"protocol": protocol, **content})
        print(f"wrote {out}")
    return 0


def _said(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_said, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _sides(
    given: str,
    data: str | None,
    test: str | None,
    labels: str | None,
    split: str,
    image_model: str | None,
    batch_size: int,
) -> Embedded:
    from pointlift.commands.feature_labels import from_checkpoint, from_files

    if given.lower().endswith(".npz"):
        if data is not None or test is None:
            raise ValueError(
                f"{given} holds the features of training files, expected --test with the .npz of the test "
                "files beside it, and no --data"
            )
        return from_files(given, test, labels)
    if data is None or test is not None or labels is not None:
        raise ValueError(
            f"{given} is taken for a checkpoint, expected --data with labelled clouds (--test and --labels "
            "are for two .npz files that embed made)"
        )
    return from_checkpoint(given, data, split, image_model, batch_size)
