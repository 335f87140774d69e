"""One base, four adapters: values, gradients, modes, checkpointing, what is saved."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import BertModel
from transformers.models.bert.modeling_bert import BertLayer

from naics_job.config.data_schema import ChannelTokens
from naics_job.config.model_schema import ModelConfig
from naics_job.data.contracts import CHANNELS
from naics_job.data.tokens import Ragged
from naics_job.errors import ConfigError, DataError
from naics_job.model.encoder import ChannelEncoder, check_max_tokens
from naics_job.model.noise import StepNoise
from naics_job.model.weights import BaseWeights

MakeEncoder = Callable[..., ChannelEncoder]
NOISE = StepNoise.of(0)
Tokens = dict[str, Ragged]
BASE_PARAMETERS = 32 * (64 + 48 + 2 + 2) + 2 * (4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32)
ADAPTER_PARAMETERS = 4 * 2 * 2 * (4 * 32 + 32 * 4)  # channels, layers, query and value, A and B


def wake(encoder: ChannelEncoder) -> ChannelEncoder:
    """Move the adapters away from zero, each to its own place."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in encoder.lora_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return encoder


def gradients(encoder: ChannelEncoder, tokens: Tokens) -> dict[str, Tensor]:
    encoder.zero_grad()
    features, _ = encoder(tokens, NOISE)
    weight = torch.randn(features.shape, generator=torch.Generator().manual_seed(7))
    (features * weight).sum().backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in encoder.lora_parameters()
        if parameter.grad is not None
    }


def test_one_copy_of_the_base_in_memory(make_encoder: MakeEncoder) -> None:
    encoder = make_encoder()
    assert sum(p.numel() for p in encoder.parameters()) == BASE_PARAMETERS + ADAPTER_PARAMETERS
    assert sum(p.numel() for p in encoder.parameters() if p.requires_grad) == ADAPTER_PARAMETERS
    storages = {p.untyped_storage().data_ptr() for p in encoder.parameters()}
    assert len(storages) == len(list(encoder.parameters()))


def test_values_are_masked_means_of_the_bare_encoder(
    make_encoder: MakeEncoder, step_tokens: Tokens, tiny_folder: Path
) -> None:
    bare = BertModel.from_pretrained(tiny_folder, add_pooling_layer=False).eval()
    features, present = make_encoder().train()(step_tokens)
    assert features.shape == (6, 4, 32)
    for column, channel in enumerate(CHANNELS):
        start = 0
        for row, length in enumerate(step_tokens[channel].lengths.tolist()):
            ids = torch.from_numpy(step_tokens[channel].ids[start : start + length]).long()[None]
            start += length
            assert bool(present[row, column]) == (length > 0)
            expected = bare(ids).last_hidden_state[0].mean(0) if length else torch.zeros(32)
            torch.testing.assert_close(features[row, column], expected, rtol=1e-5, atol=1e-5)


def test_frozen_path_equals_the_start_and_ignores_trained_adapters(
    make_encoder: MakeEncoder, step_tokens: Tokens
) -> None:
    encoder = make_encoder()
    start, present = encoder(step_tokens)
    wake(encoder)
    trained, _ = encoder(step_tokens)
    frozen, frozen_present = encoder.encode_frozen(step_tokens)
    assert not frozen.requires_grad
    assert torch.equal(present, frozen_present)
    torch.testing.assert_close(frozen, start.detach(), rtol=1e-5, atol=1e-6)
    assert (trained - start).abs().max() > 0.01
    torch.testing.assert_close(encoder(step_tokens)[0], trained)  # adapters are back on


def test_each_channel_uses_its_own_adapter(make_encoder: MakeEncoder, step_tokens: Tokens) -> None:
    encoder = wake(make_encoder())
    same = dict.fromkeys(CHANNELS, step_tokens["title"])
    features, _ = encoder(same)
    for column in range(1, 4):
        assert (features[:, column] - features[:, 0]).abs().max() > 0.01


@pytest.mark.parametrize("checkpointing", [False, True])
def test_all_four_adapters_get_gradients_in_one_step(
    make_encoder: MakeEncoder, step_tokens: Tokens, checkpointing: bool
) -> None:
    found = gradients(wake(make_encoder(checkpointing)).train(), step_tokens)
    for channel in CHANNELS:
        own = [grad for name, grad in found.items() if f".{channel}." in name]
        assert len(own) == 8
        assert all(grad.abs().max() > 0 for grad in own)


