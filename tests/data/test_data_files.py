"""Data sets that come as files: found, downloaded, checked; and every way in which they can be damaged."""

import gzip
import hashlib
import io
import socket
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from minivit import data
from minivit.data import cifar_files, files, idx_files
from minivit.engine.errors import DataError

NAMES = idx_files._FILES


@pytest.fixture(autouse=True)
def nothing_from_this_machine(monkeypatch, tmp_path):
    """No system folder, no environment, a cache of its own: the tests see what they put there, on every machine."""
    import pooch

    monkeypatch.delenv("MINIVIT_DATA", raising=False)
    monkeypatch.setattr(idx_files, "_DEBIAN_DIR", str(tmp_path / "no-such-package"))
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setenv("NO_PROXY", "*")


def idx(array):
    header = b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture(scope="session")
def idx_bytes():
    """The four files at full size, packed; each image says its label in its first pixel and its number in the next."""
    out = {}
    for prefix, count in (("train", 60000), ("t10k", 10000)):
        labels = np.arange(count) % 10
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 0, 0], images[:, 0, 1], images[:, 0, 2] = labels, np.arange(count) // 256, np.arange(count) % 256
        out[f"{prefix}-images-idx3-ubyte.gz"] = gzip.compress(idx(images), compresslevel=1)
        out[f"{prefix}-labels-idx1-ubyte.gz"] = gzip.compress(idx(labels), compresslevel=1)
    return out


