"""Lists of layers: what is wrong with them, how they expand, what they take."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.tuning.search.layers import LAYERS, Conv2d, Dense, Dropout, Flatten, Layer, MaxPooling2d, Residual
from app.tuning.search.models import Cnn
from app.tuning.search.networks import Mlp, Resnet, list_layers, measure_network
from app.tuning.search.own_networks import LayerList, MisplacedLayer, OwnNetwork, check_layers, make_network

IMAGE = (28, 28, 1)
Posted = dict[str, Any]


def of(name: str) -> Posted:
    """A placeholder."""
    return {"hyperparameter": name}


BLOCKS: list[Posted] = [
    {
        "layer": "repeat",
        "times": of("blocks"),
        "layers": [
            {"layer": "conv2d", "filters": of("filters_{i}"), "kernel_size": 3, "activation": of("activation")},
            {"layer": "max_pooling2d"},
        ],
    },
    {"layer": "flatten"},
    {"layer": "dense", "units": of("units"), "activation": of("activation")},
    {"layer": "dropout", "rate": 0.5},
]
VALUES: Posted = {"blocks": 2, "filters_1": 4, "filters_2": 8, "activation": "relu", "units": 10}


def own(layers: list[Posted], **values: Any) -> OwnNetwork:
    """The network of these layers with these values."""
    assert not list(check_layers(layers))
    return make_network(LayerList(layers=layers)).model_validate(values)


def test_layers_are_repeated_with_the_values_of_each_turn() -> None:
    assert own(BLOCKS, **VALUES).list_layers(IMAGE) == (
        Conv2d(filters=4, kernel_size=3, activation="relu"),
        MaxPooling2d(),
        Conv2d(filters=8, kernel_size=3, activation="relu"),
        MaxPooling2d(),
        Flatten(),
        Dense(units=10, activation="relu"),
        Dropout(rate=0.5),
    )


def test_a_layer_that_is_repeated_no_times_is_not_there() -> None:
    layers = [{"layer": "repeat", "times": of("depth"), "layers": [{"layer": "dense", "units": of("units_{i}")}]}]
    assert own(layers, depth=0).list_layers((4,)) == ()
    assert own(layers, depth=1, units_1=3).list_layers((4,)) == (Dense(units=3),)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"filters_3": 8}, "filters_3 stands in no layer that is used"),
        ({"blocks": 3}, "filters_3 has no value"),
        ({"blocks": 9}, "less than or equal to 8"),
        ({"units": 0}, "greater than or equal to 1"),
        ({"activation": "relu6"}, "'relu'"),
        ({"units": 2.5}, "integer"),
        ({"other": 1}, "Extra inputs"),
    ],
)
def test_values_that_do_not_fit_the_layers_are_rejected(changes: Posted, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        own(BLOCKS, **{**VALUES, **changes})


WRONG: list[tuple[list[Any], tuple[str | int, ...], str]] = [
    ([], (), "at least one layer"),
    ([3], (0,), "an object whose `layer` is one of activation, "),
    ([{"layer": "lambda"}], (0, "layer"), "one of activation, "),
    ([{"units": 3}], (0, "layer"), "one of activation, "),
    ([{"layer": ["dense"]}], (0, "layer"), "one of activation, "),
    ([{"layer": "dense"}], (0, "units"), "dense needs it"),
    ([{"layer": "dense", "units": 3, "use_bias": False}], (0, "use_bias"), "expected one of layer, units, activation"),
    ([{"layer": "dense", "units": 0}], (0, "units"), "greater than or equal to 1"),
    ([{"layer": "dense", "units": True}], (0, "units"), "valid integer"),
    ([{"layer": "dense", "units": {"param": "units"}}], (0, "units"), '{"hyperparameter": its name}'),
    ([{"layer": "dense", "units": of("")}], (0, "units", "hyperparameter"), "a letter"),
    ([{"layer": "dense", "units": of("u_{i}")}], (0, "units", "hyperparameter"), "there is none around it"),
    ([{"layer": "dense", "units": of("epochs")}], (0, "units"), "hyperparameter of training"),
    ([{"layer": "dense", "units": of("copy")}], (0, "units"), "reserved"),
    ([{"layer": "dense", "units": of("a"), "activation": of("a")}], (0, "activation"), "also stands elsewhere"),
    ([{"layer": "repeat", "times": 2, "layers": []}], (0, "layers"), "at least one layer"),
    ([{"layer": "residual", "layers": [{"layer": "dense"}]}], (0, "layers", 0, "units"), "dense needs it"),
    ([{"layer": "dropout", "rate": float("nan")}], (0, "rate"), "finite"),
]


@pytest.mark.parametrize("layers, where, message", WRONG, ids=[message for *_, message in WRONG])
def test_what_is_wrong_with_posted_layers_is_said_with_its_place(
    layers: list[Any], where: tuple[str | int, ...], message: str
) -> None:
    [(place, said)] = check_layers(layers)
    assert place == where and message in said


def test_layers_are_nested_at_most_four_deep() -> None:
    layers: list[Posted] = [{"layer": "flatten"}]
    for _ in range(4):
        layers = [{"layer": "repeat", "times": 1, "layers": layers}]
    assert not list(check_layers(layers))
    [(place, said)] = check_layers([{"layer": "residual", "layers": layers}])
    assert len(place) == 10 and "at most 4 deep" in said


def test_a_hyperparameter_has_the_bounds_of_all_its_places() -> None:
    layers: list[Posted] = [
        {"layer": "conv2d", "filters": of("size"), "kernel_size": of("size")},
        {"layer": "max_pooling2d", "pool_size": of("size")},
        {"layer": "flatten"},
    ]
    assert own(layers, size=8).list_layers(IMAGE)
    with pytest.raises(ValidationError, match="less than or equal to 8"):
        own(layers, size=9)


MISPLACED: list[tuple[list[Posted], tuple[str | int, ...], str]] = [
    ([{"layer": "dense", "units": 3}], (0,), "dense takes a flat input, it gets 28 by 28 by 1: put flatten or"),
    ([{"layer": "max_pooling2d"}], (), "takes a flat input and gets 14 by 14 by 1: end with flatten or"),
    (
        [{"layer": "repeat", "times": 2, "layers": [{"layer": "flatten"}, {"layer": "max_pooling2d"}]}],
        (0, "layers", 1),
        "max_pooling2d takes images, it gets a row of 784: leave it out, turn 1 of 2",
    ),
    (
        [{"layer": "residual", "layers": [{"layer": "residual", "layers": [{"layer": "dense", "units": 3}]}]}],
        (0, "layers", 0, "layers", 0),
        "dense takes a flat input",
    ),
    ([{"layer": "residual", "layers": [{"layer": "flatten"}]}], (0,), "adds 28 by 28 by 1 to a row of 784"),
]


@pytest.mark.parametrize("layers, where, message", MISPLACED, ids=[message for *_, message in MISPLACED])
def test_a_layer_that_is_in_the_wrong_place_is_named(
    layers: list[Posted], where: tuple[str | int, ...], message: str
) -> None:
    with pytest.raises(MisplacedLayer) as raised:
        own(layers).training_cost(IMAGE, 10)
    assert raised.value.where == where and message in str(raised.value)


def test_an_image_that_is_shrunk_to_nothing_is_told_with_the_turn() -> None:
    values = {**VALUES, "blocks": 4, "filters_3": 8, "filters_4": 8}
    with pytest.raises(ValueError, match="shrinks 1 by 1 to nothing: /model/layers/0/layers/0, turn 4 of 4"):
        own(BLOCKS, **values).training_cost(IMAGE, 10)


FLAT: list[Posted] = [{"layer": "flatten"}]
EIGHT_TIMES_EIGHT = {"layer": "repeat", "times": 8, "layers": [{"layer": "repeat", "times": 8, "layers": FLAT * 2}]}
WIDE = [{"layer": "conv2d", "filters": 4096, "kernel_size": 1}]
BOUNDED: list[tuple[list[Posted], str]] = [
    ([EIGHT_TIMES_EIGHT], "more than 64 layers"),
    ([*FLAT, {"layer": "dense", "units": 65_536}], "weights: at most 50,000,000"),
    ([*WIDE * 6, {"layer": "global_average_pooling2d"}], "weights: at most 50,000,000"),
    ([*WIDE, *[{"layer": "activation", "activation": "relu"}] * 8, {"layer": "global_average_pooling2d"}], "bytes of"),
]


@pytest.mark.parametrize("layers, message", BOUNDED, ids=[message for _, message in BOUNDED])
def test_networks_are_bounded(layers: list[Posted], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        own(layers).training_cost(IMAGE, 10)


def test_the_work_of_a_network_is_bounded() -> None:
    slow = (Conv2d(filters=50, kernel_size=15, padding="same"),) * 4
    with pytest.raises(ValueError, match="multiply-adds a sample: at most 100,000,000,000"):
        measure_network((*slow, Flatten()), (256, 256, 3), 2)


def test_the_shortcut_of_a_residual_has_its_output_s_shape() -> None:
    halved = Residual(layers=(Conv2d(filters=8, kernel_size=3, strides=2, padding="same"),))
    assert halved.shortcut((7, 7, 4)) == Conv2d(filters=8, kernel_size=1, strides=2, padding="same")
    assert Residual(layers=(Dense(units=8),)).shortcut((4,)) == Dense(units=8)
    assert Residual(layers=(Dense(units=8),)).shortcut((8,)) is None


def test_the_families_are_lists_of_layers() -> None:
    for shape, model in (((4,), Mlp(hidden_layers=2)), (IMAGE, Mlp()), ((32, 32, 3), Resnet(blocks=3)), (IMAGE, Cnn())):
        layers = list_layers(model, shape)
        assert layers and all(isinstance(layer, Layer) for layer in layers)
        assert model.training_cost(shape, 10) == measure_network(layers, shape, 10).multiply_adds * 10


def test_a_resnet_of_three_stages_of_three_blocks_has_twenty_layers_with_weights() -> None:
    """Of the 20 of He et al. (2016), 19 are convolutions, and the last is the output layer."""
    layers = Resnet(stages=3, blocks=3).list_layers((32, 32, 3))
    within = [one for layer in layers for one in (layer.layers if isinstance(layer, Residual) else (layer,))]
    assert sum(isinstance(one, Conv2d) for one in within) == 19
    assert sum(layer.count() for layer in layers) == 60 - 1


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_the_cnn_s_own_figures_are_those_of_its_layers(shape: tuple[int, int, int], blocks: int) -> None:
    model = Cnn(conv_blocks=blocks, kernel_size=2, filters=5, num_neurons=7)
    size = measure_network(list_layers(model, shape), shape, 10)
    assert model.multiply_adds(shape, 10) == size.multiply_adds
    assert model.checkpoint_bytes(shape, 10) == 16 * size.weights + 2**19


def test_every_layer_has_a_meaning_and_can_be_posted() -> None:
    assert all(kind.__doc__ and kind.model_fields["layer"].default == name for name, kind in LAYERS.items())
