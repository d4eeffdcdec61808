"""A run report: one HTML file with text, tables, pictures and 3D viewers,
complete without network or other files.
"""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pointlift.report.tables import Cell, check_rows, format_cell, numeric_columns
from pointlift.report.viewer import ViewCloud, fill_document, viewer_element, viewer_script
from pointlift.system.atomic import atomic_write

_PNG = b"\x89PNG\r\n\x1a\n"


class Report:
    """Collects the parts of a page in reading order; every method that adds one returns the report,
    so calls can be chained.

    All text is escaped: names of files, classes and models may hold anything.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._parts: list[str] = []
        self._contents: list[tuple[int, str, str]] = []
        self._has_viewer = False

    def section(self, heading: str, level: int = 2) -> Report:
        """Starts a section (level 2) or subsection (level 3) that the table of contents lists."""
        if level not in (2, 3):
            raise ValueError(f"a heading's level must be 2 or 3, got {level}; level 1 is the report's title")
        anchor = f"s{len(self._contents) + 1}-{_slug(heading)}"
        self._contents.append((level, anchor, heading))
        return self._add(f'<h{level} id="{anchor}">{html.escape(heading)}</h{level}>')

    def text(self, text: str) -> Report:
        """Paragraphs divided by empty lines; lines that start with '- ' make a list;
        **bold**, *italic* and `code` work.
        """
        for block in re.split(r"\n\s*\n", text.strip()):
            if block:
                self._add(_block(block))
        return self

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        caption: str = "",
        digits: int = 1,
        best: Collection[tuple[int, int]] = (),
    ) -> Report:
        """A table; numeric columns are set right, cells with mean, std and n show 'mean ± std',
        (row, column) in `best` are bold.

        Raises:
            ValueError: an empty header, or a row of another length.
        """
        check_rows(header, rows)
        kinds = [' class="n"' if numeric else "" for numeric in numeric_columns(header, rows)]
        head = "".join(f"<th{k}>{html.escape(h)}</th>" for h, k in zip(header, kinds, strict=True))
        lines = []
        for number, row in enumerate(rows):
            cells = []
            for column, cell in enumerate(row):
                kind = kinds[column]
                if (number, column) in best:
                    kind = ' class="n best"' if kind else ' class="best"'
                cells.append(f"<td{kind}>{html.escape(format_cell(cell, digits))}</td>")
            lines.append(f"<tr>{''.join(cells)}</tr>")
        body = "\n".join(lines)
        table = (
            '<div class="scroll"><table '
            f'class="data"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
        )
        return self._add(_figure(table, caption))

    def figure(self, png: bytes, caption: str = "", alt: str = "") -> Report:
        """A picture, drawn at half its pixels so that it is sharp on dense screens.

        Raises:
            ValueError: bytes that are not a PNG.
        """
        if not png.startswith(_PNG) or len(png) < 24:
            raise ValueError(
                f"a figure needs the bytes of a PNG file, got {len(png)} bytes starting with {png[:8]!r}"
            )
        width = max(1, round(int.from_bytes(png[16:20], "big") / 1.5))
        data = base64.b64encode(png).decode("ascii")
        image = (
            f'<img src="data:image/png;base64,{data}" width="{width}" alt="{html.escape(alt or caption)}">'
        )
        return self._add(_figure(image, caption))

    def cloud_viewer(
        self, clouds: Sequence[ViewCloud], caption: str = "", up_axis: str = "y", max_points: int = 20_000
    ) -> Report:
        """A 3D viewer of the clouds. Fewer points per cloud than in a view of its own keep the report small.

        Raises:
            ValueError: what `pointlift.report.viewer.viewer_data` refuses.
        """
        element = viewer_element(clouds, caption or self.title, up_axis, max_points)
        self._has_viewer = True
        return self._add(_figure(element, caption))

    def cloud_viewers(
        self,
        rows: Mapping[str, Sequence[ViewCloud]],
        caption: str = "",
        up_axis: str = "y",
        max_points: int = 20_000,
    ) -> Report:
        """Viewers side by side that move together, one for each heading: the i-th clouds of all of them are
        shown at the same time.

        Raises:
            ValueError: no headings, different numbers of clouds, and what `cloud_viewer` refuses.
        """
        counts = {len(clouds) for clouds in rows.values()}
        if len(counts) != 1:
            raise ValueError(f"viewers side by side need as many clouds each, got {sorted(counts)}")
        elements = [
            f"<div><h4>{html.escape(heading)}</h4>"
            f"{viewer_element(clouds, heading, up_axis, max_points)}</div>"
            for heading, clouds in rows.items()
        ]
        self._has_viewer = True
        return self._add(_figure(f'<div class="plv-row">{"".join(elements)}</div>', caption))

    def code(self, code: str, caption: str = "") -> Report:
        """Commands, configurations or console output, as they stand."""
        return self._add(_figure(f"<pre><code>{html.escape(code)}</code></pre>", caption))

    def definitions(self, items: Mapping[str, object]) -> Report:
        """Names and values side by side, for the protocol and the environment; lists are joined by commas."""
        lines = []
        for name, value in items.items():
            shown = ", ".join(_value(v) for v in value) if isinstance(value, list | tuple) else _value(value)
            lines.append(f"<dt>{html.escape(str(name))}</dt><dd>{html.escape(shown) or '–'}</dd>")
        return self._add(f"<dl>{''.join(lines)}</dl>")

    def html(self) -> str:
        """The complete page."""
        script = (
            f"<script>\n{viewer_script()}\nPointliftViewer.mountAll(false);\n</script>"
            if self._has_viewer
            else ""
        )
        values = {
            "subtitle": f'<p class="subtitle">{html.escape(self.subtitle)}</p>' if self.subtitle else "",
            "contents": self._navigation(),
            "body": "\n".join(self._parts),
            "script": script,
        }
        styles = ("page.css", "viewer.css") if self._has_viewer else ("page.css",)
        return fill_document(self.title, styles, "page.html", values)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Writes the page atomically and returns its path."""
        target = Path(path)
        with atomic_write(target) as temporary:
            Path(temporary).write_text(self.html(), encoding="utf-8")
        return target

    def _navigation(self) -> str:
        if len(self._contents) < 2:
            return ""
        lines: list[str] = []
        depth = 2
        for level, anchor, heading in self._contents:
            if level > depth and lines:
                lines[-1] = lines[-1].removesuffix("</li>") + "<ol>"
                depth = 3
            elif level < depth:
                lines.append("</ol></li>")
                depth = 2
            lines.append(f'<li><a href="#{anchor}">{html.escape(heading)}</a></li>')
        if depth == 3:
            lines.append("</ol></li>")
        return f'<nav aria-label="contents"><ol>{"".join(lines)}</ol></nav>'

    def _add(self, part: str) -> Report:
        self._parts.append(part)
        return self


