"""Outcomes: what the end of a fit means for its trial, its search and its job."""

from collections.abc import Callable

import numpy as np
import pytest
from sqlalchemy import Engine

from app.tuning.jobs import claims, outcomes
from app.tuning.jobs.attempts import Unavailable
from app.tuning.jobs.tables import JobState, State
from app.tuning.search.candidates import draw_candidates
from app.tuning.search.spec import JobSpec
from tests.support.ledger import BROKEN, Ledger, grid

SCORES = [0.1 + 0.2, 0.7, 0.9000000000000001, 0.123456789012345, 0.333333333333333, 0.5, 0.6, 0.75, 0.8, 0.99]


def test_a_trial_has_the_mean_and_population_deviation_of_its_folds(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1, evaluation={"cv": 10}))
    ledger.finish_search(job_id, lambda _, fold: SCORES[fold])
    trial = ledger.trial(job_id, 0)
    assert trial.state == State.SUCCEEDED
    assert trial.validation_accuracy == np.average(SCORES)
    assert trial.validation_accuracy_std == np.std(SCORES) != np.std(SCORES, ddof=1)
    assert trial.fit_seconds == 20.0


def test_a_trial_ends_with_its_last_fold(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    for _ in range(2):
        ledger.finish(ledger.claim(job_id), 0.5)
        assert (ledger.trial(job_id, 0).state, ledger.trial(job_id, 0).validation_accuracy) == (State.RUNNING, None)
    ledger.finish(ledger.claim(job_id), 0.5)
    assert ledger.trial(job_id, 0).state == State.SUCCEEDED


def test_a_trial_with_a_failed_fold_has_no_mean(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    ledger.finish_search(job_id, lambda trial, fold: None if (trial, fold) == (1, 1) else 0.9 if trial else 0.1)
    trial = ledger.trial(job_id, 1)
    assert (trial.state, trial.validation_accuracy, trial.validation_accuracy_std) == (State.FAILED, None, None)
    assert trial.error == BROKEN
    job = ledger.job(job_id)
    assert (job.best_trial, job.trials_failed, job.fits_failed, job.fits_succeeded) == (0, 1, 1, 5)


@pytest.mark.parametrize("order", [1, -1], ids=["the cheap ones last", "the cheap ones first"])
def test_the_best_trial_of_a_tie_is_the_first_in_whatever_order_they_end(engine: Engine, order: int) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(4, evaluation={"validation_split": 0.5}))
    held = [ledger.claim(job_id) for _ in range(4)]
    best = []
    for claim in held[::order]:
        ledger.finish(claim, [0.25, 0.75, 0.75, 0.5][claim.trial_number])
        best.append(ledger.job(job_id).best_trial)
    assert best == ([3, 2, 1, 1] if order == 1 else [0, 1, 1, 1])
    job = ledger.job(job_id)
    assert (job.best_accuracy, job.environment) == (0.75, {"tunewell": "0", "found": "0.75"})


def test_the_last_fold_makes_the_refit_claimable_and_the_refit_ends_the_job(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(3, evaluation={"cv": 2}))
    ledger.finish_search(job_id, lambda trial, _: 0.9 if trial == 1 else 0.5)
    job = ledger.job(job_id)
    assert (job.state, job.trials_succeeded, job.fits_queued) == (JobState.RUNNING, 3, 1)
    refit = ledger.claim(job_id)
    assert (refit.trial_number, refit.fold, refit.params) == (1, None, {"num_neurons": 16})
    ledger.finish(refit, 0.8)
    job = ledger.job(job_id)
    assert (job.state, job.best_trial, job.best_accuracy, job.error) == (JobState.SUCCEEDED, 1, 0.9, None)
    assert job.environment == {"tunewell": "0", "found": "0.8"}, "of the worker that trained the best trial"
    assert ledger.trial(job_id, 1).validation_accuracy == 0.9, "the refit's score decides nothing"
    assert ledger.none_to_claim(job_id)


def test_a_job_without_refit_ends_with_its_last_fold(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2, evaluation={"cv": 2, "refit": False}))
    ledger.finish_search(job_id, lambda *_: 0.5)
    job = ledger.job(job_id)
    assert (job.state, job.fits_total, job.fits_succeeded, job.best_trial) == (JobState.SUCCEEDED, 4, 4, 0)


def test_a_holdout_has_one_fold_and_a_deviation_of_zero(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2, evaluation={"validation_split": 0.25}))
    ledger.finish_search(job_id, lambda trial, _: [0.25, 0.3][trial])
    assert [trial.validation_accuracy for trial in ledger.trials(job_id)] == [0.25, 0.3]
    assert [trial.validation_accuracy_std for trial in ledger.trials(job_id)] == [0.0, 0.0]
    ledger.finish(ledger.claim(job_id))
    assert ledger.job(job_id).state == JobState.SUCCEEDED


