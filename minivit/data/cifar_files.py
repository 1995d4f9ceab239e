"""`cifar10` and `cifar100`, from the binary version of the files.

The better-known Python version is a pickle, and reading a pickle can run any code; the binary version is only bytes.
They are read straight from the archive, which is never unpacked to the disk.
"""

import os
import tarfile
import zlib
from pathlib import Path

import numpy as np

from minivit.data.dataset import Dataset, Split
from minivit.data.files import download, find_files, md5_of
from minivit.data.splits import stratified_order
from minivit.engine.errors import DataError

_URL = "https://www.cs.toronto.edu/~kriz/"
_PIXELS = 3 * 32 * 32
_VAL = 5000

CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
    maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
    snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
    tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_NAMES = tuple(_CIFAR100_NAMES.split())

_DESCRIPTION = """\
{name}: 60,000 small photographs, 32×32 RGB pixels, {classes} classes, from the binary version of the files.
Split: the published 10,000 test images; of the 50,000 others, 5,000 (stratified by class, always the same) are for
validation and 45,000 for training.
"""


def cifar10(*, data_dir: str | os.PathLike | None = None) -> Dataset:
    """CIFAR-10: 45,000 / 5,000 / 10,000 photographs, uint8 (n, 32, 32, 3), 10 classes.

    Read from `cifar-10-binary.tar.gz` or the unpacked `.bin` files in `data_dir` or MINIVIT_DATA, or from the cache,
    else downloaded (170 MB). Raises DataError when they are damaged or cannot be had. Source: Krizhevsky 2009.
    """
    train = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
    return _load(
        "cifar10",
        data_dir,
        archive="cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",  # as published
        folder="cifar-10-batches-bin",
        files={**dict.fromkeys(train, 10000), "test_batch.bin": 10000},
        label_bytes=1,
        class_names=CIFAR10_NAMES,
    )


def cifar100(*, data_dir: str | os.PathLike | None = None) -> Dataset:
    """CIFAR-100 with its 100 fine classes: 45,000 / 5,000 / 10,000 photographs, uint8 (n, 32, 32, 3).

    Read from `cifar-100-binary.tar.gz` or the unpacked `.bin` files in `data_dir` or MINIVIT_DATA, or from the cache,
    else downloaded (169 MB). Raises DataError when they are damaged or cannot be had. Source: Krizhevsky 2009.
    """
    return _load(
        "cifar100",
        data_dir,
        archive="cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",  # as published
        folder="cifar-100-binary",
        files={"train.bin": 50000, "test.bin": 10000},
        label_bytes=2,  # the coarse class, then the fine one
        class_names=CIFAR100_NAMES,
    )


def _load(
    name: str,
    data_dir: str | os.PathLike | None,
    *,
    archive: str,
    md5: str,
    folder: str,
    files: dict[str, int],
    label_bytes: int,
    class_names: tuple[str, ...],
) -> Dataset:
    record = label_bytes + _PIXELS
    sizes = {file: count * record for file, count in files.items()}
    packed = find_files(name, [archive], data_dir)
    loose = packed or find_files(name, list(files), data_dir) or find_files(folder, list(files), data_dir)
    if packed or not loose:
        advice = (
            f"Without a network: put {archive}, or its unpacked .bin files, into a folder DIR and give data_dir=DIR "
            f"(--data-dir DIR), or into $MINIVIT_DATA/{name}"
        )
        path = packed[0] if packed else download(name, archive, [_URL + archive], md5, advice=advice)
        source = str(path) if packed else f"downloaded from {_URL}{archive}"
        contents = _from_archive(path, sizes)
        if md5_of(path) != md5:
            source += " (not the published checksum; sizes and labels are in order)"
    else:
        source = str(loose[0].parent)
        contents = [_from_file(path, size) for path, size in zip(loose, sizes.values(), strict=True)]

    records = [np.frombuffer(content, dtype=np.uint8).reshape(-1, record) for content in contents]
    train, test = np.concatenate(records[:-1]), records[-1]
    images, labels = _decode(train, label_bytes, len(class_names), source)
    order, _ = stratified_order(labels)
    return Dataset(
        name=name,
        train=Split(images[order[_VAL:]], labels[order[_VAL:]]),
        val=Split(images[order[:_VAL]], labels[order[:_VAL]]),
        test=Split(*_decode(test, label_bytes, len(class_names), source)),
        class_names=class_names,
        description=_DESCRIPTION.format(name=name, classes=len(class_names)),
        source=source,
        license="none stated by the publisher; cite A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    )


def _decode(records: np.ndarray, label_bytes: int, classes: int, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 32, 32, 3) and labels int64 (n,) from records (n, label_bytes + 3072), whose planes are R, G, B."""
    labels = records[:, label_bytes - 1].astype(np.int64)
    if labels.max() >= classes:
        raise DataError(f"{source} has a label {labels.max()}, but there are {classes} classes; fetch the files again")
    planes = records[:, label_bytes:].reshape(-1, 3, 32, 32)  # (n, C, H, W) -> (n, H, W, C)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _from_archive(path: Path, sizes: dict[str, int]) -> list[bytes]:
    """The wanted members of a packed archive, each of exactly the size it must have."""
    found = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = os.path.basename(member.name)
                if member.isfile() and name in sizes:
                    if member.size != sizes[name]:
                        raise DataError(
                            f"{path}: {name} has {member.size:,} bytes, not {sizes[name]:,}; fetch it again"
                        )
                    found[name] = archive.extractfile(member).read()
            while archive.fileobj.read(2**20):  # to the very end, where gzip compares its own checksum
                pass
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{path} is truncated or damaged ({error}); fetch it again") from None
    missing = [name for name in sizes if name not in found]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}: is it the binary version of the set?")
    return [found[name] for name in sizes]


def _from_file(path: Path, size: int) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if len(content) != size:
        raise DataError(f"{path} has {len(content):,} bytes, not {size:,}; fetch it again")
    return content
