"""A trained network and your own clouds: files, arrays, features, and how sure it is.

    python examples/predict.py --checkpoint runs/mine/model.safetensors chair.ply table.obj

Without a checkpoint it trains a small network on embedded shapes first; without files it asks about some
embedded shapes. Prints the likeliest classes of every cloud, and which two are most alike by their features;
the answers are in predictions.json too.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from command_line import fit

import pointlift as pl


def trained(folder: Path) -> Path:
    """A checkpoint to try things on, by a recipe that ships with pointlift."""
    changes = {"optim.epochs": 2, "data.classes": ["chair", "lamp", "table"], "data.test_per_class": 4}
    return fit("image2point/toy.yaml", folder, overrides=changes).checkpoint


def main() -> None:
    """What the words of the command line ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", help="clouds or meshes")
    parser.add_argument("--checkpoint", help="model.safetensors of a run")
    parser.add_argument("--out", default="runs/examples/predict", help="folder of predictions.json")
    args = parser.parse_args()
    out = Path(args.out)
    predictor = pl.Predictor(args.checkpoint or trained(out / "run"))
    names, clouds = args.files, list(args.files)  # a file's name or an (N, 3) array: both will do
    if not names:
        shapes = pl.open_dataset("procedural:shapes?classes=chair,lamp&test=2", "test")
        names = [f"{shapes.classes[sample.label]} {i}" for i, sample in enumerate(shapes)]
        clouds = [sample.xyz for sample in shapes]

    found = predictor(clouds)
    for name, answer in zip(names, found):
        print(f"{name}: {answer.describe()}")
    features = np.stack([predictor.embed(cloud) for cloud in clouds])  # (clouds, C)
    if len(names) > 1:
        apart = np.linalg.norm(features[:, None] - features[None], axis=2) + np.diag([np.inf] * len(names))
        first, second = divmod(int(apart.argmin()), len(names))
        print(f"by their {features.shape[1]} features, {names[first]} and {names[second]} are most alike")
    answers = {name: answer.to_dict() for name, answer in zip(names, found)}
    out.mkdir(parents=True, exist_ok=True)
    (out / "predictions.json").write_text(json.dumps(answers, indent=1))


if __name__ == "__main__":
    main()
