"""Data sets, described without loading them: the built-in ones, and what is known of any other.

A built-in data set is one entry of `DATASETS` here and one of `worker.datasets.LOADERS`.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.tuning.search.scoring import Task


class Dataset(BaseModel):
    """A data set that a job can use: images, or a table of numbers."""

    model_config = ConfigDict(frozen=True)

    name: str
    description: str
    task: Task = "classification"
    train_samples: int = Field(description="Samples of the training set.")
    test_samples: int = Field(description="Samples of the test set.")
    shape: tuple[int, ...] = Field(description="Height, width and channels of an image; the columns of a table.")
    classes: int = Field(description="0 for regression.")
    download: bool = Field(description="Whether each worker machine downloads it once.")
    class_names: tuple[str, ...] | None = Field(None, description="Null where classes are numbers, or amounts.")
    scale: float = Field(1.0, description="The largest pixel value; pixels are divided by it.")
    smallest_train: tuple[int, ...] = Field(
        description="For k = 2 to 10: the fewest first samples with k members of some class, as k folds require; "
        "k itself for regression.",
    )

    @property
    def kind(self) -> Literal["image", "table"]:
        """What a sample is."""
        return "image" if len(self.shape) == 3 else "table"

    def smallest_for(self, folds: int) -> int:
        """The fewest training samples that scikit-learn's `StratifiedKFold(folds)` or `KFold(folds)` accepts."""
        return self.smallest_train[folds - 2]


SHUFFLED = "(a table, in the order of `RandomState(0).permutation`); the last fifth are the test set."
DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="mnist",
            description="Handwritten digits, the original split.",
            train_samples=60_000,
            test_samples=10_000,
            shape=(28, 28, 1),
            classes=10,
            download=True,
            scale=255.0,
            smallest_train=(7, 9, 15, 24, 25, 41, 51, 58, 71),
        ),
        Dataset(
            name="digits",
            description="scikit-learn's own handwritten digits; the last 360 are the test set.",
            train_samples=1_437,
            test_samples=360,
            shape=(8, 8, 1),
            classes=10,
            download=False,
            scale=16.0,
            smallest_train=(11, 21, 31, 34, 36, 47, 56, 73, 79),
        ),
        Dataset(
            name="iris",
            description=f"scikit-learn's iris flowers {SHUFFLED}",
            train_samples=120,
            test_samples=30,
            shape=(4,),
            classes=3,
            download=False,
            smallest_train=(4, 6, 10, 12, 13, 14, 15, 17, 18),
        ),
        Dataset(
            name="wine",
            description=f"scikit-learn's wines of three growers {SHUFFLED}",
            train_samples=143,
            test_samples=35,
            shape=(13,),
            classes=3,
            download=False,
            smallest_train=(4, 6, 9, 10, 14, 16, 19, 21, 24),
        ),
        Dataset(
            name="breast_cancer",
            description=f"scikit-learn's tumors, malignant or benign {SHUFFLED}",
            train_samples=456,
            test_samples=113,
            shape=(30,),
            classes=2,
            download=False,
            smallest_train=(3, 4, 5, 6, 7, 8, 9, 10, 11),
        ),
        Dataset(
            name="diabetes",
            description=f"scikit-learn's diabetes patients: how the disease goes on in a year, a number {SHUFFLED}",
            task="regression",
            train_samples=354,
            test_samples=88,
            shape=(10,),
            classes=0,
            download=False,
            smallest_train=tuple(range(2, 11)),
        ),
    )
}
