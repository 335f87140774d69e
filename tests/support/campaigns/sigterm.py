"""SIGTERM to one pod of a run within a named phase; then the same command again.

How a phase is hit: the log of the run says when it begins, or when what comes before it is done;
settings make it last. The signal follows after a random part of a window.
"""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from campaigns.counts import Counts
from campaigns.pods import GLOBAL_BATCH, kill_all, note_codes, reference_of, start_pods, wait_all
from campaigns.processes import Started, StuckError
from campaigns.scene import Scene
from campaigns.sigkill import is_upload, resumed_steps
from campaigns.stage import START_S, Stage
from campaigns.undisturbed import DIFFERENCES, Reference, compare

SETTINGS = (  # evaluation and clustering of more codes and in more rounds take a part of a second
    "data.sectors=[]",
    "data.max_codes=240",
    f"data_loader.global_batch_size={GLOBAL_BATCH}",
    "training.trainer.limit_train_batches=10",
    "model.eval_every_n_epochs=2",
    "curriculum.fn_num_clusters=32",
    "curriculum.fn_max_iterations=100",
)
EVALUATED = CLUSTERED = 20  # steps after which it is done, the first before the second
UPLOAD_S = 1.0
PHASES = ("warm-up", "step", "validation", "clustering", "upload")
GOALS = {
    "launchers that did not exit 143": 0,
    "launchers that did not exit 0": 0,
    "lost optimizer steps": 0,
    "silent restarts at step 0": 0,
    **DIFFERENCES,
}
MISSES = 5  # runs that end before the signal, per trial


@dataclass
class Trial:
    """One run that is stopped and goes on."""

    scene: Scene
    phase: str
    pods: list[Started]
    random: Random

    def events(self) -> list[str]:
        """Names of what the pods logged."""
        return [name for pod in self.pods for name, _ in pod.events()]

    def over(self) -> bool:
        """Whether a pod has ended by itself."""
        return any(pod.code() is not None for pod in self.pods)


def sigterm(
    stage: Stage, count: int, num_pods: tuple[int, ...] = (), only: tuple[str, ...] = PHASES
) -> Counts:
    """`count` trials, the phases `only` in turn, with numbers of pods in turn."""
    sizes = num_pods or (2, 3, 4)
    how = f"pods {', '.join(map(str, sizes))}; {stage.kind if sizes == (1,) else 'real processes'}"
    counts = Counts("sigterm", how, goals=GOALS)
    for name in ("trials", *PHASES, *GOALS):
        counts.add(name, 0)
    if stage.proxy is not None:
        stage.proxy.pause = lambda line: UPLOAD_S if is_upload(line) else 0.0
    phases = [phase for phase in only if phase != "upload" or stage.proxy is not None]
    references: dict[int, Reference] = {}
    for number in range(count):
        size = sizes[number % len(sizes)]
        phase = phases[number // len(sizes) % len(phases)]
        if size not in references:
            references[size] = reference_of(stage, size, *SETTINGS)
        try:
            _trial(stage, phase, size, references[size], counts)
        except StuckError as error:
            counts.fail(str(error))
        if counts.missed():
            break
    return counts


def _trial(stage: Stage, phase: str, size: int, reference: Reference, counts: Counts) -> None:
    for _ in range(MISSES):
        data = None if phase == "warm-up" else stage.shared_data
        scene = stage.scene(*SETTINGS, data=data, s3=phase == "upload")
        trial = Trial(scene, phase, start_pods(stage, scene, size), stage.random)
        try:
            if MOMENTS[phase](stage, trial):
                stage.random.choice(trial.pods).send(signal.SIGTERM)
            sent = time.monotonic()
            codes = wait_all(trial.pods)
            seconds = time.monotonic() - sent
        finally:
            kill_all(trial.pods)
        if set(codes) != {0} or scene.steps_done() < reference.num_steps:
            break  # else the run came to its end before the signal
    else:
        counts.fail(f"{phase}: {MISSES} runs ended before the signal")
        return
    counts.add("trials")
    counts.add(phase)
    counts.at_least("seconds from the signal to the last exit", seconds)
    if note_codes(counts, trial.pods, 143):
        _go_on(stage, trial, size, reference, counts)


def _go_on(stage: Stage, trial: Trial, size: int, reference: Reference, counts: Counts) -> None:
    scene = trial.scene
    done, (newest, _) = scene.steps_done(), scene.newest()
    saved = newest.step if newest else 0
    counts.rows.append({
        "phase": trial.phase, "pods": size, "steps": done, "saved": saved,
        "last_event": (trial.events() or [""])[-1],
    })  # fmt: skip
    counts.add("lost optimizer steps", done - saved)
    again = start_pods(stage, scene, size)
    if not note_codes(counts, again, 0):
        return
    resumed = [step for pod in again for step in resumed_steps(pod)]
    if newest and resumed[:1] != [saved]:
        counts.add("silent restarts at step 0", int(not resumed))
        counts.fail(f"{again[0].log.name} resumed {resumed}, not {saved}")
    if newest and scene.record()["restarts"] != 1:
        counts.fail(f"{again[0].log.name}: {scene.record()['restarts']} restarts in the record")
    compare(counts, scene, reference, 0)


def _after_event(names: tuple[str, ...], window_s: float) -> Callable[[Stage, Trial], bool]:
    def moment(stage: Stage, trial: Trial) -> bool:
        name = trial.random.choice(names)
        return _reached(trial, lambda: name in trial.events(), f"the event {name}", window_s)

    return moment


def _after_step(steps: tuple[int, ...], window_s: float) -> Callable[[Stage, Trial], bool]:
    """Once one of `steps` optimizer steps is logged as done."""

    def moment(stage: Stage, trial: Trial) -> bool:
        step = trial.random.choice(steps)
        done = lambda: any(s >= step - 1 for s, _ in trial.scene.steps())  # noqa: E731
        return _reached(trial, done, f"step {step}", window_s)

    return moment


def _amid_upload(stage: Stage, trial: Trial) -> bool:
    assert stage.proxy is not None
    paused = stage.proxy.paused
    return _reached(trial, lambda: bool(paused), "an upload", UPLOAD_S)


def _reached(trial: Trial, happened: Callable[[], bool], what: str, window_s: float) -> bool:
    """Wait for it and a random part of the window; False when the run is over by then."""
    trial.pods[0].until(lambda: happened() or trial.over(), START_S, what)
    time.sleep(trial.random.uniform(0, window_s))
    return not trial.over()


MOMENTS: dict[str, Callable[[Stage, Trial], bool]] = {
    "warm-up": _after_event(("data.written", "weights.resolved", "features.encoding"), 0.3),
    "step": _after_step(tuple(range(1, 27)), 0.1),
    "validation": _after_step((EVALUATED,), 0.3),
    "clustering": _after_step((CLUSTERED,), 0.6),
    "upload": _amid_upload,
}
