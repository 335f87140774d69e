"""The Structure-Aware Dynamic Curriculum (SADC): phase, borders and annealed scalars by step.

Everything is a function of the number of finished optimizer steps and of borders that are fixed
when a run first starts, so that a resumed run is in the phase it would have been in.
"""

import math
from dataclasses import asdict, dataclass
from enum import IntEnum

from naics_job.config.data_schema import SamplingConfig
from naics_job.config.length import RunLength
from naics_job.config.model_schema import AnnealConfig
from naics_job.config.train_schema import CurriculumConfig

ROUNDING = 1e-6  # of a step: 0.7 * 10 is 7.000000000000001 in binary


class Phase(IntEnum):
    """The phases in the order in which they are entered."""

    STRUCTURAL = 1
    GEOMETRIC = 2
    MITIGATION = 3

    @property
    def title(self) -> str:
        """The phase in words."""
        return TITLES[self]


TITLES = {
    Phase.STRUCTURAL: "structural initialization",
    Phase.GEOMETRIC: "geometric refinement",
    Phase.MITIGATION: "false-negative mitigation",
}


def stage_name(name: str, phase: Phase) -> str:
    """What the stage of `train-seq` that stays in `phase` is called in a chain called `name`."""
    return f"{name}-stage{phase:d}"


