"""What Lightning 2.6 notes about its loops when a run is saved at the border of an epoch.

A checkpoint from `on_train_batch_end` of that step finds the epoch half finished. Lightning resumes
it without `on_train_epoch_start` and miscounts from then on: after a second resume it numbers the
batches of an epoch from 0, so that gradients accumulate over the wrong batches. Written as the
start of the next epoch, the state resumes like any other. A run that `max_steps` or `max_time` ends
within an epoch has the opposite trouble: Lightning notes that epoch as finished, and a resume would
leave out the rest of it. And a resume that cuts steps into other micro-batches has to count those.
tests/integration/test_resume_exact.py shows all three.
"""

from typing import Any

COUNTS = ("ready", "started", "processed", "completed")


def settle_epoch(loops: dict[str, Any], num_epochs: int, num_steps: int) -> None:
    """Change the state of the loops to that before the first batch after `num_epochs` epochs.

    Args:
        loops: `checkpoint["loops"]`.
        num_epochs: finished epochs.
        num_steps: finished optimizer steps.
    """
    fit = loops["fit_loop"]
    for counts in (fit["epoch_progress"]["total"], fit["epoch_progress"]["current"]):
        counts.update(dict.fromkeys(COUNTS, num_epochs))
    batches = fit["epoch_loop.batch_progress"]
    batches["total"].update(dict.fromkeys(COUNTS, batches["total"]["ready"]))
    batches["is_last_batch"] = False
    optimizer = fit["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    of_epoch = (batches, fit["epoch_loop.scheduler_progress"], *optimizer.values())
    for progress in of_epoch:
        progress["current"].update(dict.fromkeys(progress["current"], 0))
    fit["epoch_loop.state_dict"]["_batches_that_stepped"] = num_steps


def reopen_epoch(loops: dict[str, Any], epoch: int) -> None:
    """Note `epoch`, counted from 0, as running; it is already if the run was not at its end.

    Args:
        loops: `checkpoint["loops"]`.
        epoch: the epoch of which batches are left.
    """
    progress = loops["fit_loop"]["epoch_progress"]
    for counts in (progress["total"], progress["current"]):
        counts.update(ready=epoch + 1, started=epoch + 1, processed=epoch, completed=epoch)


def recount_batches(loops: dict[str, Any], num_batches: int) -> None:
    """Note that `num_batches` micro-batches of the running epoch have been taken.

    Lightning counts micro-batches to find the end of an optimizer step and of the epoch; a resume
    may cut the same global batches into more or fewer of them.

    Args:
        loops: `checkpoint["loops"]`.
        num_batches: micro-batches as this process cuts them.
    """
    counts = loops["fit_loop"]["epoch_loop.batch_progress"]["current"]
    moved = num_batches - counts["ready"]
    counts.update({name: count + moved for name, count in counts.items()})
