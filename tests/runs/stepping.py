"""One optimizer step of a recipe, with everything as its run has it."""

from __future__ import annotations

from pathlib import Path

import lightning
import torch

from pointlift.methods.base import Place, Training
from pointlift.methods.method import Method
from pointlift.runs.recipes import Recipe


def one_step(recipe: Recipe, folder: Path) -> tuple[Method, set[str]]:
    """The recipe's method after one training and one evaluation batch,
    and the parameters of its network that the step changed.
    """
    training = recipe.experiment.build(Place(folder, folder))
    assert isinstance(training, Training)
    net = training.module.net
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    trainer = lightning.Trainer(
        fast_dev_run=1,
        accelerator="cpu",
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(training.module, training.data)
    assert trainer.global_step == 1
    assert all(bool(torch.isfinite(p).all()) for p in net.parameters())
    changed = {n for n, p in net.named_parameters() if not torch.equal(p, before[n])}
    assert changed and changed <= {n for n, p in net.named_parameters() if p.requires_grad}
    return training.module, changed