def write(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


# --- the IDX format --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (0,)])
def test_read_idx(tmp_path, packed, shape):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    np.testing.assert_array_equal(data.read_idx(path), array)


GOOD = idx(np.arange(1000).reshape(10, 10, 10))


def flipped():
    """A packed file with one wrong bit among the pixels, which only gzip's checksum can see."""
    whole = bytearray(gzip.compress(GOOD, compresslevel=0))
    whole[500] ^= 1
    return bytes(whole)


@pytest.mark.parametrize(
    "content, message",
    [
        (gzip.compress(GOOD)[:-200], "is damaged"),
        (gzip.compress(GOOD)[:5], "is damaged"),
        (flipped(), "is damaged.*CRC"),
        (gzip.compress(GOOD[:-1]), r"truncated: its header promises an array \(10, 10, 10\), 1,000 bytes"),
        (gzip.compress(GOOD + b"x"), "too long"),
        (gzip.compress(GOOD[:9]), "truncated: it ends in its header"),
        (GOOD[:-1], "truncated"),
        (b"", "begins with nothing"),
        (b"\0\0", "begins with 00 00"),
        (b"\0\0\x0d\x03" + GOOD[4:], "not an IDX file of bytes: it begins with 00 00 0d 03"),  # float32
        (b"\x89PNG" + GOOD, "not an IDX file"),
        (b"<!DOCTYPE html>", "not an IDX file"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "its header promises"),  # 2⁹⁶ bytes: must not be tried
        (gzip.compress(b"\0\0\x08\x01" + b"\0\0\0\x04" + bytes(50_000_000)), "too long"),  # must not be unpacked whole
    ],
)
def test_a_damaged_idx_file_is_named_with_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        data.read_idx(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_idx_file(tmp_path):
    with pytest.raises(DataError, match="cannot read .*nothing-here: No such file"):
        data.read_idx(tmp_path / "nothing-here")


# --- MNIST and Fashion-MNIST -----------------------------------------------------------------------------------------


def check(dataset):
    assert [len(s) for s in dataset.parts.values()] == [50000, 10000, 10000]
    assert dataset.image_size == (28, 28) and dataset.in_channels == 1 and dataset.num_classes == 10
    numbers = []
    for split in dataset.parts.values():
        assert np.bincount(split.labels).tolist() == [len(split) // 10] * 10  # stratified exactly
        np.testing.assert_array_equal(split.images[:, 0, 0, 0], split.labels)  # images stay with their labels
        numbers.append(split.images[:, 0, 1, 0].astype(int) * 256 + split.images[:, 0, 2, 0])
    assert sorted(np.concatenate(numbers[:2]).tolist()) == list(range(60000))  # disjoint, nothing lost
    return numbers


def test_the_three_places_where_files_are_looked_for(tmp_path, monkeypatch, idx_bytes):
    system = write(tmp_path / "package", idx_bytes)
    monkeypatch.setattr(idx_files, "_DEBIAN_DIR", str(system))
    first = data.fashion_mnist()
    numbers = check(first)
    assert first.source.startswith(str(system)) and "not the published checksums" in first.source

    shared = write(tmp_path / "shared" / "fashion-mnist", idx_bytes)
    monkeypatch.setenv("MINIVIT_DATA", str(shared.parent))
    second = data.fashion_mnist()
    assert second.source.startswith(str(shared))
    np.testing.assert_array_equal(second.val.images, first.val.images)  # one split, wherever the files lie

    mine = write(tmp_path / "mine", {k.removesuffix(".gz"): gzip.decompress(v) for k, v in idx_bytes.items()})
    third = data.load("mnist", data_dir=mine)  # unpacked files will do
    assert third.source.startswith(str(mine)) and third.name == "mnist"
    assert (check(third)[1] == numbers[1]).all()


def test_the_debian_package_where_it_is_installed(monkeypatch):
    monkeypatch.undo()
    try:
        paths = files.find_files("fashion-mnist", NAMES, None, idx_files._DEBIAN_DIR)
    except DataError:
        paths = None
    if not paths:
        return  # the other tests hold the same code; this one adds the real checksums
    dataset = data.fashion_mnist()
    assert [np.bincount(s.labels).tolist() for s in dataset.parts.values()] == [[5000] * 10, [1000] * 10, [1000] * 10]
    assert "not the published" not in dataset.source
    np.testing.assert_allclose([dataset.mean[0], dataset.std[0]], [0.2864, 0.3530], atol=5e-4)


@pytest.mark.parametrize(
    "file, content, message",
    [
        (NAMES[1], idx(np.arange(59999) % 10), r"holds an array \(59999,\), not the 60,000 entries"),
        (NAMES[1], idx(np.arange(60000) % 11), "has a label 10, but the classes are 0 to 9"),
        (NAMES[2], idx(np.zeros((10000, 27, 28))), r"holds an array \(10000, 27, 28\)"),
        (NAMES[0], idx(np.zeros(60000)), r"train-images.* holds an array \(60000,\)"),
        (NAMES[3], gzip.compress(idx(np.arange(10000) % 10))[:-9], "t10k-labels.* is damaged"),
    ],
)
def test_a_wrong_file_in_the_set_is_named(tmp_path, idx_bytes, file, content, message):
    folder = write(tmp_path / "mine", idx_bytes | {file: content})
    with pytest.raises(DataError, match=message):
        data.mnist(data_dir=folder)


def test_a_folder_that_lacks_a_file_says_which(tmp_path):
    folder = write(tmp_path / "mine", dict.fromkeys(NAMES[:3], b""))
    with pytest.raises(DataError, match=f"mine has some of the files, but lacks {NAMES[3]}"):
        data.mnist(data_dir=folder)
    with pytest.raises(DataError, match="'no/such/folder' is not a folder"):
        data.mnist(data_dir="no/such/folder")


def test_the_two_sets_are_not_mistaken_for_each_other(tmp_path, monkeypatch, idx_bytes):
    folder = write(tmp_path / "mine", idx_bytes)
    known = {hashlib.md5(content).hexdigest() for content in idx_bytes.values()}
    monkeypatch.setitem(idx_files._KNOWN, "fashion-mnist", known)
    with pytest.raises(DataError, match="mnist: the files in .*mine are those of fashion-mnist"):
        data.mnist(data_dir=folder)
    assert "not the published" not in data.fashion_mnist(data_dir=folder).source


# --- downloads -------------------------------------------------------------------------------------------------------


class Server:
    """A web server on this machine: `contents` by path; counts what it was asked for."""

    def __init__(self):
        self.contents, self.asked, self.cut_short = {}, [], False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                content = outer.contents.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if outer.cut_short else content)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def left_behind(tmp_path):
    return sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))


def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}/"


def test_a_download_is_checked_kept_and_not_repeated(tmp_path, monkeypatch, server, idx_bytes, capsys):
    server.contents = {f"/{name}": content for name, content in idx_bytes.items()}
    monkeypatch.setitem(idx_files._URLS, "mnist", (server.url,))
    sums = tuple(hashlib.md5(idx_bytes[name]).hexdigest() for name in NAMES)
    monkeypatch.setitem(idx_files._MD5, "mnist", sums)
    monkeypatch.setitem(idx_files._KNOWN, "mnist", set(sums))
    dataset = data.mnist()
    check(dataset)
    assert dataset.source == f"downloaded from {server.url}"
    assert "100%" in capsys.readouterr().err  # the progress bar
    assert left_behind(tmp_path / "cache" / "minivit" / "mnist") == sorted(NAMES)
    assert len(server.asked) == 4
    data.mnist()
    assert len(server.asked) == 4
    (tmp_path / "cache" / "minivit" / "mnist" / NAMES[1]).write_bytes(b"spoilt since")
    check(data.mnist())  # the checksum no longer fits, so this one is fetched again
    assert server.asked[4:] == [f"/{NAMES[1]}"]


