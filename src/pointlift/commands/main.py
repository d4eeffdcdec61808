"""The command line: every command is a function in a file of its own,
which imports whatever is heavy only when it is called.
"""

from __future__ import annotations

import os
import sys
import textwrap
import traceback
from collections.abc import Sequence

from pointlift.commands.data import data_check, data_list, data_prepare
from pointlift.commands.demo import demo
from pointlift.commands.doctor import doctor
from pointlift.commands.embed import embed
from pointlift.commands.evaluate import evaluate
from pointlift.commands.fit import fit
from pointlift.commands.lift import lift
from pointlift.commands.messages import explain, notes_shown, plain_warnings
from pointlift.commands.parsing import Commands, parse, summary
from pointlift.commands.predict import predict
from pointlift.commands.probe import probe
from pointlift.commands.push import push
from pointlift.commands.table import table
from pointlift.commands.view import view

__all__ = ["COMMANDS", "main"]

COMMANDS: Commands = {
    "demo": demo,
    "lift": lift,
    "fit": fit,
    "evaluate": evaluate,
    "predict": predict,
    "embed": embed,
    "probe": probe,
    "view": view,
    "push": push,
    "table": table,
    "data list": data_list,
    "data check": data_check,
    "data prepare": data_prepare,
    "doctor": doctor,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. 0 done, 1 a check failed,
    2 bad input (one sentence on stderr), 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(overview(), end="")
            return 0
        if words[0] in ("-V", "--version", "version"):
            print(f"pointlift {_version()}")
            return 0
        with plain_warnings(), notes_shown():
            return parse(words, COMMANDS)()
    except SystemExit as end:  # help was printed
        return int(end.code or 0)
    except KeyboardInterrupt as error:  # a run says itself how to go on, and whether it was Ctrl-C or SIGTERM
        print(f"\npointlift: {str(error) or 'interrupted'}", file=sys.stderr)
        return int(getattr(error, "exit_code", 130))
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        sentence = explain(error)
        if sentence is None:  # a fault of pointlift: nothing of it is hidden
            raise
        if os.environ.get("POINTLIFT_DEBUG") == "1":
            traceback.print_exc()
        print(f"pointlift: {sentence}", file=sys.stderr)
        return 2


def overview() -> str:
    """What `pointlift --help` prints."""
    rows = [
        textwrap.fill(summary(c), initial_indent=f"  {name:<13} ", width=100, subsequent_indent=" " * 16)
        for name, c in COMMANDS.items()
    ]
    listed = "\n".join(rows)
    idea = "turns networks that were trained on images into networks that understand point clouds."
    return f"""pointlift {_version()}: {idea}

usage: pointlift COMMAND ...        pointlift COMMAND --help        pointlift --version

{listed}

start here:
  pointlift doctor                                       is everything in place?
  pointlift demo                                         the whole idea, offline, a few minutes
  pointlift fit image2point/your_own_folder.yaml --data.source folder:my_scans
  pointlift predict runs/your_own_folder/model.safetensors new_scan.ply
"""


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("pointlift")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