def test_checkpointing_recomputes_and_gives_the_same_gradients(
    make_encoder: MakeEncoder, step_tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = gradients(wake(make_encoder()).train(), step_tokens)
    encoder = wake(make_encoder(checkpointing=True)).train()
    calls = {"count": 0}
    attention = encoder.transformer.encoder.layer[0].attention
    forward = attention.forward

    def counted(*args: object, **kwargs: object) -> object:
        calls["count"] += 1
        return forward(*args, **kwargs)

    monkeypatch.setattr(attention, "forward", counted)
    features, _ = encoder(step_tokens)
    in_forward = calls["count"]
    features.sum().backward()
    assert calls["count"] == 2 * in_forward
    again = gradients(encoder, step_tokens)
    for name, grad in plain.items():
        torch.testing.assert_close(again[name], grad, rtol=1e-4, atol=1e-5)


def test_checkpointed_gradients_match_with_dropout(
    make_encoder: MakeEncoder, step_tokens: Tokens
) -> None:
    plain = gradients(wake(make_encoder(dropout=0.5)).train(), step_tokens)
    encoder = wake(make_encoder(checkpointing=True, dropout=0.5)).train()
    for name, grad in gradients(encoder, step_tokens).items():
        torch.testing.assert_close(grad, plain[name], rtol=1e-4, atol=1e-5)


def test_train_mode_changes_nothing_but_lora_dropout(
    make_encoder: MakeEncoder, step_tokens: Tokens
) -> None:
    still = wake(make_encoder(dropout=0.0))
    assert any(module.training for module in still.train().modules() if type(module) is BertLayer)
    in_training, _ = still(step_tokens)
    torch.testing.assert_close(still.eval()(step_tokens)[0], in_training)
    dropping = wake(make_encoder(dropout=0.5)).train()
    first = dropping(step_tokens, NOISE)[0]
    assert torch.equal(dropping(step_tokens, NOISE)[0], first)
    assert (dropping(step_tokens, StepNoise.of(1))[0] - first).abs().max() > 1e-3
    with pytest.raises(AssertionError, match="noise of the step"):
        dropping(step_tokens)
    torch.testing.assert_close(dropping.eval()(step_tokens, NOISE)[0], in_training)


def test_a_text_has_the_same_dropout_in_any_company(
    make_encoder: MakeEncoder, step_tokens: Tokens
) -> None:
    """Whichever process encodes it, with whichever others, in whichever block."""
    encoder = wake(make_encoder(dropout=0.5)).train()
    whole, _ = encoder(step_tokens, NOISE)
    for row in range(6):
        single = {channel: part(ragged, row) for channel, ragged in step_tokens.items()}
        torch.testing.assert_close(encoder(single, NOISE)[0][0], whole[row], rtol=1e-4, atol=1e-5)
    still, _ = wake(make_encoder(dropout=0.0)).train()(step_tokens)
    assert (still - whole).abs().max() > 0.01
    same = dict.fromkeys(CHANNELS, step_tokens["title"])  # one text, four adapters
    with torch.no_grad():
        for _, parameter in encoder.lora_parameters():
            parameter.fill_(0.3)
    alike, _ = encoder(same, NOISE)
    assert (alike[:, 1:] - alike[:, :1]).abs().amax(dim=(0, 2)).min() > 1e-3  # masks of their own


def part(ragged: Ragged, row: int) -> Ragged:
    start = int(ragged.lengths[:row].sum())
    length = int(ragged.lengths[row])
    return Ragged(ragged.ids[start : start + length], ragged.lengths[row : row + 1])


def test_equal_texts_are_encoded_once_and_empty_ones_never(
    make_encoder: MakeEncoder, step_tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = make_encoder()
    seen: list[int] = []
    embeddings = encoder.transformer.embeddings
    embeddings.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    features, _ = encoder(step_tokens)
    assert sum(seen) == 5 + 3 + 2 + 2  # distinct texts per channel
    assert torch.equal(features[0, 0], features[5, 0])
    assert torch.count_nonzero(features[2, 1:]) == 0


def test_channel_without_texts_gets_a_zero_gradient(
    make_encoder: MakeEncoder, step_tokens: Tokens, ragged: Callable[[list[list[int]]], Ragged]
) -> None:
    encoder = wake(make_encoder()).train()
    found = gradients(encoder, step_tokens | {"excluded": ragged([[]] * 6)})
    own = [grad for name, grad in found.items() if ".excluded." in name]
    assert len(own) == 8
    assert all(grad.count_nonzero() == 0 for grad in own)
    encoder.zero_grad()
    encoder.adapter_zero().backward()
    assert all(p.grad is not None and not p.grad.any() for _, p in encoder.lora_parameters())


def test_no_codes_at_all(make_encoder: MakeEncoder, ragged: Callable[..., Ragged]) -> None:
    encoder = make_encoder()
    features, present = encoder(dict.fromkeys(CHANNELS, ragged([])))
    assert features.shape == (0, 4, 32)
    assert present.shape == (0, 4)
    assert encoder.encode_frozen({"title": ragged([[]])})[0].shape == (1, 4, 32)


def test_frozen_adapters_collect_nothing(make_encoder: MakeEncoder, step_tokens: Tokens) -> None:
    encoder = make_encoder()
    encoder.train_adapters(False)
    assert not encoder(step_tokens)[0].requires_grad
    encoder.train_adapters(True)
    assert all(parameter.requires_grad for _, parameter in encoder.lora_parameters())


def test_state_dict_holds_the_adapters_only(make_encoder: MakeEncoder, step_tokens: Tokens) -> None:
    trained = wake(make_encoder())
    state = trained.state_dict()
    assert sum(value.numel() for value in state.values()) == ADAPTER_PARAMETERS
    fresh = make_encoder()
    fresh.load_state_dict(state)  # strict
    torch.testing.assert_close(fresh(step_tokens)[0], trained(step_tokens)[0])
    state.pop(next(iter(state)))
    with pytest.raises(RuntimeError, match="Missing key"):
        fresh.load_state_dict(state)
    whole = torch.nn.ModuleDict({"encoder": fresh, "head": torch.nn.Linear(2, 2)})
    whole.load_state_dict(whole.state_dict())
    assert {"head.weight", "head.bias"} < set(whole.state_dict())


def test_text_longer_than_the_base_names_the_setting(
    make_encoder: MakeEncoder, ragged: Callable[..., Ragged]
) -> None:
    with pytest.raises(ConfigError, match="49 tokens") as caught:
        make_encoder()({"examples": ragged([[4] * 49])})
    assert "data_loader.tokenization.max_tokens.examples" in caught.value.hint
    limits = ChannelTokens(title=32, description=600, examples=32, excluded=32)
    with pytest.raises(ConfigError, match=r"max_tokens\.description=600 .* at most 512"):
        check_max_tokens(limits, 512)
    check_max_tokens(replace(limits, description=512), 512)


def test_progress_counts_every_token(make_encoder: MakeEncoder, step_tokens: Tokens) -> None:
    reports: list[tuple[int, int]] = []
    make_encoder().encode_frozen(step_tokens, lambda done, total: reports.append((done, total)))
    assert reports[-1][0] == reports[-1][1] > 0
    assert reports == sorted(reports)


def test_unknown_target_module_is_a_config_error(
    tiny_folder: Path, model_config: ModelConfig
) -> None:
    lora = replace(model_config.lora, target_modules=("q_proj",))
    weights = BaseWeights(tiny_folder, "folder", "0" * 64)
    with pytest.raises(ConfigError, match=r"model\.lora\.target_modules"):
        ChannelEncoder(weights, replace(model_config, lora=lora))


def test_missing_and_damaged_weights_are_data_errors(
    tiny_folder: Path, tmp_path: Path, model_config: ModelConfig
) -> None:
    from safetensors.torch import load_file, save_file

    for file in ("config.json", "tokenizer.json"):
        (tmp_path / file).write_bytes((tiny_folder / file).read_bytes())
    weights = BaseWeights(tmp_path, "folder", "0" * 64)
    tensors = load_file(tiny_folder / "model.safetensors")
    lost = next(name for name in tensors if name.endswith("layer.0.attention.self.query.weight"))
    del tensors[lost]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"lack .*query\.weight"):
        ChannelEncoder(weights, model_config)
    content = (tiny_folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot load the base encoder"):
        ChannelEncoder(weights, model_config)
