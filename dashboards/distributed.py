"""The dashboard of the ranks of a run: which one is slow, full or missing."""

from collections.abc import Callable

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.board import Panels, board, of_rank, of_run
from dashboards.palette import BAD, BLUE, GOOD, WARNING
from dashboards.panels import HALF, RANKS, Column, Query, lines, number, rows

RATE = "[$__rate_interval]"
LEGEND = "rank {{rank}}"


def distributed() -> Dashboard:
    """For whoever looks for the slow rank."""
    return board(
        "naics-distributed",
        "naics-job: Distributed",
        "The ranks of a run: time of a step, wait for data, memory and who holds up whom.",
        [
            ("Now", _now()),
            ("Stragglers", _stragglers()),
            ("Work", _work()),
            ("Memory", _memory()),
            ("Devices", _devices()),
        ],
    )


def _mean(histogram: str, pick: Callable[..., str] = of_rank) -> str:
    """Mean of a histogram by rank, of what `pick` selects."""
    total, count = pick(f"{histogram}_sum"), pick(f"{histogram}_count")
    by = "sum by (rank)"
    return f"{by} (rate({total}{RATE})) / ({by} (rate({count}{RATE})) > 0)"


STEP, WAIT = "naics_training_step_seconds", "naics_training_data_wait_seconds"


def _now() -> Panels:
    world = of_run("naics_world_size")
    late = f"({_mean(WAIT, of_run)})"
    newest = of_run("naics_last_step_timestamp_seconds")
    return [
        number("Ranks seen", "Ranks that show metrics now.", "none",
            Query(f"count(count by (run, rank) ({world}))"), steps=[(None, BLUE)], width=6),
        number("Ranks missing", "Ranks that have joined but show no metrics: see the runbook "
            "NaicsRanksMissing.", "none",
            Query(f"max({world}) - count(count by (run, rank) ({world}))"),
            steps=[(None, GOOD), (1, BAD)], width=6),
        number("Late by", "How much longer the last rank waits for its data than the first, in a "
            "step: the others wait for it.", "s", Query(f"max({late}) - min({late})"),
            steps=[(None, GOOD), (0.1, WARNING), (1, BAD)], width=6),
        number("Steps apart", "Time between the newest steps of the first and the last rank, by "
            "their clocks.", "s", Query(f"max({newest}) - min({newest})"),
            steps=[(None, GOOD), (10, WARNING), (60, BAD)], width=6),
    ]  # fmt: skip


def _stragglers() -> Panels:
    age = "naics_last_step_age_seconds"
    steps, waits = f"rate({of_rank(f'{STEP}_sum')}{RATE})", f"rate({of_rank(f'{WAIT}_sum')}{RATE})"
    share = f"sum by (rank) ({waits}) / (sum by (rank) ({waits}) + sum by (rank) ({steps}))"
    return [
        lines("Time of a step", "Mean by rank. Ranks wait for each other in it, so that "
            "the one that comes last has the shortest.", "s", [Query(_mean(STEP), LEGEND)],
            width=HALF, names=RANKS),
        lines("Wait for data", "Mean by rank, from the end of a step to the begin of the "
            "next. The rank on top holds up the others.", "s", [Query(_mean(WAIT), LEGEND)],
            width=HALF, names=RANKS),
        lines("Share of waiting", "Share of the time of a rank that goes into waiting for data. "
            "All high: see NaicsDataStarved; one high: see NaicsStragglerRank.", "percentunit",
            [Query(share, LEGEND)], names=RANKS),
        lines("Slow steps", "What 19 of 20 steps of a rank stay below.", "s",
            [Query(f"histogram_quantile(0.95, sum by (rank, le) "
                   f"(rate({of_rank(f'{STEP}_bucket')}{RATE})))", LEGEND)], names=RANKS),
        lines("Age of the newest step", "By rank. The one that climbs first is where a run "
            "hangs.", "s", [Query(f"max by (rank) ({of_rank(age)})", LEGEND)], names=RANKS),
    ]  # fmt: skip


def _work() -> Panels:
    masked = of_rank("naics_curriculum_masked_negatives_total")
    return [
        lines("Steps per second", "By rank; all should be the same.", "short",
            [Query(f"sum by (rank) (rate({of_rank(f'{STEP}_count')}{RATE}))", LEGEND)],
            names=RANKS),
        lines("Tokens per second", "What each rank sends through the encoder; 0 on cached "
            "features. The rank with the most has the longest texts.", "short",
            [Query(f"sum by (rank) (rate({of_rank('naics_training_tokens_total')}{RATE}))",
                   LEGEND)], names=RANKS),
        lines("Masked negatives", "Suspected false negatives taken out per second, by rank.",
            "short", [Query(f"sum by (rank) (rate({masked}{RATE}))", LEGEND)], names=RANKS),
    ]  # fmt: skip


def _memory() -> Panels:
    def of(metric: str, kind: str) -> list[Query]:
        chosen = of_rank(metric, f'kind="{kind}"')
        return [Query(f"max by (rank) ({chosen})", LEGEND)]

    left = of_rank("naics_gpu_memory_headroom_bytes")
    return [
        lines("Process memory", "Resident memory of each process.", "bytes",
            of("naics_process_memory_bytes", "resident"), names=RANKS),
        lines("GPU memory reserved", "By PyTorch, on each device.", "bytes",
            of("naics_gpu_memory_bytes", "reserved"), names=RANKS),
        lines("GPU memory left", "What PyTorch can still allocate, on each device.", "bytes",
            [Query(f"min by (rank) ({left})", LEGEND)], names=RANKS),
    ]  # fmt: skip


def _devices() -> Panels:
    def newest(metric: str) -> list[Query]:
        return [Query(f"max by (rank) ({of_rank(metric)})", LEGEND)]

    errors = of_rank("naics_exporter_errors_total")
    starts = of_rank("naics_exporter_restarts_total")
    began = of_rank("naics_process_start_time_seconds")
    return [
        lines("GPU in use", "Share of time in which each device computed. Waiting for another "
            "rank counts as computing.", "percentunit", newest("naics_gpu_utilization_ratio"),
            names=RANKS),
        lines("GPU power", "A device that draws less than the others waits for them, or is "
            "throttled.", "watt", newest("naics_gpu_power_watts"), names=RANKS),
        lines("GPU temperature", "A device that is hotter than the others is slower than them.",
            "celsius", newest("naics_gpu_temperature_celsius"), names=RANKS),
        rows("Processes", "Where each rank runs, since when, and whether its exporter has "
            "trouble.", ("rank", "gpu", "instance"),
            [Column("since", f"max by (rank, gpu, instance) ({began}) * 1000", "dateTimeAsIso"),
             Column("unanswered", f"max by (rank, gpu, instance) ({errors})"),
             Column("exporter restarts", f"max by (rank, gpu, instance) ({starts})")], width=24),
    ]  # fmt: skip
