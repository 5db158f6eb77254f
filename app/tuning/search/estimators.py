"""scikit-learn's classifiers and regressors as models: their names, hyperparameters and defaults, a subset with bounds.

Tables are given as they are, images as a row of pixels each. All but the trees are given standardized features; mean
and deviation are those of the rows that the fit trains on. The seed is the job's `random_state`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.tuning.search.models import BALANCED, ClassWeight, Model, Shape
from app.tuning.search.scoring import Task

BOTH: tuple[Task, ...] = ("classification", "regression")


class Estimator(Model):
    """What all estimators of scikit-learn have in common."""

    library = "scikit_learn"
    seed_is_random_state = True
    is_scaled: ClassVar[bool] = True  # whether its features are standardized

    def training_cost(self, shape: Shape, classes: int) -> int:
        """A rough guess, which is used for the order of fits only."""
        features = 1
        for size in shape:
            features *= size
        return features * self.passes(classes)

    def passes(self, classes: int) -> int:
        """About how often each feature of a sample is used."""
        return 1


class LogisticRegression(Estimator):
    """scikit-learn's `LogisticRegression` on standardized features."""

    name = "logistic_regression"

    C: float = Field(1.0, gt=0, le=1e9, description="inverse of the strength of the L2 penalty")
    class_weight: ClassWeight = Field("none", description=BALANCED)
    max_iter: int = Field(100, ge=1, le=10_000, description="most iterations of the solver")

    def passes(self, classes: int) -> int:
        return classes * self.max_iter


class Ridge(Estimator):
    """scikit-learn's `Ridge`, linear regression with an L2 penalty, on standardized features."""

    name = "ridge"
    tasks = ("regression",)

    alpha: float = Field(1.0, ge=0, le=1e9, description="strength of the L2 penalty")


class SupportVectorMachine(Estimator):
    """What the two support vector machines have in common."""

    max_train_samples = 20_000  # its time grows with their square

    C: float = Field(1.0, gt=0, le=1e9, description="inverse of the strength of the L2 penalty")
    kernel: Literal["linear", "poly", "rbf", "sigmoid"] = Field("rbf", description="the kernel")
    gamma: Literal["scale", "auto"] | Annotated[float, Field(gt=0, le=1e9)] = Field(
        "scale", description="coefficient of the kernels poly, rbf and sigmoid: a number, `scale` or `auto`"
    )
    degree: int = Field(3, ge=1, le=20, description="of the kernel poly")

    def passes(self, classes: int) -> int:
        return 1000


class Svc(SupportVectorMachine):
    """scikit-learn's `SVC`, a support vector machine, on standardized features."""

    name = "svc"
    gives_probabilities = False

    class_weight: ClassWeight = Field("none", description=BALANCED)


class Svr(SupportVectorMachine):
    """scikit-learn's `SVR`, a support vector machine for regression, on standardized features."""

    name = "svr"
    tasks = ("regression",)

    epsilon: float = Field(0.1, ge=0, le=1e9, description="errors up to this are not counted")


class RandomForest(Estimator):
    """scikit-learn's `RandomForestClassifier` or `RandomForestRegressor`."""

    name = "random_forest"
    tasks = BOTH
    is_scaled = False

    n_estimators: int = Field(100, ge=1, le=5000, description="trees")
    max_depth: int = Field(0, ge=0, le=1000, description="of a tree; 0 is no limit")
    max_features: Literal["auto", "sqrt", "log2"] | Annotated[float, Field(gt=0, le=1)] = Field(
        "auto",
        description="features looked at for a split: a share, `sqrt`, `log2`, or `auto`, which is `sqrt` for classes "
        "and 1.0 for regression",
    )
    min_samples_leaf: int = Field(1, ge=1, le=10_000, description="samples that a leaf must have")
    class_weight: ClassWeight = Field("none", description=BALANCED)

    def passes(self, classes: int) -> int:
        return 10 * self.n_estimators


class HistGradientBoosting(Estimator):
    """scikit-learn's `HistGradientBoostingClassifier` or `HistGradientBoostingRegressor`."""

    name = "hist_gradient_boosting"
    tasks = BOTH
    is_scaled = False

    learning_rate: float = Field(0.1, gt=0, le=10, description="shrinks what each tree adds")
    max_iter: int = Field(100, ge=1, le=10_000, description="most iterations, each with a tree a class")
    max_leaf_nodes: int = Field(31, ge=2, le=10_000, description="leaves of a tree")
    min_samples_leaf: int = Field(20, ge=1, le=10_000, description="samples that a leaf must have")
    l2_regularization: float = Field(0.0, ge=0, le=1e9, description="L2 penalty of the leaves")

    def passes(self, classes: int) -> int:
        return 10 * self.max_iter * (classes if classes > 2 else 1)


class KNeighbors(Estimator):
    """scikit-learn's `KNeighborsClassifier` or `KNeighborsRegressor` on standardized features."""

    name = "k_neighbors"
    tasks = BOTH

    n_neighbors: int = Field(5, ge=1, le=10_000, description="neighbors that vote; at most the training rows of a fold")
    weights: Literal["uniform", "distance"] = Field("uniform", description="of the votes: equal, or by 1 / distance")
    p: float = Field(2.0, ge=1, le=100, description="power of the Minkowski distance")

    def passes(self, classes: int) -> int:
        return 1000


ESTIMATORS: tuple[type[Estimator], ...] = (
    LogisticRegression,
    Ridge,
    Svc,
    Svr,
    RandomForest,
    HistGradientBoosting,
    KNeighbors,
)
