"""`folder:PATH`: your own pictures, one subfolder for each class."""

import os
from pathlib import Path

import numpy as np

from minivit.data.dataset import Dataset, Split
from minivit.data.image_files import SUFFIXES, read_pixels
from minivit.data.splits import stratified_order
from minivit.engine.errors import ConfigError, DataError

_PARTS = ("train", "val", "test")
_SHARE = 0.15  # of the images, for each part that has no folder of its own
_FEWEST = 5  # images in a class, so that each part gets one of it

_DESCRIPTION = """\
folder: {count:,} images of {classes} classes ({names}), read from {path} and brought to {h}×{w} pixels, {channels}:
scaled to cover, then cropped round the middle.
Split: {split}
"""


def folder(path: str | os.PathLike, *, image_size: int | tuple[int, int] = 32, channels: int = 3) -> Dataset:
    """A folder of images, class = subfolder, names in alphabetical order: uint8 (n, image_size, image_size, channels).

    With subfolders train, val and test, each holding the classes, these are the parts; a part without a folder is cut
    from train, and without a train folder all are cut from the whole: 15 % for validation and 15 % for test, stratified,
    always the same for the same file names. Every image is held in memory. Files with other endings than an image's and
    names that begin with a dot are passed over. Raises DataError when there are fewer than two classes or, to be cut,
    five images in a class, when a class exists only outside train, or when an image cannot be read (naming it).
    """
    root = Path(path).expanduser()
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or min(size) < 1:
        raise ConfigError(f"folder: image_size must be a positive number or (height, width), not {image_size!r}")
    if channels not in (1, 3):
        raise ConfigError(f"folder: channels must be 1 (grey) or 3 (RGB), not {channels!r}")
    if not root.is_dir():
        raise DataError(f"folder: {root} is not a folder")

    folders = _part_folders(root)
    listing = {part: _classes(where) for part, where in folders.items()}
    names = tuple(listing["train"])
    if len(names) < 2:
        raise DataError(
            f"folder: {folders['train']} has {len(names)} subfolder(s); a classifier needs at least two classes, each "
            "in a subfolder of its own"
        )
    for part, classes in listing.items():
        unknown = [c for c in classes if c not in names]
        if unknown:
            raise DataError(f"folder: {folders[part]} has the class {unknown[0]!r}, which {folders['train']} lacks")

    files, labels, places = {}, {}, {}
    for part, classes in listing.items():
        paths = [file for c in classes for file in classes[c]]
        owners = np.array([names.index(c) for c in classes for _ in classes[c]], dtype=np.int64)
        order, places[part] = stratified_order(owners)  # mixed, so that the first images are a fair sample
        files[part], labels[part] = [paths[i] for i in order], owners[order]
    missing = [part for part in _PARTS if part not in files]
    if missing:
        few = [c for c, members in listing["train"].items() if len(members) < _FEWEST]
        if few:
            raise DataError(
                f"folder: class {few[0]!r} in {folders['train']} has {len(listing['train'][few[0]])} image(s); to be cut "
                f"into training, validation and test, each class needs at least {_FEWEST}"
            )
        for part in reversed(
            missing
        ):  # off the end of the line from 0 to 1 on which `stratified_order` lays the images
            share = 1 - _SHARE * (len(missing) - missing.index(part))
            cut = int(np.searchsorted(places["train"], share))
            files["train"], files[part] = files["train"][:cut], files["train"][cut:]
            labels["train"], labels[part] = labels["train"][:cut], labels["train"][cut:]

    parts = {part: Split(_read(files[part], size, channels), labels[part]) for part in _PARTS}
    counts = ", ".join(f"{len(split):,} {part}" for part, split in parts.items())
    how = f"{' and '.join(missing)} cut from the rest, stratified, always the same" if missing else "as in the folders"
    return Dataset(
        name=f"folder:{path}",
        **parts,
        class_names=names,
        description=_DESCRIPTION.format(
            count=sum(len(split) for split in parts.values()),
            classes=len(names),
            names=", ".join(names[:10]) + (", …" if len(names) > 10 else ""),
            path=root,
            h=size[0],
            w=size[1],
            channels="RGB" if channels == 3 else "grey",
            split=f"{counts}; {how}.",
        ),
        source=str(root),
        license="as the owner of the images says",
    )


def _part_folders(root: Path) -> dict[str, Path]:
    """Where each part is: the folders train, val and test if train is there and holds folders, else root for all."""
    inside = _subfolders(root)
    if "train" not in [d.name for d in inside] or not _subfolders(root / "train"):
        return {"train": root}
    strangers = [d.name for d in inside if d.name not in _PARTS]
    if strangers:
        raise DataError(
            f"folder: {root} has the folder {strangers[0]!r} beside train; only train, val and test are known there"
        )
    return {part: root / part for part in _PARTS if (root / part).is_dir()}


def _classes(where: Path) -> dict[str, list[Path]]:
    """The image files of each class, both in alphabetical order."""
    listing = {}
    for directory in _subfolders(where):
        files = [f for f in _entries(directory) if f.suffix.lower() in SUFFIXES and f.is_file()]
        if not files:
            raise DataError(f"folder: {directory} has no images ({', '.join(SUFFIXES)})")
        listing[directory.name] = files
    return listing


def _subfolders(where: Path) -> list[Path]:
    return [entry for entry in _entries(where) if entry.is_dir()]


def _entries(where: Path) -> list[Path]:
    try:
        return sorted((e for e in where.iterdir() if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise DataError(f"folder: cannot read {where}: {error.strerror}") from None


def _read(files: list[Path], size: tuple[int, int], channels: int) -> np.ndarray:
    from tqdm import tqdm

    images = np.empty((len(files), *size, channels), dtype=np.uint8)
    for i, file in enumerate(tqdm(files, desc="reading images", unit=" images", leave=False, delay=2)):
        images[i] = read_pixels(file, size=size, channels=channels)
    return images
