"""The known data sets, described without loading them.

A data set is one entry of `DATASETS` here and one of `worker.datasets.LOADERS`.
"""

from pydantic import BaseModel, ConfigDict, Field


class Dataset(BaseModel):
    """A data set of images that a job can use."""

    model_config = ConfigDict(frozen=True)

    name: str
    description: str
    train_samples: int = Field(description="Images of the training set.")
    test_samples: int = Field(description="Images of the test set.")
    shape: tuple[int, int, int] = Field(description="Height, width and channels of an image, in pixels.")
    classes: int
    download: bool = Field(description="Whether each worker machine downloads it once.")
    scale: float = Field(description="The largest pixel value; pixels are divided by it.")
    smallest_train: tuple[int, ...] = Field(
        exclude=True,
        description="For k = 2 to 10: the fewest first samples with k members of some class, as k folds require.",
    )

    def smallest_for(self, folds: int) -> int:
        """The fewest training samples that scikit-learn's `StratifiedKFold(folds)` accepts."""
        return self.smallest_train[folds - 2]


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
    )
}