def test_a_failed_refit_fails_the_job_which_keeps_its_best_trial(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    ledger.finish_search(job_id, lambda *_: 0.5)
    ledger.fail(ledger.claim(job_id), "no such luck")
    job = ledger.job(job_id)
    assert (job.state, job.best_trial, job.trials_succeeded) == (JobState.FAILED, 0, 1)
    assert job.error == BROKEN | {"message": "no such luck"}


def test_a_lost_refit_is_retried(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    ledger.finish_search(job_id, lambda *_: 0.5)
    for _ in range(2):
        ledger.lose(ledger.claim(job_id))
        assert ledger.job(job_id).state == JobState.RUNNING
    ledger.lose(ledger.claim(job_id))
    job = ledger.job(job_id)
    assert job.state == JobState.FAILED and job.error and "given up after 3 lost attempts" in job.error["message"]


def test_a_job_without_a_succeeded_trial_fails_with_the_first_reason(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2, evaluation={"cv": 2}))
    held = [ledger.claim(job_id) for _ in range(4)]
    for claim in held:
        ledger.fail(claim, f"trial {claim.trial_number} fold {claim.fold}")
    job = ledger.job(job_id)
    assert (job.state, job.trials_failed, job.fits_failed, job.fits_cancelled) == (JobState.FAILED, 2, 4, 1)
    assert job.error == {
        "type": "NoTrialSucceeded",
        "message": "none of 2 trials succeeded; the first: trial 0 fold 0",
        "traceback": None,
    }


@pytest.mark.parametrize("most", [0, 1])
def test_a_job_ends_as_soon_as_too_many_trials_have_failed(engine: Engine, most: int) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(4, evaluation={"validation_split": 0.5}, limits={"max_failed_trials": most}))
    alive, *failing = (ledger.claim(job_id) for _ in range(most + 2))
    for claim in failing:
        assert ledger.job(job_id).state == JobState.RUNNING
        ledger.fail(claim)
    job = ledger.job(job_id)
    assert (job.state, job.trials_failed, job.trials_cancelled) == (JobState.FAILED, most + 1, 3 - most)
    assert job.error and job.error["message"] == f"{most + 1} trials failed, and max_failed_trials is {most}"
    assert not ledger.finish(alive), "what still ran was cancelled, and comes too late"
    assert not ledger.do(claims.renew, alive, 15.0)


def test_a_job_goes_on_with_as_many_failed_trials_as_allowed(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(3, evaluation={"validation_split": 0.5}, limits={"max_failed_trials": 2}))
    ledger.finish_search(job_id, lambda trial, _: None if trial else 0.5)
    ledger.finish(ledger.claim(job_id))
    job = ledger.job(job_id)
    assert (job.state, job.trials_failed) == (JobState.SUCCEEDED, 2)


def test_a_job_fails_at_once_if_no_worker_has_its_data_set(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    reason = BROKEN | {"type": "DatasetUnavailable", "message": "put mnist.npz there"}
    assert ledger.do(outcomes.record, ledger.claim(job_id), Unavailable(reason, "w1", "digits"))
    job = ledger.job(job_id)
    assert (job.state, job.error) == (JobState.FAILED, reason)
    assert (job.fits_failed, job.fits_cancelled) == (0, 7)


def test_a_missing_data_set_does_not_undo_a_cancellation(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    first, second = ledger.claim(job_id), ledger.claim(job_id)
    ledger.cancel(job_id)
    assert ledger.do(outcomes.record, first, Unavailable(BROKEN, "w1", "digits"))
    assert ledger.job(job_id).state == JobState.CANCELLING
    assert ledger.do(outcomes.record, second, Unavailable(BROKEN, "w1", "digits"))
    assert ledger.job(job_id).state == JobState.CANCELLED


END: dict[str, Callable[[Ledger, claims.Claim], object]] = {
    "finish": lambda ledger, claim: ledger.finish(claim),
    "fail": lambda ledger, claim: ledger.fail(claim),
}


@pytest.mark.parametrize("end", END)
def test_the_cost_left_shrinks_with_every_ended_fit(sqlite_engine: Engine, end: str) -> None:
    ledger, spec = Ledger(sqlite_engine), grid(2, evaluation={"cv": 2})
    job_id = ledger.post(spec)
    left = ledger.job(job_id).cost_left
    claim = ledger.claim(job_id)
    END[end](ledger, claim)
    cost = draw_candidates(spec)[claim.trial_number].multiply_adds * spec.train_share
    job = ledger.job(job_id)
    assert job.cost_left == pytest.approx(left - cost)
    assert (job.cost_done, job.seconds_done) == ((pytest.approx(cost), 2.5) if end == "finish" else (0.0, 0.0))


def test_after_the_search_the_cost_left_is_that_of_the_refit(sqlite_engine: Engine) -> None:
    ledger, spec = Ledger(sqlite_engine), grid(3, evaluation={"cv": 2})
    job_id = ledger.post(spec)
    ledger.finish_search(job_id, lambda trial, _: 0.5 - trial / 10)
    assert ledger.job(job_id).cost_left == draw_candidates(spec)[0].multiply_adds
    ledger.finish(ledger.claim(job_id))
    assert ledger.job(job_id).cost_left == 0


def test_the_train_share_is_that_of_a_fold() -> None:
    shares: list[tuple[JobSpec, float]] = [
        (grid(evaluation={"cv": 5}), 0.8),
        (grid(evaluation={"validation_split": 0.25}), 0.75),
    ]
    assert [spec.train_share for spec, _ in shares] == [share for _, share in shares]
