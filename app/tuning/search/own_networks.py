"""Networks that a job brings along: a list of posted layers as a model with the hyperparameters that stand in it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, Field, create_model, field_validator, model_validator
from pydantic_core import PydanticCustomError

from app.tuning.search.layers import LayerError, describe_shape
from app.tuning.search.models import Shape, Training, Value
from app.tuning.search.networks import Layers, Network
from app.tuning.search.placeholders import (
    KINDS,
    Expansion,
    PostedLayer,
    collect_fields,
    find_errors,
    find_uses,
    list_names,
)
from app.tuning.search.rejections import MAX_REJECTIONS, Rejection, Where
from app.tuning.search.spaces import Strict


class LayerList(Strict):
    """A network of one's own: its layers in order, without the output layer, which belongs to the task.

    Any number or choice of a layer may be `{"hyperparameter": name}`, which is then searched or fixed.
    """

    layers: list[Any] = Field(
        description=f"Each an object with `layer`, one of {', '.join(sorted(KINDS))}, and what it has besides.",
        json_schema_extra={"items": {"type": "object", "additionalProperties": True}, "minItems": 1},
    )

    @field_validator("layers")
    @classmethod
    def layers_are_known(cls, layers: list[Any]) -> list[Any]:
        """Check what can be told without values; the error has each place that is wrong."""
        if wrong := list(islice(check_layers(layers), MAX_REJECTIONS)):
            raise PydanticCustomError("layers", "{first}", {"first": wrong[0][1], "places": wrong})
        return layers


class MisplacedLayer(ValueError):
    """A layer that no values of its hyperparameters make right where it is."""

    def __init__(self, where: Where, message: str) -> None:
        super().__init__(message)
        self.where = where


class OwnNetwork(Network):
    """A network of posted layers; hyperparameters that its depth does not use have no value."""

    model_config = ConfigDict(protected_namespaces=())
    name = "the network"
    posted: ClassVar[tuple[PostedLayer, ...]] = ()

    @property
    def own_values(self) -> dict[str, Value]:
        """The values of the hyperparameters that stand in its layers."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name not in Training.model_fields}
        return {name: value for name, value in values.items() if value is not None}

    @model_validator(mode="after")
    def every_value_has_a_use(self) -> Self:
        """Reject values that are missing, and those that would be ignored: it would be the same network twice."""
        values = self.own_values
        try:
            unused = values.keys() - _expand(type(self), tuple(values.items())).used
        except KeyError as error:
            message = "{name} has no value: search it, or put it into `fixed`"
            raise PydanticCustomError("no_value", message, {"name": error.args[0]}) from None
        if unused:
            message = "{name} stands in no layer that is used: leave it out, or search a list of alternatives"
            raise PydanticCustomError("no_use", message, {"name": ", ".join(sorted(unused))})
        return self

    def list_layers(self, shape: Shape) -> Layers:
        return _expand(type(self), tuple(self.own_values.items())).layers

    def training_cost(self, shape: Shape, classes: int) -> int:
        _check_shapes(_expand(type(self), tuple(self.own_values.items())), shape)
        return super().training_cost(shape, classes)


def _check_shapes(expansion: Expansion, shape: Shape) -> None:
    """Check that each layer can take what it is given.

    Raises:
        MisplacedLayer: no values of its hyperparameters would make it right.
        ValueError: these values do not.
    """
    try:
        for layer in expansion.layers:
            shape = layer.output(shape)
    except LayerError as error:
        where, turns = expansion.describe_place(error)
        if error.structural:
            raise MisplacedLayer(where, f"{error}{turns}") from None
        pointer = "/".join(map(str, ("/model/layers", *where)))
        raise ValueError(f"{error}: {pointer}{turns}") from None
    if len(shape) != 1:
        needs = "end with flatten or global_average_pooling2d"
        message = f"the output layer, which is added, takes a flat input and gets {describe_shape(shape)}: {needs}"
        raise MisplacedLayer((), message)


@lru_cache(maxsize=1024)
def _expand(network: type[OwnNetwork], values: tuple[tuple[str, Value], ...]) -> Expansion:
    return Expansion(network.posted, dict(values))


def check_layers(layers: Sequence[Any]) -> Iterator[Rejection]:
    """What is wrong with posted layers, as far as it can be told without values; places are within them."""
    if errors := list(find_errors(list(layers))):
        yield from errors
        return
    for use in find_uses(layers):
        for name in list_names(use):
            if name in Training.model_fields:
                yield use.where, f"{name} is a hyperparameter of training: use another name"
            elif hasattr(OwnNetwork, name):
                yield use.where, f"{name} is reserved: use another name"
    yield from collect_fields(find_uses(layers))[1]


def make_network(posted: LayerList) -> type[OwnNetwork]:
    """The model of posted layers that have been checked."""
    return _make_network(json.dumps(posted.layers, sort_keys=True))


@lru_cache(maxsize=256)
def _make_network(text: str) -> type[OwnNetwork]:
    layers = json.loads(text)
    fields, _ = collect_fields(find_uses(layers))
    made: Mapping[str, Any] = {name: (field.rebuild_annotation(), None) for name, field in sorted(fields.items())}
    network = create_model("OwnNetwork", __base__=OwnNetwork, **made)
    network.posted = tuple(layers)
    return network
