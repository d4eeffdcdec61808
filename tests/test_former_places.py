"""Scripts of before import from the former places of what moved: they still find it, with a warning."""

import importlib
import sys

import pytest


@pytest.mark.parametrize(
    ("former", "place", "names"),
    [
        (
            "data.source",
            "data.sources.open",
            ("available_splits", "describe_source", "open_clouds", "open_dataset"),
        ),
        ("data.meshes", "data.files.meshes", ("read_mesh",)),
        ("foreign_weights", "weights.image_weights", ("load_image_weights", "read_tensors")),
    ],
)
def test_they_lead_to_the_new_ones(former: str, place: str, names: tuple[str, ...]) -> None:
    sys.modules.pop(f"pointlift.{former}", None)
    with pytest.warns(DeprecationWarning, match=f"pointlift.{former} is now pointlift.{place}"):
        old = importlib.import_module(f"pointlift.{former}")
    new = importlib.import_module(f"pointlift.{place}")
    assert {name: getattr(old, name) for name in names} == {name: getattr(new, name) for name in names}
