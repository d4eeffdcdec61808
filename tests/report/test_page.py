import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from pointlift.evaluate import summarize
from pointlift.report import Report, ViewCloud
from pointlift.report.plots import training_curves

EVIL = "<script>alert('x')</script> & \"q\""


class Balance(HTMLParser):
    """Checks that every opened element is closed in order."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def parse(page):
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def png():
    return training_curves({"loss": {"a": [[2.0, 1.0]]}})


def full(png):
    report = Report("Title " + EVIL, "subtitle " + EVIL)
    report.section("One " + EVIL).text(
        f"A **bold {EVIL}** word, `code *not em* {EVIL}` and *em*.\n\n- first\n- second"
    )
    report.section("Sub", 3).table(
        ["name", "accuracy"], [[EVIL, summarize([50.0, 52.0])], ["b", None]], EVIL, best={(0, 1)}
    )
    report.section("Two").figure(png, EVIL).cloud_viewer([ViewCloud(EVIL, np.eye(3))], EVIL, "z")
    report.section("Sub of two", 3).code("a < b && c " + EVIL).definitions(
        {EVIL: EVIL, "lr": 0.1, "seeds": [0, 1], "gpu": [], "amp": False, "none": None}
    )
    return report


def test_page_is_complete_balanced_and_needs_nothing(png, tmp_path):
    path = full(png).write(tmp_path / "out" / "report.html")
    page = path.read_text(encoding="utf-8")
    assert page == full(png).html()
    seen = parse(page).seen
    assert seen.count("script") == 2 and seen.count("img") == 1 and seen.count("nav") == 1
    assert not re.search(r"https?://|@import|url\(", page)
    for target in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert target.startswith(("#", "data:image/png;base64,"))
    assert "prefers-color-scheme: dark" in page


def test_everything_is_escaped(png):
    page = full(png).html()
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;") >= 10


def test_picture_bytes_survive(png):
    data = re.search(r'src="data:image/png;base64,([^"]+)"', Report("t").figure(png).html()).group(1)
    assert base64.b64decode(data) == png


def test_contents_link_to_every_heading(png):
    page = full(png).html()
    anchors = re.findall(r'<h[23] id="([^"]+)"', page)
    assert len(anchors) == 4 and re.findall(r'<a href="#([^"]+)"', page) == anchors


def test_equal_headings_get_different_anchors():
    page = Report("t").section("A").section("A").html()
    assert len(set(re.findall(r'<h2 id="([^"]+)"', page))) == 2


@pytest.mark.parametrize("levels", [(3, 2), (2, 3, 3, 2, 3), (3, 3), (2, 2, 3)])
def test_contents_are_balanced_for_any_order_of_levels(levels):
    report = Report("t")
    for level in levels:
        report.section("h", level)
    page = report.html()
    parse(page)
    assert len(re.findall(r'<h[23] id="', page)) == len(levels)


def test_text_markup():
    page = Report("t").text("a **b** *c* `d**e**` 2 * 3 * 4\nsame paragraph\n\n- x\n- y").html()
    assert "<p>a <strong>b</strong> <em>c</em> <code>d**e**</code> 2 * 3 * 4 same paragraph</p>" in page
    assert "<ul><li>x</li><li>y</li></ul>" in page


def test_tables_show_spread_and_mark_the_best():
    page = (
        Report("t")
        .table(["m", "acc"], [["io", summarize([50.0, 52.0])], ["all", 60.0]], best=[(1, 1)])
        .html()
    )
    assert (
        '<td class="n">51.0 ± 1.4</td>' in page
        and '<td class="n best">60.0</td>' in page
        and "<td>io</td>" in page
    )


def test_settings_are_not_rounded_like_results():
    page = Report("t").definitions({"wd": 1e-4, "lr": 0.1, "gpu": []}).html()
    assert "<dd>0.0001</dd>" in page and "<dd>0.1</dd>" in page and "<dd>–</dd>" in page


def test_viewer_script_is_there_once_and_only_when_needed():
    cloud = ViewCloud("x", np.eye(3))
    assert Report("t").html().count("PointliftViewer") == 0
    assert Report("t").cloud_viewer([cloud]).cloud_viewer([cloud]).html().count("mountAll(false)") == 1


def test_refuses_wrong_parts(png):
    with pytest.raises(ValueError, match="PNG"):
        Report("t").figure(b"GIF89a")
    with pytest.raises(ValueError, match="expected 2"):
        Report("t").table(["a", "b"], [["only one"]])
    with pytest.raises(ValueError, match="level"):
        Report("t").section("x", 1)
    with pytest.raises(ValueError, match="0 points"):
        Report("t").cloud_viewer([ViewCloud("empty", np.zeros((0, 3)))])
