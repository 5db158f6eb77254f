"""scikit-learn's searches and estimators as Tunewell's jobs."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tunewell.distributions import convert_space
from tunewell.errors import CannotConvert

Document = dict[str, Any]
# scikit-learn's class: the model, and whether Tunewell standardizes its features.
MODELS = {
    "LogisticRegression": ("logistic_regression", True),
    "Ridge": ("ridge", True),
    "SVC": ("svc", True),
    "SVR": ("svr", True),
    "RandomForestClassifier": ("random_forest", False),
    "RandomForestRegressor": ("random_forest", False),
    "HistGradientBoostingClassifier": ("hist_gradient_boosting", False),
    "HistGradientBoostingRegressor": ("hist_gradient_boosting", False),
    "KNeighborsClassifier": ("k_neighbors", True),
    "KNeighborsRegressor": ("k_neighbors", True),
}
IGNORED = {"n_jobs", "verbose"}  # parameters that change no result
SEARCHES = "GridSearchCV, RandomizedSearchCV or ParameterGrid"


def is_search(value: Any) -> bool:
    """Whether it is one of scikit-learn's searches, grids or samplers."""
    return type(value).__module__.startswith("sklearn.model_selection")


def convert_search(value: Any) -> Document:
    """The fields of a job for an unfitted search of scikit-learn; of a `ParameterGrid` or sampler, only `search`.

    Raises:
        CannotConvert: Tunewell has no equal of it.
    """
    kind = type(value).__name__
    if kind == "ParameterGrid":
        return {"search": make_grid(value.param_grid)}
    if kind == "ParameterSampler":
        return {"search": make_random(value.param_distributions, value.n_iter)}
    if kind not in {"GridSearchCV", "RandomizedSearchCV"}:
        raise CannotConvert(f"{kind} has no converter: pass a {SEARCHES}, or write the search as a dict")
    model = convert_estimator(value.estimator)
    space = _rename(value.param_grid if kind == "GridSearchCV" else value.param_distributions, model.prefix)
    search = make_grid(space) if kind == "GridSearchCV" else make_random(space, value.n_iter)
    seed = _choose_seed(model.random_state, getattr(value, "random_state", None))
    return {**model.fields, "search": search, "random_state": seed, "evaluation": _convert_evaluation(value)}


class ConvertedEstimator(NamedTuple):
    """An estimator as a part of a job."""

    fields: Document  # `model`, and `fixed` where a parameter differs from its default
    prefix: str  # of its parameters in a search, such as `svc__`
    random_state: Any


def make_grid(space: Any) -> Document:
    """A grid search over a `param_grid`."""
    converted = convert_space(space)
    for one in converted if isinstance(converted, list) else [converted]:
        for name, values in one.items():
            if not isinstance(values, list):
                raise CannotConvert(f"{name}: a grid takes lists of values; a distribution needs a random search")
    return {"strategy": "grid", "param_grid": _fix_all(converted)}


def make_random(space: Any, n_iter: int = 10) -> Document:
    """A random search over `param_distributions`."""
    return {"strategy": "random", "n_iter": n_iter, "param_distributions": _fix_all(convert_space(space))}


def convert_estimator(estimator: Any) -> ConvertedEstimator:
    """The model that gives the same results.

    Raises:
        CannotConvert: there is none; the message says what there is.
    """
    steps, prefix = [("", estimator)], ""
    if type(estimator).__name__ == "Pipeline":
        steps = estimator.steps
        prefix = f"{steps[-1][0]}__"
    kinds = [type(step).__name__ for _, step in steps]
    if kinds[-1] not in MODELS:
        raise CannotConvert(f"Tunewell has no {kinds[-1]}: it has {', '.join(sorted(MODELS))}")
    name, is_scaled = MODELS[kinds[-1]]
    if kinds[:-1] != (["StandardScaler"] if is_scaled else []):
        right = f"make_pipeline(StandardScaler(), {kinds[-1]}())" if is_scaled else f"{kinds[-1]}() alone"
        raise CannotConvert(f"Tunewell trains {name} as {right}: search that, and results are the same")
    model = steps[-1][1]
    fixed = {key: value for key, value in _list_changed(model).items() if key not in IGNORED}
    seed = fixed.pop("random_state", None)
    fields = {"model": name, **({"fixed": _fix_values(fixed)} if fixed else {})}
    return ConvertedEstimator(fields, prefix, seed)


def _list_changed(model: Any) -> Document:
    """The parameters that differ from the class's defaults."""
    defaults = type(model)().get_params(deep=False)
    return {name: value for name, value in model.get_params(deep=False).items() if value != defaults[name]}


def _fix_all(space: Any) -> Any:
    spaces = space if isinstance(space, list) else [space]
    fixed = [
        {
            name: [_fix_value(name, value) for value in values] if isinstance(values, list) else values
            for name, values in one.items()
        }
        for one in spaces
    ]
    return fixed if isinstance(space, list) else fixed[0]


def _fix_values(values: Mapping[str, Any]) -> Document:
    return {name: _fix_value(name, value) for name, value in values.items()}


def _fix_value(name: str, value: Any) -> Any:
    """What scikit-learn writes as None, Tunewell writes as a word or number."""
    if value is None:
        written = {"class_weight": "none", "max_depth": 0, "max_features": 1.0}
        if name not in written:
            raise CannotConvert(f"{name}=None has no equal in Tunewell: give a value")
        return written[name]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise CannotConvert(f"{name}={value!r} has no equal in Tunewell: it takes numbers and text")
    return value


def _rename(space: Any, prefix: str) -> Any:
    """Without the prefix of the pipeline's step."""
    if isinstance(space, Mapping):
        for name in space:
            if not name.startswith(prefix):
                raise CannotConvert(f"{name}: only parameters of the last step ({prefix}…) can be searched")
        return {name.removeprefix(prefix): values for name, values in space.items()}
    return [_rename(one, prefix) for one in space]


def _choose_seed(*given: Any) -> int:
    """The one seed that a job has."""
    seeds = [seed for seed in given if seed is not None]
    if any(isinstance(seed, bool) or not isinstance(seed, int) for seed in seeds):
        raise CannotConvert("random_state must be a whole number or None: Tunewell keeps no generators")
    if len(set(seeds)) > 1:
        raise CannotConvert("Tunewell has one random_state: give the search and its estimator the same")
    return seeds[0] if seeds else 0


def _convert_evaluation(search: Any) -> Document:
    cv: Any = 5 if search.cv is None else search.cv
    if type(cv).__name__ in {"KFold", "StratifiedKFold"} and not cv.shuffle:
        cv = cv.n_splits
    if isinstance(cv, bool) or not isinstance(cv, int):
        raise CannotConvert("cv must be a number of folds: Tunewell's folds are StratifiedKFold(cv) or KFold(cv)")
    if not isinstance(search.refit, bool):
        raise CannotConvert(f"refit={search.refit!r} has no equal in Tunewell: True or False")
    scoring = search.scoring
    if scoring is not None and not isinstance(scoring, str):
        raise CannotConvert("scoring must be the name of one scorer, such as 'f1_macro'")
    return {"cv": cv, "refit": search.refit, **({"scoring": scoring} if scoring else {})}
