"""The command line: one documented function per command. Everything heavy is imported inside the functions."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Literal

from pointlift.commands.embed import embed
from pointlift.commands.evaluate import evaluate
from pointlift.commands.parsing import Command, UsageError, explain, parse_command, plain_warnings
from pointlift.commands.predict import predict
from pointlift.commands.view import view

__all__ = ["COMMANDS", "main"]

Rule = Literal["repeat", "mean", "center", "T1", "T2", "T3", "learned", "learned-shared"]


def demo(
    out: str = "pointlift-demo",
    seeds: int = 3,
    shots: int = 10,
    epochs: int = 12,
    test_per_class: int = 15,
    regimes: list[str] | None = None,
) -> int:
    """Show the whole idea on embedded data: offline, a few minutes on two cores.

    An image network that never saw a point cloud is inflated to 3D and learns to tell 3D shapes apart from a few examples of
    each class. Four ways to fine-tune it are compared, from a handful of trained parameters to all of them, with the same
    network trained from scratch beside them.

    Args:
        out: folder for report.html, model.safetensors and results.csv.
        seeds: runs per regime; mean and standard deviation are over them.
        shots: training examples per class.
        epochs: passes over the training examples.
        test_per_class: test examples per class.
        regimes: any of io, io+stats, io+bn, all, scratch (default: io, io+bn, all, scratch).
    """
    from pointlift.commands.demo import run_demo

    return run_demo(out, seeds, shots, epochs, test_per_class, regimes)


def lift(
    model: str,
    out: str,
    weights: str | None = None,
    pretrained: bool | None = None,
    rule: Rule = "repeat",
    axis: Literal["x", "y", "z"] = "z",
    in_channels: int = 3,
    num_classes: int = 40,
    stem: Literal["linear", "three-conv", "inflate"] = "linear",
    head: Literal["linear", "linear-bn", "mlp"] = "linear-bn",
    shortcut_kernel: int = 1,
    start: Literal["default", "random"] = "default",
    load_stages: list[int] | None = None,
    network: Literal["auto", "inflated", "point-vit", "simpleview"] = "auto",
    seed: int = 0,
) -> int:
    """Turn an image model into a 3D network, say what became of every tensor, and write it as a checkpoint.

    Args:
        model: a timm name, 'fractal_resnet' (ships with pointlift), or file.py:function of your own image model.
        out: the checkpoint to write (.safetensors).
        weights: file with weights of the image model (.safetensors, .pth); without it see --pretrained.
        pretrained: whether timm downloads the model's weights (default: yes, unless --weights is given or the model is your own).
        rule: how a 2D kernel becomes a 3D kernel.
        axis: the axis along which 'repeat', 'mean' and 'center' stack the 2D kernel.
        in_channels: features per voxel; 3 is xyz.
        num_classes: outputs of the new head.
        stem: the new input layers: one convolution, three, or the inflated ones of the image model.
        head: the new output layers.
        shortcut_kernel: kernel of shortcut convolutions; 2 is what the released code of Image2Point has.
        start: where a learned rule starts.
        load_stages: stages that keep the image weights (default: all).
        network: inflated, point-vit (vision transformers) or simpleview (ResNets on depth images); auto is point-vit for vision
            transformers and inflated for everything else.
        seed: of everything that starts at random.
    """
    from pointlift.commands.lift import lift_model

    arguments = {
        "rule": rule, "axis": axis, "in_channels": in_channels, "num_classes": num_classes, "stem": stem, "head": head,
        "shortcut_kernel": shortcut_kernel, "start": start, "load_stages": load_stages, "seed": seed,
    }  # fmt: skip
    return lift_model(model, out, weights, pretrained, arguments, network)


def fit(recipe: str, overrides: list[str], resume: bool = False, print_config: bool = False) -> int:
    """Train or pre-train as a recipe says; every key of the recipe can be overridden.

    Args:
        recipe: a YAML file, or the name of a recipe that ships with pointlift.
        overrides: --key value pairs, e.g. --optim.lr 0.01.
        resume: go on from the last checkpoint in the run's folder.
        print_config: print the recipe with all its values and stop.
    """
    from pointlift.runs.recipes import resolve_recipe

    resolved = resolve_recipe(recipe, overrides)
    if print_config:
        print(resolved.to_yaml(), end="")
        return 0
    from pointlift.runs.fit import fit_recipe

    return fit_recipe(resolved, resume)


def table(
    id: str | None = None,
    scale: str = "toy",
    only: str | None = None,
    jobs: int = 1,
    out: str = "runs/tables",
    data: str = "data",
    retry: bool = False,
    no_wait: bool = False,
    list: bool = False,
) -> int:
    """Run a table or figure of the papers and print it beside the paper's numbers; what is already there is not run again.

    Results are shared by all tables, runners and machines that use the same --out: a job array of the same command divides the work.
    A run that was killed goes on where it stopped.

    Args:
        id: the table, e.g. image2point/4, or a YAML file of your own.
        scale: toy (embedded data, minutes), full (the paper's recipe and data), or another scale that the table has.
        only: a row, a column or "row / column", by parts of their names.
        jobs: runs at once; the cores and GPUs are divided among them.
        out: the results directory.
        data: the folder with datasets and weights, {data} in the recipes.
        retry: also run what failed before.
        no_wait: do not wait for runs that other runners have begun.
        list: print every table with its state instead.
    """
    if list:
        from pointlift.tables.listing import list_all

        return list_all(out, data)
    if id is None:
        raise UsageError("table needs the name of a table, e.g. pointlift table image2point/4 (pointlift table --list names all of them)")
    from pointlift.commands.table import run_table

    return run_table(id, explain, scale, only, jobs, out, data, retry, not no_wait)


def data_list() -> int:
    """The data sources pointlift reads, what each needs on disk and where to get it."""
    from pointlift.commands.data import list_sources

    return list_sources()


def data_check(source: str) -> int:
    """Say whether a data source is complete and readable: files, classes, splits, labels, coordinates.

    Args:
        source: e.g. modelnet:FOLDER, folder:FOLDER or procedural:shapes.
    """
    from pointlift.commands.data import check_source

    return check_source(source)


def data_prepare(
    source: str, out: str, layout: Literal["modelnet-h5", "off", "shapenetpart"] = "modelnet-h5", points: int = 2048, seed: int = 0
) -> int:
    """Write a data source in another layout: your folder of meshes and clouds as one h5, or the embedded shapes as any dataset.

    Args:
        source: folder:FOLDER or procedural:shapes.
        out: the folder to write.
        layout: how it is laid out on disk.
        points: points per object.
        seed: of the sampled points.
    """
    from pointlift.commands.data import prepare_source

    return prepare_source(source, out, layout, points, seed)


def doctor(warm: bool = False) -> int:
    """Versions, devices, which kernels run here and why, and a numeric self-test. Exit code 1 when the self-test fails.

    Args:
        warm: compile every kernel now, so that no later command waits for it.
    """
    from pointlift.commands.doctor import run_doctor

    return run_doctor(warm)


COMMANDS: dict[str, Command] = {
    "demo": Command(demo, {}, ("pointlift demo", "pointlift demo --seeds 1 --regimes io+bn scratch --out /tmp/demo")),
    "lift": Command(
        lift,
        {"model": None},
        (
            "pointlift lift fractal_resnet --out lifted.safetensors --num_classes 10",
            "pointlift lift resnet18.a1_in1k --out r18.safetensors",
            "pointlift lift vit_base_patch16_224.augreg_in21k --out vit.safetensors",
            "pointlift lift my_model.py:build --weights my_weights.pth --rule mean --out mine.safetensors",
        ),
    ),
    "fit": Command(
        fit,
        {"recipe": None},
        (
            "pointlift fit image2point/demo.yaml",
            "pointlift fit image2point/your_own_folder.yaml --data.source folder:my_scans --out runs/mine",
            "pointlift fit image2point/modelnet40_resnet18_io+bn.yaml --data.source modelnet:DIR --optim.lr 0.05",
            "pointlift fit image2point/demo.yaml --print_config > mine.yaml",
            "pointlift fit mine.yaml --resume",
        ),
    ),
    "evaluate": Command(
        evaluate, {"checkpoint": None}, ("pointlift evaluate runs/mine/model.safetensors --data folder:my_scans --split test",)
    ),
    "predict": Command(
        predict,
        {"checkpoint": None, "files": "+"},
        ("pointlift predict runs/mine/model.safetensors scan.ply chair.off", "pointlift predict MODEL *.ply --ply coloured/"),
    ),
    "embed": Command(embed, {"checkpoint": None, "files": "+"}, ("pointlift embed runs/mine/model.safetensors *.ply --out features.npz",)),
    "view": Command(
        view, {"files": "+"}, ("pointlift view scan.ply chair.off", "pointlift view *.ply --checkpoint runs/mine/model.safetensors")
    ),
    "table": Command(
        table,
        {"id": "?"},
        (
            "pointlift table --list",
            "pointlift table image2point/4",
            "pointlift table image2point/4 --scale full --data /datasets --jobs 2",
            'pointlift table image2point/4 --only "10-shot / ResNet18" --retry',
        ),
    ),
    "data list": Command(data_list, {}, ("pointlift data list",)),
    "data check": Command(data_check, {"source": None}, ("pointlift data check folder:my_scans", "pointlift data check modelnet:DIR")),
    "data prepare": Command(
        data_prepare,
        {"source": None},
        ("pointlift data prepare folder:my_meshes --out my_h5", "pointlift data prepare procedural:shapes --layout off --out shapes"),
    ),
    "doctor": Command(doctor, {}, ("pointlift doctor", "pointlift doctor --warm")),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. 0 done, 1 a check failed, 2 bad input (one sentence on stderr), 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with plain_warnings():
            return parse_command(arguments, COMMANDS)()
    except KeyboardInterrupt as error:  # a run says itself how to go on, and whether it was Ctrl-C or SIGTERM
        print(f"\npointlift: {str(error) or 'interrupted'}", file=sys.stderr)
        return int(getattr(error, "exit_code", 130))
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        sentence = explain(error)
        if sentence is None:  # a fault of pointlift: nothing of it is hidden
            raise
        if os.environ.get("POINTLIFT_DEBUG") == "1":
            traceback.print_exc()
        print(f"pointlift: {sentence}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
