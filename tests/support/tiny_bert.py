"""A tiny random BERT whose tokenizer knows the bundled titles: the base encoder of small runs."""

import json
import shutil
from pathlib import Path

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(60))]
TINY = (  # settings of the smoke profile that fit this encoder
    "model.tree_dim=16",
    "model.lexical_dim=8",
    "model.lora.dropout=0.1",
    "training.lora_learning_rate=1e-2",
    "data_loader.num_negatives=4",
    "training.trainer.enable_progress_bar=false",
)


def make_tiny(folder: Path) -> Path:
    """Write a BERT of 2 layers, hidden size 32, at most 48 tokens, with dropout 0.1."""
    import torch  # here, as most tests need none of these
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes = {"intermediate_size": 64, "vocab_size": len(WORDS), "max_position_embeddings": 48}
    config = BertConfig(**shape, **sizes, initializer_range=0.2)
    BertModel(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def make_wordy(tiny: Path, folder: Path) -> Path:
    """Copy `tiny` to `folder` with a tokenizer that knows the words of the bundled titles."""
    from naics_job.taxonomy.codes import bundled_titles

    shutil.copytree(tiny, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    words = {word for _, title in bundled_titles() for word in title.split()}
    known = tokenizer["model"]["vocab"]
    size = len(known)
    tokenizer["model"]["vocab"] = {
        **{word: 4 + number % (size - 4) for number, word in enumerate(sorted(words))},
        **{word: number for word, number in known.items() if number < 4},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder
