"""The dashboard of all runs: which one needs attention."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Panel, ValueMap, ValueMappingResult

from dashboards.board import Panels, board, of_rank, of_run
from dashboards.palette import BAD, BLUE, GOOD, WARNING
from dashboards.panels import FULL, HALF, Column, Query, bands, lines, number, phase_names, rows

BY_RUN = ("namespace", "run")


def fleet() -> Dashboard:
    """For whoever is on call for all runs of a cluster."""
    return board(
        "naics-fleet",
        "naics-job: Fleet",
        "All runs: phase, progress, goodput and the age of the newest step.",
        [("Runs", [*_counts(), _table()]), ("Over time", _over_time()), ("Ended", [_ended()])],
        many_runs=True,
    )


def _counts() -> Panels:
    age, restarts = "naics_last_step_age_seconds", "naics_run_restarts_total"
    stale = of_run("naics_checkpoint_age_seconds")
    return [
        number("Runs", "Runs that show metrics now.", "none",
            Query(f"count(count by (namespace, run) ({of_run('naics_world_size')}))"),
            steps=[(None, BLUE)], width=6),
        number("Processes", "Processes of all of them.", "none",
            Query(f"count({of_run('naics_world_size')})"), steps=[(None, BLUE)], width=6),
        number("Oldest newest step", "The longest time that a run has made no step.", "s",
            Query(f"max(min by (namespace, run) ({of_run(age)}))"),
            steps=[(None, GOOD), (60, WARNING), (300, BAD)], width=4),
        number("Oldest checkpoint", "Work that a restart would lose at most.", "s",
            Query(f"max({stale})"), steps=[(None, GOOD), (900, WARNING), (1800, BAD)], width=4),
        number("Restarts", "Resumes of the runs together.", "none",
            Query(f"sum(max by (namespace, run) ({of_run(restarts)}))"),
            steps=[(None, GOOD), (1, WARNING), (10, BAD)], width=4),
    ]  # fmt: skip


def _most(metric: str) -> str:
    return f"max by (namespace, run) ({of_run(metric)})"


def _table() -> Builder[Panel]:
    left = f"({_most('naics_training_planned_steps')} - {_most('naics_training_step')})"
    pace = f"max by (namespace, run) (deriv({of_run('naics_training_step')}[10m]))"
    total = of_run("naics_training_loss", 'term="total"')
    age = f"min by (namespace, run) ({of_run('naics_last_step_age_seconds')})"
    return rows(
        "Runs", "One line per run; a click on a heading sorts.", BY_RUN,
        [Column("phase", _most("naics_training_phase"), "none", (phase_names(),)),
         Column("finished", _most("naics_training_progress_ratio"), "percentunit"),
         Column("left", f"{left} / ({pace} > 0)", "s"),
         Column("newest step", age, "s"),
         Column("steps per second", f"{pace} > 0", "short"),
         Column("goodput", _most("naics_run_goodput_ratio"), "percentunit"),
         Column("loss", f"avg by (namespace, run) ({total})"),
         Column("checkpoint age", _most("naics_checkpoint_age_seconds"), "s"),
         Column("restarts", _most("naics_run_restarts_total")),
         Column("processes", _most("naics_world_size"))],
        height=10,
    )  # fmt: skip


def _over_time() -> Panels:
    legend = "{{run}}"
    share = "naics_training_progress_ratio"
    age = f"min by (namespace, run) ({of_run('naics_last_step_age_seconds')})"
    parent = of_run("naics_evaluation_score", 'metric="parent@1"')
    anchors = f"rate({of_run('naics_training_anchors_total')}[$__rate_interval])"
    left = "naics_gpu_memory_headroom_bytes"
    resident = of_rank("naics_process_memory_bytes", 'kind="resident"')
    return [
        bands("Phases", "Phase of each run; a gap is time without a process.",
            [Query(_most("naics_training_phase"), legend)], height=8),
        lines("Progress", "Finished share of the planned steps.", "percentunit",
            [Query(_most(share), legend)]),
        lines("Goodput", "Share of the time of a run's process that went into steps which were "
            "not done before.", "percentunit", [Query(_most("naics_run_goodput_ratio"), legend)]),
        lines("Age of the newest step", "A line that climbs is a run that stalls, evaluates or "
            "exports.", "s", [Query(age, legend)]),
        lines("Throughput", "Anchors per second of all processes of a run.", "short",
            [Query(f"max by (namespace, run) ({anchors})", legend)]),
        lines("Quality", "parent@1 of all codes: share of codes whose nearest shorter code is "
            "their parent.", "percentunit",
            [Query(f"max by (namespace, run) ({parent})", legend)]),
        lines("Age of the newest checkpoint", "Above 30 minutes: see the runbook "
            "NaicsCheckpointStale.", "s", [Query(_most("naics_checkpoint_age_seconds"), legend)]),
        lines("Process memory", "Resident memory of the largest process.", "bytes",
            [Query(f"max by (namespace, run) ({resident})", legend)],
            width=HALF),
        lines("GPU memory left", "On the fullest device of a run.", "bytes",
            [Query(f"min by (namespace, run) ({of_rank(left)})", legend)], width=HALF),
    ]  # fmt: skip


def _ended() -> Builder[Panel]:
    outcome = f"max by (namespace, run, status) ({of_run('naics_run_outcome')} == 1)"
    code = f"max by (namespace, run) ({of_run('naics_run_exit_code')})"
    joined = f"{outcome} * 0 + on (namespace, run) group_left () {code}"
    names = {"0": ValueMappingResult(text="0", color=GOOD, index=0)}
    return rows(
        "How runs ended", "While a process lingers, or as a Pushgateway holds it.",
        (*BY_RUN, "status"), [Column("exit code", joined, "none", (ValueMap(options=names),))],
        width=FULL, height=6,
    )  # fmt: skip
