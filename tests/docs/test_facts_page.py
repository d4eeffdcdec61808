"""docs/facts.md explains every number that code, recipes, tests and pages cite as "facts 5.4",
"facts 0.2-0.6", "trap T12" or "T35".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pointlift.weights.kernel_orders import kernel_order

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "facts.md"
TEXT = PAGE.read_text(encoding="utf-8")
PLACES = ("src", "tests", "benchmarks", "tools", "docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md")

KEY = r"T\d{1,2}[a-z]?\b|\d\.\d{1,2}(?!\d)|\d(?![\d.])\b"
JOIN = r"(?:\s*(?:[,;]|-|–)\s*|\s+)(?:(?:and|or|to)\s+)?(?:traps?\s+)?"
CITATION = re.compile(
    rf"\b(?:facts?(?:\.md)?|traps?)\b,?\s+(?:traps?\s+)?(§?\s*(?:{KEY})(?:{JOIN}§?(?:{KEY}))*)", re.IGNORECASE
)
ANCHOR = re.compile(r"facts\.md#([\w-]+)")
BARE = re.compile(r"(?<![\w-])T\d\d[a-z]?\b(?!-)")  # with one digit T1 to T3 are rules of inflation
NEW_LINE = re.compile(r"\s*\n[ \t]*(?:#[ \t]*)?")  # citations may be broken, in comments too
HEADING = re.compile(rf"^##(#?) (?:({KEY})\.?(?: .*)?|Assertable numbers)$", re.MULTILINE)


def cited_in(text: str) -> set[str]:
    """The keys that a text cites; what lies between the ends of a range is cited too."""
    flat = NEW_LINE.sub(" ", text)
    found = set(BARE.findall(flat))
    for match in CITATION.finditer(flat):
        last, end = None, 0
        for key in re.finditer(KEY, match[1]):
            between = match[1][end : key.start()]
            found |= (
                _range(last, key[0]) if last is not None and re.search(r"[-–]|\bto\b", between) else {key[0]}
            )
            last, end = key[0], key.end()
    return found


def _range(first: str, last: str) -> set[str]:
    """0.2 and 0.4 -> 0.2, 0.3, 0.4; T35 and T37 -> T35, T36, T37;
    ends of different sections stand for themselves.
    """
    (section, low), (other, high) = (
        re.fullmatch(r"(T|\d\.|)(\d+)[a-z]?", key).groups() for key in (first, last)
    )  # type: ignore[union-attr]
    if section != other:
        return {first, last}
    return {first, last} | {f"{section}{n}" for n in range(int(low) + 1, int(high))}


def entries_of(page: str) -> list[str]:
    """The keys that a page has a heading for, in its order."""
    return [match[2] for match in HEADING.finditer(page) if match[2]]


def anchors_of(page: str) -> set[str]:
    """Anchors of all headings, as code hosts make them."""
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def unknown_in(text: str, page: str = TEXT) -> set[str]:
    """Keys and anchors that a text refers to and a page does not have."""
    return (cited_in(text) - set(entries_of(page))) | (set(ANCHOR.findall(text)) - anchors_of(page))


def files() -> Iterator[Path]:
    for place in PLACES:
        start = ROOT / place
        for path in [start] if start.is_file() else sorted(start.rglob("*")):
            if path.suffix in (".py", ".yaml", ".md") and path not in (PAGE, Path(__file__).resolve()):
                yield path


def bodies() -> dict[str, str]:
    parts = re.split(r"^#{2,3} ", TEXT, flags=re.MULTILINE)[1:]
    return {
        title.split(" ")[0].rstrip("."): body for title, _, body in (part.partition("\n") for part in parts)
    }


def test_what_is_cited_is_on_the_page() -> None:
    unknown = {
        f"{path.relative_to(ROOT)}: {key}"
        for path in files()
        for key in unknown_in(path.read_text(encoding="utf-8"))
    }
    assert not unknown, f"docs/facts.md has no entry for what these cite: {sorted(unknown)}"


def test_the_scan_finds_citations_of_many_kinds() -> None:
    """The test above would pass on an empty scan."""
    cited = {key for path in files() for key in cited_in(path.read_text(encoding="utf-8"))}
    assert len(cited) >= 30 and {"0.3", "5.4", "T12", "T35", "T39b"} <= cited


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("the layer of RS-CNN (Liu et al., section 3; facts 5.4).", {"5.4"}),
        ("as facts §2.3 and facts 1.12): it", {"2.3", "1.12"}),
        ("(facts 5.1, 5.2) and (facts 4.6, T40)", {"5.1", "5.2", "4.6", "T40"}),
        ("as elsewhere (facts 0.2-0.5).", {"0.2", "0.3", "0.4", "0.5"}),
        ("# facts 5.3 to 5.5 and 'assertable numbers'", {"5.3", "5.4", "5.5"}),
        ("(facts 4.8-5.1)", {"4.8", "5.1"}),
        ("flips (facts 6.2, trap T46), so", {"6.2", "T46"}),
        ("(facts, trap T1); traps T3 and T4b", {"T1", "T3", "T4b"}),
        ("# PointNet++ is trained so (section 4.1;\n# facts\n#   5.4): Adam", {"5.4"}),
        ("one linear layer (T35), as docs/facts.md 4.4 says", {"T35", "4.4"}),
        ("a random system (section 3; facts 6). This file", {"6"}),
        ("auction (facts 4.5: n a multiple of 1,024)", {"4.5"}),
        ('rules "T1", "T2", T3; PB_T50_RS, PB-T50-RS; rule=T9', set()),
        ("the same facts are in its metadata; facts: 3 of them; facts = {}; the facts of 1.5", set()),
    ],
)
def test_citations_are_read(text: str, keys: set[str]) -> None:
    assert cited_in(text) == keys


@pytest.mark.parametrize(
    "text",
    ["(facts 9.9)", "(facts 0.2-0.99)", "trap T8, T98", "as T97 says", "[there](facts.md#t96)", "(facts 9)"],
)
def test_a_citation_of_nothing_is_found(text: str) -> None:
    assert unknown_in(text)
    assert not unknown_in("(facts 0.2, 5.4), trap T12, T39b, [there](facts.md#t12), [and there](facts.md#54)")
    assert unknown_in("(facts 5.4)", TEXT.replace("### 5.4\n", "### 5.44\n")) == {"5.4"}


def test_entries_stand_once_in_order_with_text_and_source() -> None:
    entries = entries_of(TEXT)
    assert [key for key, count in Counter(entries).items() if count > 1] == []
    numbered, traps = [k for k in entries if not k.startswith("T")], [k for k in entries if k.startswith("T")]
    assert entries == numbered + traps and len(anchors_of(TEXT)) == len(
        re.findall(r"^#+ ", TEXT, re.MULTILINE)
    )
    assert numbered == sorted(numbered, key=lambda key: [int(part) for part in key.split(".")])
    assert traps == sorted(traps, key=lambda key: (int(re.sub(r"\D", "", key)), key))
    texts = bodies()
    for key in entries:
        if len(key) > 1:  # an entry, and no section
            assert "**Source.**" in texts[key] and "**pointlift.**" in texts[key], key


def test_the_page_is_readable_and_names_nothing_of_ours() -> None:
    prose = [line for line in TEXT.splitlines() if not line.startswith(("|", "`"))]
    assert max(map(len, prose)) <= 112
    assert not re.search(r"(?<![\w.])/(?:work|tmp|home|root)\b|shared/|NF\b|\[[PCRIKG]\]", TEXT)


def test_kernel_orders_on_the_page_are_the_codes() -> None:
    """Entries 0.3 to 0.5 print permutations that weights are read with."""
    texts = bodies()

    def printed(key: str) -> list[list[int]]:
        lists = re.findall(r"\[(\d+(?:,\s*\d+)+)\]", texts[key])
        return [[int(n) for n in text.split(",")] for text in lists]

    assert printed("0.3") == [kernel_order("minkowski", 2).tolist()]
    assert printed("0.5") == [kernel_order("minkowski", 3).tolist()]
    ((*to_hypercube,),) = printed("0.4")
    hybrid, hypercube = kernel_order("minkowski-hybrid", 3).tolist(), kernel_order("minkowski", 3).tolist()
    assert to_hypercube == [hypercube[hybrid.index(row)] for row in range(27)]
