"""How a posted job is rejected: where in it, and what is expected there."""

from collections.abc import Iterable

MAX_REJECTIONS = 10
Rejection = tuple[tuple[str | int, ...], str]  # the path in the posted job, and what is expected there


class SpecRejected(Exception):
    """The job cannot run as posted."""

    def __init__(self, rejections: list[Rejection]) -> None:
        super().__init__("; ".join(message for _, message in rejections))
        self.rejections = rejections


def raise_if_rejected(rejections: Iterable[Rejection]) -> None:
    """Raise `SpecRejected` with the first `MAX_REJECTIONS`, if there are any."""
    some = [rejection for rejection, _ in zip(rejections, range(MAX_REJECTIONS), strict=False)]
    if some:
        raise SpecRejected(some)
