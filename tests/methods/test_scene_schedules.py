"""The optimiser of scene networks: polynomial decay, warm-up, Nesterov (facts 1.8, 1.9, 2.6)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pointlift.methods.optim import OptimConfig


def test_poly_is_the_ninth_tenth_power_of_what_is_left() -> None:
    config = OptimConfig(schedule="poly", epochs=4)
    values = [config.lr_factor(step, 400, 4) for step in (0, 100, 200, 399)]
    assert values == pytest.approx([1.0, 0.75**0.9, 0.5**0.9, (1 / 400) ** 0.9])
    assert OptimConfig(schedule="poly", lr=0.1, final_lr=0.01).lr_factor(400, 400, 4) == pytest.approx(0.1)


def test_warm_up_rises_to_the_rate_and_leaves_it() -> None:
    config = OptimConfig(schedule="constant", warmup_steps=4)
    assert [config.lr_factor(step, 10, 1) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_nesterov_and_dampening_reach_the_optimizer() -> None:
    weights = [nn.Parameter(torch.ones(2))]
    assert OptimConfig(nesterov=True).make(weights).param_groups[0]["nesterov"]
    assert OptimConfig(dampening=0.1).make(weights).param_groups[0]["dampening"] == 0.1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"nesterov": True, "momentum": 0.0}, "with nesterov a momentum"),
        ({"nesterov": True, "dampening": 0.1}, "with nesterov a momentum"),
        ({"optimizer": "adam", "nesterov": True}, "are of sgd"),
        ({"warmup_steps": -1}, "0 or more"),
        ({"schedule": "plateau", "warmup_steps": 5}, "0 with plateau"),
    ],
)
def test_settings_that_do_not_fit(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OptimConfig(**settings)
