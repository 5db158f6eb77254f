"""Decodes the PNG and JPEG files of a zip of image folders, one at a time."""

import io
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from app.intake.answers import Fault, Options, Rejected, reject
from app.intake.content import AnyArray, Content, DataPart
from app.intake.folders import Filed, file_images
from app.intake.labels import choose_dtype
from app.intake.limits import (
    ALL_PIXELS,
    DECODED_BYTES,
    GIB,
    IMAGE_FILE_BYTES,
    IMAGE_PIXELS,
    IMAGE_SIDE,
    SHOWN_ERRORS,
)
from app.intake.zips import UNREADABLE_MEMBER

FORMATS = ("PNG", "JPEG")
GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "F")
DEEP_MODES = ("I", "I;16", "I;16B")  # 16 bits


class ImageHeader(NamedTuple):
    """What an image's header says."""

    height: int
    width: int
    grey: bool


def read_images(archive: zipfile.ZipFile, options: Options, scratch: Path) -> Content:
    """The images as bytes, (n, h, w) if most are grey and (n, h, w, 3) otherwise.

    Raises:
        Rejected: some cannot be decoded, are too large, or differ in size and `image_size` is not given.
    """
    if options.task == "regression" or options.image_shape:
        pointer = "/task" if options.task == "regression" else "/image_shape"
        raise reject("this is for tables, and these are folders of images", pointer=pointer)
    filed = file_images(archive)
    seen = _look(archive, filed.members)
    size, notes = _choose_size(seen, options)
    grey = sum(one.grey for one in seen)
    colour = options.color == "rgb" or (options.color is None and grey * 2 < len(seen))
    unlike = grey if colour else len(seen) - grey
    notes += [f"{unlike:,} images were converted to {'rgb' if colour else 'grayscale'}"] if unlike else []
    shape = (*size, 3) if colour else size
    if (needed := len(seen) * int(np.prod(shape))) > DECODED_BYTES:
        message = f"{len(seen):,} images take {needed:,} bytes, and at most {DECODED_BYTES // GIB} GiB are kept"
        raise reject(f"{message}: send a smaller image_size", status=413)
    pixels = _decode_all(archive, filed.members, shape, scratch / "pixels")
    train, test = _choose_parts(filed, pixels)
    return Content(shape, train, test, filed.class_names, warnings=filed.warnings + notes, sorted_by_class=True)


def _choose_parts(filed: Filed, pixels: AnyArray) -> tuple[DataPart, DataPart | None]:
    classes = np.array(filed.classes, choose_dtype(len(filed.class_names)))
    tested = np.array(filed.parts) == "test"
    train = DataPart(pixels, classes, np.flatnonzero(~tested))
    return train, DataPart(pixels, classes, np.flatnonzero(tested)) if tested.any() else None


def _look(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> list[ImageHeader]:
    """The headers of all images, of which none is decoded yet."""
    seen: list[ImageHeader] = []
    faults: list[Fault] = []
    pixels = 0
    for info in members:
        try:
            with _opened_image(archive, info) as image:
                seen.append(ImageHeader(image.height, image.width, image.mode in GREY_MODES))
        except Rejected as rejected:
            faults += rejected.faults
            if len(faults) == SHOWN_ERRORS:
                break
            continue
        pixels += seen[-1].height * seen[-1].width
        if pixels > ALL_PIXELS:
            raise reject(f"the images have more than {ALL_PIXELS:,} pixels together: make them smaller", status=413)
    if faults:
        raise Rejected(*faults)
    return seen


def _choose_size(seen: list[ImageHeader], options: Options) -> tuple[tuple[int, int], list[str]]:
    """Height and width of all images, and a warning if some are resized."""
    sizes = Counter((one.height, one.width) for one in seen)
    size = options.image_size or next(iter(sizes))
    if len(sizes) > 1 and not options.image_size:
        shown = ", ".join(f"{height}x{width}" for (height, width), _ in sizes.most_common(3))
        raise reject(f"the images have {len(sizes):,} sizes ({shown}, …): send image_size", pointer="/image_size")
    if max(size) > IMAGE_SIDE or min(size) < 1:
        message = f"{size[0]} by {size[1]} is not possible: send an image_size of at most {IMAGE_SIDE}x{IMAGE_SIDE}"
        raise reject(message, pointer="/image_size")
    resized = len(seen) - sizes[size]
    return size, [f"{resized:,} images were resized to {size[0]} by {size[1]}"] if resized else []


def _decode_all(
    archive: zipfile.ZipFile, members: Iterable[zipfile.ZipInfo], shape: tuple[int, ...], path: Path
) -> AnyArray:
    """All images, in a file mapped into memory."""
    faults: list[Fault] = []
    count = 0
    with path.open("wb") as file:
        for info in members:
            try:
                with _opened_image(archive, info) as image:
                    pixels = _convert(image, shape)
                file.write(pixels.tobytes())
                count += 1
            except Rejected as rejected:
                faults += rejected.faults
                if len(faults) == SHOWN_ERRORS:
                    break
    if faults:
        raise Rejected(*faults)
    return np.memmap(path, np.uint8, "r", shape=(count, *shape))


@contextmanager
def _opened_image(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[Image.Image]:
    """The image, of which only the header is decoded; what goes wrong inside is a rejection that names the file."""
    try:
        with archive.open(info) as member:
            content = member.read(IMAGE_FILE_BYTES + 1)
        if len(content) > IMAGE_FILE_BYTES:
            raise reject(f"the file has more than {IMAGE_FILE_BYTES:,} bytes: make it smaller", file=info.filename)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > IMAGE_PIXELS:
                    raise _too_large(info)
                yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(info) from error
    except UnidentifiedImageError as error:
        raise reject("it is no PNG or JPEG image", file=info.filename) from error
    except UNREADABLE_MEMBER as error:
        raise reject(f"the archive or the image is damaged here: {error}", file=info.filename) from error
    except (Rejected, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, TypeError, IndexError, …
        raise reject(f"the image is damaged or cut off: {error}", file=info.filename) from error


def _too_large(info: zipfile.ZipInfo) -> Rejected:
    return reject(f"the image has more than {IMAGE_PIXELS:,} pixels: make it smaller", file=info.filename)


def _convert(image: Image.Image, shape: tuple[int, ...]) -> AnyArray:
    """The image as bytes of this shape; resized by area, and without its transparency."""
    height, width = shape[:2]
    mode = "RGB" if len(shape) == 3 else "L"
    if image.format == "JPEG" and (image.height, image.width) != (height, width):
        image.draft(mode, (width, height))  # decodes at a half, a quarter or an eighth where that is enough
    image.load()
    if image.mode in DEEP_MODES:  # convert() would clip 16 bits instead of scaling them
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    image = image.convert(mode)
    if (image.height, image.width) != (height, width):
        image = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(image)