def fetch(urls, content=b"all of it"):
    return files.download("mnist", "file.gz", urls, hashlib.md5(content).hexdigest(), advice="Do this instead.")


def test_a_wrong_checksum_leaves_nothing_behind(tmp_path, server):
    server.contents = {"/file.gz": b"something else"}
    with pytest.raises(DataError, match="the checksum is wrong, so the file was thrown away.*Do this instead"):
        fetch([server.url + "file.gz"])
    assert left_behind(tmp_path) == []


def test_a_broken_download_leaves_nothing_behind(tmp_path, server):
    server.contents, server.cut_short = {"/file.gz": b"all of it"}, True
    with pytest.raises(DataError, match="could not download file.gz"):
        fetch([server.url + "file.gz"])
    assert left_behind(tmp_path) == []


def test_an_interrupted_download_leaves_nothing_behind(tmp_path, monkeypatch):
    import pooch

    def interrupted(self, url, output, pooch_object, check_only=False):
        with open(output, "wb") as file:
            file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(["http://127.0.0.1/file.gz"])
    assert left_behind(tmp_path) == []


def test_the_next_address_is_tried(tmp_path, server):
    server.contents = {"/good": b"all of it", "/bad": b"wrong"}
    path = fetch([server.url + "missing", closed_port(), server.url + "bad", server.url + "good"])
    assert path.read_bytes() == b"all of it"
    assert left_behind(tmp_path / "cache" / "minivit" / "mnist") == ["file.gz"]


def test_a_failed_download_spares_what_the_cache_held(tmp_path, server):
    write(tmp_path / "cache" / "minivit" / "mnist", {"other": b"kept"})
    with pytest.raises(DataError, match="the server answered 404"):
        fetch([server.url + "missing"])
    assert left_behind(tmp_path) == ["cache", "cache/minivit", "cache/minivit/mnist", "cache/minivit/mnist/other"]


@pytest.mark.parametrize(
    "name, table, advice",
    [
        ("mnist", "_URLS", f"put {', '.join(NAMES)} into a folder DIR"),
        ("fashion-mnist", "_URLS", "install the Debian or Ubuntu package dataset-fashion-mnist, or put"),
        ("cifar10", "_URL", "put cifar-10-binary.tar.gz, or its unpacked .bin files, into a folder DIR"),
        ("cifar100", "_URL", "put cifar-100-binary.tar.gz"),
    ],
)
def test_offline_says_what_to_do_in_one_line(tmp_path, monkeypatch, name, table, advice):
    nowhere = closed_port()
    if table == "_URLS":
        monkeypatch.setitem(idx_files._URLS, name, (nowhere, nowhere))
    else:
        monkeypatch.setattr(cifar_files, "_URL", nowhere)
    with pytest.raises(DataError, match=advice) as caught:
        data.load(name)
    assert "--data-dir DIR" in str(caught.value) and f"$MINIVIT_DATA/{name}" in str(caught.value)
    assert "\n" not in str(caught.value) and "ConnectionError" in str(caught.value)
    assert left_behind(tmp_path) == []


# --- CIFAR -----------------------------------------------------------------------------------------------------------

SMALL = {f"data_batch_{i}.bin": 40 for i in range(1, 6)} | {"test_batch.bin": 30}


@pytest.fixture
def small_cifar(monkeypatch):
    """cifar10, but of 200 + 30 images."""
    real = cifar_files._load
    monkeypatch.setattr(cifar_files, "_VAL", 20)
    monkeypatch.setattr(cifar_files, "_load", lambda *a, **k: real(*a, **(k | {"files": SMALL})))


def cifar_bytes(counts=SMALL, classes=10):
    """Image number i of class i mod 10: red pixel (0, 1) holds i, green (2, 3) its label, blue is 7 all over."""
    out, number = {}, 0
    for name, count in counts.items():
        records = np.zeros((count, 1 + 3072), np.uint8)
        records[:, 0] = label = (number + np.arange(count)) % classes
        planes = records[:, 1:].reshape(count, 3, 32, 32)
        planes[:, 0, 0, 1], planes[:, 1, 2, 3], planes[:, 2] = number + np.arange(count), label, 7
        out[name] = records.tobytes()
        number += count
    return out


