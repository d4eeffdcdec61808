"""PointContrast's losses against loops, with positives planted among the candidates."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from pointlift import create_model
from pointlift.core.point_batch import PointBatch
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcontrast.loss import hardest_contrastive, one_match_each
from pointlift.methods.pointcontrast.module import PointToPoint
from pointlift.methods.pointcontrast.recipe import PointContrast
from pointlift.methods.pointcontrast.settings import ContrastConfig


def units(n: int, d: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(n, d, generator=g), dim=1)


def literal(first, second, positives, candidates, matches, margin=0.1, away=1.4) -> tuple[float, float]:
    """As the text has it, one row after the other."""
    known = {tuple(m) for m in matches.tolist()}
    pulled = sum(
        max(0.0, float(((first[i] - second[j]) ** 2).sum()) - margin) for i, j in positives.tolist()
    ) / len(positives)
    sides = []
    for forward in (True, False):
        costs = []
        for i, j in positives.tolist():
            own, other = (first[i], second) if forward else (second[j], first)
            rows = (candidates[1] if forward else candidates[0]).tolist()
            distances = [math.sqrt(float(((own - other[r]) ** 2).sum()) + 1e-7) for r in rows]
            nearest = min(range(len(rows)), key=distances.__getitem__)
            pair = (i, rows[nearest]) if forward else (rows[nearest], j)
            if pair not in known:
                costs.append(max(0.0, away - distances[nearest]) ** 2)
        sides.append(sum(costs) / len(costs) if costs else 0.0)
    return pulled, sum(sides) / 2


def test_hardest_contrastive_is_the_literal_loop() -> None:
    first, second = units(30, 4, 0), units(25, 4, 1)
    g = torch.Generator().manual_seed(2)
    matches = torch.unique(
        torch.stack([torch.randint(30, (60,), generator=g), torch.randint(25, (60,), generator=g)], 1), dim=0
    )
    positives = matches[::3]
    candidates = (torch.randperm(30, generator=g)[:12], torch.randperm(25, generator=g)[:11])
    found = hardest_contrastive(first, second, positives, candidates, matches)
    expected = literal(first, second, positives, candidates, matches)
    assert [float(f) for f in found] == pytest.approx(expected, rel=1e-4)


def test_matches_among_the_candidates_are_no_negatives() -> None:
    # every point's own match is the nearest candidate: all are left out, and the negatives cost nothing
    z = units(6, 8, 0)
    rows = torch.arange(6)
    matches = torch.stack([rows, rows], 1)
    pulled, pushed = hardest_contrastive(z, z, matches, (rows, rows), matches)
    assert float(pulled) == 0 and float(pushed) == 0
    # a candidate that lies as near but does not match costs nearly all of the margin squared
    twice = torch.cat([z, z])
    pulled, pushed = hardest_contrastive(z, twice, matches, (rows, rows + 6), matches)
    expected = (literal(z, twice, matches, (rows, rows + 6), matches))[1]
    assert float(pushed) == pytest.approx(expected, rel=1e-3) and expected == pytest.approx(
        1.96 / 2, abs=0.01
    )


def test_margins() -> None:
    a = torch.tensor([[1.0, 0.0]])
    near, far = torch.tensor([[0.99, math.sqrt(1 - 0.99**2)]]), torch.tensor([[-1.0, 0.0]])
    pair, rows = torch.tensor([[0, 0]]), torch.tensor([0])
    none = torch.tensor([[0, 1]])
    assert float(hardest_contrastive(a, near, pair, (rows, rows), none)[0]) == 0  # squared distance 0.02
    assert float(hardest_contrastive(a, far, pair, (rows, rows), none)[0]) == pytest.approx(3.9)
    assert float(hardest_contrastive(a, far, pair, (rows, rows), none)[1]) == 0  # two apart
    assert float(hardest_contrastive(a, near, pair, (rows, rows), pair)[1]) == 0  # left out: nothing remains


def test_one_match_of_every_anchor() -> None:
    matches = torch.tensor([[0, 1], [0, 2], [0, 3], [2, 2], [5, 0], [5, 4]])
    found = one_match_each(matches, 99, torch.Generator().manual_seed(0))
    assert sorted(found[:, 0].tolist()) == [0, 2, 5]
    assert all(row in matches.tolist() for row in found.tolist())
    assert len(one_match_each(matches, 2)) == 2
    partners = {
        one_match_each(matches, 9, torch.Generator().manual_seed(s))[:, 1].sum().item() for s in range(30)
    }
    assert len(partners) > 2  # any of an anchor's matches


def views_of(points: int = 90) -> PointBatch:
    """Two clouds with bumps of their own, each seen twice, the second time turned by a quarter about z."""
    g = torch.Generator().manual_seed(0)
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    clouds = [torch.rand(points, 3, generator=g) for _ in range(2)]
    # features that say which point it is make this learnable in a few steps
    features = [torch.cat([c[:, 2:], torch.rand(points, 2, generator=g)], 1) for c in clouds]
    first = PointBatch.from_list(clouds, features)
    second = PointBatch.from_list([c @ turn.t() for c in clouds], features)
    rows = torch.arange(2 * points)
    first.extras = {"second": second, "matches": torch.stack([rows, rows], 1)}
    return first


def module_of(**settings: object) -> PointToPoint:
    torch.manual_seed(0)
    net = create_model("res16unet14a", in_channels=3, num_classes=4, planes=[8] * 8)
    net.voxel_size = 0.05
    return PointToPoint(net, ContrastConfig(**settings), optim=OptimConfig(lr=0.05), total_steps=9)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", ["hardest", "nce"])
def test_both_losses_are_learned_and_judged(loss: str) -> None:
    module, batch = module_of(loss=loss, positives=60, candidates=40), views_of()
    optimizer = torch.optim.Adam(module.trained_parameters(), 0.02)
    module.train()
    found = []
    for _ in range(12):
        optimizer.zero_grad()
        terms = module.losses(batch)
        terms["loss"].backward()
        optimizer.step()
        found.append(float(terms["loss"].detach()))
    assert found[-1] < found[0] - 0.2
    module.eval().begin_evaluation()
    with torch.no_grad():
        module.evaluate(batch)
    judged = {k: float(v) for k, v in module.measures().items()}
    assert judged["pairs"] == 180 and judged["chance"] == pytest.approx(1 / 180)
    assert judged["retrieval"] > 3 / 180


def test_nce_is_a_cross_entropy_in_one_direction() -> None:
    module, batch = module_of(loss="nce").eval(), views_of(40)
    terms, here, there = module.terms(batch, torch.Generator().manual_seed(1))
    logits = here.double() @ there.double().t() / 0.4
    expected = (torch.logsumexp(logits, 1) - logits.diagonal()).mean().detach()
    assert float(terms["loss"].detach()) == pytest.approx(float(expected), rel=1e-5)
    assert torch.allclose(here.norm(dim=1), torch.ones(len(here)), atol=1e-5)


def test_too_few_matches_are_refused_and_not_judged() -> None:
    module, batch = module_of(), views_of(20)
    batch.extras["matches"] = batch.extras["matches"][:1]
    with pytest.raises(ValueError, match="2 matches or more, the batch has 1"):
        module.losses(batch)
    module.begin_evaluation()
    module.evaluate(batch)


def test_defaults_are_the_released_scripts() -> None:
    c, o = ContrastConfig(), PointContrast().optim  # facts 2.4
    assert (c.loss, c.dim, c.temperature, c.pairs, c.positives, c.candidates) == (
        "hardest",
        32,
        0.4,
        4096,
        1024,
        256,
    )
    assert (c.positive_margin, c.negative_margin) == (0.1, 1.4)
    assert (o.optimizer, o.lr, o.momentum, o.weight_decay, o.dampening) == ("sgd", 0.1, 0.8, 1e-4, 0.0)
    assert (o.schedule, o.decay_factor, o.decay_steps) == ("exponential", 0.99, 250)


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": "l2"},
        {"temperature": 0.0},
        {"pairs": 1},
        {"candidates": 0},
        {"negative_margin": 0.0},
        {"drop_path": 1.0},
    ],
)
def test_what_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="contrast: "):
        ContrastConfig(**wrong)  # type: ignore[arg-type]
