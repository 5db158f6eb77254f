"""Which member of a zip of image folders belongs to which part and class, by Keras's and torchvision's layout."""

import unicodedata
import zipfile
from typing import NamedTuple

from app.intake.answers import Fault, Rejected, quote, reject
from app.intake.labels import check_class_names
from app.intake.zips import list_members, name_file

ENDINGS = (".png", ".jpg", ".jpeg")
# Images that would be missed if they were left out like other files.
UNREAD_ENDINGS = (".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".heic")
PART_FOLDERS = {"train": "train", "test": "test", "val": "train", "valid": "train", "validation": "train"}
SHOWN_NAMES = 5


class Filed(NamedTuple):
    """The images in order of their names, with their parts and the numbers of their classes."""

    members: list[zipfile.ZipInfo]
    parts: list[str]  # train or test; all are train where the archive has no parts
    classes: list[int]
    class_names: list[str]
    warnings: list[str]


def file_images(archive: zipfile.ZipFile) -> Filed:
    """Find the images and their classes: folders in alphanumeric order, as `image_dataset_from_directory` has them.

    One folder around everything is left out; `train` and `test` are parts, and `val` is added to `train`.

    Raises:
        Rejected: there are no images, or some lie in no folder of a class.
    """
    found = list_members(archive)
    members = [info for info in found if info.filename.lower().endswith(ENDINGS)]
    others = [name_file(info) for info in found if not info.filename.lower().endswith(ENDINGS)]
    unread = [Fault("only PNG and JPEG are read: convert it", file=info.filename) for info in found if _is_unread(info)]
    if unread:
        raise Rejected(*unread[:10], found=len(unread))
    if not members:
        raise reject(f"there are no PNG or JPEG images, but {_shorten(others)}", status=415)
    paths = _strip_top([info.filename.split("/") for info in members])
    parted = any(path[0] == "train" and len(path) > 2 for path in paths) and all(
        path[0] in PART_FOLDERS for path in paths
    )
    faults = [
        Fault("it lies in no folder of a class: folder names are the classes", file=info.filename)
        for info, path in zip(members, paths, strict=True)
        if len(path) < 2 + parted
    ]
    if faults:
        raise Rejected(*faults[:10], found=len(faults))
    labels = [unicodedata.normalize("NFC", path[parted]) for path in paths]
    names = sorted(set(labels))
    check_class_names(names)
    numbers = {name: number for number, name in enumerate(names)}
    warnings = [f"left out, no images: {_shorten(others)}"] if others else []
    if parted and (joined := sorted({path[0] for path in paths} - {"train", "test"})):
        warnings.append(f"images in {', '.join(joined)} were added to the training part")
    parts = [PART_FOLDERS[path[0]] if parted else "train" for path in paths]
    return Filed(members, parts, [numbers[label] for label in labels], names, warnings)


def _is_unread(info: zipfile.ZipInfo) -> bool:
    return info.filename.lower().endswith(UNREAD_ENDINGS)


def _strip_top(paths: list[list[str]]) -> list[list[str]]:
    """The paths without the folder that is around all of them."""
    if all(len(path) > 2 and path[0] == paths[0][0] for path in paths):
        return [path[1:] for path in paths]
    return paths


def _shorten(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(quote(name) for name in names[:SHOWN_NAMES]) + more
