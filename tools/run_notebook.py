"""Runs the cells of a notebook and writes what they print and draw into it:
`python tools/run_notebook.py examples/tour.ipynb`. Plain Python: no Jupyter is needed.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Cell = dict[str, Any]


def run(cells: list[Cell]) -> None:
    """Run code cells one after the other in one namespace and put their outputs in. What a cell raises, it
    raises.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, 1):
        said, pictures = io.StringIO(), []

        def show(found: list[bytes] = pictures) -> None:
            for figure in map(plt.figure, plt.get_fignums()):
                drawn = io.BytesIO()
                figure.savefig(drawn, format="png", dpi=70, bbox_inches="tight")
                found.append(drawn.getvalue())
            plt.close("all")

        before, plt.show = plt.show, show
        try:
            with contextlib.redirect_stdout(said):
                value = _execute("".join(cell["source"]), namespace)
        finally:
            plt.show = before
        cell["execution_count"] = number
        cell["outputs"] = _outputs(said.getvalue(), pictures, value, number)


def _execute(source: str, namespace: dict[str, Any]) -> Any:
    """The value of the last line, where it is an expression."""
    tree = ast.parse(source)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        exec(compile(tree, "cell", "exec"), namespace)
        return None
    exec(compile(ast.Module(tree.body[:-1], []), "cell", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)


def _outputs(said: str, pictures: list[bytes], value: Any, number: int) -> list[Cell]:
    found: list[Cell] = []
    if said:
        found.append({"output_type": "stream", "name": "stdout", "text": said.splitlines(keepends=True)})
    for png in pictures:
        data = {"image/png": base64.b64encode(png).decode("ascii"), "text/plain": ["<Figure>"]}
        found.append({"output_type": "display_data", "data": data, "metadata": {}})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        shown = {"output_type": "execute_result", "execution_count": number}
        found.append({**shown, "data": data, "metadata": {}})
    return found


def main(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:  # runs of the notebook are left there
        os.chdir(folder)
        try:
            run(notebook["cells"])
        finally:
            os.chdir(here)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
