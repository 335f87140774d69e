"""Where the SADC phases of a run will lie, worked out from settings alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from naics_job.config.batches import plan_batches
from naics_job.config.data_schema import DataConfig, DataLoaderConfig
from naics_job.config.length import plan_length
from naics_job.config.schema import Config
from naics_job.curriculum.schedule import Borders, Curriculum, Phase
from naics_job.taxonomy.codes import bundled_titles, level_of, sector_of

LEAF_LEVEL = 6
CODES_PER_SECTOR = 30  # as data.preprocess shares out data.max_codes


@dataclass(frozen=True)
class PhaseSpan:
    """One row of the table; `end_step` is the first step that no longer belongs to the phase."""

    phase: int
    title: str
    start: float  # fractions of the run
    end: float
    start_epoch: float
    end_epoch: float
    start_step: int
    end_step: int


@dataclass(frozen=True)
class Plan:
    """The length of a run and its phases, with what was assumed to get there."""

    num_codes: int
    codes_source: str
    num_heldout: int  # about
    num_processes: int
    processes_assumed: bool
    anchors_per_step: int
    micro_batches: int  # that each process encodes the texts of its anchors in
    steps_per_epoch: int
    max_epochs: int  # that are begun
    total_steps: int
    spans: tuple[PhaseSpan, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Counted:
    codes: int
    leaves: int  # six-digit ones
    families: int  # five-digit ones, each with its leaves
    source: str  # where they were counted

    def held_out(self, loader: DataLoaderConfig) -> int:
        """Codes of validation and test: six-digit ones, and the five-digit ones above them."""
        shares = [share for share in (loader.val_split, loader.test_split) if share > 0]
        leaves = sum(max(1, round(share * self.leaves)) for share in shares)
        return leaves + round(leaves * self.families / max(1, self.leaves))


def planned_phases(config: Config) -> Plan:
    """Work out the phases of a run that starts fresh with `config`.

    The number of codes is that of the prepared table if there is one, else of the bundled table.
    How many are held out is known to a few codes: which families are drawn decides it.
    """
    counted = _count_codes(config)
    num_heldout = counted.held_out(config.data_loader)
    processes, assumed = _num_processes(config)
    cut = plan_batches(config, processes)
    # the head of a lone sector is related to every code, so it has no negatives and is no anchor
    num_anchors = counted.codes - num_heldout - (_num_sectors(config.data) == 1)
    batches = math.ceil(num_anchors / cut.global_batch_size)
    length = plan_length(config.training, batches)
    borders = Borders.planned(config.curriculum, length.total_steps, None)
    curriculum = Curriculum(config.curriculum, config.sampling, borders)
    return Plan(
        num_codes=counted.codes,
        codes_source=counted.source,
        num_heldout=num_heldout,
        num_processes=processes,
        processes_assumed=assumed,
        anchors_per_step=cut.global_batch_size,
        micro_batches=cut.micro_batches,
        steps_per_epoch=length.steps_per_epoch,
        max_epochs=length.epochs,
        total_steps=length.total_steps,
        spans=tuple(_spans(borders, length.steps_per_epoch, clusters=config.curriculum.clusters)),
        warnings=tuple(curriculum.preflight(length)),
    )


def _spans(borders: Borders, per_epoch: int, *, clusters: bool) -> list[PhaseSpan]:
    ends = (borders.phase1_end, borders.phase2_end, borders.phase3_end)
    steps = borders.steps
    rows = [(Phase.STRUCTURAL, Phase.STRUCTURAL.title, 0.0, ends[0], 0, steps[0])]
    geometric = Phase.GEOMETRIC.title
    if borders.two_phase:
        rows.append((Phase.GEOMETRIC, geometric, ends[0], 1.0, steps[0], borders.total_steps))
    else:
        rows.append((Phase.GEOMETRIC, geometric, ends[0], ends[1], steps[0], steps[1]))
        last = Phase.MITIGATION
        title = last.title if clusters else f"{last.title}, clusters off"
        rows.append((last, title, ends[1], ends[2], steps[1], steps[2]))
        if ends[2] < 1:
            rest = f"{geometric}, clusters off"
            rows.append((Phase.GEOMETRIC, rest, ends[2], 1.0, steps[2], borders.total_steps))
    return [
        PhaseSpan(int(phase), title, start, end, first / per_epoch, after / per_epoch, first, after)
        for phase, title, start, end, first, after in rows
    ]


def _num_processes(config: Config) -> tuple[int, bool]:
    """Processes of the run, and whether that is a guess: only a running job can count devices."""
    devices = config.training.trainer.get("devices", "auto")
    nodes = int(config.training.trainer["num_nodes"])
    if isinstance(devices, str) and devices != "auto":
        devices = [int(part) for part in devices.split(",") if part.strip()]
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return len(devices) * nodes, False
    if isinstance(devices, int) and devices > 0:
        return devices * nodes, False
    return nodes, True


def _count_codes(config: Config) -> _Counted:
    kept = [code for code, _ in bundled_titles() if _is_kept(code, config.data)]
    num_codes = min(config.data.max_codes or len(kept), len(kept))
    source = "of the bundled code table"
    prepared = _prepared_rows(config)
    if prepared is not None:
        num_codes, source = prepared, f"of {config.data_loader.streaming.descriptions}"
    share = num_codes / max(1, len(kept))
    leaves, families = (
        round(share * sum(level_of(code) == level for code in kept))
        for level in (LEAF_LEVEL, LEAF_LEVEL - 1)
    )
    return _Counted(num_codes, leaves, families, source)


def _num_sectors(data: DataConfig) -> int:
    """Sectors that `data.sectors` and `data.max_codes` leave."""
    kept = {sector_of(code) for code, _ in bundled_titles() if _is_kept(code, data)}
    return min(
        len(kept), max(1, data.max_codes // CODES_PER_SECTOR) if data.max_codes else len(kept)
    )


def _is_kept(code: str, data: DataConfig) -> bool:
    return not data.sectors or sector_of(code) in map(sector_of, data.sectors)


def _prepared_rows(config: Config) -> int | None:
    """Rows of the local table of descriptions, if it is one of these settings."""
    url = config.data_loader.streaming.descriptions
    if "://" in url or not Path(f"{url}.manifest.json").is_file():
        return None
    from naics_job.storage.files import read_manifest

    manifest = read_manifest(url)
    wanted = {"sectors": list(config.data.sectors), "max_codes": config.data.max_codes}
    same = manifest is not None and wanted.items() <= manifest.extra.items()
    return manifest.rows if manifest is not None and same else None
