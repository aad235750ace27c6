"""Computes fingerprints of phases: equal fingerprints mean the same training, which can be resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping

from pbrlib.curriculum.references import OwnPhase, frozen_networks, parse_donor
from pbrlib.curriculum.scale import scaled
from pbrlib.curriculum.spec import Curriculum, PhaseSpec, plain


def phase_fingerprints(
    curriculum: Curriculum,
    *,
    shards: str,
    precision: str,
    micro_batches: Mapping[str, int],
    donors: Mapping[str, str],
    trained: Mapping[str, str] | None = None,
    capped: Collection[str] = (),
) -> dict[str, str]:
    """Compute the fingerprint of every phase, in order.

    A fingerprint depends on the phase, the task, the seed, the donors' fingerprints, the shard manifest, the
    precision and the number of micro-batches. It does not depend on the number of workers, the name of the
    curriculum, the gates or the time. Batches and rates are scaled first. The revision of a formula is
    included if the phase uses the formula. An edited phase has a new fingerprint, and so have the phases
    that start from it.

    Args:
        curriculum: The curriculum with the phases.
        shards: Fingerprint of the shard manifest.
        precision: The precision of the runtime file.
        micro_batches: Phase -> number of micro-batches per step.
        donors: Reference as written (``segformer``, ``albedo.A2``, a path) -> fingerprint of that
            checkpoint, for every donor and frozen network from outside; see :func:`outside_donors`.
        trained: Phase -> fingerprint in the run's record. A phase starts from these weights, so their
            fingerprints take precedence over those of the phases as now declared.
        capped: The phases with a class so rare that its weight is capped.
    """
    curriculum = scaled(curriculum)
    task = plain(curriculum.task)
    frozen = {name: donors[reference] for name, reference in frozen_networks(curriculum.task).items()}
    prints: dict[str, str] = {}
    for name, phase in curriculum.phases.items():
        formulas = _revised_formulas(phase, is_capped=name in capped)
        prints[name] = _digest(
            {
                "phase": plain(phase.model_copy(update={"gate": None})),
                "name": name,
                "task": task,
                "seed": curriculum.seed,
                "donor": _donor(phase.starts_from, {**prints, **(trained or {})}, donors),
                "frozen": frozen,
                "shards": shards,
                "precision": precision,
                "micro_batches": micro_batches[name],
                **({"formulas": formulas} if formulas else {}),
            }
        )
    return prints


def _revised_formulas(phase: PhaseSpec, *, is_capped: bool) -> dict[str, int]:
    """Return the revisions above 1 of the formulas that a phase uses."""
    terms = [item for player in phase.by_player() for item in player.spec.loss.terms().items()]
    revised = {name: term.revision for name, term in terms if term.revision > 1}
    return revised | ({"class_weights": 2} if is_capped else {})


def outside_donors(curriculum: Curriculum) -> tuple[str, ...]:
    """Return the references of all weights from outside the curriculum, each once, in order."""
    references = list(frozen_networks(curriculum.task).values())
    for name, phase in curriculum.phases.items():
        if phase.starts_from is None:
            continue
        if not isinstance(parse_donor(phase.starts_from, own_phases=curriculum.earlier(name)), OwnPhase):
            references.append(phase.starts_from)
    return tuple(dict.fromkeys(references))


def _donor(reference: str | None, prints: Mapping[str, str], donors: Mapping[str, str]) -> str | None:
    if reference is None:
        return None
    if isinstance(donor := parse_donor(reference, own_phases=tuple(prints)), OwnPhase):
        return prints[donor.phase]
    return donors[reference]


def _digest(content: Mapping[str, object]) -> str:
    """Return the SHA-256 of compact JSON; keys keep their order, since the first matching rule applies."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
