"""A search moves on by steps: fits that have waited become claimable, and trials are out.

Every step follows from ended fits alone, by the pure functions of `app.tuning.search`: never from the order in which
they have ended. Whoever calls has locked the job.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, bindparam, exists, null, select, update
from sqlalchemy.orm import Session

from app.tuning.database import clock
from app.tuning.jobs.counters import FITS, TRIALS, count, next_version
from app.tuning.jobs.rungs import (
    ENDED_RUNG,
    change_rung,
    count_unended,
    find_rung,
    get_rung,
    insert_places,
    is_in_rung,
    read_places,
)
from app.tuning.jobs.store import execute_change
from app.tuning.jobs.tables import Fit, Job, Place, State, Trial
from app.tuning.search.racing import Packed, race_bootstrap, race_lossless
from app.tuning.search.rungs import decide_early, select_best, select_top
from app.tuning.search.selection import select_one_standard_error
from app.tuning.search.spec import BootstrapRace, JobSpec

OPEN = (State.QUEUED, State.RUNNING)
ROWS_AT_ONCE = 500
FITS_PER_RUNG = 10**6  # more than any has: fits of higher rungs are claimed first


def advance_search(session: Session, job: Job, spec: JobSpec, fit: Fit) -> None:
    """Take the steps that follow from the end of a fit."""
    if not spec.race and not job.rungs:
        return
    session.flush()
    race_is_over = not spec.race or _advance_race(session, job, spec, fit)
    if job.rungs and race_is_over:
        advance_rungs(session, job, spec, fit.bracket, fit.iter)


def find_winner(session: Session, job: Job, spec: JobSpec | None) -> int | None:
    """The trial that wins: the first of the best with the most resources, or the cheapest within a standard error."""
    if spec and spec.select == "one_standard_error":
        return _find_cheapest(session, job, spec)
    trials: list[int] = []
    scores: list[float] = []
    for rung in job.rungs or ():
        if not find_rung(job, rung["bracket"], rung["iter"] + 1):
            numbers, means, _ = read_places(session, job, rung["bracket"], rung["iter"])
            trials += numbers
            scores += list(means)
    best = select_best(np.array(scores))
    return None if best is None else trials[best]


def _find_cheapest(session: Session, job: Job, spec: JobSpec) -> int | None:
    """The cheapest of the trials that reached the end and are within one standard error of the best of them."""
    ended = select(Trial.number, Trial.cost).where(Trial.job_id == job.id, Trial.state == State.SUCCEEDED)
    costs = {number: cost for number, cost in session.execute(ended.order_by(Trial.number))}
    numbers = list(costs)
    if not numbers:
        return None
    row = {number: index for index, number in enumerate(numbers)}
    scores = np.full((len(numbers), spec.folds), np.nan)
    # In ascending order of the rungs, so that the highest one counts.
    mine = (Fit.job_id == job.id, Fit.fold.is_not(None), Fit.state == State.SUCCEEDED)
    for number, fold, score in session.execute(
        select(Fit.trial_number, Fit.fold, Fit.score).where(*mine).order_by(Fit.iter)
    ):
        if number in row:
            scores[row[number], fold or 0] = score
    return select_one_standard_error(scores, [costs[number] for number in numbers], numbers)


def _advance_race(session: Session, job: Job, spec: JobSpec, fit: Fit) -> bool:
    """Once all claimable fits of the rung have ended, drop trials and let the next fits in; True if none are left."""
    assert spec.race
    mine = is_in_rung(Fit, job, fit.bracket, fit.iter)
    if session.scalar(select(exists().where(*mine, Fit.position.is_not(None), Fit.state.in_(OPEN)))):
        return False
    numbers, settled = _list_runners(session, job, fit)
    scores, failed, hits = _read_folds(session, job, spec, fit, numbers)
    following = find_rung(job, fit.bracket, fit.iter + 1)
    places = following["n_candidates"] if following else 1
    board = (scores, failed, settled, places, spec.race.burn_in)
    if isinstance(spec.race, BootstrapRace):
        step = race_bootstrap(*board, last=following is None, hits=hits, alpha=spec.race.alpha)
    else:
        step = race_lossless(*board, last=following is None, highest=spec.scorer.highest)
    broken: NDArray[np.bool_] = np.any(failed, axis=1)
    _end_trials(session, job, [numbers[index] for index in step.out if broken[index]], State.FAILED)
    _end_trials(session, job, [numbers[index] for index in step.out if not broken[index]], State.PRUNED)
    _issue(session, job, fit, [(numbers[index], fold) for index, fold in step.issue])
    return not step.issue


def _list_runners(session: Session, job: Job, fit: Fit) -> tuple[list[int], NDArray[np.bool_]]:
    """The rung's trials in its order, and which of them are out."""
    mine = select(Trial.number, Trial.state).where(Trial.job_id == job.id, Trial.bracket == fit.bracket)
    if job.rungs:
        placed = (*is_in_rung(Place, job, fit.bracket, fit.iter), Place.trial_number == Trial.number)
        rows = session.execute(mine.join(Place, Place.job_id == Trial.job_id).where(*placed).order_by(Place.slot)).all()
    else:
        rows = session.execute(mine.order_by(Trial.number)).all()
    out = [row.state in (State.PRUNED, State.FAILED) for row in rows]
    return [row.number for row in rows], np.array(out, dtype=np.bool_)


