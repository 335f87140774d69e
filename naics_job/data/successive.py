"""Successive sampling over candidate groups: draw, take out what was drawn, draw again.

Independent draws without their repeats are a sample of exactly this kind. Where they repeat
themselves too often the sample is continued code by code, under the same law.
"""

import numpy as np

from naics_job.data.candidates import NOBODY, Groups
from naics_job.data.sampler import FloatArray, RowDraws
from naics_job.taxonomy.tree import IntArray


def compact(positions: IntArray) -> IntArray:
    """Each row `[batch, any]` with its -1 moved to the end, other order kept."""
    order = np.argsort(positions < 0, axis=1, kind="stable")
    return np.take_along_axis(positions, order, axis=1)


def repeat_to_fill(positions: IntArray) -> IntArray:
    """Rows `[batch, k]` that end in -1 repeat what stands before it; rows of only -1 stay."""
    present = (positions >= 0).sum(axis=1)
    column = np.arange(positions.shape[1]) % np.maximum(present, 1)[:, None]
    return np.take_along_axis(positions, column, axis=1)


def _pick_group(mass: FloatArray, random: FloatArray) -> IntArray:
    """Group `[batch, any]` with chance in proportion to `mass` `[batch, group]`.

    A group without mass is never picked, unless no group has any.
    """
    edges = np.cumsum(mass, axis=1)  # [batch, group]
    total = edges[:, -1:]
    target = np.minimum(random * total, np.nextafter(total, 0))
    picked: IntArray = (edges[:, None, :] <= target[:, :, None]).sum(axis=2)
    return picked.clip(0, mass.shape[1] - 1)


def independent(
    groups: Groups, weight: FloatArray, count: int, draws: RowDraws, purpose: str
) -> IntArray:
    """Candidate numbers `[batch, count]` drawn independently; -1 in rows without any weight."""
    mass = groups.count * weight
    random = draws.uniform(purpose, 2 * count)
    some = mass.sum(axis=1) > 0
    group = np.where(some[:, None], _pick_group(mass, random[:, :count]), 0)
    size = np.take_along_axis(groups.count, group, axis=1)
    within = np.minimum((random[:, count:] * size).astype(np.int64), size - 1)
    numbers = np.take_along_axis(groups.start, group, axis=1) + within
    return np.where(some[:, None], numbers, NOBODY)


def keep_new(numbers: IntArray, taken: IntArray, need: IntArray, k: int) -> IntArray:
    """The first `need` different, not `taken` numbers of each row: `[batch, k]`, the rest -1."""
    both = np.concatenate([taken, numbers], axis=1)
    order = np.argsort(both, axis=1, kind="stable")
    ordered = np.take_along_axis(both, order, axis=1)
    again = np.zeros(both.shape, dtype=bool)
    np.put_along_axis(again[:, :], order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    new = np.where(again[:, taken.shape[1] :], NOBODY, numbers)
    kept = compact(new)[:, :k]
    return np.where(np.arange(k) < need[:, None], kept, NOBODY)


def complete(
    groups: Groups,
    weight: FloatArray,
    numbers: IntArray,
    taken: IntArray,
    need: IntArray,
    random: FloatArray,
) -> IntArray:
    """Go on drawing where independent draws repeated themselves too often: `[batch, k]`.

    Each step draws a group in proportion to the weight left in it, then one of its free codes.
    """
    numbers, k = numbers.copy(), numbers.shape[1]
    size = (numbers >= 0).sum(axis=1)
    used = np.concatenate([taken, numbers], axis=1)
    inside = (used[:, :, None] >= groups.start[:, None, :]) & (
        used[:, :, None] < (groups.start + groups.count)[:, None, :]
    )  # [batch, used, group]
    left = groups.count - inside.sum(axis=1)
    rows = np.arange(len(numbers))
    for step in range(k):
        mass = left * weight
        active = (size < need) & (mass.sum(axis=1) > 0)
        if not active.any():
            break
        group = np.where(active, _pick_group(mass, random[:, step, None])[:, 0], 0)
        available = left[rows, group]
        free = np.minimum((random[:, k + step] * available).astype(np.int64), available - 1)
        number = _nth_free(groups, group, free, used)
        at = np.minimum(size, k - 1)
        numbers[rows, at] = np.where(active, number, numbers[rows, at])
        used = np.concatenate([used, np.where(active, number, NOBODY)[:, None]], axis=1)
        left[rows, group] -= active
        size += active
    return numbers


def _nth_free(groups: Groups, group: IntArray, free: IntArray, used: IntArray) -> IntArray:
    """The candidate number of the `free`-th (from 0) unused code of `group`: `[batch]`."""
    rows = np.arange(len(group))
    start = groups.start[rows, group][:, None]
    ordered = np.sort(used, axis=1)
    inside = (ordered >= start) & (ordered < start + groups.count[rows, group][:, None])
    free_before = ordered - start - (np.cumsum(inside, axis=1) - 1)
    skipped = (inside & (free_before <= free[:, None])).sum(axis=1)
    number: IntArray = start[:, 0] + free + skipped
    return number
