"""`pointlift table`."""

from __future__ import annotations

from pointlift.commands.messages import explain
from pointlift.commands.parsing import UsageError

__all__ = ["table"]


def table(
    id: str | None = None,
    *,
    scale: str = "toy",
    only: str | None = None,
    jobs: int = 1,
    out: str = "runs/tables",
    data: str = "data",
    retry: bool = False,
    no_wait: bool = False,
    list: bool = False,
) -> int:
    """Run a table or figure of the papers and print it beside the paper's numbers; what is already there is
    not run again.

    Results are shared by all tables, runners and machines that use the same --out: a job array of the same
    command divides the work. A run that was killed goes on where it stopped.

    Args:
        id: the table, e.g. image2point/4, or a YAML file of your own.
        scale: toy (embedded data, minutes), full (the paper's recipe and data), or another scale that the
            table has.
        only: a row, a column or "row / column", by parts of their names.
        jobs: runs at once; the cores and GPUs are divided among them.
        out: the results directory.
        data: the folder with datasets and weights, {data} in the recipes.
        retry: also run what failed before.
        no_wait: do not wait for runs that other runners have begun.
        list: print every table with its state instead.

    Examples:
        pointlift table --list
        pointlift table image2point/4
        pointlift table image2point/4 --scale full --data /datasets --jobs 2
        pointlift table image2point/4 --only "10-shot / ResNet18" --retry
    """
    if list:
        from pointlift.tables.listing import list_all

        return list_all(out, data)
    if id is None:
        raise UsageError(
            "table needs the name of a table, e.g. pointlift table image2point/4 (pointlift table --list "
            "names all of them)"
        )
    from pointlift.tables.run import run_table

    return run_table(id, explain, scale, only, jobs, out, data, retry, not no_wait)
