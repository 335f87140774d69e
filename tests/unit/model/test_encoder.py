"""One base, one adapter: values, gradients, pieces, modes, checkpointing, what is saved."""

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
from naics_job.data.tokens import Ragged
from naics_job.errors import ConfigError, DataError
from naics_job.model.encoder import TextEncoder, check_max_tokens
from naics_job.model.noise import StepNoise
from naics_job.model.weights import BaseWeights

MakeEncoder = Callable[..., TextEncoder]
MakeRagged = Callable[[list[list[int]]], Ragged]
NOISE = StepNoise.of(0)
BASE_PARAMETERS = 32 * (64 + 48 + 2 + 2) + 2 * (4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32)
ADAPTER_PARAMETERS = 2 * 2 * (4 * 32 + 32 * 4)  # layers, query and value, A and B
NUM_TEXTS, DISTINCT = 12, 8


def wake(encoder: TextEncoder) -> TextEncoder:
    """Move the adapter away from zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in encoder.lora_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return encoder


def gradients(
    encoder: TextEncoder, tokens: Ragged, parts: int = 1
) -> tuple[Tensor, dict[str, Tensor]]:
    """Features of a step and the gradients of a loss that every text has a part in."""
    encoder.zero_grad()
    features = encoder(tokens, NOISE, parts)
    weight = torch.randn(features.shape, generator=torch.Generator().manual_seed(7))
    (features * weight).sum().backward()
    found = {
        name: parameter.grad.clone()
        for name, parameter in encoder.lora_parameters()
        if parameter.grad is not None
    }
    return features.detach(), found


def part(ragged: Ragged, row: int) -> Ragged:
    start = int(ragged.lengths[:row].sum())
    length = int(ragged.lengths[row])
    return Ragged(ragged.ids[start : start + length], ragged.lengths[row : row + 1])


def test_one_copy_of_the_base_in_memory(make_encoder: MakeEncoder) -> None:
    encoder = make_encoder()
    assert sum(p.numel() for p in encoder.parameters()) == BASE_PARAMETERS + ADAPTER_PARAMETERS
    assert sum(p.numel() for p in encoder.parameters() if p.requires_grad) == ADAPTER_PARAMETERS
    storages = {p.untyped_storage().data_ptr() for p in encoder.parameters()}
    assert len(storages) == len(list(encoder.parameters()))


def test_values_are_masked_means_of_the_bare_encoder(
    make_encoder: MakeEncoder, step_tokens: Ragged, tiny_folder: Path
) -> None:
    bare = BertModel.from_pretrained(tiny_folder, add_pooling_layer=False).eval()
    features = make_encoder().train()(step_tokens)
    assert features.shape == (NUM_TEXTS, 32)
    assert features.dtype == torch.float32
    for row, length in enumerate(step_tokens.lengths.tolist()):
        ids = torch.from_numpy(part(step_tokens, row).ids).long()[None]
        expected = bare(ids).last_hidden_state[0].mean(0) if length else torch.zeros(32)
        torch.testing.assert_close(features[row], expected, rtol=1e-5, atol=1e-5)


def test_without_adapters_it_is_the_frozen_encoder_again(
    make_encoder: MakeEncoder, step_tokens: Ragged
) -> None:
    encoder = make_encoder()
    start = encoder(step_tokens).detach()
    wake(encoder)
    trained = encoder(step_tokens)
    with encoder.without_adapters():
        frozen = encoder(step_tokens)
        with encoder.without_adapters():
            pass
        torch.testing.assert_close(encoder(step_tokens), frozen)  # still off
    assert not frozen.requires_grad
    torch.testing.assert_close(frozen, start, rtol=1e-5, atol=1e-6)
    assert (trained - start).abs().max() > 0.01
    torch.testing.assert_close(encoder(step_tokens), trained)  # on again
    with pytest.raises(ZeroDivisionError), encoder.without_adapters():
        raise ZeroDivisionError
    torch.testing.assert_close(encoder(step_tokens), trained)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_adapter_gets_gradients_and_nothing_else_does(
    make_encoder: MakeEncoder, step_tokens: Ragged, checkpointing: bool
) -> None:
    encoder = wake(make_encoder(checkpointing)).train()
    _, found = gradients(encoder, step_tokens)
    assert len(found) == 8  # two layers, query and value, A and B
    assert all(grad.abs().max() > 0 for grad in found.values())
    base = [p for name, p in encoder.named_parameters() if ".lora_" not in name]
    assert all(parameter.grad is None for parameter in base)


@pytest.mark.parametrize("parts", [3, 7, 50])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_pieces_give_the_features_and_gradients_of_one(
    make_encoder: MakeEncoder, step_tokens: Ragged, parts: int, checkpointing: bool
) -> None:
    """With dropout on: its masks follow the texts into the second pass."""
    encoder = wake(make_encoder(checkpointing, dropout=0.5)).train()
    features, found = gradients(encoder, step_tokens)
    again, pieces = gradients(encoder, step_tokens, parts)
    torch.testing.assert_close(again, features, rtol=1e-6, atol=1e-6)
    assert set(pieces) == set(found)
    for name, grad in found.items():
        scale = float(grad.abs().max())
        torch.testing.assert_close(pieces[name], grad, rtol=1e-6, atol=1e-6 * max(1.0, scale))


def test_pieces_do_not_keep_activations_and_work_without_gradients(
    make_encoder: MakeEncoder, step_tokens: Ragged
) -> None:
    encoder = wake(make_encoder()).train()

    def kept(parts: int) -> int:
        total = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            encoder(step_tokens, NOISE, parts)
        return total

    assert kept(4) < 0.2 * kept(1)
    with torch.no_grad():
        torch.testing.assert_close(
            encoder(step_tokens, NOISE, 4), encoder(step_tokens, NOISE), rtol=1e-5, atol=1e-6
        )


def test_other_texts_may_be_encoded_before_the_gradients_of_pieces(
    make_encoder: MakeEncoder, step_tokens: Ragged
) -> None:
    encoder = wake(make_encoder(dropout=0.5)).train()
    _, expected = gradients(encoder, step_tokens, 3)
    encoder.zero_grad()
    features = encoder(step_tokens, NOISE, 3)
    with torch.no_grad(), encoder.without_adapters():
        encoder(part(step_tokens, 1), StepNoise.of(9))
    weight = torch.randn(features.shape, generator=torch.Generator().manual_seed(7))
    (features * weight).sum().backward()
    for name, parameter in encoder.lora_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected[name])


def test_checkpointing_recomputes_and_gives_the_same_gradients(
    make_encoder: MakeEncoder, step_tokens: Ragged, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plain = gradients(wake(make_encoder(dropout=0.5)).train(), step_tokens)
    encoder = wake(make_encoder(checkpointing=True, dropout=0.5)).train()
    calls = {"count": 0}
    attention = encoder.transformer.encoder.layer[0].attention
    forward = attention.forward

    def counted(*args: object, **kwargs: object) -> object:
        calls["count"] += 1
        return forward(*args, **kwargs)

    monkeypatch.setattr(attention, "forward", counted)
    features = encoder(step_tokens, NOISE)
    in_forward = calls["count"]
    features.sum().backward()
    assert calls["count"] == 2 * in_forward
    _, again = gradients(encoder, step_tokens)
    for name, grad in plain.items():
        torch.testing.assert_close(again[name], grad, rtol=1e-4, atol=1e-5)


def test_train_mode_changes_nothing_but_lora_dropout(
    make_encoder: MakeEncoder, step_tokens: Ragged
) -> None:
    still = wake(make_encoder(dropout=0.0))
    assert any(module.training for module in still.train().modules() if type(module) is BertLayer)
    in_training = still(step_tokens)
    torch.testing.assert_close(still.eval()(step_tokens), in_training)
    dropping = wake(make_encoder(dropout=0.5)).train()
    first = dropping(step_tokens, NOISE)
    assert torch.equal(dropping(step_tokens, NOISE), first)
    assert (dropping(step_tokens, StepNoise.of(1)) - first).abs().max() > 1e-3
    with pytest.raises(AssertionError, match="noise of the step"):
        dropping(step_tokens)
    torch.testing.assert_close(dropping.eval()(step_tokens, NOISE), in_training)


def test_a_text_has_the_same_dropout_in_any_company(
    make_encoder: MakeEncoder, step_tokens: Ragged
) -> None:
    """Whichever process encodes it, with whichever others, in whichever block."""
    encoder = wake(make_encoder(dropout=0.5)).train()
    whole = encoder(step_tokens, NOISE)
    for row in range(NUM_TEXTS):
        single = encoder(part(step_tokens, row), NOISE)
        torch.testing.assert_close(single[0], whole[row], rtol=1e-4, atol=1e-5)
    still = wake(make_encoder(dropout=0.0)).train()(step_tokens)
    assert (still - whole).abs().max() > 0.01


@pytest.mark.parametrize("parts", [1, 3])
def test_equal_texts_are_encoded_once_and_empty_ones_never(
    make_encoder: MakeEncoder, step_tokens: Ragged, parts: int
) -> None:
    encoder = make_encoder()
    seen: list[int] = []
    encoder.transformer.embeddings.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    features = encoder(step_tokens, parts=parts)
    assert sum(seen) == DISTINCT
    assert torch.equal(features[4], features[6])
    assert torch.equal(features[3], features[8])
    assert not features[[5, 10]].any()


def test_empty_texts_alone_give_a_zero_gradient(
    make_encoder: MakeEncoder, ragged: MakeRagged
) -> None:
    """Which a process without texts owes to the others."""
    encoder = wake(make_encoder()).train()
    for parts in (1, 3):
        features, found = gradients(encoder, ragged([[], []]), parts)
        assert features.shape == (2, 32)
        assert not features.any()
        assert len(found) == 8
        assert not any(grad.any() for grad in found.values())
    encoder.zero_grad()
    encoder.adapter_zero().backward()
    assert all(p.grad is not None and not p.grad.any() for _, p in encoder.lora_parameters())
    assert encoder(ragged([])).shape == (0, 32)


def test_bf16_is_near_and_gives_float32(make_encoder: MakeEncoder, step_tokens: Ragged) -> None:
    plain, half = wake(make_encoder()), wake(make_encoder(bf16=True))
    expected, found = plain(step_tokens), half(step_tokens)
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    full = step_tokens.lengths > 0
    cosine = torch.nn.functional.cosine_similarity(found[full], expected[full])
    assert cosine.min() > 0.999
    _, grads = gradients(half.train(), step_tokens, 3)
    assert all(grad.dtype == torch.float32 and grad.any() for grad in grads.values())


def test_frozen_adapters_collect_nothing(make_encoder: MakeEncoder, step_tokens: Ragged) -> None:
    encoder = make_encoder()
    encoder.train_adapters(False)
    assert not encoder(step_tokens).requires_grad
    encoder.train_adapters(True)
    assert all(parameter.requires_grad for _, parameter in encoder.lora_parameters())


def test_state_dict_holds_the_adapter_only(make_encoder: MakeEncoder, step_tokens: Ragged) -> None:
    trained = wake(make_encoder())
    state = trained.state_dict()
    assert sum(value.numel() for value in state.values()) == ADAPTER_PARAMETERS
    fresh = make_encoder()
    fresh.load_state_dict(state)  # strict
    torch.testing.assert_close(fresh(step_tokens), trained(step_tokens))
    state.pop(next(iter(state)))
    with pytest.raises(RuntimeError, match="Missing key"):
        fresh.load_state_dict(state)
    whole = torch.nn.ModuleDict({"encoder": fresh, "head": torch.nn.Linear(2, 2)})
    whole.load_state_dict(whole.state_dict())
    assert {"head.weight", "head.bias"} < set(whole.state_dict())


def test_text_longer_than_the_base_names_the_setting(
    make_encoder: MakeEncoder, ragged: MakeRagged
) -> None:
    with pytest.raises(ConfigError, match="49 tokens") as caught:
        make_encoder()(ragged([[4] * 49]))
    assert "data_loader.tokenization.max_tokens" in caught.value.hint
    limits = ChannelTokens(title=32, description=600, examples=32, excluded=32)
    with pytest.raises(ConfigError, match=r"max_tokens\.description=600 .* at most 512"):
        check_max_tokens(limits, 512)
    check_max_tokens(replace(limits, description=512), 512)


def test_progress_counts_every_token(make_encoder: MakeEncoder, step_tokens: Ragged) -> None:
    reports: list[tuple[int, int]] = []
    make_encoder()(step_tokens, progress=lambda done, total: reports.append((done, total)))
    assert reports[-1][0] == reports[-1][1] == 3 * 4 + 32 + 3 + 5 + 7 + 4
    assert reports == sorted(reports)


def test_unknown_target_module_is_a_config_error(
    tiny_folder: Path, model_config: ModelConfig
) -> None:
    lora = replace(model_config.lora, target_modules=("q_proj",))
    weights = BaseWeights(tiny_folder, "folder", "0" * 64)
    with pytest.raises(ConfigError, match=r"model\.lora\.target_modules"):
        TextEncoder(weights, replace(model_config, lora=lora))


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
        TextEncoder(weights, model_config)
    content = (tiny_folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot load the base encoder"):
        TextEncoder(weights, model_config)
