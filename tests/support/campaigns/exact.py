"""Interrupt a run at and next to every border, and compare it bit by bit with the straight one.

The interruption comes from within the process, right after a given optimizer step: SIGTERM, which
saves, or SIGKILL, which costs the steps since the last save. Compared are the anchors and positives
of every step, the losses, and the final weights.
"""

import json
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from campaigns.counts import Counts
from campaigns.processes import Started
from campaigns.scene import Scene, trace_of
from campaigns.stage import START_S, Stage
from campaigns.undisturbed import DIFFERENCES, Reference, compare

Ids = dict[int, list[list[int]]]  # optimizer step -> anchors and positives of its micro-batches
Cut = tuple[int, signal.Signals]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone")
SAME_STEPS = (
    "training.lora_learning_rate=1e-4",  # Adam magnifies rounding by this
    "data_loader.global_batch_size=8",
)
DIFFERENCE = "largest difference of a loss"  # between numbers of processes
WITH_ADAPTERS = "largest difference of a loss, adapters training"
GOALS = {
    "chains with other sample ids": 0,
    "starts with another exit code": 0,
    **DIFFERENCES,
}


def exact(stage: Stage, count: int, most_cuts: int = 12) -> Counts:
    """`count` runs with up to `most_cuts` interruptions each; the first is cut at every border."""
    counts = Counts("exact", stage.kind, goals=GOALS)
    for name in ("chains", "interruptions by SIGTERM", "interruptions by SIGKILL", *GOALS):
        counts.add(name, 0)
    scene, run = _straight(stage)
    trace, wanted = trace_of(scene.steps()), read_ids(scene.folder / "ids")
    reference = Reference(trace, scene.weights_digest(), 0.0)
    places = cuts_near(borders_of(run), len(trace))
    for number in range(count):
        steps = places if number == 0 else stage.random.sample(places, len(places) // 2)
        steps = sorted(stage.random.sample(steps, min(most_cuts, len(steps))))
        signals = [stage.random.choice((signal.SIGTERM, signal.SIGKILL)) for _ in steps]
        cut = _interrupted(stage, list(zip(steps, signals, strict=True)), counts)
        compare(counts, cut, reference, signals.count(signal.SIGKILL))
        try:
            same = read_ids(cut.folder / "ids") == wanted
        except AssertionError as error:
            same, text = False, str(error)
        else:
            text = "sample ids differ"
        if not same:
            counts.add("chains with other sample ids")
            counts.fail(f"{cut.folder.name}: {text}")
    return counts


def borders_of(run: Started) -> list[int]:
    """First optimizer steps of the phases after the first, and ends of epochs, as logged."""
    found = set()
    for name, text in run.events():
        if name in ("curriculum.phase", "evaluation") and (at := re.search(r"step=(\d+)", text)):
            found.add(int(at[1]))
    return sorted(found - {0})


def cuts_near(borders: Sequence[int], num_steps: int) -> list[int]:
    """Steps at and next to `borders` after which a run of `num_steps` can be interrupted."""
    near = {border + offset for border in borders for offset in (-1, 0, 1)}
    return sorted(step for step in near | {1} if 0 < step < num_steps)


def _straight(stage: Stage, *settings: str) -> tuple[Scene, Started]:
    scene = stage.scene(*settings, data=stage.shared_data)
    run = stage.processes.start(scene.command(note_ids=str(scene.folder / "ids")))
    code = run.wait(START_S)
    assert code == 0, run.text[-3000:]
    return scene, run


def _interrupted(stage: Stage, cuts: Sequence[Cut], counts: Counts) -> Scene:
    """A run that is interrupted at `cuts` and then comes to its end."""
    scene = stage.scene(data=stage.shared_data)
    ids = str(scene.folder / "ids")
    counts.add("chains")
    for step, number in cuts:
        run = stage.processes.start(scene.command(note_ids=ids, at_step=[step, int(number)]))
        killed = number == signal.SIGKILL
        _require(run, -number if killed else 128 + number, counts)
        run.kill()
        counts.add(f"interruptions by {number.name}")
    _require(stage.processes.start(scene.command(note_ids=ids)), 0, counts)
    return scene


def _require(run: Started, code: int, counts: Counts) -> None:
    found = run.wait(START_S)
    if found != code:
        counts.add("starts with another exit code")
        counts.fail(f"{run.log.name} ended with {found}, not {code}: {run.text[-1500:]}")


def read_ids(folder: Path) -> Ids:
    """Of the first process, which sees the anchors of all.

    Raises:
        AssertionError: a step that was taken twice had other samples.
    """
    found: Ids = {}
    for line in (folder / "rank-0.jsonl").read_text().splitlines():
        row = json.loads(line)
        ids = [row["anchors"], row["positives"]]
        assert found.setdefault(row["step"], ids) == ids, f"step {row['step']} had other samples"
    return found


def processes_change(stage: Stage, sizes: Sequence[int], cuts: Sequence[int]) -> Counts:
    """One run in `sizes` processes after each other, stopped after the steps `cuts` in between."""
    how = f"real processes, {' -> '.join(map(str, sizes))}"
    counts = Counts("processes", how, goals={"steps with other sample ids": 0})
    counts.limits[DIFFERENCE] = 1e-5
    straight, run = _straight(stage, *SAME_STEPS)
    phases = [text for name, text in run.events() if name == "curriculum.phase"]
    first = int(phases[-1].partition("step=")[2])  # of the phase that trains the adapters
    scene = stage.scene(*SAME_STEPS, data=stage.shared_data)
    ids = str(scene.folder / "ids")
    for size, cut in zip(sizes, [*cuts, None], strict=True):
        hooks = {} if cut is None else {"at_step": [cut, int(signal.SIGTERM)]}
        share = f"data_loader.batch_size={8 // size}", f"training.trainer.devices={size}"
        command = scene.command(*share, note_ids=ids, **hooks)
        module = (*TORCHRUN, f"--nproc-per-node={size}", "-m", "campaigns.child")
        run = stage.processes.start(command, module)
        run.wait(START_S)
        newest, _ = scene.newest()
        reached = len(trace_of(straight.steps())) if cut is None else cut
        if newest is None or newest.step != reached:
            counts.fail(f"{run.log.name} saved {newest}, not step {reached}: {run.text[-1500:]}")
            return counts
    found, wanted = read_ids(scene.folder / "ids"), read_ids(straight.folder / "ids")
    counts.add("steps", len(wanted))
    counts.add("steps with other sample ids", sum(found.get(k) != v for k, v in wanted.items()))
    losses, expected = trace_of(scene.steps()), trace_of(straight.steps())
    for step, loss in expected.items():
        name = DIFFERENCE if step <= first else WITH_ADAPTERS
        counts.at_least(name, abs(losses[step] - loss))
        counts.rows.append({"step": step, "loss": losses[step], "in_one_process": loss})
    return counts