@dataclass(frozen=True)
class Borders:
    """Where phases end, frozen at the first start of a run and kept by its resumes.

    Attributes:
        total_steps: planned optimizer steps, at least 1.
        phase1_end, phase2_end, phase3_end: fractions of `total_steps`.
        two_phase: phase 3 is never entered; phase 2 lasts to the end.
    """

    total_steps: int
    phase1_end: float
    phase2_end: float
    phase3_end: float
    two_phase: bool

    @classmethod
    def planned(
        cls, config: CurriculumConfig, total_steps: int, frozen: "Borders | None"
    ) -> "Borders":
        """The borders of this run: `frozen` ones of its first start, unless it asks to rescale."""
        if frozen is not None and not config.rescale:
            return frozen
        ends = (config.phase1_end, config.phase2_end, config.phase3_end)
        return cls(total_steps, *ends, two_phase=config.phase_mode == "two_phase")

    @property
    def steps(self) -> tuple[int, int, int]:
        """The steps at which phase 1 gives way to 2, 2 to 3, and mitigation ends."""
        total = self.total_steps
        ends = (self.phase1_end, self.phase2_end, self.phase3_end)
        first = [min(total, math.ceil(end * total - ROUNDING)) for end in ends]
        return (first[0], total, total) if self.two_phase else (first[0], first[1], first[2])

    def to_dict(self) -> dict[str, int | float | bool]:
        """Plain values for a manifest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, int | float | bool]) -> "Borders":
        """The inverse of `to_dict`."""
        ends = (values["phase1_end"], values["phase2_end"], values["phase3_end"])
        total, two_phase = int(values["total_steps"]), bool(values["two_phase"])
        return cls(total, float(ends[0]), float(ends[1]), float(ends[2]), two_phase)


@dataclass(frozen=True)
class PhaseState:
    """What the curriculum asks for at one step.

    Attributes:
        phase: the phase; GEOMETRIC again after the end of mitigation (`phase3_end` < 1).
        progress: share of all planned steps that are finished.
        phase_progress: the same within the phase.
        tree_distance_alpha: negatives are drawn with weight tree distance ** -alpha.
        hard_share: share of a row's negatives that is mined; the rest is drawn.
        router_mix_ratio: share of the mined ones chosen by the router.
        mitigation: whether cluster labels act on negatives.
    """

    phase: Phase
    progress: float
    phase_progress: float
    tree_distance_alpha: float
    hard_share: float
    router_mix_ratio: float
    mitigation: bool


class Curriculum:
    """SADC as a pure function of the step."""

    def __init__(
        self, config: CurriculumConfig, sampling: SamplingConfig, borders: Borders
    ) -> None:
        self.config, self.borders = config, borders
        self.static = sampling.strategy == "sans_static"

    def at(self, step: int) -> PhaseState:
        """What holds after `step` finished optimizer steps.

        With `sampling.strategy=sans_static` phases still pass (LoRA starts by them), but nothing
        is mined and no clusters are used.
        """
        phase, start, end = self._span(step)
        inside = _share(step - start, end - start)
        anneal, config = self.config.anneal, self.config
        alpha = anneal.tree_distance_alpha_end
        if phase is Phase.STRUCTURAL:
            alpha = _annealed(config.tree_distance_alpha, alpha, inside, anneal)
        return PhaseState(
            phase=phase,
            progress=_share(step, self.borders.total_steps),
            phase_progress=inside,
            tree_distance_alpha=alpha,
            hard_share=self._hard_share(step),
            router_mix_ratio=config.router_mix_ratio,
            mitigation=phase is Phase.MITIGATION and config.clusters and not self.static,
        )

    def _span(self, step: int) -> tuple[Phase, int, int]:
        """The phase at `step`, its first step and the step after its last.

        Past the planned end the last phase goes on.
        """
        second, third, tail = self.borders.steps
        total = self.borders.total_steps
        step = min(step, total - 1)
        if step < second:
            return Phase.STRUCTURAL, 0, second
        if step < third:
            return Phase.GEOMETRIC, second, third
        if step < tail:
            return Phase.MITIGATION, third, tail
        return Phase.GEOMETRIC, tail, total

    def _hard_share(self, step: int) -> float:
        second, third, _ = self.borders.steps
        if self.static or step < second:
            return 0.0
        anneal = self.config.anneal
        inside = _share(step - second, third - second)
        return _annealed(anneal.hard_share_start, anneal.hard_share_end, inside, anneal)

    def first_step(self, phase: Phase) -> int | None:
        """The step at which `phase` is first entered, None when it has no step."""
        second, third, tail = self.borders.steps
        first = {Phase.STRUCTURAL: 0, Phase.GEOMETRIC: second, Phase.MITIGATION: third}[phase]
        after = {Phase.STRUCTURAL: second, Phase.GEOMETRIC: third, Phase.MITIGATION: tail}[phase]
        if first < after:
            return first
        tail_is_geometric = phase is Phase.GEOMETRIC and tail < self.borders.total_steps
        return tail if tail_is_geometric else None

    def should_cluster(self, epoch: int, step: int, last_cluster_epoch: int | None) -> bool:
        """Whether to cluster before `step` of `epoch`; ask before every step, it costs nothing.

        True at the first step of phase 3 and then every `fn_cluster_every_n_epochs` epochs counted
        from the last clustering, never before `fn_curriculum_start_epoch` or where that is null.
        Labels of before are so in use from the first step on that needs them.

        Args:
            epoch: the running epoch, counted from 0.
            step: finished optimizer steps.
            last_cluster_epoch: epoch of the newest labels, None or negative when there are none.
        """
        start = self.config.fn_curriculum_start_epoch
        if start is None or not self.at(step).mitigation or epoch < start:
            return False
        if last_cluster_epoch is None or last_cluster_epoch < 0:
            return True
        return epoch - last_cluster_epoch >= self.config.fn_cluster_every_n_epochs

    def preflight(self, length: RunLength) -> list[str]:
        """What in these settings will not happen, in words; empty when all of it will."""
        if self.static:
            return [
                "sampling.strategy=sans_static: negatives come from fixed buckets; phases only "
                "decide when LoRA starts (model.lora.start_phase)"
            ]
        planned = length.total_steps
        return self._phases_missed(planned) + self._clusters_missed(planned, length.steps_per_epoch)

    def _phases_missed(self, planned: int) -> list[str]:
        missed = []
        for phase in Phase:
            if phase is Phase.MITIGATION and self.borders.two_phase:
                continue
            first, name = self.first_step(phase), f"phase {int(phase)} ({phase.title})"
            if first is None:
                missed.append(
                    f"{name} has no step: move curriculum.phase{int(phase)}_end, or train longer "
                    f"than {self.borders.total_steps} steps"
                )
            elif first >= planned:
                missed.append(
                    f"{name} begins at step {first}, but the run ends after {planned}: raise "
                    "training.trainer.max_epochs and max_steps, or set curriculum.rescale=true"
                )
        return missed

    def _clusters_missed(self, planned: int, steps_per_epoch: int) -> list[str]:
        first = self.first_step(Phase.MITIGATION)
        start = self.config.fn_curriculum_start_epoch
        if start is None or first is None or first >= planned:
            return []
        end = min(planned, self.borders.steps[2])
        key = f"curriculum.fn_curriculum_start_epoch={start}"
        if start * steps_per_epoch >= end:
            last = (end - 1) // steps_per_epoch
            return [
                f"phase 3 never clusters: {key}, but its last epoch is {last} (counted from 0); "
                f"set it to {last} or below"
            ]
        idle = start - first // steps_per_epoch
        if idle > 0:
            return [f"phase 3 runs without clusters for its first {idle} epochs: {key}"]
        return []


def _share(done: int, total: int) -> float:
    return min(1.0, max(0.0, done / total)) if total > 0 else 1.0


def _annealed(start: float, end: float, share: float, config: AnnealConfig) -> float:
    """From `start` at share 0 to `end` at share 1, on a line or on half a cosine wave."""
    if config.shape == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return start + (end - start) * share
