"""Every number of every shipped recipe is the one that its source has (`recipe_values.py`,
`own_recipe_values.py`), and so is every word that chooses how training goes.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from own_recipe_values import OWN_RECIPES
from ppkt_recipe_values import PPKT_RECIPES
from recipe_values import RECIPES, USUAL, Part
from scene_recipe_values import SCENE_RECIPES

from pointlift.runs.recipe_files import flatten, list_recipes
from pointlift.runs.recipes import resolve_recipe

# where and how fast, not what
MACHINE = re.compile(
    r"out|method|run\.\w+|data\.(num_workers|in_memory)|views\.(cache|folder|colors)|data\.(mean|std)"
    r"|trainer\.(devices|accelerator|strategy|num_nodes|evaluate_every|deterministic|checkpoint_every_n_steps"
    r"|log_every_n_steps|enable_progress_bar|wandb|early_stop_metric|continue_from)"
    r"|.*\.(weights|weights_\w+|cloud_weights|cloud_weights_order|classifier|mean|std|checkpoint|\w+_checkpoint)"
)
PINNED: dict[str, list[Part]] = {**RECIPES, **OWN_RECIPES, **SCENE_RECIPES, **PPKT_RECIPES}


def counts(key: str) -> bool:
    """Whether a setting is one that has to be the source's."""
    return not MACHINE.fullmatch(key) or key in ("views.mean", "views.std")


def expected(name: str, keys: list[str]) -> dict[str, tuple[Any, str]]:
    """What each of `keys` should be, and by which source: the last part that names it, or what is usual."""
    found: dict[str, tuple[Any, str]] = {}
    for key in keys:
        group, _, rest = key.partition(".") if "." in key else ("", "", key)
        if rest in USUAL.get(group, {}):
            found[key] = (USUAL[group][rest], "usual")
    for source, values in PINNED[name]:
        found |= {key: (value, source) for key, value in values.items()}
    return found


def test_no_recipe_is_left_out() -> None:
    assert {f"{name}.yaml" for name in PINNED} == set(list_recipes()) and not set(RECIPES) & set(OWN_RECIPES)
    assert all(source for parts in PINNED.values() for source, _ in parts)


@pytest.mark.parametrize("name", PINNED)
def test_the_numbers_are_those_of_their_source(name: str) -> None:
    recipe = flatten(resolve_recipe(f"{name}.yaml").resolved)
    here = {key: value for key, value in recipe.items() if counts(key)}
    wanted = expected(name, list(here))
    # a path says nothing, what follows its question mark does
    unknown = [k for k in here if k not in wanted and not (k == "data.source" and "?" not in str(here[k]))]
    assert not unknown, (
        f"{name}: nothing says what {', '.join(f'{k} = {here[k]}' for k in unknown)} should be"
    )
    assert not set(wanted) - set(recipe), f"{name}: {sorted(set(wanted) - set(recipe))} are not in it"
    wrong = {
        f"{key} is {here[key]}, {value} in: {source}"
        for key, (value, source) in wanted.items()
        if here.get(key, value) != (pytest.approx(value) if isinstance(value, float) else value)
    }
    assert not wrong, f"{name}: {wrong}"
