import base64
import json
import re

import numpy as np
import pytest

from pointlift.report import ViewCloud, viewer_html, write_view
from pointlift.report.viewer import fill_template, viewer_data

EVIL = "</script><script>alert(1)</script><!-- \"'&\u2028{{css}}"


def cloud(n=50, **more):
    rng = np.random.default_rng(0)
    return ViewCloud("a cloud", rng.normal(size=(n, 3)).astype(np.float32), **more)


def embedded(page):
    """The data of the page as the browser's JSON.parse gets it."""
    found = re.findall(r'<script type="application/json" class="plv-data">(.*?)</script>', page, re.S)
    assert len(found) == 1
    return json.loads(found[0])


def decode(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype=dtype)


def test_points_colours_labels_and_scalars_survive_bit_for_bit():
    rng = np.random.default_rng(1)
    xyz = rng.normal(size=(40, 3)).astype(np.float32)
    colors, labels, scalar = (
        rng.integers(0, 256, (40, 3), dtype=np.uint8),
        rng.integers(-1, 5, 40),
        rng.normal(size=40).astype(np.float32),
    )
    page = viewer_html(
        [ViewCloud("x", xyz, colors, labels, ["a", "b"], scalar, "note", "error")], "t", up_axis="z"
    )
    data = embedded(page)
    stored = data["clouds"][0]
    assert data["upAxis"] == "z" and stored["origin"] == [0.0, 0.0, 0.0]
    assert np.array_equal(decode(stored["xyz"], "<f4").reshape(-1, 3), xyz)
    assert np.array_equal(decode(stored["rgb"], np.uint8).reshape(-1, 3), colors)
    assert np.array_equal(decode(stored["labels"], "<i4"), labels)
    assert np.array_equal(decode(stored["scalar"], "<f4"), scalar)
    assert (stored["labelNames"], stored["caption"], stored["scalarName"]) == (["a", "b"], "note", "error")


def test_page_needs_nothing_from_outside():
    page = viewer_html([cloud()], "title")
    assert not re.search(r"""(?:src|href|action|data)\s*=\s*["']?(?:https?:)?//""", page)
    assert not re.search(r"https?://|@import|\bfetch\(|XMLHttpRequest|\bimport\(|url\(", page)
    assert "default-src 'none'" in page
    assert "{{" not in page.replace(json.dumps("{{css}}"), "")


def test_malicious_names_stay_text():
    page = viewer_html(
        [
            ViewCloud(
                EVIL,
                np.zeros((1, 3)),
                labels=[0],
                label_names=[EVIL],
                caption=EVIL,
                scalar=[1.0],
                scalar_name=EVIL,
            )
        ],
        EVIL,
    )
    assert page.count("</script>") == viewer_html([cloud()], "t").count("</script>")
    assert (
        "alert(1)</script>" not in page and "<!--" not in page and "\u2028" not in page.split("plv-data")[1]
    )
    stored = embedded(page)
    assert (
        stored["title"] == EVIL
        and stored["clouds"][0]["name"] == EVIL
        and stored["clouds"][0]["labelNames"] == [EVIL]
    )
    assert "<title>&lt;/script&gt;" in page


def test_big_clouds_are_a_stated_subset_that_is_always_the_same():
    big = cloud(1000, labels=np.arange(1000))
    stored = viewer_data([big], "t", max_points=100)["clouds"][0]
    kept = decode(stored["labels"], "<i4")
    assert (stored["count"], stored["total"]) == (100, 1000)
    assert len(set(kept.tolist())) == 100 and kept.max() > 900 and kept.min() < 100
    assert np.array_equal(decode(stored["xyz"], "<f4").reshape(-1, 3), np.asarray(big.xyz)[kept])
    assert viewer_html([big], "t", max_points=100) == viewer_html([big], "t", max_points=100)
    script = viewer_html([big], "t")
    assert "points shown (random subset)" in script
    assert viewer_data([cloud(200_001)], "t")["clouds"][0]["count"] == 200_000


def test_points_that_are_not_finite_are_left_out_and_counted():
    xyz = np.arange(12.0).reshape(4, 3)
    xyz[1, 2], xyz[3, 0] = np.nan, np.inf
    stored = viewer_data([ViewCloud("x", xyz, labels=[0, 1, 2, 3])], "t")["clouds"][0]
    assert (stored["count"], stored["total"], stored["dropped"]) == (2, 2, 2)
    assert decode(stored["labels"], "<i4").tolist() == [0, 2]


def test_geographic_coordinates_keep_their_millimetres():
    xyz = np.random.default_rng(0).uniform(0, 10, (100, 3)) + [450_123.0, 5_300_321.0, 430.0]
    stored = viewer_data([ViewCloud("x", xyz)], "t")["clouds"][0]
    back = decode(stored["xyz"], "<f4").reshape(-1, 3).astype(np.float64) + stored["origin"]
    assert np.abs(back - xyz).max() < 1e-5
    assert np.abs(xyz.astype(np.float32).astype(np.float64) - xyz).max() > 1e-2


def test_float_colours_become_bytes():
    stored = viewer_data([ViewCloud("x", np.zeros((2, 3)), colors=[[0.0, 0.5, 1.0], [1.0, 0.0, 0.2]])], "t")[
        "clouds"
    ][0]
    assert decode(stored["rgb"], np.uint8).tolist() == [0, 128, 255, 255, 0, 51]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (ViewCloud("empty", np.zeros((0, 3))), "'empty' has 0 points"),
        (ViewCloud("nan", np.full((2, 3), np.nan)), "none with finite"),
        (ViewCloud("flat", np.zeros((4, 2))), r"shape \(N, 3\)"),
        (ViewCloud("c", np.zeros((4, 3)), colors=np.zeros((4, 4))), r"colors must have shape \(4, 3\)"),
        (ViewCloud("c", np.zeros((4, 3)), colors=np.full((4, 3), 200.0)), "divide by 255"),
        (ViewCloud("c", np.zeros((4, 3)), labels=[0, 1]), r"labels must have shape \(4,\)"),
        (ViewCloud("c", np.zeros((2, 3)), labels=[0.5, 1]), "integers"),
        (ViewCloud("c", np.zeros((4, 3)), scalar=[0.0]), r"scalar must have shape \(4,\)"),
    ],
)
def test_refuses_what_cannot_be_shown(tmp_path, bad, message):
    target = tmp_path / "view.html"
    with pytest.raises(ValueError, match=message):
        write_view(target, [bad], "t")
    assert list(tmp_path.iterdir()) == []


def test_refuses_no_clouds_and_unknown_axes():
    with pytest.raises(ValueError, match="at least one cloud"):
        viewer_html([], "t")
    with pytest.raises(ValueError, match="up_axis"):
        viewer_html([cloud()], "t", up_axis="w")
    with pytest.raises(ValueError, match="max_points"):
        viewer_html([cloud()], "t", max_points=0)


def test_write_view_makes_the_file(tmp_path):
    path = write_view(tmp_path / "deep" / "view.html", [cloud()], "Ünïcode")
    assert path.read_text(encoding="utf-8") == viewer_html([cloud()], "Ünïcode")
    assert [p.name for p in path.parent.iterdir()] == ["view.html"]


def test_template_is_filled_once():
    assert fill_template("{{a}}-{{b}}", {"a": "{{b}}", "b": r"\1"}) == r"{{b}}-\1"
