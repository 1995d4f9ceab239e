"""Data sets by name, as the command line calls them."""

import inspect
import os
from collections.abc import Callable
from typing import Any

from minivit.data.cifar_files import cifar10, cifar100
from minivit.data.dataset import Dataset
from minivit.data.digit_images import digits
from minivit.data.idx_files import fashion_mnist, mnist
from minivit.data.image_folder import folder
from minivit.data.shape_images import shapes
from minivit.data.twin_task import twin
from minivit.engine.errors import ConfigError, did_you_mean

_SETS: dict[str, Callable[..., Dataset]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "mnist": mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "shapes": shapes,
    "twin": twin,
}


def names() -> tuple[str, ...]:
    """The names that `load` knows, besides "folder:PATH"."""
    return tuple(_SETS)


def load(name: str, *, data_dir: str | os.PathLike | None = None, seed: int = 0, **options: Any) -> Dataset:
    """The data set called `name`: one of `names()`, or "folder:PATH".

    `data_dir` is where to look first for files (mnist, fashion-mnist, cifar10, cifar100). `seed` chooses the draw of
    shapes and twin; the others are fixed and the same for every seed. Other options go to the set's own function, such
    as split="file-order" for digits. Raises ConfigError for an unknown name or an option the set does not have, DataError
    when its files are missing or damaged.
    """
    if name.startswith("folder:"):
        path = name.removeprefix("folder:")
        if not path:
            raise ConfigError("data set 'folder:' needs a path, as in folder:my/pictures")
        make, options = folder, {"path": path, **options}
    elif name in _SETS:
        make = _SETS[name]
    else:
        known = [*_SETS, "folder:PATH"]
        raise ConfigError(f"unknown data set {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")
    known = list(inspect.signature(make).parameters)
    if data_dir is not None:
        options["data_dir"] = data_dir
    if "seed" in known:
        options["seed"] = seed
    for option in options:
        if option not in known:
            raise ConfigError(
                f"data set {name!r} has no option {option!r}{did_you_mean(option, known)}; it has {', '.join(known)}"
            )
    return make(**options)
