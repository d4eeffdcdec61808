"""`pointlift fit`."""

from __future__ import annotations

__all__ = ["fit"]


def fit(recipe: str, *overrides: str, resume: bool = False, print_config: bool = False) -> int:
    """Train or pre-train as a recipe says; every key of the recipe can be overridden.

    Args:
        recipe: a YAML file, or the name of a recipe that ships with pointlift.
        overrides: keys of the recipe with other values, e.g. --optim.lr 0.01.
        resume: go on from the last checkpoint in the run's folder.
        print_config: print the recipe with all its values and stop.

    Examples:
        pointlift fit image2point/demo.yaml
        pointlift fit image2point/your_own_folder.yaml --data.source folder:my_scans --out runs/mine
        pointlift fit image2point/modelnet40_resnet18_io+bn.yaml --data.source modelnet:DIR --optim.lr 0.05
        pointlift fit image2point/demo.yaml --print_config > mine.yaml
        pointlift fit mine.yaml --resume
    """
    from pointlift.runs.recipes import recipe_help, resolve_recipe

    if "--help" in overrides:
        print("usage: pointlift fit RECIPE [--key value ...] [--resume] [--print_config]\n")
        print(
            "Every key of the recipe can be overridden; --print_config prints the result, "
            "--resume goes on with a run.\n"
        )
        print(recipe_help(recipe), end="")
        return 0
    resolved = resolve_recipe(recipe, overrides)
    if print_config:
        print(resolved.to_yaml(), end="")
        return 0
    from pointlift.runs.fit import fit_recipe

    return fit_recipe(resolved, resume)
