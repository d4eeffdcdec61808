"""Image pre-training: augmentation, schedules, normalisation, what a step refuses. Whole runs:
tests/runs/test_pretraining.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pointlift.data.procedural.fractals.systems import search_categories
from pointlift.methods.image_pretraining.module import (
    FractalDataConfig,
    ImageClassifier,
    ImageOptimConfig,
    augment,
    center_crop,
    fractal_pictures,
    normalise,
)
from pointlift.methods.method import DivergenceError
from pointlift.teachers.statistics import trained_statistics
from pointlift.weights.image_weights import save_image_model


def test_augment_takes_windows_and_flips_of_the_picture() -> None:
    images = torch.arange(2 * 3 * 6 * 7).reshape(2, 3, 6, 7).repeat(200, 1, 1, 1)
    crops = augment(images, 5, torch.Generator().manual_seed(0))
    expected = {
        window.numpy().tobytes()
        for top in range(2)
        for left in range(3)
        for window in (lambda w: (w, w.flip(1), w.flip(2), w.flip(1, 2)))(
            images[0, :, top : top + 5, left : left + 5].contiguous()
        )
    }
    # all 24, and nothing else
    assert {crop.contiguous().numpy().tobytes() for crop in crops[::2]} == expected
    unflipped = augment(images, 5, torch.Generator().manual_seed(0), flip=False)
    assert len({crop.contiguous().numpy().tobytes() for crop in unflipped[::2]}) == 6
    assert torch.equal(augment(images, 5, torch.Generator().manual_seed(0)), crops)


def test_crops_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="crop of 8"):
        augment(torch.zeros(1, 1, 7, 9), 8, torch.Generator())
    with pytest.raises(ValueError, match="crop of 8"):
        center_crop(torch.zeros(1, 1, 7, 9), 8)
    assert torch.equal(
        center_crop(torch.arange(5.0).expand(1, 1, 5, 5), 3)[0, 0, 0], torch.tensor([1.0, 2.0, 3.0])
    )


def test_schedules() -> None:
    def factors(name: Any, steps: Sequence[int]) -> list[float]:
        settings = ImageOptimConfig(schedule=name).settings()
        return [settings.lr_factor(step, 90, settings.epochs) for step in steps]

    assert factors("cosine", (0, 45, 90)) == pytest.approx([1, 0.5, 0])
    assert factors("step", (0, 29, 30, 59, 60, 89, 90)) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.01])
    assert factors("constant", (63,)) == [1]
    with pytest.raises(ValueError, match="schedule='linear'"):
        ImageOptimConfig(schedule="linear")  # type: ignore[arg-type]
    numbers = (
        {"lr": float("nan")},
        {"momentum": 1.0},
        {"weight_decay": -1.0},
        {"weight_decay": float("inf")},
    )
    for arguments in ({"lr": 0}, {"epochs": 0}, {"batch_size": 1}, {"label_smoothing": 1.0}, *numbers):
        with pytest.raises(ValueError, match="image pre-training: got"):
            ImageOptimConfig(**arguments)


def test_held_out_pictures_are_not_training_pictures() -> None:
    data = FractalDataConfig(categories=2, instances_per_class=30, image_size=24, val_instances=25)
    categories = search_categories(2, seed=1)
    train, val = fractal_pictures(data, categories, "train"), fractal_pictures(data, categories, "val")
    assert train.images is not None and val.images is not None and len(train) == 60 and len(val) == 50
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in val.images}
    with pytest.raises(ValueError, match="instances_per_class=0"):
        fractal_pictures(FractalDataConfig(val_instances=0), categories, "val")


def test_normalise_takes_a_mean_for_each_channel() -> None:
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1),
    )
    out = normalise(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8), mean, std)
    # torchvision's largest values
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([2.2489, 2.4286, 2.6400]), atol=1e-4, rtol=0)


def test_saved_weights_keep_their_precision_and_their_statistics(tmp_path: Path) -> None:
    net = nn.Linear(3, 2)
    save_image_model(
        net, tmp_path / "full.safetensors", {"mean": "[0.1, 0.2, 0.3]", "std": "[0.5]"}, half=False
    )
    save_image_model(net, tmp_path / "half.safetensors", {})
    assert torch.equal(load_file(tmp_path / "full.safetensors")["weight"], net.weight)
    assert torch.equal(load_file(tmp_path / "half.safetensors")["weight"], net.weight.half())
    assert trained_statistics(tmp_path / "full.safetensors") == ([0.1, 0.2, 0.3], [0.5, 0.5, 0.5])
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    assert (
        trained_statistics(tmp_path / "half.safetensors")
        is trained_statistics(tmp_path / "foreign.safetensors")
        is None
    )
    assert trained_statistics(tmp_path / "none.safetensors") is None


class Infinite(nn.Module):
    """Logits that overflow."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 2), 1e38))

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))[:, None] * self.weight * 100 * torch.tensor([1.0, -1.0])


class Remembers(nn.Module):
    """A linear classifier that keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.seen = nn.Linear(3, 2), list[Tensor]()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        return self.fc(images.mean((2, 3)))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_every_batch_has_windows_of_its_own(accumulate: int) -> None:
    """Also the batches that make one optimizer step together."""
    picture = torch.arange(144, dtype=torch.uint8).reshape(1, 12, 12)
    data: Any = [(picture, 0)] * 12
    module = ImageClassifier(
        Remembers(), 2, crop=4, flip=False, optim=ImageOptimConfig(epochs=1, lr=1e-6).settings()
    )
    trainer = lightning.Trainer(
        max_epochs=1, accumulate_grad_batches=accumulate, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(data, 2))
    seen = torch.stack(module.net.seen).reshape(6, -1)
    # 81 windows for each of two pictures: two batches are alike once in 6,561 pairs
    assert len(seen.unique(dim=0)) == 6


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    data: Any = [(torch.full((1, 4, 4), 255, dtype=torch.uint8), 1)] * 4
    module = ImageClassifier(Infinite(), 2, flip=False, optim=ImageOptimConfig(epochs=1).settings())
    trainer = lightning.Trainer(
        fast_dev_run=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    with pytest.raises(
        DivergenceError, match=r"loss became (NaN|infinite) at step 0 \(epoch 0\): lower the learning rate"
    ):
        trainer.fit(module, DataLoader(data, 2))
