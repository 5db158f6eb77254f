"""One picture of a data set of images."""

from pathlib import Path

import numpy as np
from PIL import Image

from app.intake.content import AnyArray

CLASSES_SHOWN = SAMPLES_SHOWN = 10
TILE = 64  # pixels, at most


def write_preview(path: Path, images: AnyArray, labels: AnyArray) -> None:
    """Write a PNG: a row for each of the first ten classes, with its first ten samples; (n, h, w) or (n, h, w, 3)."""
    scale = max(1, -(-max(images.shape[1:3]) // TILE))
    height, width = max(1, images.shape[1] // scale), max(1, images.shape[2] // scale)
    classes = min(CLASSES_SHOWN, int(labels.max()) + 1)
    sheet = Image.new("RGB" if images.ndim == 4 else "L", (SAMPLES_SHOWN * (width + 1), classes * (height + 1)))
    for row in range(classes):
        for column, index in enumerate(np.flatnonzero(labels == row)[:SAMPLES_SHOWN]):
            tile = Image.fromarray(images[index]).resize((width, height), Image.Resampling.BOX)
            sheet.paste(tile, (column * (width + 1), row * (height + 1)))
    sheet.save(path, format="PNG")
