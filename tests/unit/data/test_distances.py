import numpy as np
import pyarrow as pa

from naics_job.data.distances import distance_table, exclusion_lists
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import Taxonomy

CODES, TITLES = zip(*bundled_titles(), strict=True)
NAICS = Taxonomy.from_codes(CODES, TITLES)
NAMED = {
    "111110": ["111120", "541110", "111120", "11", "111110", "999999"],
    "111120": ["111110"],
    "311": ["321", "3111"],
    "339999": ["111110"],
    "112111": ["111130"],  # the later code names the earlier one, not the other way round
}
LISTS = [NAMED.get(code, []) for code in NAICS.codes]
TABLE = distance_table(NAICS, pa.table({"excluded_codes": LISTS}))


def test_exclusions_keep_both_directions_and_drop_lineal_ones() -> None:
    offsets, others = exclusion_lists(NAICS, LISTS)
    found = {
        code: [NAICS.codes[other] for other in others[offsets[row] : offsets[row + 1]]]
        for row, code in enumerate(NAICS.codes)
        if offsets[row] < offsets[row + 1]
    }
    assert found == {
        "111110": ["111120", "541110"],
        "111120": ["111110"],
        "112111": ["111130"],
        "311": ["321"],
        "339999": ["111110"],
    }
    assert offsets.shape == (len(NAICS) + 1,)


def test_no_exclusions_at_all() -> None:
    offsets, others = exclusion_lists(NAICS, [[] for _ in NAICS.codes])
    assert not offsets.any()
    assert len(others) == 0


def test_an_exclusion_is_a_flag_and_never_changes_the_distance() -> None:
    flagged = TABLE.filter(TABLE["excluded"]).to_pylist()
    assert [(row["code_a"], row["code_b"], row["distance"]) for row in flagged] == [
        ("111110", "111120", 4),
        ("111130", "112111", 8),
        ("311", "321", 2),
    ]
    assert TABLE["distance"].to_numpy().min() == 1


def test_distances_are_those_of_the_taxonomy_in_merged_sectors_too() -> None:
    a, b = TABLE["a"].to_numpy(), TABLE["b"].to_numpy()
    picks = np.random.default_rng(0).integers(0, len(a), 5000)
    for row, other, distance in zip(
        a[picks], b[picks], TABLE["distance"].to_numpy()[picks], strict=True
    ):
        left, right = NAICS.ancestors[row], NAICS.ancestors[other]
        common = len(set(left[left >= 0]) & set(right[right >= 0]))
        assert distance == NAICS.depth[row] + NAICS.depth[other] - 2 * common
    codes = TABLE["code_a"].combine_chunks().dictionary.to_pylist()
    assert codes == list(NAICS.codes)
