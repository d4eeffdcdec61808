"""The viewer in a real browser, where one is installed:
what its script makes of the page, with and without WebGL.
"""

import re
import shutil
import subprocess

import numpy as np
import pytest

from pointlift.report import Report, ViewCloud, write_view

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium or Chrome on this machine to open the viewer in"
)

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--virtual-time-budget=3000", "--window-size=900,700",
)  # fmt: skip


def page_after_scripts(path, tmp_path, *more, fragment=""):
    """HTML of the page once its scripts have run, and what the browser logged."""
    command = [
        BROWSER,
        *FLAGS,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
        *more,
        "--dump-dom",
    ]
    done = subprocess.run(
        [*command, path.as_uri() + fragment], capture_output=True, text=True, timeout=120, check=True
    )
    assert "Uncaught" not in done.stderr, done.stderr
    return done.stdout


def clouds():
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(300, 3))
    xyz[0] = np.nan
    evil = "<img src=x onerror=alert(1)>"
    return [
        ViewCloud(evil, xyz, labels=rng.integers(-1, 2, 300), label_names=["seat", evil], caption=evil),
        ViewCloud("single point", [[1.0, 2.0, 3.0]], scalar=[np.nan]),
    ]


@pytest.mark.parametrize(
    "more",
    [("--disable-3d-apis",), ("--enable-unsafe-swiftshader", "--use-angle=swiftshader")],
    ids=["canvas", "webgl"],
)
def test_view_draws_legend_notices_and_escaped_names(tmp_path, more):
    page = page_after_scripts(
        write_view(tmp_path / "view.html", clouds(), "t", max_points=200), tmp_path, *more
    )
    assert '<button type="button" data-mode="label" aria-pressed="true">labels</button>' in page
    assert "<span>unlabelled</span>" in page and "<span>seat</span>" in page
    assert "200 of 299 points shown (random subset)" in page
    assert "<div>1 point with NaN or infinite coordinates left out</div>" in page
    assert ("This browser offers no WebGL" in page.split("</noscript>")[0]) == (
        more == ("--disable-3d-apis",)
    )
    assert "<img" not in page and "<option>&lt;img src=x onerror=alert(1)&gt;</option>" in page


def test_single_point_and_the_address_options(tmp_path):
    path = write_view(tmp_path / "view.html", clouds(), "t")
    page = page_after_scripts(path, tmp_path, fragment="#renderer=2d&cloud=1&mode=height&background=dark")
    assert '<button type="button" data-mode="height" aria-pressed="true">height</button>' in page
    assert 'class="plv plv-dark"' in page and "<div>1 point</div>" in page


def test_report_starts_every_viewer(tmp_path):
    path = Report("r").cloud_viewer(clouds()).cloud_viewer(clouds()[1:]).write(tmp_path / "report.html")
    assert page_after_scripts(path, tmp_path).count('class="plv-bar"') == 2


def test_every_colouring_has_one_button(tmp_path):
    xyz = np.random.default_rng(0).normal(size=(50, 3))
    own = ViewCloud("own heights", xyz, scalar=xyz[:, 2], scalar_name="height", colors=np.zeros((50, 3)))
    page = page_after_scripts(write_view(tmp_path / "view.html", [own], "t"), tmp_path)
    buttons = re.findall(r'data-mode="(\w+)"[^>]*>([^<]+)</button>', page)
    assert buttons == [("rgb", "colour"), ("scalar", "height"), ("plain", "plain")]