def _read_folds(
    session: Session, job: Job, spec: JobSpec, fit: Fit, numbers: list[int]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], Packed]:
    """Of each candidate's folds: the score, NaN where there is none; whether it has failed; the hits if needed."""
    row = {number: index for index, number in enumerate(numbers)}
    scores = np.full((len(numbers), spec.folds), np.nan)
    failed = np.zeros(scores.shape, dtype=np.bool_)
    packed: Packed = [[None] * spec.folds for _ in numbers]
    mine = (*is_in_rung(Fit, job, fit.bracket, fit.iter), Fit.fold.is_not(None), Fit.trial_number.is_not(None))
    hits = Fit.hits if isinstance(spec.race, BootstrapRace) else null()
    columns = (Fit.trial_number, Fit.fold, Fit.state, Fit.score, hits)
    for number, fold, state, score, found in session.execute(select(*columns).where(*mine)):
        cell = row[number or 0], fold or 0
        scores[cell] = np.nan if score is None else score
        failed[cell] = state == State.FAILED
        packed[cell[0]][cell[1]] = found
    return scores, failed, packed


def _issue(session: Session, job: Job, fit: Fit, fits: Sequence[tuple[int, int]]) -> None:
    """Make fits of this rung, by trial and fold, claimable."""
    if not fits:
        return
    costs = _read_costs(session, job, sorted({number for number, _ in fits}))
    ordered = sorted(fits, key=lambda one: (-costs[one[0]], *one))
    mine = is_in_rung(Fit, job, fit.bracket, fit.iter)
    one = update(Fit).where(*mine, Fit.trial_number == bindparam("t"), Fit.fold == bindparam("f"))
    rows = [
        {"t": number, "f": fold, "p": _first_position(fit.iter) + index} for index, (number, fold) in enumerate(ordered)
    ]
    session.connection().execute(one.values(position=bindparam("p")), rows)


def advance_rungs(session: Session, job: Job, spec: JobSpec, bracket: int, iter: int) -> None:
    """Fill the places of the next rung that are certain; end this one when all its trials have ended."""
    while find_rung(job, bracket, iter) and (iter == 0 or get_rung(job, bracket, iter - 1)["state"] in ENDED_RUNG):
        following = find_rung(job, bracket, iter + 1)
        places = following["n_candidates"] if following else 0
        left = count_unended(session, job, bracket, iter)
        if left and (spec.race or left >= places):  # no place is certain yet
            return
        trials, means, ended = read_places(session, job, bracket, iter)
        if following:
            certain, out = decide_early(means, ended, places)
            _promote(session, job, spec, following, [trials[index] for index in certain])
            if not left:
                _end_trials(session, job, [trials[index] for index in out], State.PRUNED)
                _settle_places(session, job, following, [trials[index] for index in select_top(means, places)])
        if left:
            return
        change_rung(job, bracket, iter, state=State.SUCCEEDED if trials else State.CANCELLED)
        iter += 1


