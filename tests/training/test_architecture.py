"""The cost by which fits are ordered is that of the kernels that are trained."""

from hypothesis import given
from hypothesis import strategies as st

from app.tuning.search.models import Cnn
from worker.cnn.architecture import Architecture


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Any architecture, of which some are too deep for their image."""
    return Architecture(
        height=draw(st.integers(1, 64)),
        width=draw(st.integers(1, 64)),
        classes=draw(st.integers(2, 100)),
        conv_blocks=draw(st.integers(1, 3)),
        filters=draw(st.integers(1, 256)),
        kernel_size=draw(st.integers(1, 7)),
        num_neurons=draw(st.integers(1, 4096)),
        activation="relu",
        optimizer="adam",
        momentum=False,
        weight_decay=False,
        penalty=False,
        dropout=False,
    )


def count_by_kernels(architecture: Architecture) -> int:
    """Multiply-adds of one image: each kernel's weights, times the places where it is applied."""
    height, width, total = architecture.height, architecture.width, 0
    *convolutions, dense, last = architecture.kernels()
    for rows, columns, channels, filters in convolutions:
        height, width = height - rows + 1, width - columns + 1
        total += height * width * rows * columns * channels * filters
        height, width = height // 2, width // 2
    return total + dense[0] * dense[1] + last[0] * last[1]


@given(architectures())
def test_the_cost_of_a_candidate_is_that_of_its_kernels(architecture: Architecture) -> None:
    searched = ("conv_blocks", "filters", "kernel_size", "num_neurons")
    model = Cnn(**{name: getattr(architecture, name) for name in searched})
    image = (architecture.height, architecture.width, 1)
    try:
        expected = count_by_kernels(architecture)
    except ValueError:
        expected = None
    try:
        found = model.multiply_adds(image, architecture.classes)
    except ValueError:
        found = None
    assert found == expected, "an image too small for one is too small for the other"
    assert expected is None or architecture.multiply_adds() == expected
    if expected is not None:
        assert model.checkpoint_bytes(image, architecture.classes) == 16 * architecture.weights() + 2**19
