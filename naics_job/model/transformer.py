"""The base encoder of transformers with the LoRA layers of PEFT: all that leans on their inside."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import LoraModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModel
from transformers.utils import logging as hf_logging

from naics_job.config.model_schema import LoraConfig
from naics_job.errors import ConfigError, DataError
from naics_job.model.noise import RowNoise

log = logging.getLogger(__name__)


@dataclass
class TextNoise:
    """The noise of the texts that are in the encoder just now; None outside of training steps."""

    current: RowNoise | None = None


class TextDropout(nn.Module):
    """Dropout with one mask per text instead of one per token.

    Differs from `nn.Dropout`: the mask `[text, 1, hidden]` is shared by the tokens of a text (Gal &
    Ghahramani 2016, arXiv:1512.05287), as a mask per token costs a tenth of a step on a CPU; and it
    follows the text, whichever block or process encodes it.

    Args:
        purpose: name of this layer and adapter; each has its own masks.
        p: share of the features that are dropped.
        noise: of the texts that `forward` is given.
    """

    def __init__(self, purpose: str, p: float, noise: TextNoise) -> None:
        super().__init__()
        self.purpose, self.p, self.noise = purpose, p, noise

    def forward(self, x: Tensor) -> Tensor:
        """Drop features of `x` `[text, token, hidden]` in training."""
        if not self.training or self.p == 0:
            return x
        assert self.noise.current is not None, "dropout needs the noise of the step"
        kept = self.noise.current.kept(self.purpose, x.shape[2], self.p)  # [text, hidden]
        return x * kept[:, None].to(x.dtype)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the loading report and progress bar of transformers off the terminal."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def load_transformer(folder: Path) -> nn.Module:
    """Load the frozen base encoder: float32, SDPA attention, no pooler, no dropout.

    Its dropouts are 0, so train() changes nothing but what gradient checkpointing asks for:
    transformers checkpoints a layer only while `layer.training` is set.

    Raises:
        DataError: model.safetensors is damaged or does not fit config.json.
    """
    hint = "fetch the weights again, or choose another model.base_model_name"
    try:
        with _quiet():
            loaded = AutoModel.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation="sdpa",
                add_pooling_layer=False,
                use_cache=False,  # a decoder setting that checkpointing would warn about
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                output_loading_info=True,
            )
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"cannot load the base encoder from {folder}: {reason}", hint) from error
    model, info = cast(tuple[nn.Module, dict[str, Any]], loaded)
    if info["missing_keys"]:  # transformers would go on with random values
        names = ", ".join(sorted(info["missing_keys"])[:3])
        raise DataError(f"the weights in {folder} lack {names}", hint)
    return model.requires_grad_(False)


def add_adapter(model: nn.Module, name: str, config: LoraConfig, noise: TextNoise) -> None:
    """Put the LoRA adapter `name` on `model`; its dropout reads `noise`.

    Raises:
        ConfigError: `model.lora.target_modules` names no layer of the model.
    """
    settings = PeftLoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.target_modules),
        bias="none",
    )
    try:
        LoraModel(model, {name: settings}, name)
    except ValueError as error:  # NoMatchingPeftModuleError, or a layer of an unknown kind
        hint = "name linear layers of the encoder, such as query and value"
        targets = list(config.target_modules)
        message = f"model.lora.target_modules={targets} does not fit the base encoder: {error}"
        raise ConfigError(message, hint) from error
    for number, layer in enumerate(adapted_layers(model)):
        layer.lora_dropout[name] = TextDropout(str(number), config.dropout, noise)


def adapted_layers(model: nn.Module) -> tuple[Any, ...]:
    """The layers of `model` that carry adapters."""
    return tuple(module for module in model.modules() if isinstance(module, BaseTunerLayer))


def activate(layers: Sequence[Any], names: Sequence[str]) -> None:
    """Let exactly the adapters `names` act; none of them: the bare base encoder.

    PEFT's own `disable_adapters` also switches `requires_grad`; setting the list does not.
    """
    for layer in layers:
        layer._active_adapter = list(names)


def adapter_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Named parameters of the adapter."""
    keys = (".lora_A.", ".lora_B.", ".lora_embedding_A.", ".lora_embedding_B.")
    parameters = model.named_parameters()
    return [(path, value) for path, value in parameters if any(key in path for key in keys)]


@torch.no_grad()
def merged_tensors(model: nn.Module, name: str) -> dict[str, Tensor]:
    """Tensors of the bare encoder by name, with the adapter added to the layers it adapts."""
    found = {
        path.replace(".base_layer.", "."): value.detach().cpu()
        for path, value in model.named_parameters()
        if ".lora_" not in path
    }
    for path, layer in model.named_modules():
        if isinstance(layer, BaseTunerLayer):
            delta = cast(Any, layer).get_delta_weight(name).cpu()
            found[f"{path}.weight"] = found[f"{path}.weight"] + delta
    return found
