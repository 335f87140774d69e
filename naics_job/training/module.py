"""The LightningModule: wiring of one step, the optimiser, and what a checkpoint holds."""

import hashlib
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from naics_job.checkpoint.payload import architecture_of
from naics_job.config.schema import Config
from naics_job.curriculum.false_negatives import ClusterState
from naics_job.curriculum.mining import MemoryBank
from naics_job.curriculum.plan import NegativePlanner
from naics_job.curriculum.schedule import Curriculum, Phase, PhaseState
from naics_job.data.batch import CodeBatch, code_batch
from naics_job.data.contracts import CHANNELS
from naics_job.data.sampler import AnchorBatch
from naics_job.data.tokens import TokenStore
from naics_job.distributed import gather_rows, is_distributed, rank, share_of
from naics_job.loss.objective import NonFiniteLossError, Objective
from naics_job.model.embedder import Encoded, NaicsEmbedder
from naics_job.model.encoder import ChannelEncoder
from naics_job.model.features import FrozenFeatures, single_view
from naics_job.taxonomy.tree import Taxonomy
from naics_job.training.inputs import loss_inputs
from naics_job.training.optimizer import build_optimizer

EMBED_BLOCK = 256  # codes encoded at a time outside of steps; bounds memory


@dataclass(frozen=True)
class Sources:
    """What is encoded: the codes, their tokens, and the features of the frozen encoder."""

    taxonomy: Taxonomy
    tokens: TokenStore
    features: FrozenFeatures


@dataclass(frozen=True)
class Network:
    """What encodes, and the memory of what it last gave."""

    encoder: ChannelEncoder
    embedder: NaicsEmbedder
    bank: MemoryBank


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
        self.tokens, self.features = sources.tokens, sources.features
        self.encoder, self.embedder, self.bank = network.encoder, network.embedder, network.bank
        self.planner, self.curriculum = planner, curriculum
        self.objective = Objective(config.loss, config.false_negatives)
        self.step_tokens = 0

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
        self.features = self.features.to(self.device)

    def on_train_start(self) -> None:
        """Cache features of adapters that have trained and now rest, as after a warm start."""
        if self.adapters_trained() and not self.lora_active(self.trainer.global_step):
            self.eval()
            self.features = single_view(*self._encode_everyone())
            self.train()

    def training_step(self, batch: AnchorBatch, batch_idx: int) -> Tensor:
        self.seed_step(batch.epoch, batch.index, batch.start)
        state = self.phase_state()
        self.planner.curvature = self.embedder.curvature_value()
        codes = code_batch(batch, self.planner.choose(batch, state)).to(self.device)
        encoded = self.encode(codes)
        self.bank.update(codes.codes, encoded.points, encoded.gates)
        terms = self.loss_terms(encoded, codes, state)
        logged = {f"train/{name}": value.detach() for name, value in terms.items()}
        self.log_dict(logged, batch_size=len(batch.anchors))
        return terms["total"]

    def encode(self, codes: CodeBatch) -> Encoded:
        """Points, gates and statistics of the step's codes; each process encodes its share."""
        num_codes = len(codes.codes)
        mine = codes.codes[share_of(num_codes)]
        if self.lora_active(self.trainer.global_step):
            features, present = self.encode_tokens(mine, view=codes.epoch)
        else:
            self.step_tokens = 0
            features, present = self.features.rows(mine, codes.epoch)
            if is_distributed():  # every process must send a gradient for every parameter
                features = features + self.encoder.adapter_zero()
        local: Encoded = self.embedder(features, present)
        return local.gathered(lambda rows: gather_rows(rows, num_codes))

    def encode_tokens(self, positions: Tensor, view: int) -> tuple[Tensor, Tensor]:
        """Features `[code, channel, hidden]` with the adapters, and which channels are present."""
        at = positions.cpu().numpy()
        tokens = {channel: self.tokens.view(channel, at, view) for channel in CHANNELS}
        self.step_tokens = sum(int(ragged.lengths.sum()) for ragged in tokens.values())
        features, present = self.encoder(tokens)
        return features, present

    def loss_terms(
        self, encoded: Encoded, codes: CodeBatch, state: PhaseState
    ) -> dict[str, Tensor]:
        """Every loss term and their weighted sum, `total`."""
        inputs = loss_inputs(encoded, codes, self.planner, state, self.taxonomy)
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

    @torch.no_grad()
    def embed_all(self) -> Encoded:
        """Every code with view 0 and dropout off; with the adapters once they have trained."""
        was_training = self.training
        self.eval()
        if self.adapters_trained():
            features, present = self._encode_everyone()
        else:
            everyone = torch.arange(len(self.taxonomy), device=self.device)
            features, present = self.features.to(self.device).rows(everyone, view=0)
        encoded: Encoded = self.embedder(features, present)
        self.train(was_training)
        return encoded

    @torch.no_grad()
    def _encode_everyone(self) -> tuple[Tensor, Tensor]:
        """Features and presence of every code with the adapters as they are, view 0."""
        blocks = torch.split(torch.arange(len(self.taxonomy), device=self.device), EMBED_BLOCK)
        parts = [self.encode_tokens(rows, view=0) for rows in blocks]
        features, present = (torch.cat(column) for column in zip(*parts, strict=True))
        return features, present

    def adapters_trained(self) -> bool:
        """Whether an adapter differs from its start, where its second factor is 0."""
        named = self.encoder.lora_parameters()
        return any(bool(value.any()) for name, value in named if "lora_B" in name)

    def seed_step(self, epoch: int, index: int, start: int) -> None:
        """Make dropout a function of (seed, epoch, batch), so that a resume repeats it exactly."""
        text = f"{self.config.seed}/{epoch}/{index}/{start}/{rank()}".encode()
        digest = hashlib.blake2b(text, digest_size=8).digest()
        torch.manual_seed(int(np.frombuffer(digest, dtype=np.uint64)[0]))

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
        checkpoint["architecture"] = architecture_of(checkpoint["state_dict"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.clusters.load_state_dict(checkpoint["clusters"])
