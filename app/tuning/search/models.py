"""What a model is: its hyperparameters with bounds, and its training cost; and the network of the example."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from app.tuning.search.scoring import Task

Value = int | float | str
ClassWeight = Literal["none", "balanced"]
BALANCED = "`balanced` weighs each class by n_samples / (n_classes * its members)"
ImageShape = tuple[int, int, int]
Shape = tuple[int, ...]  # of a sample: an image, or a table's number of columns


class Model(BaseModel, ABC):
    """A model's hyperparameters: one field each, with bounds, default and meaning."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    name: ClassVar[str]
    library: ClassVar[str] = "tensorflow"  # of the environment: its version decides the bits of results
    seed_is_random_state: ClassVar[bool] = False  # as in scikit-learn, of the first training on each fold
    max_train_samples: ClassVar[int | None] = None
    takes_tables: ClassVar[bool] = True
    tasks: ClassVar[tuple[Task, ...]] = ("classification",)
    gives_probabilities: ClassVar[bool] = True  # of the classes
    revision: ClassVar[int] = 1  # raised by every change of the bits of results, or of what a checkpoint has

    @abstractmethod
    def training_cost(self, shape: Shape, classes: int) -> int:
        """Multiply-adds of all forward passes of one training sample.

        Raises:
            ValueError: the model cannot be built for samples of this shape.
        """

    def checkpoint_bytes(self, shape: Shape, classes: int) -> int | None:
        """At most, of one checkpoint; None if not known."""
        return None


class Training(Model):
    """How a network is trained."""

    learning_rate: float = Field(0.001, gt=0, le=10, description="the optimizer's step size")
    optimizer: Literal["adam", "adamw", "nadam", "rmsprop", "adagrad", "sgd"] = Field(
        "adam", description="the rule that updates the weights"
    )
    momentum: float = Field(0, ge=0, lt=1, description="of sgd and rmsprop; with other optimizers omit it or use 0")
    weight_decay: float = Field(0, ge=0, le=1, description="decoupled weight decay")
    batch_size: int = Field(32, ge=1, le=4096, description="training samples per step")
    epochs: int = Field(10, ge=1, le=1000, description="passes over the training samples")
    class_weight: ClassWeight = Field("none", description=BALANCED)

    @model_validator(mode="after")
    def momentum_has_an_optimizer(self) -> Self:
        """Reject a momentum that would be ignored."""
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise PydanticCustomError(
                "momentum",
                "momentum {momentum} requires the optimizer sgd or rmsprop; with {optimizer} omit it or use 0",
                {"momentum": self.momentum, "optimizer": self.optimizer},
            )
        return self


class Cnn(Training):
    """Blocks of convolution and max pooling, then one dense layer with dropout, then softmax."""

    name = "cnn"
    takes_tables = False

    dropout_rate: float = Field(
        0.5, ge=0, lt=1, description="share of the dense layer's outputs dropped while training"
    )
    num_neurons: int = Field(128, ge=1, le=4096, description="units of the fully connected layer")
    conv_blocks: int = Field(1, ge=1, le=3, description="blocks of convolution and max pooling")
    filters: int = Field(
        32, ge=1, le=256, description="filters of the first convolution; each further block doubles them"
    )
    kernel_size: int = Field(3, ge=1, le=7, description="side of the convolution's kernel")
    activation: Literal["relu", "elu", "gelu", "tanh"] = Field("relu", description="activation of the hidden layers")
    l1: float = Field(0, ge=0, le=1, description="L1 penalty on the dense layer's kernel")
    l2: float = Field(0, ge=0, le=1, description="L2 penalty on the dense layer's kernel")

    def layers(self, shape: Shape) -> list[ImageShape]:
        """The shapes of the feature maps: the image, then each block's convolution and pooling (both unpadded).

        Raises:
            ValueError: a feature map is smaller than the kernel or the pool.
        """
        height, width, channels = shape
        maps: list[ImageShape] = [(height, width, channels)]
        for block in range(self.conv_blocks):
            convolved = height - self.kernel_size + 1, width - self.kernel_size + 1
            for height, width in (convolved, (convolved[0] // 2, convolved[1] // 2)):
                if height < 1 or width < 1:
                    raise ValueError(
                        f"conv_blocks {self.conv_blocks} with kernel_size {self.kernel_size} shrinks the feature "
                        f"map of a {shape[0]} by {shape[1]} image to nothing in block {block + 1}; "
                        "use fewer blocks or a smaller kernel"
                    )
                maps.append((height, width, self.filters * 2**block))
        return maps

    def multiply_adds(self, shape: Shape, classes: int) -> int:
        """Multiply-adds of one sample's forward pass (the backward pass costs about twice as much)."""
        maps = self.layers(shape)
        convolutions = sum(
            height * width * filters * self.kernel_size**2 * source[2]
            for source, (height, width, filters) in zip(maps[::2], maps[1::2], strict=False)
        )
        height, width, filters = maps[-1]
        return convolutions + self.num_neurons * (height * width * filters + classes)

    def checkpoint_bytes(self, shape: Shape, classes: int) -> int:
        """Four bytes for each weight and for each of at most three values that the optimizer keeps of it, and more."""
        maps = self.layers(shape)
        height, width, filters = maps[-1]
        blocks = zip(maps[::2], maps[1::2], strict=False)
        weights = sum((self.kernel_size**2 * source[2] + 1) * kernels for source, (_, _, kernels) in blocks)
        weights += (height * width * filters + 1) * self.num_neurons + (self.num_neurons + 1) * classes
        return 16 * weights + 2**19  # the names of the arrays, and up to 1000 epochs

    def training_cost(self, shape: Shape, classes: int) -> int:
        return self.multiply_adds(shape, classes) * self.epochs


def check_value(model: type[Model], name: str, value: Any) -> None:
    """Check one hyperparameter's value against its type and bounds.

    Raises:
        pydantic.ValidationError: wrong type, or out of bounds.
    """
    _adapters(model)[name].validate_python(value, strict=True)


def describe_hyperparameters(model: type[Model]) -> list[dict[str, Any]]:
    """The model's hyperparameters as in its JSON schema, for the catalogue; a number may have choices besides."""
    properties = model.model_json_schema()["properties"]
    return [{"name": name, **_merge(described)} for name, described in properties.items()]


def _merge(described: dict[str, Any]) -> dict[str, Any]:
    parts = sorted(described.get("anyOf", ()), key=lambda part: part["type"] == "number")
    return {**{key: value for part in parts for key, value in part.items()}, **described}


_known_adapters: dict[type[Model], dict[str, TypeAdapter[Any]]] = {}


def _adapters(model: type[Model]) -> dict[str, TypeAdapter[Any]]:
    if model not in _known_adapters:
        _known_adapters[model] = {
            name: TypeAdapter(field.rebuild_annotation(), config=ConfigDict(allow_inf_nan=False))
            for name, field in model.model_fields.items()
        }
    return _known_adapters[model]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One set of hyperparameters: the searched ones, and the cost of one fit on all samples."""

    params: dict[str, Value]
    multiply_adds: float
    origin: str = "search"  # or "given", in `points_to_evaluate`

    @property
    def is_unborn(self) -> bool:
        """Whether this is a placeholder, for which a model has yet to propose hyperparameters."""
        return self.origin == "model" and not self.params


class Candidates(list[Candidate]):
    """A job's candidates, and how many forbidden points were left out, or drawn again."""

    skipped = 0

    @property
    def unborn(self) -> int:
        """How many are placeholders, for which a model has yet to propose hyperparameters."""
        return sum(one.is_unborn for one in self)
