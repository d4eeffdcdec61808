"""From definitions to runs: what overlays do, which runs are one run,
what changes a key and what does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_tables import TINY, write_table

from pointlift.runs.recipe_files import RecipeError
from pointlift.tables import fingerprint
from pointlift.tables.code_fingerprints import CodeFingerprints, this_package
from pointlift.tables.definition import read_table
from pointlift.tables.fingerprint import FileIdentities, path_in
from pointlift.tables.needs import check_needs, described, missing_paths
from pointlift.tables.outcome import CellId
from pointlift.tables.plan import Plan, filled, make_plan, select

CODES = this_package()
NET = "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Conv2d(3, 8, 3))\n"


def plan_of(folder: Path, data: str = "data", codes: CodeFingerprints = CODES, **changes: Any) -> Plan:
    return make_plan(read_table(str(write_table(folder, **changes))), "toy", data, codes)


def keys(plan: Plan) -> list[str]:
    return [run.key for cell in plan.cells for run in cell.runs]


def scales(seeds: int = 1, **settings: Any) -> dict[str, Any]:
    return {"toy": {"recipe": "image2point/demo.yaml", "set": {**TINY, **settings}, "seeds": seeds}}


def test_later_overlays_win_and_seeds_are_runs(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        rows=[{"name": "r", "set": {"optim.lr": 0.2, "data.shots": 1}, "toy": {"data.shots": 2}}],
        columns=[{"name": "a"}, {"name": "b", "set": {"data.shots": 3}, "unit": ""}, {"name": "skipped"}],
        cells=[{"row": "r", "column": "b", "toy": {"optim.lr": 0.7}, "value": "train_accuracy"}],
        skip=[["r", "skipped"]],
        paper={},
        scales=scales(seeds=2, **{"optim.lr": 0.1, "optim.momentum": 0.5}),
    )
    a, b = plan.cells
    assert (a.id, b.id) == (CellId("r", "a"), CellId("r", "b"))
    assert (
        a.resolved["optim"]["lr"] == 0.2
        and a.resolved["data"]["shots"] == 2
        and a.resolved["optim"]["momentum"] == 0.5
    )
    assert b.resolved["optim"]["lr"] == 0.7 and b.resolved["data"]["shots"] == 3
    assert (b.shown.value, b.shown.unit, a.shown.value, a.shown.unit) == (
        "train_accuracy",
        "",
        "val_accuracy",
        "%",
    )
    assert [run.seed for run in a.runs] == [0, 1] and len(set(keys(plan))) == 4
    assert a.resolved["trainer"]["enable_progress_bar"] is False, (
        "bars of single runs would disturb the table's"
    )


def test_cells_with_the_same_recipe_are_one_run(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path, columns=[{"name": "a"}, {"name": "the same", "set": {"optim.lr": 0.1}}], paper={}
    )
    assert len(plan.cells) == 4 and len(plan.runs) == 2
    assert [len(plan.needed(cells)) for cells in ([plan.cells[0]], plan.cells[:2], plan.cells)] == [1, 1, 2]


def test_rows_columns_and_cells_have_seeds_of_their_own(tmp_path: Path) -> None:
    """The last of row, column and cell wins, as with settings; runs of before are the same runs."""
    columns = [{"name": "scratch", "set": {"data.n_points": 32}}, {"name": "FIP-IO", "seeds": {"toy": 4}}]
    rows = [{"name": "2-shot", "set": {"data.shots": 2}, "seeds": 3}, {"name": "4-shot"}]
    before = plan_of(tmp_path, rows=[{**rows[0], "seeds": 2}, rows[1]], columns=[columns[0], "FIP-IO"],
                     scales=scales(seeds=2))  # fmt: skip
    cells = [{"row": "4-shot", "column": "FIP-IO", "seeds": 1}]
    plan = plan_of(tmp_path, rows=rows, columns=columns, cells=cells, scales=scales(seeds=2))
    assert [len(cell.runs) for cell in plan.cells] == [3, 4, 2, 1]
    assert all([run.seed for run in c.runs] == list(range(len(c.runs))) for c in plan.cells)
    for old, new in zip(before.cells, plan.cells):
        assert all(a.key == b.key for a, b in zip(old.runs, new.runs)), "more seeds leave the others alone"


def test_a_gain_needs_the_other_rows_seeds(tmp_path: Path) -> None:
    rows = [{"name": "2-shot"}, {"name": "4-shot", "over": "2-shot", "seeds": 2}]
    with pytest.raises(RecipeError, match="4-shot / scratch: it has 2 seeds and is shown over 2-shot / "):
        plan_of(tmp_path, rows=rows)
    plan_of(tmp_path, rows=[{**rows[0], "seeds": 3}, rows[1]])


def test_runs_before_runs(tmp_path: Path) -> None:
    net = {"recipe": "image2point/demo.yaml", **TINY}
    changes: dict[str, Any] = {
        "before": {
            "first": {"toy": net},
            "second": {"toy": {**net, "model.weights": "@first/best.safetensors"}, "per_seed": True},
        },
        "columns": [
            {"name": "built", "set": {"model.weights": "@second", "model.weights_may_differ": ["x"]}},
            {"name": "plain"},
        ],
        "paper": {},
        "scales": scales(seeds=2),
    }
    plan = plan_of(tmp_path, **changes)
    built = [run for cell in plan.cells for run in cell.runs if cell.id.column == "built"]
    assert len({run.after for run in built}) == 2, "each seed has a foundation of its own"
    needed = plan.needed([plan.cells[0]])
    assert [run.label for run in needed[:2]] == ["before: first", "before: second, seed 0"] and len(
        needed
    ) == 5
    (second,) = built[0].after
    recipe = filled(built[0], "data", lambda key: Path("runs") / key)
    assert recipe.experiment.model.weights == str(Path("runs") / second / "model.safetensors")
    first = plan.runs[second].after[0]
    assert filled(plan.runs[second], "d", lambda key: Path(key)).experiment.model.weights == str(
        Path(first) / "best.safetensors"
    )
    changes["before"]["first"]["toy"] = {**net, "optim.lr": 0.3}
    changed = plan_of(tmp_path, **changes)
    same = [a == b for a, b in zip(keys(plan), keys(changed))]
    assert same == [False, False, True, True] * 2, "the hash of a foundation is part of what is built on it"


BAD = [
    (
        {"columns": [{"name": "x", "set": {"data.shot": 3}}]},
        "unknown key data.shot, did you mean data.shots?",
    ),
    ({"columns": [{"name": "x", "set": {"optim.lr": "big"}}]}, "optim.lr is 'big', expected a number"),
    (
        {"columns": [{"name": "x", "set": {"data": {"shots": 3}}}]},
        "data is a group of keys, write data.shots: ...",
    ),
    (
        {"columns": [{"name": "x", "set": {"recipe": "image2point/demos.yaml"}}]},
        "did you mean image2point/demo.yaml",
    ),
    ({"columns": [{"name": "x", "set": {"model.weights": "@tiny"}}]}, "@tiny is no run under 'before'"),
    ({"columns": [{"name": "x", "set": {"optim.epochs": 0}}]}, "epochs is 0, expected at least 1"),
    ({"columns": [{"name": "x", "set": {"trainer.devices": 2}}]}, "a run of a table has one device"),
    ({"columns": [{"name": "x", "set": {"optim.lr.x": 2}}]}, "lr is 0.1 in the recipe and no group of keys"),
    ({"columns": [{"name": "x", "scales": []}]}, "has no cell at the scale toy"),
]


@pytest.mark.parametrize(("changes", "sentence"), BAD, ids=[s for _, s in BAD])
def test_wrong_recipes_name_the_cell(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        plan_of(tmp_path, paper={}, **changes)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_foundations_in_a_circle_are_refused(tmp_path: Path) -> None:
    net = {"recipe": "image2point/demo.yaml", "model.weights": "@b"}
    before = {"a": {"toy": net}, "b": {"toy": {**net, "model.weights": "@a"}}}
    with pytest.raises(RecipeError, match=r"before\.a builds on itself \(a -> b -> a\)"):
        plan_of(tmp_path, before=before, columns=[{"name": "x", "set": {"model.weights": "@a"}}], paper={})
    with pytest.raises(RecipeError, match="has no scale 'ful'"):
        make_plan(read_table(str(write_table(tmp_path))), "ful")


def test_only_takes_parts_of_names(tmp_path: Path) -> None:
    rows = [{"name": n} for n in ("1-shot", "10-shot", "11-shot")]
    plan = plan_of(
        tmp_path,
        rows=rows,
        columns=[{"name": "IO"}, {"name": "IO+BN", "set": {"model.regime": "io+bn"}}],
        paper={},
    )
    assert len(select(plan, None)) == 6
    assert {c.id.row for c in select(plan, "1-shot")} == {"1-shot"}, "a whole name wins over parts"
    assert [c.id for c in select(plan, "10 / bn")] == [("10-shot", "IO+BN")]
    assert {c.id.column for c in select(plan, "io+")} == {"IO+BN"} and len(select(plan, "-shot / IO")) == 3
    for wrong, hint in (
        ("10-shots", "did you mean 10-shot"),
        ("1-shot / OI", "did you mean IO"),
        ("xyzzy", "there are 1-shot"),
    ):
        with pytest.raises(RecipeError, match=hint):
            select(plan, wrong)


# ------------------------------------------------------------------------------------------------ keys


def test_the_contents_of_files_are_part_of_the_key(tmp_path: Path) -> None:
    net, data = tmp_path / "net.py", tmp_path / "data"
    (data / "m").mkdir(parents=True)
    (data / "m" / "a.h5").write_text("abc")
    net.write_text(NET)
    column = {
        "name": "x",
        "set": {
            "model.image_model": f"{net}:build",
            "data.source": "modelnet:{data}/m",
            "data.classes": None,
        },
    }

    def first(place: Path = data) -> str:
        return keys(plan_of(tmp_path, str(place), columns=[column], paper={}))[0]

    before = first()
    assert first() == before
    net.write_text(NET + "# changed\n")
    changed = first()
    assert changed != before, "a file of the user's own counts to the letter"
    (data / "m" / "a.h5").write_text("xyz")
    other = first()
    assert other != changed, "other data of the same names and sizes"
    (data / "m" / "b.h5").write_text("")
    assert first() != other
    data.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "m" / "b.h5").unlink()
    assert first(tmp_path / "elsewhere") == other, "where the data folder is does not matter"


def test_display_does_not_change_a_key(tmp_path: Path) -> None:
    plain = keys(plan_of(tmp_path))
    assert (
        keys(plan_of(tmp_path, scales=scales(**{"data.num_workers": 3, "trainer.log_every_n_steps": 7})))
        == plain
    )
    assert (
        keys(plan_of(tmp_path, title="Another title", notes=["a note"], value="train_loss", measure="curves"))
        == plain
    )
    assert keys(plan_of(tmp_path, scales=scales(**{"optim.momentum": 0.8}))) != plain


def test_other_code_makes_other_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = plan_of(tmp_path)
    rules = CODES.file("pointlift.inflation.rules")
    assert rules is not None
    read = Path.read_text

    def edited(path: Path, *arguments: Any, **options: Any) -> str:
        return read(path, *arguments, **options) + ("\nEDITED = 1\n" if path == rules else "")

    monkeypatch.setattr(Path, "read_text", edited)
    changed = plan_of(tmp_path, codes=CodeFingerprints())
    assert set(keys(plain)).isdisjoint(keys(changed))
    recipes = [[run.recipe_hash for run in plan.runs.values()] for plan in (plain, changed)]
    assert recipes[0] == recipes[1], "so that results of the same recipe by other code can be told"


def test_paths_in_recipes() -> None:
    paths = {
        "modelnet:{data}/m?split=x": "{data}/m", "pixels:imagenet:/i": "/i",
        "nets/net.py:build": "nets/net.py", "w.pth": "w.pth", "folder:scans": "scans",
        "C:\\w.pth": "C:\\w.pth",
    }  # fmt: skip
    assert {text: path_in(text) for text in paths} == paths
    for text in ("procedural:shapes", "cosine", "resnet18.a1_in1k", "torchvision:resnet18", "io+bn", ""):
        assert path_in(text) is None


def test_of_large_data_samples_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "SAMPLED", 3)
    monkeypatch.setattr(fingerprint, "BLOCK", 4)
    for name in "abcdef":
        (tmp_path / name).write_text("0123456789" * 3)

    def identity() -> str:
        return FileIdentities("").of({"data.source": f"folder:{tmp_path}"})[f"data.source=folder:{tmp_path}"]

    before = identity()
    for place, told_apart in (
        (0, True),
        (3, True),
        (4, False),
        (14, False),
        (15, True),
        (18, True),
        (25, False),
        (26, True),
        (29, True),
    ):
        content = bytearray((tmp_path / "c").read_bytes())
        content[place] += 1
        (tmp_path / "c").write_bytes(content)
        assert (identity() != before) == told_apart, place
        content[place] -= 1
        (tmp_path / "c").write_bytes(content)
    assert identity() == before
    (tmp_path / "b").write_text("9876543210" * 3)
    assert identity() == before, "every second of six files is sampled, a first"


def test_large_folders_are_not_read_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "LISTED", 5)
    for name in "abcdef":
        (tmp_path / name).write_text(name)
    before = FileIdentities("").of({"data.source": f"folder:{tmp_path}"})
    (tmp_path / "f").write_text("longer")
    assert FileIdentities("").of({"data.source": f"folder:{tmp_path}"}) == before
    (tmp_path / "a").write_text("longer")
    assert FileIdentities("").of({"data.source": f"folder:{tmp_path}"}) != before


# ------------------------------------------------------------------------------------------------ needs


def test_missing_data_are_told_before_anything_runs(tmp_path: Path) -> None:
    sets = {
        "data.source": "modelnet:{data}/modelnet40",
        "data.classes": None,
        "model.weights": "{data}/weights/net.pth",
    }
    plan = plan_of(
        tmp_path,
        str(tmp_path / "d"),
        columns=[{"name": "x", "set": sets}],
        paper={},
        needs=["modelnet40", "net.pth from its authors"],
    )
    assert list(missing_paths(plan, plan.runs.values()).values()) == [
        tmp_path / "d" / "weights" / "net.pth",
        tmp_path / "d" / "modelnet40",
    ]
    with pytest.raises(FileNotFoundError) as caught:
        check_needs(plan, plan.runs.values())
    said = str(caught.value)
    for part in (
        "modelnet40 does not exist",
        "ply_data_train",
        "PointNet's project page",
        "academic use",
        "net.pth from its authors",
        "--data",
    ):
        assert part in said
    assert "\n" not in said and "nothing was run" in said
    (tmp_path / "d" / "weights").mkdir(parents=True)
    (tmp_path / "d" / "weights" / "net.pth").touch()
    (tmp_path / "d" / "modelnet40").mkdir()
    check_needs(plan, plan.runs.values())


def test_data_are_described_by_what_belongs_there() -> None:
    def said(text: str) -> str:
        return described(text, Path(text.partition("?")[0].replace("{data}", "d").rpartition(":")[2]))

    assert said("modelnet:{data}/modelnet40_ply_hdf5_2048").startswith(
        "ModelNet40 / ModelNet10, from PointNet's project page"
    )
    assert said("modelnet:{data}/modelnet40_normal_resampled").startswith(
        "ModelNet40 / ModelNet10, from PointNet++'s project page"
    )
    for kind in ("", "pixels:"):
        assert said(f"{kind}imagenet:{{data}}/imagenet?crop=224").startswith(
            "ImageNet-1K (ILSVRC 2012), from the ImageNet web page"
        )
        assert said(f"{kind}tiny-imagenet:{{data}}/tiny-imagenet-200").startswith(
            "Tiny-ImageNet, from Stanford"
        )
    assert "MIIL" in said("{data}/weights/resnet50_miil_21k.pth")
    assert said("{data}/weights/mine.pth") == "weights" and said("{data}/mine") == "a folder"
