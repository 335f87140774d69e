"""The catalogue of every metric a run exports: name, type, unit, labels and meaning, once.

`docs/metrics.md` is generated from it (`make docs`); the exporter refuses names that are not here.
Every series also has the labels of `CONSTANT_LABELS`.
"""

from dataclasses import dataclass

CONSTANT_LABELS = ("run", "rank", "gpu")
MAX_SERIES = 250  # of one process; experts beyond MAX_EXPERTS are left out for it
MAX_EXPERTS = 64

# From 1 ms (cached features, few codes) to minutes (adapters on a CPU).
TIME_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

APPLIES = {  # where and when a metric has values
    "start": "every rank, from the start of the process",
    "training": "every rank, while and after it trains",
    "logged": "every rank, renewed every training.trainer.log_every_n_steps steps",
    "sampled": "every rank, renewed as above or more rarely, and at the end: reading costs time",
    "mined": "the same, in steps that mine negatives (phases 2 and 3)",
    "clustered": "every rank, once codes were clustered (phase 3)",
    "measured": "every rank, renewed in logged steps at least 50 steps apart",
    "evaluated": "every rank, after each evaluation",
    "heldout": "every rank, after each evaluation, where codes are held out",
    "main": "rank 0, while and after it trains",
    "saved": "rank 0, once a checkpoint was stored",
    "linux": "every rank, on Linux",
    "gpu": "every rank that trains on a CUDA device",
    "nvml": "the same, where the driver answers (NVML)",
    "end": "rank 0, after the end of the run, while it lingers and at the Pushgateway",
    "failed": "every rank, from 0 on",
}


@dataclass(frozen=True)
class Metric:
    """One metric family."""

    name: str  # as scraped, with _total of a counter and _info of an info
    kind: str  # gauge | counter | histogram | info
    applies: str  # key of APPLIES
    help: str
    labels: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """Unit by the end of the name; empty for a plain number."""
        base = self.name.removesuffix("_total")
        return next((unit for unit in UNITS if base.endswith(f"_{unit}")), "")


UNITS = ("seconds", "bytes", "ratio", "watts", "celsius")


def _of(kind: str, applies: str, name: str, text: str, *labels: str) -> Metric:
    return Metric(f"naics_{name}", kind, applies, text, labels)


