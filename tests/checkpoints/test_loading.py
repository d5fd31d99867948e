"""Loading a model: what fits loads; what is missing, damaged or foreign is named; no pickle is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import RobertaConfig, RobertaModel
from transformers.utils import logging

from mdetr.checkpoints import hub
from mdetr.checkpoints.finding import bundled_models
from mdetr.checkpoints.loading import load
from mdetr.errors import CheckpointError
from mdetr.modeling import MdetrForObjectDetection


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


def test_a_folder_loads_ready_to_be_asked(tiny_model_folder: Path) -> None:
    model, processor = load(tiny_model_folder)
    assert not model.training
    assert model.dtype == torch.float32
    assert processor.max_text_tokens == 256
    assert load(tiny_model_folder, torch.bfloat16)[0].dtype == torch.bfloat16


def test_loading_shows_no_bar_and_leaves_those_of_others_as_they_are(
    tiny_model_folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "_tqdm_active", True)  # as in a process that has set nothing
    seen: list[object] = []

    def own_hook(
        factory: Callable[..., object], args: tuple[object, ...], options: dict[str, object]
    ) -> object:
        seen.append(options.get("desc"))
        return factory(*args, **options)

    logging.set_tqdm_hook(own_hook)
    try:
        load(tiny_model_folder)
        assert capfd.readouterr() == ("", "")
        assert seen == []
        MdetrForObjectDetection.from_pretrained(
            tiny_model_folder
        )  # transformers' own way shows what it always does
        assert "Loading weights" in seen
        assert "Loading weights" in capfd.readouterr().err
    finally:
        assert logging.set_tqdm_hook(None) is own_hook


def test_every_bundled_model_loads_without_a_network() -> None:
    assert list(bundled_models()) == ["photo-tiny", "clevr-tiny"]
    for name in bundled_models():
        model, _ = load(name)
        assert sum(parameter.numel() for parameter in model.parameters()) <= 30e6


@pytest.mark.parametrize(
    ("name", "kind"), [("clevr-tinny", "model"), ("./nowhere", "folder"), ("a/b/c", "folder")]
)
def test_an_unknown_name_is_refused(name: str, kind: str) -> None:
    with pytest.raises(
        CheckpointError, match=f"There is no {kind} '{name}': expected a name that `mdetr models` lists"
    ):
        load(name)


@pytest.mark.parametrize("name", ["models/gqa-r101", "some/where/gqa-r101/", "gqa_resnet101_checkpoint.pth"])
def test_a_path_to_a_released_model_that_is_not_here_is_told_its_name(name: str) -> None:
    with pytest.raises(
        CheckpointError, match=f"There is no folder '{name}'; the released model, .* is 'gqa-r101'"
    ):
        load(name)


@pytest.mark.parametrize(
    "name",
    [
        *("~/model", "runs/", "runs\\mine", "owner/weights.pth", "here/mine"),
        *("models/nothing", "runs/nothing"),  # as the documentation calls such folders
    ],
)
def test_a_path_is_never_looked_up_on_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "hub_folder", pytest.fail)
    with pytest.raises(
        CheckpointError, match=r"There is no folder .*: expected a name that `mdetr models` lists"
    ):
        load(name)


def test_a_wrong_path_is_told_which_models_are_beside_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parents[1])
    with pytest.raises(CheckpointError, match=f"Did you mean {folder.parent.name}/model?"):
        load(f"{folder.parent.name}/modle")
    with pytest.raises(CheckpointError, match=f"There are {folder.parent.name}/model"):
        load(f"{folder.parent.name}/xyz")


def test_a_file_is_told_how_it_becomes_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my weights.pth").touch()
    with pytest.raises(CheckpointError, match=r"mdetr convert 'my weights\.pth' 'models/my weights'"):
        load("my weights.pth")


def test_a_hub_id_that_cannot_be_reached_says_so() -> None:
    with pytest.raises(
        CheckpointError,
        match=r"There is no folder 'someone/something'\. Could not load .* that this machine can reach",
    ):
        load("someone/something")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json in it"):
        load(tmp_path)


def test_a_foreign_model_is_refused(tmp_path: Path) -> None:
    config = RobertaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    RobertaModel(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="holds a model of type 'roberta', not 'mdetr'"):
        load(tmp_path)


def test_a_damaged_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ')
    with pytest.raises(CheckpointError, match="is damaged: it is not JSON"):
        load(folder)


def test_truncated_weights_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged or not those of an MDETR"):
        load(folder)


def test_missing_and_unknown_weights_are_refused(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["decoder_norm.wait"] = state.pop("decoder_norm.weight")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"2 are missing or unknown, such as decoder_norm\.weight"):
        load(folder)


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["encoder_ffn_dim"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"damaged or not those of an MDETR|do not fit"):
        load(folder)


def test_pickled_weights_are_not_read(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="safetensors"):
        load(folder)