def _promote(session: Session, job: Job, spec: JobSpec, rung: dict[str, int], trials: list[int]) -> None:
    """Give these trials places in a rung, unless they have them: its fits become theirs, and claimable."""
    bracket, iter = rung["bracket"], rung["iter"]
    there = set(session.scalars(select(Place.trial_number).where(*is_in_rung(Place, job, bracket, iter))))
    costs = _read_costs(session, job, [number for number in trials if number not in there])
    fresh = sorted(costs, key=lambda number: (-costs[number], number))
    if not fresh:
        return
    free = (*is_in_rung(Fit, job, bracket, iter), Fit.trial_number.is_(None), Fit.state == State.QUEUED)
    fits = session.execute(select(Fit.fold, Fit.id).where(*free).order_by(Fit.fold, Fit.id)).all()
    rows = []
    for fold in sorted({fit.fold for fit in fits}):
        waits = spec.race is not None and fold >= spec.race.burn_in
        ids = (fit.id for fit in fits if fit.fold == fold)
        for index, (number, fit_id) in enumerate(zip(fresh, ids, strict=False)):
            rows.append({"i": fit_id, "t": number, "p": None if waits else _first_position(iter) + index})
    one = update(Fit).where(Fit.id == bindparam("i"))
    session.connection().execute(one.values(trial_number=bindparam("t"), position=bindparam("p")), rows)
    insert_places(session, job, bracket, iter, fresh)


def _settle_places(session: Session, job: Job, rung: dict[str, int], order: list[int]) -> None:
    """Order the rung's places, which are all known now, and cancel the fits of those that nobody takes."""
    bracket, iter = rung["bracket"], rung["iter"]
    mine = is_in_rung(Place, job, bracket, iter)
    one = update(Place).where(*mine, Place.trial_number == bindparam("t")).values(slot=bindparam("s"))
    if order:
        session.connection().execute(one, [{"t": number, "s": slot} for slot, number in enumerate(order)])
    if len(order) < rung["n_candidates"]:
        _cancel(session, job, *is_in_rung(Fit, job, bracket, iter), Fit.trial_number.is_(None))
        change_rung(job, bracket, iter, n_candidates=len(order))


def _end_trials(session: Session, job: Job, trials: list[int], state: State) -> None:
    """End trials that take no further part, and what waits to be trained of them."""
    for some in _cut(trials):
        _cancel(session, job, Fit.trial_number.in_(some))
        out = (Place.job_id == job.id, Place.trial_number.in_(some), Place.ended.is_(False))
        execute_change(session, update(Place).where(*out).values(ended=True))
        error = select(Fit.error).where(Fit.job_id == job.id, Fit.trial_number == Trial.number)
        first = error.where(Fit.error.is_not(None)).order_by(Fit.fold).limit(1).scalar_subquery()
        ended = update(Trial).where(_are(job, some), Trial.state == State.RUNNING)
        values = {"state": state, "error": first, "version": next_version(job)}
        count(job, TRIALS, State.RUNNING, state, execute_change(session, ended.values(values)))


def _cancel(session: Session, job: Job, *mine: ColumnElement[bool]) -> None:
    waiting = update(Fit).where(Fit.job_id == job.id, Fit.fold.is_not(None), Fit.state == State.QUEUED, *mine)
    cancelled = waiting.values(state=State.CANCELLED, ended_at=clock(0))
    count(job, FITS, State.QUEUED, State.CANCELLED, execute_change(session, cancelled))


def _read_costs(session: Session, job: Job, trials: list[int]) -> dict[int, float]:
    costs: dict[int, float] = {}
    for some in _cut(trials):
        rows = session.execute(select(Trial.number, Trial.cost).where(_are(job, some)))
        costs |= {number: cost for number, cost in rows}
    return costs


def _are(job: Job, trials: list[int]) -> ColumnElement[bool]:
    return (Trial.job_id == job.id) & Trial.number.in_(trials)


def _cut(trials: list[int]) -> list[list[int]]:
    return [trials[start : start + ROWS_AT_ONCE] for start in range(0, len(trials), ROWS_AT_ONCE)]


def _first_position(iter: int) -> int:
    return -FITS_PER_RUNG * (iter + 1)
