"""Small jobs on the bundled titles, with a tiny encoder and labelled texts of the user's."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_bert import TINY, make_wordy

from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.data.prepare import load_dataset, prepare_all
from naics_job.model.encoder import TextEncoder
from naics_job.training.build import Inputs, Job, build_inputs, build_job, read_inputs

MakeJob = Callable[..., Job]
LIMIT = 40  # tokens; the tiny encoder has 48 positions
CHANNELS = ("title", "description", "examples", "excluded")
LABELLED = {
    "Corn and maize growing": "111150",
    "Wheat for bread": "111140",
    "Soybean and other bean fields": "111110",
    "Orange trees in groves": "111310",
}


@pytest.fixture(scope="session")
def job(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """As at the start of a run, but with adapter, experts and gates that say something."""
    root = tmp_path_factory.mktemp("job")
    wordy = make_wordy(tiny_folder, root / "wordy")
    lines = [f'"{text}",{code}\n' for text, code in LABELLED.items()]
    (root / "own.csv").write_text("text,code\n" + "".join(lines))
    names = ("data", "log", "output", "checkpoint", "docs")
    settings = [
        *TINY,
        *(f"dirs.{name}_dir={root}/{name}" for name in names),
        f"model.base_model_name={wordy}",
        *(f"data_loader.tokenization.max_tokens.{channel}={LIMIT}" for channel in CHANNELS),
        "data_loader.tokenization.max_tokens.title=8",
        f"data.labelled_texts={root}/own.csv",
        "training.trainer.accelerator=cpu",
    ]
    config = load_config(None, "smoke", settings).config
    made = build_job(config, build_inputs(config))
    torch.manual_seed(0)
    with torch.no_grad():
        embedder = made.module.embedder
        for _, parameter in [
            *made.module.encoder.lora_parameters(),
            *embedder.experts.named_parameters(),
        ]:
            parameter.add_(torch.randn(parameter.shape), alpha=0.1)
        embedder.query_gates.word.fill_(0.5)
        embedder.query_gates.tree.fill_(0.2)
    return made


@pytest.fixture(scope="session")
def job_settings(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Config]:
    """Settings of the job, changed by KEY=VALUE arguments."""
    folder = tmp_path_factory.mktemp("job")
    base = make_wordy(tiny_folder, folder / "base")
    places = [f"dirs.data_dir={folder}/data", f"model.base_model_name={base}"]
    splits = ["data_loader.val_split=0.2", "data_loader.test_split=0.1"]
    settings = [*places, *TINY, *splits]
    bare = load_config(None, "smoke", settings).config
    prepare_all(bare)
    taxonomy = load_dataset(bare).taxonomy
    rows = ["code,text"]
    for position in taxonomy.six_digit()[::2]:  # bundled codes of six digits have no items
        words = taxonomy.titles[position].replace(",", "").split()
        rows += [f"{taxonomy.codes[position]},{' '.join(words[::-1])} {n}" for n in range(2)]
    labelled = folder / "labelled.csv"
    labelled.write_text("\n".join(rows) + "\n")
    settings.append(f"data.labelled_texts={labelled}")

    def make(*overrides: str) -> Config:
        return load_config(None, "smoke", [*settings, *overrides]).config

    return make


@pytest.fixture(scope="session")
def job_inputs(job_settings: Callable[..., Config]) -> Inputs:
    """What the job reads; its encoder is not to be trained."""
    return read_inputs(job_settings())


@pytest.fixture
def make_job(job_settings: Callable[..., Config], job_inputs: Inputs) -> MakeJob:
    """Build a job with an encoder of its own, whose adapter acts if asked to."""

    def make(*overrides: str, awake: bool = False) -> Job:
        config = job_settings(*overrides)
        torch.manual_seed(config.seed)
        encoder = TextEncoder(job_inputs.base, config.model)
        if awake:
            with torch.no_grad():
                for _, parameter in encoder.lora_parameters():
                    parameter.add_(torch.randn(parameter.shape), alpha=0.1)
        return build_job(config, replace(job_inputs, encoder=encoder))

    return make