_RUN = (
    _of("info", "start", "build_info", "Versions of what trains, and the image it runs in.",
        "version", "python", "torch", "lightning", "image"),
    _of("info", "start", "run_info", "Which run this is.", "experiment", "config_hash"),
    _of("gauge", "start", "process_start_time_seconds", "Unix time when this process began."),
    _of("gauge", "start", "world_size", "Processes that train together."),
    _of("counter", "training", "run_restarts_total", "Resumes of the run so far."),
    _of("counter", "main", "run_lost_steps_total",
        "Optimizer steps that restarts of the run had to do again."),
    _of("gauge", "main", "run_goodput_ratio",
        "Share of this process's time that went into steps which were not done before."),
    _of("gauge", "end", "run_outcome", "1 for how the run ended.", "status"),
    _of("gauge", "end", "run_exit_code", "Exit code of the process."),
)  # fmt: skip
_TRAINING = (
    _of("gauge", "training", "training_phase", "Phase of the curriculum: 1, 2 or 3."),
    _of("gauge", "training", "training_phase_active", "1 for the phase that runs, 0 for others.",
        "phase_name"),
    _of("gauge", "training", "training_phase_progress_ratio", "Finished share of the phase."),
    _of("gauge", "training", "training_progress_ratio", "Finished share of the planned steps."),
    _of("gauge", "training", "training_phase_end_step",
        "Step after the last one of a phase, fixed when the run first starts.", "phase"),
    _of("gauge", "training", "training_planned_steps", "Optimizer steps of the whole run."),
    _of("gauge", "training", "training_epoch", "Epoch that runs, counted from 0."),
    _of("gauge", "training", "training_step", "Finished optimizer steps."),
    _of("gauge", "training", "training_encoder_active",
        "1 while the adapters of the encoder train, 0 while cached features serve."),
    _of("gauge", "training", "last_step_timestamp_seconds",
        "Unix time of the newest finished step."),
    _of("gauge", "training", "last_step_age_seconds",
        "Time since the newest finished step; a clock that is set does not change it."),
    _of("gauge", "logged", "training_loss", "Loss by term before its weight; total is the sum.",
        "term"),
    _of("gauge", "sampled", "training_learning_rate", "Learning rate by parameter group.", "group"),
    _of("gauge", "logged", "training_gradient_norm", "Norm of all gradients before clipping."),
    _of("counter", "failed", "training_nonfinite_total",
        "Losses and gradients that were infinite or not a number; source is a term or gradient.",
        "source"),
    _of("gauge", "measured", "training_gradient_share_ratio",
        "Share of a loss term, with its weight, in the gradients at points and texts, by norm.",
        "term"),
    _of("gauge", "measured", "training_mechanism_share_ratio",
        "By how much the contrastive gradient would change without a mechanism, of its norm.",
        "mechanism"),
    _of("gauge", "logged", "training_margin", "Mean margin of the negatives."),
    _of("gauge", "logged", "training_edge_length", "Distance that stands for an edge of the tree."),
    _of("counter", "training", "training_anchors_total",
        "Anchors trained, of all processes together: the same on each of them."),
    _of("counter", "training", "training_codes_total",
        "Unique codes embedded, of all processes together: the same on each of them."),
    _of("counter", "training", "training_tokens_total",
        "Tokens that this process sent through the encoder; 0 on cached features."),
    _of("histogram", "training", "training_step_seconds", "Time of an optimizer step."),
    _of("histogram", "training", "training_data_wait_seconds", "Wait for the next batch."),
)  # fmt: skip
_BATCH = (
    _of("gauge", "training", "global_batch_anchors", "Anchors of an optimizer step, of all ranks."),
    _of("gauge", "logged", "global_batch_codes", "Unique codes of a step, of all ranks."),
    _of("gauge", "logged", "global_batch_pairs", "Pairs of an anchor and a code in a step."),
    _of("gauge", "logged", "global_batch_memory_bytes",
        "Memory that codes and pairs of all ranks take on this one.", "part"),
    _of("gauge", "training", "curriculum_hard_share_ratio", "Share of negatives that is mined."),
    _of("gauge", "training", "curriculum_tree_distance_alpha",
        "Negatives are drawn with weight tree distance ** -alpha."),
    _of("gauge", "clustered", "curriculum_clusters", "Clusters in use against false negatives."),
    _of("counter", "training", "curriculum_masked_negatives_total",
        "Suspected false negatives that the clusters took out of this process's steps."),
    _of("gauge", "mined", "curriculum_mined_distance",
        "Mean geodesic distance from codes to the negatives mined for them."),
    _of("gauge", "sampled", "router_load_ratio",
        "Share of the assignments of codes to experts, for the first 64 experts.", "expert"),
    _of("gauge", "sampled", "router_load_max_ratio", "The largest of these shares."),
)  # fmt: skip
_QUALITY = (
    _of("gauge", "evaluated", "evaluation_score", "Metrics of the newest evaluation of all codes.",
        "metric"),
    _of("gauge", "heldout", "evaluation_heldout_score", "The same of the held-out codes.",
        "metric"),
    _of("gauge", "evaluated", "evaluation_step", "Step after which was evaluated last."),
    _of("gauge", "evaluated", "evaluation_timestamp_seconds", "Unix time of that evaluation."),
    _of("gauge", "evaluated", "embedding_radius", "Mean distance from the origin by code length.",
        "level"),
    _of("gauge", "evaluated", "embedding_max_radius", "Largest distance from the origin."),
    _of("gauge", "evaluated", "embedding_mean_distance", "Mean distance of two codes."),
    _of("gauge", "evaluated", "embedding_effective_rank", "Dimensions that the embedding uses."),
    _of("gauge", "evaluated", "embedding_collapsed", "1 when the embedding has collapsed."),
    _of("gauge", "evaluated", "embedding_sibling_confusion_ratio",
        "Share of codes that are nearer to a sibling than to their parent."),
    _of("gauge", "evaluated", "embedding_manifold_error", "Largest relative error of a point."),
)  # fmt: skip
_MEMORY = (
    _of("gauge", "linux", "process_memory_bytes", "Memory of the process, resident and at most.",
        "kind"),
    _of("gauge", "gpu", "gpu_memory_bytes",
        "Memory of the device: allocated and reserved by PyTorch, peak of what was allocated, "
        "total.", "kind"),
    _of("gauge", "gpu", "gpu_memory_headroom_bytes",
        "What PyTorch can still allocate: free on the device, and reserved but not in use."),
    _of("gauge", "nvml", "gpu_utilization_ratio", "Share of time in which the device computed."),
    _of("gauge", "nvml", "gpu_power_watts", "Power that the device draws."),
    _of("gauge", "nvml", "gpu_temperature_celsius", "Temperature of the device."),
)  # fmt: skip
_CHECKPOINTS = (
    _of("gauge", "main", "checkpoint_age_seconds",
        "Time since a checkpoint was stored; before the first one, since training began."),
    _of("gauge", "saved", "checkpoint_step", "Step of the newest stored checkpoint."),
    _of("gauge", "saved", "checkpoint_size_bytes", "Size of the newest stored checkpoint."),
    _of("gauge", "saved", "checkpoint_duration_seconds", "How long it took to store it."),
    _of("counter", "main", "checkpoint_saved_total", "Checkpoints stored by this process."),
    _of("counter", "main", "checkpoint_failures_total", "Tries to store one that failed."),
    _of("counter", "main", "checkpoint_replaced_total",
        "Snapshots that a newer one replaced before they were stored."),
    _of("gauge", "main", "checkpoint_queue", "Snapshots that wait or are on their way."),
    _of("counter", "training", "checkpoint_blocked_seconds_total",
        "Time for which saves held up training."),
)  # fmt: skip
_EXPORTER = (
    _of("counter", "start", "exporter_errors_total", "Requests that were not answered."),
    _of("counter", "start", "exporter_restarts_total", "Starts after the exporter had ended."),
)  # fmt: skip

METRICS = (*_RUN, *_TRAINING, *_BATCH, *_QUALITY, *_MEMORY, *_CHECKPOINTS, *_EXPORTER)
CATALOGUE = {metric.name: metric for metric in METRICS}
