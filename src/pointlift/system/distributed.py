"""What a process knows of the others that run beside it."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities import rank_zero_only

__all__ = ["gathered", "process_rank", "wait_for_others"]


def process_rank() -> int:
    """This process' rank before there is a Trainer: Lightning has read it from the launcher's environment."""
    return int(getattr(rank_zero_only, "rank", 0) or 0)


def wait_for_others() -> None:
    """Until all processes of a distributed run are here: the first has then written what the others read."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def gathered(rows: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The rows (n, D) of all processes, one process after the other, and where this one's begin.

    Gradients flow into this process' own rows only. Processes may have different numbers of rows. Without
    others it is the rows themselves.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows, 0
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world)]
    torch.distributed.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    sizes = [int(c) for c in counts]
    padded = rows.detach().new_zeros(max(sizes), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in range(world)]
    torch.distributed.all_gather(parts, padded)
    whole = [part[:size] for part, size in zip(parts, sizes)]
    whole[rank] = rows
    return torch.cat(whole), sum(sizes[:rank])
