"""What weights were trained on: saved with them, and compared before they are used again."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from naics_job.data.prepare import NaicsData
from naics_job.errors import ConfigError
from naics_job.model.weights import BaseWeights
from naics_job.observability.logs import event
from naics_job.taxonomy.tree import IntArray

log = logging.getLogger(__name__)
SHOWN_CODES = 5
PAYLOAD_KEY = "provenance"
DECIDED_BY = {  # input -> the settings that decide it
    "data_digest": "data.* and dirs.data_dir",
    "base_model_sha256": "model.base_model_name",
    "heldout_digest": "seed, data_loader.val_split and data_loader.test_split",
    "labelled_digest": "data.labelled_texts",
    "global_batch_size": "data_loader.global_batch_size",
}
INPUTS = (  # what scores depend on
    "data_digest",
    "base_model_sha256",
    "heldout_digest",
    "labelled_digest",
)
NO_TEXTS = "none"  # of a run without labelled texts; an empty digest would be an unknown one


@dataclass(frozen=True)
class Provenance:
    """The inputs of a run, and every code that may have had a part in training its weights.

    Attributes:
        data_digest, base_model_sha256, heldout_digest: as in `checkpoint.manifest.RunManifest`.
        labelled_digest: sha256 of the file of the user's texts.
        heldout: codes that this run holds out.
        trained: codes it does not hold out, and those of the runs its weights come from.
    """

    data_digest: str
    base_model_sha256: str
    heldout_digest: str
    labelled_digest: str
    heldout: frozenset[str]
    trained: frozenset[str]

    @property
    def inputs(self) -> dict[str, str]:
        """The digests by name."""
        return {name: getattr(self, name) for name in INPUTS}

    @property
    def heldout_but_trained(self) -> list[str]:
        """Held-out codes that an earlier run trained, sorted."""
        return sorted(self.heldout & self.trained)

    def to_payload(self) -> dict[str, Any]:
        """Plain containers for a checkpoint."""
        return {**self.inputs, "trained": sorted(self.trained)}

    def after(self, payload: Mapping[str, Any]) -> "Provenance":
        """Of weights that come from the checkpoint `payload`; unchanged if it says nothing."""
        return replace(
            self, trained=self.trained | frozenset(stored_in(payload).get("trained", ()))
        )


def provenance_of(
    data: NaicsData, base: BaseWeights, heldout: IntArray, labelled_sha256: str | None = None
) -> Provenance:
    """Of weights that start anew; `heldout` are positions `[code]`."""
    out = frozenset(data.taxonomy.codes[position] for position in heldout.tolist())
    digest = hashlib.sha256("\n".join(sorted(out)).encode()).hexdigest()
    trained = frozenset(data.taxonomy.codes) - out
    labelled = labelled_sha256 or NO_TEXTS
    return Provenance(data.digest, base.sha256, digest, labelled, out, trained)


def stored_in(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What `Provenance.to_payload` put into a checkpoint; empty where an older version wrote it."""
    stored = payload.get(PAYLOAD_KEY)
    return stored if isinstance(stored, dict) else {}


def warn_of_trained(provenance: Provenance, payload: Mapping[str, Any]) -> None:
    """Say aloud when held-out codes were trained before, or when that cannot be known.

    Args:
        provenance: of the weights with their past, see `Provenance.after`.
        payload: the checkpoint the weights come from.
    """
    if not provenance.heldout:
        return
    advice = "use that run's seed, val_split and test_split for held-out scores that mean something"
    if not stored_in(payload):
        meaning = "the checkpoint does not say which codes it was trained on"
        event(log, logging.WARNING, "heldout.past_unknown", meaning=meaning, advice=advice)
        return
    trained = provenance.heldout_but_trained
    if trained:
        counts = {"codes": len(trained), "of": len(provenance.heldout)}
        shown = " ".join(trained[:SHOWN_CODES])
        event(
            log, logging.WARNING, "heldout.trained_before", **counts, such_as=shown, advice=advice
        )


def require_same_inputs(
    subject: str, stored: Mapping[str, Any], current: Mapping[str, Any], otherwise: str
) -> None:
    """Require that the inputs in `current` are those in `stored`, where the latter are known.

    Args:
        subject: what cannot be done, the begin of the message.
        stored: of the run; an input that is missing or empty is unknown.
        current: name -> value, names as in `DECIDED_BY`.
        otherwise: what else can be done, the end of the hint.

    Raises:
        ConfigError: names the inputs that differ and the settings that decide them.
    """
    changed = [name for name, now in current.items() if stored.get(name) not in (None, "", now)]
    if not changed:
        return
    values = ", ".join(f"{n}: {_short(stored[n])} -> {_short(current[n])}" for n in changed)
    settings = "; ".join(DECIDED_BY[name] for name in changed)
    raise ConfigError(f"{subject}: its inputs changed ({values})", f"restore {settings}{otherwise}")


def _short(value: object) -> str:
    return str(value)[:12]
