"""PostedLayer layers, with `{"hyperparameter": name}` in place of values: checked, and expanded by given values."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, cast, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from app.tuning.search.layers import LAYERS, Layer, LayerError, Residual
from app.tuning.search.models import Value
from app.tuning.search.networks import MAX_LAYERS
from app.tuning.search.rejections import Rejection, Where

MAX_NESTED_LAYERS = 4  # of repeat and residual
TURN_MARK = "{i}"  # in a hyperparameter's name: the turn of the innermost repeat, from 1
PLACEHOLDER_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_]|\{i\}){0,63}")


PostedLayer = Mapping[str, Any]


class Repeat(BaseModel):
    """Layers that are repeated; no layer of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    layer: Literal["repeat"] = "repeat"
    times: int = Field(ge=0, le=8)
    layers: list[Any] = Field(min_length=1)


KINDS: dict[str, type[BaseModel]] = {**LAYERS, "repeat": Repeat}


class Use(NamedTuple):
    """A place where a hyperparameter stands, and the field that it stands for."""

    name: str  # may have a `{i}`
    where: Where
    turns: int  # most, of the innermost repeat; 0 outside of one
    field: FieldInfo


def find_errors(layers: Any, where: Where = (), depth: int = 0, turns: int = 0) -> Iterator[Rejection]:
    """What is wrong with posted layers, as far as it can be told without values."""
    if not isinstance(layers, list) or not layers:
        yield where, "Input should be a list of at least one layer"
        return
    if depth > MAX_NESTED_LAYERS:
        yield where, f"repeat and residual can be nested at most {MAX_NESTED_LAYERS} deep"
        return
    for index, posted in enumerate(layers):
        yield from _find_errors_of_one(posted, (*where, index), depth, turns)


