"""Image pre-training: augmentation, schedules, and a run that learns, resumes and writes what it says."""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from safetensors import safe_open
from torch import nn

from pointlift.data.procedural.fractal_images import FractalImages
from pointlift.data.procedural.fractals import search_categories
from pointlift.methods.image_pretraining import (
    FractalDataConfig,
    ImageModelConfig,
    ImageOptimConfig,
    augment,
    center_crop,
    fit_image_model,
    fit_image_pretraining,
    fractal_pictures,
    top1,
)
from pointlift.models.fractal_resnet import FractalResNet, read_weights

QUIET: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for a second thread, for very long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_net(seed: int = 0) -> FractalResNet:
    return FractalResNet(4, widths=(8, 16, 16, 16), depths=(1, 1, 1, 1), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def pictures() -> tuple[FractalImages, FractalImages]:
    categories = search_categories(4, seed=1)
    train, val = (FractalImages(categories, 50, 20, w=0.1, first_instance=first) for first in (0, 100))
    return train, val


def test_augment_takes_windows_and_flips_of_the_picture() -> None:
    images = torch.arange(2 * 3 * 6 * 7).reshape(2, 3, 6, 7).repeat(200, 1, 1, 1)
    crops = augment(images, 5, torch.Generator().manual_seed(0))
    expected = {
        window.numpy().tobytes()
        for top in range(2)
        for left in range(3)
        for window in (lambda w: (w, w.flip(1), w.flip(2), w.flip(1, 2)))(images[0, :, top : top + 5, left : left + 5].contiguous())
    }
    assert {crop.contiguous().numpy().tobytes() for crop in crops[::2]} == expected  # all 24, and nothing else
    unflipped = augment(images, 5, torch.Generator().manual_seed(0), flip=False)
    assert len({crop.contiguous().numpy().tobytes() for crop in unflipped[::2]}) == 6
    assert torch.equal(augment(images, 5, torch.Generator().manual_seed(0)), crops)


def test_crops_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="crop of 8"):
        augment(torch.zeros(1, 1, 7, 9), 8, torch.Generator())
    with pytest.raises(ValueError, match="crop of 8"):
        center_crop(torch.zeros(1, 1, 7, 9), 8)
    assert torch.equal(center_crop(torch.arange(5.0).expand(1, 1, 5, 5), 3)[0, 0, 0], torch.tensor([1.0, 2.0, 3.0]))