def tar_bytes(contents, folder="cifar-10-batches-bin/"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(folder + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def check_cifar(dataset):
    assert [len(s) for s in dataset.parts.values()] == [180, 20, 30]
    for split in dataset.parts.values():
        assert split.images.shape[1:] == (32, 32, 3)
        np.testing.assert_array_equal(split.images[:, 2, 3, 1], split.labels)
        assert (split.images[..., 2] == 7).all()
    numbers = np.concatenate([dataset.train.images[:, 0, 1, 0], dataset.val.images[:, 0, 1, 0]])
    assert sorted(numbers.tolist()) == list(range(200))
    assert np.bincount(dataset.val.labels).tolist() == [2] * 10


def test_cifar_from_the_archive(tmp_path, small_cifar):
    folder = write(tmp_path / "mine", {"cifar-10-binary.tar.gz": tar_bytes(cifar_bytes())})
    dataset = data.cifar10(data_dir=folder)
    check_cifar(dataset)
    assert "not the published checksum" in dataset.source
    assert left_behind(folder) == ["cifar-10-binary.tar.gz"]  # nothing was unpacked


@pytest.mark.parametrize("place", ["mine", "mine/cifar10", "mine/cifar-10-batches-bin"])
def test_cifar_from_unpacked_files(tmp_path, small_cifar, place):
    write(tmp_path / place, cifar_bytes())
    check_cifar(data.cifar10(data_dir=tmp_path / "mine"))


def test_cifar_by_download(tmp_path, monkeypatch, small_cifar, server):
    archive = tar_bytes(cifar_bytes())
    server.contents = {"/cifar-10-binary.tar.gz": archive}
    monkeypatch.setattr(cifar_files, "_URL", server.url)
    with pytest.raises(DataError, match="checksum is wrong"):
        data.cifar10()
    assert left_behind(tmp_path) == []


def test_cifar100_at_full_size_reads_the_fine_label(tmp_path):
    for name, count in (("train.bin", 50000), ("test.bin", 10000)):
        with open(tmp_path / name, "wb") as file:
            file.truncate(count * 3074)  # zeros that take no room
            file.write(b"\x13\x63")  # coarse class 19, fine class 99
    dataset = data.cifar100(data_dir=tmp_path)
    assert [len(s) for s in dataset.parts.values()] == [45000, 5000, 10000]
    assert dataset.num_classes == 100 and len(set(dataset.class_names)) == 100
    assert list(dataset.class_names) == sorted(dataset.class_names)
    assert dataset.test.labels[0] == 99 and dataset.class_names[99] == "worm"


def damaged_cifar():
    good = cifar_bytes()
    archive = tar_bytes(good)
    short = good | {"data_batch_3.bin": good["data_batch_3.bin"][:-1]}
    lost = {k: v for k, v in good.items() if k != "test_batch.bin"}
    flip = bytearray(archive)
    flip[-6] ^= 1  # in gzip's own checksum
    return [
        (archive[: len(archive) // 2], "truncated or damaged"),
        (bytes(flip), "truncated or damaged .*CRC"),
        (b"not an archive", "truncated or damaged"),
        (b"", "truncated or damaged"),
        (tar_bytes(short), "data_batch_3.bin has 122,919 bytes, not 122,920"),
        (tar_bytes(lost), "lacks test_batch.bin: is it the binary version"),
        (tar_bytes(cifar_bytes(classes=11)), "has a label 10, but there are 10 classes"),
    ]


@pytest.mark.parametrize("content, message", damaged_cifar())
def test_a_damaged_cifar_archive(tmp_path, small_cifar, content, message):
    folder = write(tmp_path / "mine", {"cifar-10-binary.tar.gz": content})
    with pytest.raises(DataError, match=message) as caught:
        data.cifar10(data_dir=folder)
    assert "cifar-10-binary.tar.gz" in str(caught.value)


def test_a_short_unpacked_cifar_file(tmp_path, small_cifar):
    good = cifar_bytes()
    folder = write(tmp_path / "mine", good | {"test_batch.bin": good["test_batch.bin"][:100]})
    with pytest.raises(DataError, match="test_batch.bin has 100 bytes, not 92,190"):
        data.cifar10(data_dir=folder)