def _find_errors_of_one(posted: Any, where: Where, depth: int, turns: int) -> Iterator[Rejection]:
    kind = posted.get("layer") if isinstance(posted, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        what = ("layer",) if isinstance(posted, dict) else ()
        needs = "" if what else "an object whose `layer` is "
        yield (*where, *what), f"Input should be {needs}one of {', '.join(sorted(KINDS))}"
        return
    fields = KINDS[kind].model_fields
    for name in fields.keys() - posted.keys():
        if fields[name].is_required():
            yield (*where, name), f"Field required: {kind} needs it"
    own_turns = _count_turns(posted) if kind == "repeat" else turns
    for name, value in posted.items():
        place = (*where, name)
        if name not in fields:
            yield place, f"Unknown field of {kind}; expected one of {', '.join(fields)}"
        elif name == "layers":
            yield from find_errors(value, place, depth + 1, own_turns)
        elif isinstance(value, dict):
            yield from _find_errors_of_placeholder(value, place, turns, name)
        else:
            yield from _find_errors_of_value(fields[name], place, value)


def _find_errors_of_placeholder(value: PostedLayer, where: Where, turns: int, field: str) -> Iterator[Rejection]:
    name = value.get("hyperparameter")
    if field == "layer" or set(value) != {"hyperparameter"} or not isinstance(name, str):
        yield where, 'Input should be a value or {"hyperparameter": its name}'
    elif not PLACEHOLDER_NAME.fullmatch(name):
        yield (*where, "hyperparameter"), "Input should be a letter, then up to 63 letters, digits, `_` or `{i}`"
    elif TURN_MARK in name and not turns:
        yield (*where, "hyperparameter"), "`{i}` is the turn of a repeat: there is none around it"


def _find_errors_of_value(field: FieldInfo, where: Where, value: Any) -> Iterator[Rejection]:
    try:
        TypeAdapter(field.rebuild_annotation(), config=ConfigDict(allow_inf_nan=False)).validate_python(
            value, strict=True
        )
    except ValidationError as error:
        yield where, f'{error.errors(include_input=False)[0]["msg"]}, or {{"hyperparameter": its name}}'


def _count_turns(repeat: PostedLayer) -> int:
    times = repeat.get("times")
    return times if isinstance(times, int) else 8


def find_uses(layers: Sequence[PostedLayer], where: Where = (), turns: int = 0) -> Iterator[Use]:
    """Every place of checked layers where a hyperparameter stands."""
    for index, posted in enumerate(layers):
        fields = KINDS[posted["layer"]].model_fields
        own_turns = _count_turns(posted) if posted["layer"] == "repeat" else turns
        for name, value in posted.items():
            place = (*where, index, name)
            if name == "layers":
                yield from find_uses(value, place, own_turns)
            elif isinstance(value, dict):
                yield Use(value["hyperparameter"], place, turns, fields[name])


def list_names(use: Use) -> list[str]:
    """The hyperparameters that stand in the place, one for each turn."""
    if TURN_MARK not in use.name:
        return [use.name]
    return [use.name.replace(TURN_MARK, str(turn)) for turn in range(1, use.turns + 1)]


def _intersect(first: FieldInfo, second: FieldInfo) -> FieldInfo | None:
    """A field with the bounds and choices of both; None if no value is allowed by both."""
    choices = [get_args(one.annotation) for one in (first, second)]
    if choices[0] or choices[1]:
        common = tuple(one for one in choices[0] if one in choices[1])
        return _make_field(Literal[common], []) if common else None
    low, high = _bounds(first, second)
    if low and high and (low[0] > high[0] or (low[0] == high[0] and (low[1] or high[1]))):
        return None
    kind = int if int in (first.annotation, second.annotation) else float
    bounds: list[Any] = [(Gt if low[1] else Ge)(low[0])] if low else []
    bounds += [(Lt if high[1] else Le)(high[0])] if high else []
    return _make_field(kind, bounds)


def collect_fields(uses: Iterable[Use]) -> tuple[dict[str, FieldInfo], list[Rejection]]:
    """By hyperparameter, a field with the bounds of all its places; and the places where no value is left."""
    fields: dict[str, FieldInfo] = {}
    wrong: list[Rejection] = []
    for use in uses:
        for name in list_names(use):
            both = _intersect(fields.get(name, use.field), use.field)
            if both is None:
                wrong.append((use.where, f"{name} also stands elsewhere, and no value is allowed in both places"))
            else:
                fields[name] = both
    return fields, wrong


def _make_field(kind: Any, bounds: list[Any]) -> FieldInfo:
    annotation: Any = Annotated[kind, *bounds] if bounds else kind
    return FieldInfo.from_annotation(annotation)


def _bounds(*fields: FieldInfo) -> tuple[tuple[Any, bool] | None, tuple[Any, bool] | None]:
    """The narrowest lower and upper bound, each with whether it is itself excluded."""
    found = [bound for field in fields for bound in field.metadata]
    low = [(one.ge, False) for one in found if isinstance(one, Ge)] + [
        (one.gt, True) for one in found if isinstance(one, Gt)
    ]
    high = [(one.le, False) for one in found if isinstance(one, Le)] + [
        (one.lt, True) for one in found if isinstance(one, Lt)
    ]
    return max(low, default=None), min(high, key=lambda bound: (bound[0], not bound[1]), default=None)


class Expansion:
    """Layers for given values: those of `layers`, and where each of them was posted."""

    def __init__(self, posted: Sequence[PostedLayer], values: Mapping[str, Value]) -> None:
        """`values` has those of all placeholders that are reached.

        Raises:
            KeyError: a placeholder has no value.
            ValueError: there are too many layers.
        """
        self._values = values
        self.used: set[str] = set()
        self._places: dict[int, tuple[Where, str]] = {}
        self._count = 0
        self.layers = tuple(self._expand(posted, (), "", ""))

    def describe_place(self, error: LayerError) -> tuple[Where, str]:
        """Where the layer was posted, and the turns of the repeats around it in words."""
        return self._places.get(id(error.layer), ((), ""))

    def _expand(self, posted: Sequence[PostedLayer], where: Where, turn: str, turns: str) -> Iterator[Layer]:
        for index, one in enumerate(posted):
            place = (*where, index)
            if one["layer"] == "repeat":
                yield from self._repeat(one, place, turn, turns)
            else:
                yield self._make_layer(one, place, turn, turns)

    def _repeat(self, one: PostedLayer, place: Where, turn: str, turns: str) -> Iterator[Layer]:
        times = cast(int, self._find_value(one["times"], turn))
        for own in range(1, times + 1):
            words = f"{turns}, turn {own} of {times}"
            yield from self._expand(one["layers"], (*place, "layers"), str(own), words)

    def _make_layer(self, one: PostedLayer, place: Where, turn: str, turns: str) -> Layer:
        values = {name: self._find_value(value, turn) for name, value in one.items() if name != "layers"}
        if one["layer"] == "residual":
            values["layers"] = tuple(self._expand(one["layers"], (*place, "layers"), turn, turns))
            if not values["layers"]:
                raise ValueError("a residual has no layers")
        else:
            self._count += 1
        if self._count > MAX_LAYERS:
            raise ValueError(f"the network has more than {MAX_LAYERS} layers")
        made = Residual(**values) if one["layer"] == "residual" else LAYERS[one["layer"]].model_validate(values)
        self._places[id(made)] = place, turns
        return made

    def _find_value(self, posted: Any, turn: str) -> Any:
        if not isinstance(posted, dict):
            return posted
        name = posted["hyperparameter"].replace(TURN_MARK, turn)
        self.used.add(name)
        return self._values[name]
