"""`mnist` and `fashion-mnist`: two sets of 70,000 grey images in the IDX file format."""

import gzip
import math
import os
import zlib
from typing import BinaryIO

import numpy as np

from minivit.data.dataset import Dataset, Split
from minivit.data.files import download, find_files, md5_of
from minivit.data.splits import stratified_order
from minivit.engine.errors import DataError

_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_COUNTS = (60000, 60000, 10000, 10000)
_VAL = 10000

# MD5 of the compressed files, in the order of _FILES. Fashion-MNIST's were checked against the contents that Debian
# distributes (below): the same compressed streams under other headers. MNIST's are as published, not checked here.
_MD5 = {
    "fashion-mnist": (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    "mnist": (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
}
_DEBIAN_MD5 = (
    "cf8536b0aa1a6ac5fa3f23001093305c",
    "10bea18fdb374794d4bb42e356e600c9",
    "f78720b4224f21cce2f2ccf2d7a94c9a",
    "0d30e22e447f3c33dab9ed536400ac01",
)
_KNOWN = {
    "fashion-mnist": {*_MD5["fashion-mnist"], *_DEBIAN_MD5},
    "mnist": {*_MD5["mnist"]},
}
_URLS = {
    "fashion-mnist": (
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
}
_DEBIAN_DIR = "/usr/share/datasets/fashion-mnist"

_SPLIT = """\
Split: the published 10,000 test images; of the 60,000 others, 10,000 (stratified by class, always the same) are for
validation and 50,000 for training.
"""


def fashion_mnist(*, data_dir: str | os.PathLike | None = None) -> Dataset:
    """Fashion-MNIST: 50,000 / 10,000 / 10,000 grey images of clothes, uint8 (n, 28, 28, 1), 10 classes.

    Read from `data_dir`, MINIVIT_DATA, the Debian package's folder, or the cache, else downloaded (30 MB). Raises
    DataError when the files are damaged or cannot be had. Source: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.
    """
    return _load(
        "fashion-mnist",
        data_dir,
        _DEBIAN_DIR,
        "install the Debian or Ubuntu package dataset-fashion-mnist, or ",
        class_names=(
            ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
        ),
        about="fashion-mnist: 70,000 pictures of clothes from Zalando's catalogue, 28×28 grey pixels, 10 classes.\n",
        license="MIT, Zalando SE 2017 (Xiao, Rasul and Vollgraf, arXiv:1708.07747)",
    )


def mnist(*, data_dir: str | os.PathLike | None = None) -> Dataset:
    """MNIST: 50,000 / 10,000 / 10,000 handwritten digits, uint8 (n, 28, 28, 1), 10 classes.

    Read from `data_dir`, MINIVIT_DATA or the cache, else downloaded (12 MB). Raises DataError when the files are damaged
    or cannot be had. Source: LeCun, Bottou, Bengio and Haffner 1998.
    """
    return _load(
        "mnist",
        data_dir,
        None,
        "",
        class_names=tuple("0123456789"),
        about="mnist: 70,000 handwritten digits, 28×28 grey pixels, 10 classes; the test writers wrote no training image.\n",
        license="the publishers state none; commonly given as CC BY-SA 3.0 (LeCun, Cortes and Burges)",
    )


def _load(
    name: str,
    data_dir: str | os.PathLike | None,
    system_dir: str | None,
    package: str,
    *,
    class_names: tuple[str, ...],
    about: str,
    license: str,
) -> Dataset:
    paths = find_files(name, _FILES, data_dir, system_dir)
    source = f"{paths[0].parent}" if paths else f"downloaded from {_URLS[name][0]}"
    if paths is None:
        advice = (
            f"Without a network: {package}put {', '.join(_FILES)} into a folder DIR and give data_dir=DIR "
            f"(--data-dir DIR), or into $MINIVIT_DATA/{name}"
        )
        paths = [
            download(name, file, [base + file for base in _URLS[name]], md5, advice=advice)
            for file, md5 in zip(_FILES, _MD5[name], strict=True)
        ]
    arrays, hashes = [], []
    for path, count in zip(paths, _COUNTS, strict=True):
        array = read_idx(path)
        hashes.append(md5_of(path))
        expected = (count, 28, 28) if array.ndim == 3 else (count,)
        if array.shape != expected or (array.ndim == 3) != ("images" in path.name):
            raise DataError(f"{name}: {path} holds an array {array.shape}, not the {count:,} entries of this set")
        if array.ndim == 1 and array.max() > 9:
            raise DataError(f"{name}: {path} has a label {array.max()}, but the classes are 0 to 9")
        arrays.append(array)
    # Both sets use the same four file names, so a mistaken folder would pass unseen.
    for other in _KNOWN:
        if other != name and _KNOWN[other] & set(hashes):
            raise DataError(f"{name}: the files in {paths[0].parent} are those of {other}; choose another folder")
    if not set(hashes) <= _KNOWN[name]:
        source += " (not the published checksums; sizes and labels are in order)"

    images, labels, test_images, test_labels = arrays
    images, labels = images[..., None], labels.astype(np.int64)
    order, _ = stratified_order(labels)
    train, val = order[_VAL:], order[:_VAL]
    return Dataset(
        name=name,
        train=Split(images[train], labels[train]),
        val=Split(images[val], labels[val]),
        test=Split(test_images[..., None], test_labels.astype(np.int64)),
        class_names=class_names,
        description=about + _SPLIT,
        source=source,
        license=license,
    )


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """The uint8 array in an IDX file, packed by gzip or not, of any shape up to 1 GiB.

    Raises DataError, with the path, when the file is missing, truncated, too long, damaged or in another format.
    Source: the format's description at the foot of LeCun's MNIST page.
    """
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            return _parse_idx(gzip.GzipFile(fileobj=file) if packed else file, path)
    except (OSError, EOFError, zlib.error) as error:
        reason = f"cannot read {path}: " if isinstance(error, OSError) and error.strerror else f"{path} is damaged: "
        raise DataError(f"{reason}{getattr(error, 'strerror', None) or error}") from None


def _parse_idx(stream: BinaryIO, path: str | os.PathLike) -> np.ndarray:
    # The header: two zeros, the type of number (8: bytes), the number of axes, each axis as a big-endian integer.
    magic = stream.read(4)
    if magic[:3] != b"\0\0\x08" or len(magic) < 4 or not 1 <= magic[3] <= 4:
        raise DataError(f"{path} is not an IDX file of bytes: it begins with {magic.hex(' ') or 'nothing'}")
    axes = stream.read(4 * magic[3])
    if len(axes) < 4 * magic[3]:
        raise DataError(f"{path} is truncated: it ends in its header; fetch it again")
    shape = tuple(np.frombuffer(axes, dtype=">u4").tolist())
    size = math.prod(shape)
    if size > 2**30:
        raise DataError(f"{path} is damaged: its header promises an array {shape}, {size:,} bytes; fetch it again")
    body = stream.read(size + 1)  # one more, to see that the end comes, and that gzip's own checksum is right
    if len(body) != size:
        how = "too long" if len(body) > size else "truncated"
        raise DataError(f"{path} is {how}: its header promises an array {shape}, {size:,} bytes; fetch it again")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)
