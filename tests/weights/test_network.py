"""Image weights come to every command through one function,
and what cannot be had is one sentence everywhere.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

from pointlift.commands.main import main
from pointlift.models.config import ModelConfig
from pointlift.teachers.files import TeacherConfig, build_teacher
from pointlift.weights.image_weights import WeightsError
from pointlift.weights.network import image_with_weights, load_image_network


def said(capsys: pytest.CaptureFixture[str]) -> str:
    noted = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in noted if not line.startswith("data: ")]
    assert len(lines) == 1 and lines[0].startswith("pointlift: "), lines
    return lines[0]


def test_a_name_without_weights_is_one_sentence_in_lift_and_in_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["lift", "resnetblur18", "--out", str(tmp_path / "x.safetensors")]) == 2
    assert "resnetblur18: No pretrained weights exist for resnetblur18" in (sentence := said(capsys))
    assert sentence.endswith("give --weights FILE, or use --pretrained false for random ones.")
    out = tmp_path / "run"
    assert (
        main(["fit", "image2point/toy.yaml", "--model.image_model", "resnetblur18", "--out", str(out)]) == 2
    )
    assert "resnetblur18: No pretrained weights exist for resnetblur18" in (sentence := said(capsys))
    assert sentence.endswith("name a file of them (model.weights), or set model.pretrained to false.")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_teachers_load_their_weights_the_same_way() -> None:
    with pytest.raises(
        ValueError, match=r"resnetblur18: No pretrained weights exist .*; name a file of them"
    ):
        build_teacher(TeacherConfig("resnetblur18"), 3, 64, 0)


def test_a_file_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **options: object) -> None:
        raise OSError("An error happened while trying to reach the Hub. Try later")

    monkeypatch.setattr(timm, "create_model", offline)
    sentence = r"weights of resnet18 could not be fetched \(An error .* Hub\): connect .* once, name a file"
    with pytest.raises(FileNotFoundError, match=sentence):
        load_image_network(ModelConfig("resnet18"), True)
    with pytest.raises(OSError, match="Try later"):
        load_image_network(ModelConfig("resnet18"), False)


def test_the_classifier_of_a_file_may_differ_where_it_plays_no_part(tmp_path: Path) -> None:
    options = {"layers": [1, 1, 1, 1], "channels": [8, 16, 16, 16]}
    torch.save(timm.create_model("resnet18", num_classes=7, **options).state_dict(), tmp_path / "w.pth")
    config = ModelConfig(
        "resnet18", {**options, "num_classes": 3}, weights=str(tmp_path / "w.pth"), weights_scheme="plain"
    )
    with pytest.raises(WeightsError, match="does not fit ResNet"):
        image_with_weights(config, False)
    _, origin = image_with_weights(config, False, classifier_may_differ=True)
    assert "tensors loaded" in origin and "of another shape: 2 (fc.weight, fc.bias)" in origin
    assert origin == image_with_weights(replace(config, weights_may_differ=["fc"]), False)[1]
