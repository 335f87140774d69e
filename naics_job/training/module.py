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
from naics_job.model.encoder import ChannelEncoder
from naics_job.model.noise import StepNoise
from naics_job.training.encoding import Sources, StepEncoder
from naics_job.training.inputs import global_batch_memory, loss_inputs
from naics_job.training.optimizer import build_optimizer
from naics_job.training.provenance import PAYLOAD_KEY, Provenance


@dataclass(frozen=True)
class Network:
    """What encodes, the memory of what it last gave, and what it was trained on."""

    encoder: ChannelEncoder
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
    ) -> None:
        super().__init__()
        self.config, self.taxonomy = config, sources.taxonomy
        self.provenance = network.provenance
        self.encoder, self.embedder, self.bank = network.encoder, network.embedder, network.bank
        self.step_encoder = StepEncoder(sources, network.encoder, network.embedder)
        self.planner, self.curriculum = planner, curriculum
        self.objective = Objective(config.loss, config.false_negatives)
        self.expert_load: Tensor | None = None  # [expert] of the newest step

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
        phases = [phase for phase in Phase if phase >= self.config.model.lora.start_phase]
        first = [self.curriculum.first_step(phase) for phase in phases]
        return min((step for step in first if step is not None), default=None)

    def lora_active(self, step: int) -> bool:
        """Whether the adapters train, or the cached features of the frozen encoder serve."""
        first = self.lora_first_step
        return first is not None and step >= first

    def on_fit_start(self) -> None:
        self.train()  # a part that was built in evaluation mode stays in it otherwise
        self.step_encoder.to(self.device)

    def on_train_start(self) -> None:
        """Let cached features serve where adapters have trained and now rest."""
        resting = not self.lora_active(self.trainer.global_step)
        if resting and self.step_encoder.adapters_trained():
            self.eval()
            self.step_encoder.rest()
            self.train()

    def training_step(self, batch: AnchorBatch, batch_idx: int) -> Tensor:
        state = self.phase_state()
        self.planner.curvature = self.embedder.curvature_value()
        codes = code_batch(batch, self.planner.choose(batch, state)).to(self.device)
        asked = self.step_encoder.queries.draw(batch, self.config.seed)
        if "search" not in self.objective.weights:  # nobody would read their distances
            asked = asked.part(slice(0))
        adapters = self.lora_active(self.trainer.global_step)
        noise = StepNoise.of(self.config.seed, batch.epoch, batch.index, batch.start)
        encoded, queries = self.step_encoder.step(codes, asked, adapters, noise)
        self.bank.update(codes.codes, encoded.points, encoded.gates)
        self.expert_load = encoded.load
        inputs = loss_inputs(encoded, queries, asked, codes, self.planner, state, self.taxonomy)
        terms = self.loss_terms(inputs, codes)
        memory = global_batch_memory(encoded, inputs)
        logged: dict[str, Any] = {f"train/{name}": term.detach() for name, term in terms.items()}
        logged |= {f"train/global_batch/{name}": value for name, value in memory.items()}
        self.log_dict(logged, batch_size=len(batch.anchors))
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

    def embed_all(self) -> Encoded:
        """Every code with view 0 and dropout off; with the adapters once they have trained."""
        was_training = self.training
        self.eval()
        encoded = self.step_encoder.everyone(self.device)
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
