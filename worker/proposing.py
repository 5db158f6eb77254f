"""Proposes the next candidate of a model-based search. Loads Optuna."""

from app.tuning.jobs.births import Birth
from app.tuning.search.candidates import make_candidate
from app.tuning.search.forbidden import compile_forbidden, is_forbidden
from app.tuning.search.models import Candidate
from worker.proposals import Point, propose


def propose_candidate(birth: Birth) -> Candidate | None:
    """The candidate of a trial: a pure function of what the trial depends on; None if the space is used up."""
    spec = birth.spec
    conjunctions = compile_forbidden(spec)

    def is_allowed(point: Point) -> bool:
        try:
            make_candidate(spec, point, "model")
        except ValueError:
            return False
        return not (conjunctions and is_forbidden(conjunctions, spec.fill(point)))

    known = (birth.history, birth.running)
    point = propose(spec.search.spaces, *known, spec.random_state, birth.number, is_allowed)
    return None if point is None else make_candidate(spec, point, "model")
