"""What a search comes to, from its candidates alone: how much is trained, and what is drawn from."""

from typing import Any, NamedTuple

from app.tuning.search.budget import count_epochs
from app.tuning.search.models import Candidates, Value
from app.tuning.search.plan import count_fits, estimate_cost, make_plan
from app.tuning.search.rungs import Rung
from app.tuning.search.spaces import describe_space
from app.tuning.search.spec import JobSpec

SHOWN = 10  # candidates


class Preview(NamedTuple):
    """The figures of a job that has not been posted; those of training are without races and reuse."""

    trials: int
    fits: int
    duplicates: int
    skipped: int
    rungs: list[Rung]
    epochs: int
    epochs_at_most: int
    multiply_adds: float
    checkpoint_bytes: int | None
    supports: list[dict[str, str]]
    first: list[dict[str, Value]]


def make_preview(spec: JobSpec, candidates: Candidates) -> Preview:
    """The preview of a search with these candidates."""
    plan = make_plan(spec, len(candidates))
    born = [candidate for candidate in candidates if not candidate.is_unborn]
    complete = [spec.fill(candidate.params) for candidate in born]
    epochs = count_epochs(spec, candidates)
    return Preview(
        trials=len(candidates),
        fits=count_fits(spec, plan),
        duplicates=len(complete) - len({tuple(sorted(one.items())) for one in complete}),
        skipped=candidates.skipped,
        rungs=plan if spec.resource else [],
        epochs=epochs.trained,
        epochs_at_most=epochs.at_most,
        multiply_adds=estimate_cost(spec, plan, [candidate.multiply_adds for candidate in candidates]),
        checkpoint_bytes=_count_checkpoint_bytes(spec, complete),
        supports=[{name: describe_space(space) for name, space in one.items()} for one in spec.search.spaces],
        first=[candidate.params for candidate in born[:SHOWN]],
    )


def _count_checkpoint_bytes(spec: JobSpec, complete: list[dict[str, Any]]) -> int | None:
    """At most, of the checkpoints that higher rungs go on from: one for each candidate and fold."""
    if spec.resource != "epochs":
        return 0
    model, dataset = spec.model_class, spec.data
    sizes = [model.model_validate(one).checkpoint_bytes(dataset.shape, dataset.classes) for one in complete]
    known = [size for size in sizes if size is not None]
    return spec.folds * sum(known) if len(known) == len(sizes) else None
