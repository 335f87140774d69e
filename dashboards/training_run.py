"""The dashboard of one run: where it is, whether it learns, how fast, and what it holds."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.board import Panels, board, of_rank, of_run
from dashboards.palette import BAD, BLUE, GOOD, WARNING
from dashboards.panels import (
    HALF,
    Column,
    Query,
    bands,
    lines,
    number,
    phase_names,
    rows,
)

TERMS = (
    "total",
    "contrastive",
    "hierarchy",
    "rank_order",
    "distillation",
    "radius",
    "load_balance",
    "code_contrastive",
    "attract",
)
MECHANISMS = (
    "structure_weights",
    "mining",
    "router",
    "false_negatives",
    "cross_reference_negatives",
    "margin",
)
SCORES = ("parent@1", "map", "ndcg@10", "spearman", "cophenetic", "distortion")
GROUPS = ("maps", "experts", "scales", "lora")
LEVELS = tuple(f"level {level}" for level in range(2, 7))
QUANTILES = ("half", "19 of 20", "99 of 100")
STEPS_PER_S = f"max(rate({of_run('naics_training_step_seconds_count')}[$__rate_interval]))"
PACE = f"clamp_min(max(deriv({of_run('naics_training_step')}[10m])), 0)"


def training_run() -> Dashboard:
    """For whoever watches one run."""
    return board(
        "naics-training-run",
        "naics-job: Training run",
        "One run: phase, losses, quality, speed, memory, checkpoints and restarts.",
        [
            ("Now", _now()),
            ("Curriculum", _curriculum()),
            ("Does it learn", _learning()),
            ("What drives the gradient", _gradient()),
            ("Quality of the embedding", _quality()),
            ("Speed", _speed()),
            ("Memory and device", _memory()),
            ("Experts and negatives", _experts()),
            ("Checkpoints and restarts", _checkpoints()),
        ],
    )


def _now() -> Panels:
    def newest(metric: str) -> Query:
        return Query(f"max({of_run(metric)})")

    plain = [(None, BLUE)]
    left = f"(max({of_run('naics_training_planned_steps')}) - max({of_run('naics_training_step')}))"
    return [
        number("Phase", "Phase of the curriculum that runs.", "none",
            newest("naics_training_phase"), steps=plain, width=6, mappings=[phase_names()]),
        number("Finished", "Finished share of the planned steps.", "percentunit",
            newest("naics_training_progress_ratio"), steps=plain),
        number("Left", "Time to the last planned step at the pace of the last ten minutes.", "s",
            Query(f"{left} / ({PACE} > 0)"), steps=plain),
        number("Newest step", "Time since a rank finished a step. More than a minute or ten steps: "
            "see the runbook NaicsTrainingStalled.", "s",
            Query(f"min({of_run('naics_last_step_age_seconds')})"),
            steps=[(None, GOOD), (60, WARNING), (300, BAD)]),
        number("Goodput", "Share of the time of the process that went into steps which were not "
            "done before. Starts, evaluations and saves lower it.", "percentunit",
            newest("naics_run_goodput_ratio"),
            steps=[(None, BAD), (0.3, WARNING), (0.7, GOOD)]),
        number("Restarts", "Resumes of the run so far.", "none",
            newest("naics_run_restarts_total"), steps=[(None, GOOD), (1, WARNING), (5, BAD)]),
        number("Processes", "Processes that train together.", "none",
            newest("naics_world_size"), steps=plain),
    ]  # fmt: skip


def _curriculum() -> Panels:
    return [
        bands("Phase", "Phase of the curriculum over time; a gap is time without a process.",
            [Query(f"max by (run) ({of_run('naics_training_phase')})", "{{run}}")]),
        lines("Progress", "Finished share of the phase and of the whole run.", "percentunit",
            [Query(f"max({of_run('naics_training_phase_progress_ratio')})", "phase"),
             Query(f"max({of_run('naics_training_progress_ratio')})", "run")],
            names=("phase", "run")),
        lines("Steps and borders", "Finished steps, and the steps at which phases end.", "none",
            [Query(f"max({of_run('naics_training_step')})", "finished"),
             Query(f"max by (phase) ({of_run('naics_training_phase_end_step')})",
                   "end of phase {{phase}}")],
            names=("finished", *(f"end of phase {phase}" for phase in (1, 2, 3)))),
        lines("Negatives", "Share of the negatives that is mined, and the exponent by which the "
            "others prefer near codes.", "none",
            [Query(f"max({of_run('naics_curriculum_hard_share_ratio')})", "mined share"),
             Query(f"max({of_run('naics_curriculum_tree_distance_alpha')})", "alpha")],
            names=("mined share", "alpha")),
    ]  # fmt: skip


def _learning() -> Panels:
    return [
        lines("Losses", "Loss by term before its weight; total is the weighted sum. Mean of the "
            "ranks.", "none",
            [Query(f"avg by (term) ({of_run('naics_training_loss')})", "{{term}}")],
            width=HALF, names=TERMS, log=True),
        lines("Gradient norm", "Norm of all gradients before clipping. Peaks at a border of the "
            "curriculum are usual, growth is not.", "none",
            [Query(f"max({of_run('naics_training_gradient_norm')})", "norm")],
            width=HALF, names=("norm",), log=True),
        lines("Learning rate", "Learning rate by parameter group.", "none",
            [Query(f"max by (group) ({of_run('naics_training_learning_rate')})", "{{group}}")],
            names=GROUPS, log=True),
        lines("Not finite", "Losses and gradients that were infinite or not a number, in five "
            "minutes. 0 is good.", "none",
            [Query(f"sum by (source) (increase({of_run('naics_training_nonfinite_total')}[5m]))",
                   "{{source}}")], names=(*TERMS[1:], "gradient")),
        lines("Margin and edge", "Mean margin of the negatives, and the distance that stands for "
            "an edge of the tree.", "none",
            [Query(f"avg({of_run('naics_training_margin')})", "margin"),
             Query(f"avg({of_run('naics_training_edge_length')})", "edge")],
            names=("margin", "edge")),
    ]  # fmt: skip


def _gradient() -> Panels:
    shares = of_run("naics_training_gradient_share_ratio")
    mechanisms = of_run("naics_training_mechanism_share_ratio")
    return [
        lines("Loss terms", "Share of each loss term, with its weight, in the gradients at points "
            "and texts. Below 1 % all run long it does nothing: the log names it when the run "
            "ends. A share of 0 has no line.", "percentunit",
            [Query(f"avg by (term) ({shares})", "{{term}}")],
            width=HALF, names=TERMS[1:], log=True),
        lines("Mechanisms", "By how much the gradient of the contrastive term would change without "
            "a mechanism, as a share of it; these do not add up to 1. The newest measurement "
            "stays after the phase in which a mechanism acts.", "percentunit",
            [Query(f"avg by (mechanism) ({mechanisms})", "{{mechanism}}")],
            width=HALF, names=MECHANISMS, log=True),
    ]  # fmt: skip


def _quality() -> Panels:
    return [
        lines("All codes", "Metrics of the newest evaluation. Of all but distortion more is "
            "better.", "none",
            [Query(f"max by (metric) ({of_run('naics_evaluation_score')})", "{{metric}}")],
            width=HALF, names=SCORES),
        lines("Held-out codes", "The same for codes that take no part in training: this is what "
            "counts for codes to come.", "none",
            [Query(f"max by (metric) ({of_run('naics_evaluation_heldout_score')})", "{{metric}}")],
            width=HALF, names=SCORES),
        lines("Radius by level", "Mean distance from the origin by length of the code. Long codes "
            "belong outside: the lines should lie above each other in order.", "none",
            [Query(f"max by (level) ({of_run('naics_embedding_radius')})", "level {{level}}"),
             Query(f"max({of_run('naics_embedding_max_radius')})", "largest")],
            names=(*LEVELS, "largest")),
        lines("Spread", "Dimensions that the embedding uses, and the mean distance of two codes. "
            "Both near 0: it has collapsed.", "none",
            [Query(f"max({of_run('naics_embedding_effective_rank')})", "effective rank"),
             Query(f"max({of_run('naics_embedding_mean_distance')})", "mean distance"),
             Query(f"max({of_run('naics_embedding_collapsed')})", "collapsed")],
            names=("effective rank", "mean distance", "collapsed")),
        lines("Errors", "Share of codes that are nearer to a sibling than to their parent, and "
            "the largest relative error of a point on the hyperboloid.", "percentunit",
            [Query(f"max({of_run('naics_embedding_sibling_confusion_ratio')})", "siblings"),
             Query(f"max({of_run('naics_embedding_manifold_error')})", "hyperboloid")],
            names=("siblings", "hyperboloid")),
        rows("Newest evaluation", "Step after which was evaluated last, and when.", ("run",),
            [Column("after step", f"max by (run) ({of_run('naics_evaluation_step')})"),
             Column("at", f"max by (run) ({of_run('naics_evaluation_timestamp_seconds')}) * 1000",
                    "dateTimeAsIso")], width=24, height=4),
    ]  # fmt: skip


def _speed() -> Panels:
    rate = "[$__rate_interval]"
    buckets = f"rate({of_run('naics_training_step_seconds_bucket')}{rate})"
    steps = f"sum(rate({of_run('naics_training_step_seconds_sum')}{rate}))"
    waits = f"sum(rate({of_run('naics_training_data_wait_seconds_sum')}{rate}))"
    return [
        lines("Throughput", "What all processes together train and embed per second; a code that "
            "is asked for several times in a step counts once.", "short",
            [Query(f"max(rate({of_run('naics_training_anchors_total')}{rate}))", "anchors"),
             Query(f"max(rate({of_run('naics_training_codes_total')}{rate}))", "codes")],
            names=("anchors", "codes"), log=True),
        lines("Tokens", "Tokens per second through the encoder; 0 on cached features.", "short",
            [Query(f"sum(rate({of_run('naics_training_tokens_total')}{rate}))", "tokens"),
             Query(f"max({of_run('naics_training_encoder_active')})", "encoder trains (0 or 1)")],
            names=("tokens", "encoder trains (0 or 1)")),
        lines("Pace", "Optimizer steps per second.", "short",
            [Query(STEPS_PER_S, "steps")], names=("steps",)),
        lines("Time of a step", "Of all ranks, as far as the bounds of the histogram can "
            "tell.", "s",
            [Query(f"histogram_quantile({share}, sum by (le) ({buckets}))", name)
             for share, name in zip((0.5, 0.95, 0.99), QUANTILES, strict=True)],
            names=QUANTILES, log=True),
        lines("Waiting for data", "Share of the time, in steps and between them, that ranks wait "
            "for the next batch. Above 30 %: see the runbook NaicsDataStarved.", "percentunit",
            [Query(f"{waits} / ({waits} + {steps})", "waiting")], names=("waiting",)),
        lines("Global batch", "Anchors and unique codes of a step, of all ranks.", "short",
            [Query(f"max({of_run('naics_global_batch_anchors')})", "anchors"),
             Query(f"max({of_run('naics_global_batch_codes')})", "codes")],
            names=("anchors", "codes")),
    ]  # fmt: skip


def _memory() -> Panels:
    gpu = ("total", "reserved", "allocated", "peak")
    return [
        lines("Process memory", "Resident memory of the largest process now, and the most that "
            "one has held. The pod's limit is for all of its processes.", "bytes",
            [Query(f"max by (kind) ({of_rank('naics_process_memory_bytes')})", "{{kind}}")],
            names=("resident", "peak")),
        lines("Memory of the global batch", "What the codes of a step of all ranks and their "
            "pairs take on each of them.", "bytes",
            [Query(f"max by (part) ({of_rank('naics_global_batch_memory_bytes')})", "{{part}}")],
            names=("codes", "pairs")),
        lines("GPU memory", "Of the fullest device: allocated and reserved by PyTorch, the peak "
            "of what was allocated, and its total.", "bytes",
            [Query(f"max by (kind) ({of_rank('naics_gpu_memory_bytes')})", "{{kind}}")],
            names=gpu),
        lines("GPU memory left", "What PyTorch can still allocate on the fullest device. Below "
            "5 %: see the runbook NaicsGpuMemoryHeadroomLow.", "bytes",
            [Query(f"min({of_rank('naics_gpu_memory_headroom_bytes')})", "left")],
            names=("left",)),
        lines("GPU in use", "Share of time in which the devices computed; the mean and the least. "
            "Low on cached features, where there is little to compute.", "percentunit",
            [Query(f"avg({of_rank('naics_gpu_utilization_ratio')})", "mean"),
             Query(f"min({of_rank('naics_gpu_utilization_ratio')})", "least")],
            names=("mean", "least")),
        lines("GPU power", "Power of all devices together.", "watt",
            [Query(f"sum({of_rank('naics_gpu_power_watts')})", "power")], names=("power",)),
    ]  # fmt: skip


def _experts() -> Panels:
    masked = of_run("naics_curriculum_masked_negatives_total")
    return [
        lines("Load of experts", "Share of the assignments of codes to experts. Even is good; one "
            "line near 1 means that the router uses a single expert.", "percentunit",
            [Query(f"avg by (expert) ({of_run('naics_router_load_ratio')})", "expert {{expert}}"),
             Query(f"max({of_run('naics_router_load_max_ratio')})", "largest")],
            names=(*(f"expert {number}" for number in range(4)), "largest")),
        lines("Masked negatives", "Suspected false negatives taken out per second, of all ranks; "
            "phase 3 only.", "short",
            [Query(f"sum(rate({masked}[$__rate_interval]))", "masked"),
             Query(f"max({of_run('naics_curriculum_clusters')})", "clusters")],
            names=("masked", "clusters")),
        lines("Mined distance", "Mean distance from codes to the negatives mined for them; "
            "phases 2 and 3.", "none",
            [Query(f"avg({of_run('naics_curriculum_mined_distance')})", "distance")],
            names=("distance",)),
    ]  # fmt: skip


def _checkpoints() -> Panels:
    blocked = of_run("naics_checkpoint_blocked_seconds_total")
    images = f"max by (run, version, image) ({of_run('naics_build_info')})"
    return [
        lines("Age of the newest checkpoint", "What a restart would lose. It should rise and fall "
            "like a saw; above 30 minutes: see the runbook NaicsCheckpointStale.", "s",
            [Query(f"max({of_run('naics_checkpoint_age_seconds')})", "age")], names=("age",)),
        lines("Saves", "Checkpoints stored, tries that failed, and snapshots that a newer one "
            "replaced, in five minutes; and how many wait.", "none",
            [Query(f"max(increase({of_run('naics_checkpoint_saved_total')}[5m]))", "stored"),
             Query(f"max(increase({of_run('naics_checkpoint_failures_total')}[5m]))", "failed"),
             Query(f"max(increase({of_run('naics_checkpoint_replaced_total')}[5m]))", "replaced"),
             Query(f"max({of_run('naics_checkpoint_queue')})", "waiting")],
            names=("stored", "failed", "replaced", "waiting")),
        lines("Time of a save", "How long it took to store the newest checkpoint, and for how "
            "much of each second saves hold up training.", "s",
            [Query(f"max({of_run('naics_checkpoint_duration_seconds')})", "storing"),
             Query(f"max(rate({blocked}[$__rate_interval]))", "held up, per second")],
            names=("storing", "held up, per second"), log=True),
        lines("Size of a checkpoint", "Size of the newest stored checkpoint.", "bytes",
            [Query(f"max({of_run('naics_checkpoint_size_bytes')})", "size")], names=("size",)),
        lines("Steps", "Finished steps, and the step of the newest stored checkpoint.", "none",
            [Query(f"max({of_run('naics_training_step')})", "finished"),
             Query(f"max({of_run('naics_checkpoint_step')})", "stored")],
            names=("finished", "stored")),
        lines("Restarts and lost steps", "Resumes of the run, and the steps that they had to do "
            "again.", "none",
            [Query(f"max({of_run('naics_run_restarts_total')})", "restarts"),
             Query(f"max({of_run('naics_run_lost_steps_total')})", "lost steps")],
            names=("restarts", "lost steps")),
        rows("What runs", "Version and image of the processes.", ("run", "version", "image"),
            [Column("processes", images.replace("max by", "count by"))], width=24, height=4),
    ]  # fmt: skip
