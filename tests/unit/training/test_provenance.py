"""Which inputs weights come from, and what is refused or said when they differ."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naics_job.data.prepare import NaicsData
from naics_job.errors import ConfigError
from naics_job.model.weights import BaseWeights
from naics_job.taxonomy.tree import Taxonomy
from naics_job.training.provenance import (
    PAYLOAD_KEY,
    Provenance,
    provenance_of,
    require_same_inputs,
    warn_of_trained,
)

CODES = ["11", "111", "1111", "11111", "111110", "11112", "111120"]
FIXED = {"data_digest": "d" * 64, "base_model_sha256": "b" * 64, "heldout_digest": "a" * 64}


def provenance(*heldout: int, codes: list[str] = CODES) -> Provenance:
    """Of a fresh run on `codes` that holds out some of them."""
    taxonomy = Taxonomy.from_codes(codes, [f"title {code}" for code in codes])
    empty: Any = None
    data = NaicsData(taxonomy, {}, empty, empty, "bundled", "d" * 64)
    positions = np.array(sorted(heldout), dtype=np.int64)
    return provenance_of(data, BaseWeights(Path("base"), "folder", "b" * 64), positions)


def payload(of: Provenance) -> dict[str, Any]:
    return {PAYLOAD_KEY: of.to_payload()}


def test_the_digest_is_that_of_the_held_out_codes() -> None:
    assert provenance(4).heldout_digest == provenance(4).heldout_digest
    digests = {provenance(*out).heldout_digest for out in ((), (4,), (6,), (4, 6))}
    assert len(digests) == 4
    assert all(len(digest) == 64 for digest in digests)


def test_codes_held_out_now_and_trained_before_are_told(caplog: pytest.LogCaptureFixture) -> None:
    before = payload(provenance(6))
    now = provenance(4, 6).after(before)
    assert now.heldout_but_trained == ["111110"]
    warn_of_trained(now, before)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message == "heldout.trained_before"
    fields = vars(record)["fields"]
    assert (fields["codes"], fields["of"], fields["such_as"]) == (1, 2, "111110")
    assert "seed, val_split and test_split" in fields["advice"]


def test_what_an_earlier_run_trained_stays_trained_along_the_chain() -> None:
    second = provenance(4).after(payload(provenance(6)))
    third = provenance(4).after(payload(second))  # the second run held 111110 out as well
    assert third.heldout_but_trained == ["111110"]


def test_codes_that_an_earlier_run_did_not_have_were_not_trained() -> None:
    before = payload(provenance(codes=CODES[:5]))
    now = provenance(6).after(before)
    assert now.heldout_but_trained == []


@pytest.mark.parametrize("heldout", [(4, 6), ()])
def test_the_same_split_and_no_split_are_not_commented(
    caplog: pytest.LogCaptureFixture, heldout: tuple[int, ...]
) -> None:
    before = payload(provenance(4, 6))
    warn_of_trained(provenance(*heldout).after(before), before)
    assert caplog.records == []


@pytest.mark.parametrize("before", [{}, {PAYLOAD_KEY: 3}])
def test_a_checkpoint_that_says_nothing_is_told_too(
    caplog: pytest.LogCaptureFixture, before: dict[str, Any]
) -> None:
    warn_of_trained(provenance(4).after(before), before)
    assert [record.message for record in caplog.records] == ["heldout.past_unknown"]


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("data_digest", "data.* and dirs.data_dir"),
        ("base_model_sha256", "model.base_model_name"),
        ("heldout_digest", "seed, data_loader.val_split and data_loader.test_split"),
    ],
)
def test_an_input_that_changed_is_named_with_its_settings(name: str, setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"run r: its inputs changed \({name}: 0{{12}} ->") as e:
        require_same_inputs("run r", {**FIXED, name: "0" * 64}, FIXED, ", or else")
    assert e.value.hint == f"restore {setting}, or else"


def test_unknown_inputs_are_taken_for_the_same() -> None:
    require_same_inputs("run r", FIXED, FIXED, "")
    require_same_inputs("run r", {}, FIXED, "")
    require_same_inputs("run r", {**FIXED, "heldout_digest": ""}, FIXED, "")