def _value(value: object) -> str:
    """Text of a setting: numbers as they were given, not rounded as a result would be."""
    if value is None or isinstance(value, bool):
        return format_cell(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _figure(content: str, caption: str) -> str:
    note = f"<figcaption>{_inline(caption)}</figcaption>" if caption else ""
    return f"<figure>{content}{note}</figure>"


def _block(block: str) -> str:
    lines = block.splitlines()
    if all(line.lstrip().startswith("- ") for line in lines):
        return "<ul>" + "".join(f"<li>{_inline(line.lstrip()[2:])}</li>" for line in lines) + "</ul>"
    return f"<p>{_inline(' '.join(line.strip() for line in lines))}</p>"


def _inline(text: str) -> str:
    """Escapes, then sets `code`, **bold** and *italic*; nothing inside code is read as emphasis."""
    pieces = re.split(r"`([^`]+)`", text)
    for index, piece in enumerate(pieces):
        escaped = html.escape(piece)
        if index % 2:
            pieces[index] = f"<code>{escaped}</code>"
            continue
        bold = re.sub(r"\*\*(\S(?:[^*]*\S)?)\*\*", r"<strong>\1</strong>", escaped)
        pieces[index] = re.sub(r"(?<![\w*])\*(\S(?:[^*]*\S)?)\*(?![\w*])", r"<em>\1</em>", bold)
    return "".join(pieces)


def _slug(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")[:40] or "section"
