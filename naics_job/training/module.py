"""The LightningModule: wiring of one step, the optimiser, and what a checkpoint holds."""

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
from torch import Tensor
from torch.optim import Optimizer

from naics_job.config.schema import Config
from naics_job.curriculum.false_negatives import ClusterState
from naics_job.curriculum.mining import MemoryBank
from naics_job.curriculum.plan import NegativePlanner
from naics_job.curriculum.schedule import Curriculum, Phase, PhaseState
from naics_job.data.batch import CodeBatch, code_batch
from naics_job.data.sampler import AnchorBatch
from naics_job.loss.objective import LossInputs, NonFiniteLossError, Objective
from naics_job.model.embedder import Encoded, NaicsEmbedder
from naics_job.model.encoder import TextEncoder
from naics_job.model.features import FrozenFeatures
from naics_job.model.noise import StepNoise
from naics_job.training.asked import query_draws
from naics_job.training.encoding import Sources, StepEncoder
from naics_job.training.inputs import global_batch_memory, loss_inputs
from naics_job.training.optimizer import build_optimizer
from naics_job.training.provenance import PAYLOAD_KEY, Provenance
from naics_job.training.shares import Measured, is_measured, measure


@dataclass(frozen=True)
class Network:
    """What encodes, the memory of what it last gave, and what it was trained on."""

    encoder: TextEncoder
    embedder: NaicsEmbedder
    bank: MemoryBank
    provenance: Provenance


class NaicsModule(pl.LightningModule):
    """Encode the codes of a step once, ask the curriculum for roles, add up the losses."""

    def __init__(
        self,
        config: Config,
        sources: Sources,
        network: Network,
        planner: NegativePlanner,
        curriculum: Curriculum,
        global_batch_size: int,
    ) -> None:
        super().__init__()
        self.config, self.taxonomy = config, sources.taxonomy
        self.provenance = network.provenance
        self.encoder, self.embedder, self.bank = network.encoder, network.embedder, network.bank
        self.step_encoder = StepEncoder(sources, network.encoder, network.embedder)
        self.planner, self.curriculum, self.queries = planner, curriculum, sources.queries
        self.objective = Objective(config.loss, config.false_negatives)
        self.expert_load: Tensor | None = None  # [expert] of the newest step
        self.global_batch_size = global_batch_size
        self.shares: Measured = {}  # in the gradient of the newest step; empty where not measured

    @property
    def clusters(self) -> ClusterState:
        """Cluster labels of phase 3."""
        return self.planner.clusters

    def phase_state(self) -> PhaseState:
        """Where the curriculum stands at the current optimizer step."""
        return self.curriculum.at(self.trainer.global_step)

    @property
    def lora_first_step(self) -> int | None:
        """First optimizer step that trains the adapters, None when no step does."""
        start = self.config.model.lora.start_phase
        phases = [phase for phase in Phase if start is not None and phase >= start]
        first = [self.curriculum.first_step(phase) for phase in phases]
        return min((step for step in first if step is not None), default=None)

    def lora_active(self, step: int) -> bool:
        """Whether the adapters train, or the cached features of the frozen encoder serve."""
        first = self.lora_first_step
        return first is not None and step >= first

    def on_fit_start(self) -> None:
        self.train()  # a part that was built in evaluation mode stays in it otherwise
        self.step_encoder.to(self.device)

    def training_step(self, batch: AnchorBatch, batch_idx: int) -> Tensor:
        state = self.phase_state()
        self.planner.curvature = self.embedder.curvature_value()
        asked = self.queries.draw(query_draws(self.config, batch))
        codes = code_batch(batch, self.planner.choose(batch, state), asked.answers).to(self.device)
        adapters = self.lora_active(self.trainer.global_step)
        noise = StepNoise.of(self.config.seed, batch.epoch, batch.index)
        encoded = self.step_encoder.step(codes, asked, adapters, noise)
        self.bank.update(codes.codes, encoded.codes.points, encoded.codes.gates)
        self.expert_load = encoded.codes.load
        self.embedder.experts.balance(encoded.codes.load)
        inputs = loss_inputs(
            encoded, asked, codes, self.planner, state, self.taxonomy, self.step_encoder.code_text
        )
        terms = self.loss_terms(inputs, codes)
        self.shares = {}
        if is_measured(self.trainer, self.trainer.global_step + 1):
            self.shares = measure(
                self.objective, inputs, terms, encoded, self.planner, asked, state
            )
        memory = global_batch_memory(encoded, inputs)
        logged: dict[str, Any] = {f"train/{name}": term.detach() for name, term in terms.items()}
        logged |= {f"train/global_batch/{name}": value for name, value in memory.items()}
        self.log_dict(logged | self.shares, batch_size=len(batch.anchors))
        return terms["total"]

    def loss_terms(self, inputs: LossInputs, codes: CodeBatch) -> dict[str, Tensor]:
        """Every loss term and their weighted sum, `total`."""
        shown = {
            f"train/{name}": value for name, value in self.objective.statistics(inputs).items()
        }
        self.log_dict(shown, batch_size=len(codes.anchor))
        try:
            terms: dict[str, Tensor] = self.objective(inputs)
            return terms
        except NonFiniteLossError as error:
            anchors = codes.codes[codes.anchor].tolist()
            named = ", ".join(self.taxonomy.codes[position] for position in anchors)
            step = self.trainer.global_step
            message = f"{error.args[0]} at step {step}; anchors of the batch: {named}"
            raise NonFiniteLossError(message, error.hint, error.term) from error

    def trained_state(self) -> dict[str, Tensor]:
        """Copies of what training has changed, by the names of `state_dict`."""
        trained = {name for name, value in self.named_parameters() if value.requires_grad}
        trained |= {name for name, _ in self.named_buffers() if name.endswith("experts.bias")}
        state = self.state_dict()
        return {name: state[name].detach().cpu().clone() for name in sorted(trained & set(state))}

    def embed_all(self, features: FrozenFeatures | None = None) -> Encoded:
        """Every code with all its texts and dropout off; see `StepEncoder.everyone`."""
        was_training = self.training
        self.eval()
        encoded = self.step_encoder.everyone(features)
        self.train(was_training)
        return encoded

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Take from resting adapters the gradient of 0 that several processes need for the sum.

        Adam would count their steps of rest, and its bias correction would halve their first
        updates, while one process, where they have no gradient, begins to count with them.
        """
        if not self.lora_active(self.trainer.global_step):
            self.encoder.zero_grad(set_to_none=True)

    def configure_optimizers(self) -> Any:
        first = self.lora_first_step
        head = [*self.embedder.named_parameters(), *self.objective.named_parameters()]
        optimizer, schedule = build_optimizer(
            head=head,
            lora=self.encoder.lora_parameters(),
            config=self.config.training,
            total_steps=self.curriculum.borders.total_steps,
            lora_first_step=self.curriculum.borders.total_steps if first is None else first,
            global_batch_size=self.global_batch_size,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["clusters"] = self.clusters.state_dict()
        checkpoint[PAYLOAD_KEY] = self.provenance.to_payload()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.clusters.load_state_dict(checkpoint["clusters"])
        self.provenance = self.provenance.after(checkpoint)


def naics_module(module: pl.LightningModule) -> NaicsModule:
    """The module that a callback is given, which is ours."""
    assert isinstance(module, NaicsModule)
    return module
