"""Random saves, crashes, damage, prunes and resumes against a model of what must survive.

Checkpoints are in a local folder whose operations are interrupted one by one. What is counted is
what was really done: Hypothesis draws the events, and tries those that fail again, shorter.
"""

import contextlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from campaigns.counts import Counts
from naics_job.checkpoint.catalogue import Catalogue
from naics_job.checkpoint.manifest import CheckpointFacts, CheckpointManifest
from naics_job.checkpoint.resume import resolve
from naics_job.checkpoint.store import RunStore
from naics_job.errors import CheckpointError
from naics_job.storage import files

KEEP_LAST = 3
EVENTS = 25  # of one history
KINDS = ("saves", "killed saves", "kills that struck", "prunes", "damages", "resumes", "new runs")


class Killed(BaseException):
    """The process is gone."""


def facts_of(step: int) -> CheckpointFacts:
    return CheckpointFacts(
        step=step,
        epoch=0,
        position=step,
        phase=1,
        borders={},
        config_hash="c",
        architecture="a",
        world_size=1,
        global_batch_size=1,
        versions={},
    )


class Store(RuleBasedStateMachine):
    """The model: all checkpoints that are whole, oldest first, and the one resumed from."""

    done: ClassVar[Counter[str]] = Counter()  # events of all histories of this process

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.root, self.local = str(self.base / "exp"), self.base / "payload"
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(os, "fsync", lambda _: None)
        self.whole: list[CheckpointManifest] = []
        self.num_saved, self.source = 0, ""
        self.step, self.runs = 0, 0
        self.new_run()

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.base)

    def new_run(self) -> None:
        self.runs += 1
        self.store = RunStore(self.root, f"run-{self.runs:03d}", KEEP_LAST)
        self.step, self.source = 0, ""

    def own(self) -> list[CheckpointManifest]:
        return [m for m in self.whole if m.run_id == self.store.run_id]

    def must_survive(self) -> set[str]:
        """Other runs in full; of this run the newest KEEP_LAST and the resume source."""
        others = {m.path for m in self.whole if m.run_id != self.store.run_id}
        return others | {m.path for m in self.own()[-KEEP_LAST:]} | ({self.source} - {""})

    def others(self) -> dict[str, str]:
        paths = Path(self.root).glob("run-*/*")
        mine = self.store.run_id
        return {str(p): files.version_of(str(p)) for p in paths if p.parent.name != mine}

    def is_there(self, path: str) -> bool:
        object_url = os.path.join(self.root, path)  # a prune that was cut off leaves it alone there
        return os.path.exists(object_url) and os.path.exists(f"{object_url}.manifest.json")

    def forget_pruned(self) -> None:
        safe = self.must_survive()
        self.whole = [m for m in self.whole if m.path in safe or self.is_there(m.path)]

    def next_payload(self) -> None:
        self.step += 1
        self.num_saved += 1
        self.local.write_bytes(b"payload %d" % self.num_saved)

    @rule()
    def save(self) -> None:
        self.done["saves"] += 1
        before = self.others()
        self.next_payload()
        manifest = self.store.save(self.local, facts_of(self.step))
        self.whole.append(manifest)
        assert self.others() == before
        self.forget_pruned()
        assert len(self.own()) <= KEEP_LAST + 1  # and the resume source

    @rule(k=st.integers(1, 30))
    def killed_save(self, k: int) -> None:
        """The process dies at its k-th file operation; a new one continues, as a pod would."""
        self.done["killed saves"] += 1
        before, self.count = self.others(), 0
        self.next_payload()

        def mortal(call: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any, **kwargs: Any) -> Any:
                self.count += 1
                if self.count >= k:
                    self.done["kills that struck"] += self.count == k
                    raise Killed
                return call(*args, **kwargs)

            return run

        with pytest.MonkeyPatch.context() as patch:
            for name in ("replace", "unlink", "mkdir", "listdir", "fsync"):
                patch.setattr(os, name, mortal(getattr(os, name)))
            with contextlib.suppress(Killed):
                self.store.save(self.local, facts_of(self.step))
        assert self.others() == before
        known = {m.path for m in self.whole}
        landed = Catalogue(self.root).scan_run(self.store.run_id).manifests
        fresh = [m for m in landed if m.step == self.step and m.path not in known]
        self.whole += [m for m in fresh if Catalogue(self.root).is_whole(m)]
        self.forget_pruned()
        self.resume()

    @rule()
    def prune(self) -> None:
        self.done["prunes"] += 1
        before = self.others()
        self.store.prune()
        assert self.others() == before
        self.forget_pruned()

    @precondition(lambda self: self.whole)
    @rule(data=st.data(), how=st.sampled_from(["flip", "cut", "delete", "manifest"]))
    def damage(self, data: st.DataObject, how: str) -> None:
        self.done["damages"] += 1
        victim = data.draw(st.sampled_from(self.whole))
        path = Path(self.root, victim.path)
        path = path.with_name(path.name + ".manifest.json") if how == "manifest" else path
        content = path.read_bytes()
        path.unlink()
        if how != "delete":
            replacement = b"?" + content[1:] if how == "flip" else content[: len(content) // 2]
            path.with_name("damaged").write_bytes(replacement)
            path.with_name("damaged").rename(path)
        self.whole.remove(victim)
        if victim.path == self.source:
            self.source = ""  # what is broken already cannot be kept whole

    @rule()
    def resume_newest(self) -> None:
        self.done["resumes"] += 1
        self.resume()

    def resume(self) -> None:
        try:
            plan = resolve("last", self.root, self.base)
        except CheckpointError:
            assert not self.whole
            return
        assert plan.manifest == self.whole[-1]
        self.store = RunStore(self.root, plan.run_id, KEEP_LAST)
        self.store.mark_resume_source(plan.manifest)
        self.step, self.source = plan.manifest.step, plan.manifest.path

    @rule()
    def fresh(self) -> None:
        self.done["new runs"] += 1
        self.new_run()

    @invariant()
    def what_must_survive_is_whole(self) -> None:
        catalogue = Catalogue(self.root)
        found = {m.path: m for m in catalogue.scan().manifests}
        for path in self.must_survive():
            catalogue.verify(found[path])

    @invariant()
    def the_newest_is_found(self) -> None:
        newest, _ = Catalogue(self.root).newest_verified()
        assert newest == (self.whole[-1] if self.whole else None)


def settings_of(num_histories: int) -> settings:
    """So many histories of `EVENTS` events each."""
    return settings(
        max_examples=num_histories,
        stateful_step_count=EVENTS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def retention(count: int, random_seed: int) -> Counts:
    """At least `count` events, as many histories as it takes."""
    counts = Counts("retention", "in this process, in a folder")
    Store.done.clear()
    histories = 0
    counts.goals = {"rules broken": 0}
    try:
        while num_events() < count:
            left = max(1, (count - num_events()) // EVENTS)
            machine = seed(random_seed + histories)(Store)
            run_state_machine_as_test(machine, settings=settings_of(left))
            histories += left
    except AssertionError as error:
        counts.add("rules broken")
        counts.fail(str(error))
    counts.add("rules broken", 0)
    counts.add("events", num_events())
    for name in KINDS:
        counts.add(name, Store.done[name])
    return counts


def num_events() -> int:
    """Events so far; a kill that struck is part of a killed save."""
    return sum(Store.done[name] for name in KINDS if name != "kills that struck")