def test_schedules() -> None:
    cosine, step, constant = (ImageOptimConfig(schedule=name) for name in ("cosine", "step", "constant"))
    assert [cosine.factor(p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert [step.factor(p / 90) for p in (0, 29, 30, 59, 60, 89)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert constant.factor(0.7) == 1
    with pytest.raises(ValueError, match="schedule='linear'"):
        ImageOptimConfig(schedule="linear")  # type: ignore[arg-type]
    for arguments in ({"lr": 0}, {"epochs": 0}, {"batch_size": 1}, {"label_smoothing": 1.0}):
        with pytest.raises(ValueError, match="image pre-training: got"):
            ImageOptimConfig(**arguments)


def test_learns_and_writes_metrics(pictures: tuple[FractalImages, FractalImages], tmp_path: Path) -> None:
    model = small_net()
    optim = ImageOptimConfig(lr=0.05, epochs=6, batch_size=20)
    result = fit_image_model(model, *pictures, optim, tmp_path, crop=18, seed=1, trainer_options=QUIET)
    assert result.train_loss < 0.6 * math.log(4) and result.val_accuracy > 0.6 and result.epochs == 6
    assert top1(model, pictures[1], 18) == pytest.approx(result.val_accuracy, abs=1e-6)
    rows = list(csv.DictReader((tmp_path / "logs/version_0/metrics.csv").open()))
    losses = [float(row["train_loss"]) for row in rows if row["train_loss"]]
    assert len(losses) == 6 and losses[-1] < losses[0] and (tmp_path / "last.ckpt").is_file()


class StopAfter(Callback):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


def test_resumed_run_equals_an_uninterrupted_one(pictures: tuple[FractalImages, FractalImages], tmp_path: Path) -> None:
    optim = ImageOptimConfig(lr=0.05, epochs=3, batch_size=50)
    whole, halves = small_net(), small_net()
    fit_image_model(whole, *pictures, optim, tmp_path / "a", crop=18, trainer_options=QUIET)
    fit_image_model(halves, *pictures, optim, tmp_path / "b", crop=18, trainer_options=QUIET | {"callbacks": [StopAfter(2)]})
    assert not torch.equal(whole.conv1.weight, halves.conv1.weight)
    halves = small_net(seed=9)
    fit_image_model(halves, *pictures, optim, tmp_path / "b", crop=18, resume=tmp_path / "b/last.ckpt", trainer_options=QUIET)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(halves.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    assert sorted(p.name for p in (tmp_path / "b/logs").iterdir()) == ["version_0", "version_1"]


def test_bad_fits(pictures: tuple[FractalImages, FractalImages], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        fit_image_model(small_net(), *pictures, ImageOptimConfig(), tmp_path, resume=tmp_path / "none.ckpt")
    single = FractalImages(pictures[0].categories[:1], 1, 20)
    with pytest.raises(ValueError, match="got 1 training"):
        fit_image_model(small_net(), single, single, ImageOptimConfig(), tmp_path)


def test_held_out_pictures_are_not_training_pictures() -> None:
    data = FractalDataConfig(categories=2, instances_per_class=30, image_size=24, val_instances=25)
    categories = search_categories(2, seed=1)
    train, val = fractal_pictures(data, categories, "train"), fractal_pictures(data, categories, "val")
    assert train.images is not None and val.images is not None and len(train) == 60 and len(val) == 50
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in val.images}
    with pytest.raises(ValueError, match="instances_per_class=0"):
        fractal_pictures(FractalDataConfig(val_instances=0), categories, "val")


def test_pretraining_writes_weights_with_their_facts(tmp_path: Path) -> None:
    data = FractalDataConfig(categories=2, instances_per_class=20, image_size=16, val_instances=10)
    optim = ImageOptimConfig(lr=0.02, epochs=1, batch_size=20)
    result = fit_image_pretraining(ImageModelConfig(), data, optim, seed=2, out=tmp_path, trainer_options=QUIET)
    weights = read_weights(tmp_path / "fractal_resnet.safetensors")
    assert weights["fc.bias"].shape == (2,)
    with safe_open(tmp_path / "fractal_resnet.safetensors", "pt") as file:
        facts = file.metadata()
        assert file.get_tensor("conv1.weight").dtype == torch.float16
    assert json.loads(facts["recipe"])["optim"]["epochs"] == 1 and facts["seed"] == "2" and facts["classes"] == "2"
    report = json.loads((tmp_path / "result.json").read_text())
    assert (
        report["val_accuracy"] == result.val_accuracy
        and facts["val_accuracy"] == f"{result.val_accuracy:.4f}"
        and report["recipe"]["seed"] == 2
    )
    model = FractalResNet(2)
    model.load_state_dict(weights)
    assert top1(model, fractal_pictures(data, search_categories(2, data.seed), "val"), 14) == result.val_accuracy


def test_pretraining_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="'resnet18', expected 'fractal_resnet'"):
        fit_image_pretraining(ImageModelConfig("resnet18"), FractalDataConfig(), ImageOptimConfig())
    with pytest.raises(ValueError, match="num_classes=5 for 100 categories"):
        fit_image_pretraining(ImageModelConfig(num_classes=5), FractalDataConfig(), ImageOptimConfig())


def test_any_network_can_be_trained(pictures: tuple[FractalImages, FractalImages], tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    result = fit_image_model(
        net, *pictures, ImageOptimConfig(epochs=1, schedule="step", label_smoothing=0.1), tmp_path, trainer_options=QUIET
    )
    assert 0 <= result.val_accuracy <= 1 and math.isfinite(result.train_loss)
