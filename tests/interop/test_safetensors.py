"""The safetensors format: what goes in comes out, and a damaged file gives a CheckpointError and nothing else."""

import errno
import json
import os
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import minivit as mv
from minivit.interop import safetensors

GOLDEN = Path(__file__).parent.parent / "golden"
EVERY_DTYPE = ["?", "b", "h", "i", "q", "l", "B", "H", "I", "Q", "e", "f", "d"]


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


# --- what goes in comes out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", EVERY_DTYPE)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (5,), (2, 3), (2, 1, 3, 2)])
def test_round_trip(tmp_path, rng, dtype, shape):
    array = (rng.standard_normal(shape) * 50).astype(dtype)
    path = tmp_path / "x.safetensors"
    safetensors.write(path, {"x": array})
    tensors, metadata = safetensors.read(path)
    assert list(tensors) == ["x"] and same(tensors["x"], array) and metadata == {}
    if array.size:
        tensors["x"][...] = 0  # it can be written to


def test_extreme_values_are_kept_bit_for_bit(tmp_path):
    arrays = {
        "f": np.array([np.inf, -np.inf, np.nan, -0.0, 5e-324, np.finfo(float).max]),
        "i": np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max]),
        "u": np.array([np.iinfo(np.uint64).max], np.uint64),
    }
    safetensors.write(tmp_path / "x", arrays)
    found, _ = safetensors.read(tmp_path / "x")
    assert all(found[name].tobytes() == a.tobytes() for name, a in arrays.items())


def test_views_and_foreign_byte_orders(tmp_path, rng):
    x = rng.standard_normal((4, 6)).astype(np.float32)
    arrays = {
        "transposed": x.T,
        "strided": x[::2, ::3],
        "reversed": x[::-1],
        "broadcast": np.broadcast_to(x, (2, 4, 6)),
    }
    safetensors.write(tmp_path / "x", arrays | {"big": x.astype(">f4")})
    found, _ = safetensors.read(tmp_path / "x")
    assert all(same(found[name], np.ascontiguousarray(a)) for name, a in arrays.items())
    assert same(found["big"], x)


def test_metadata_and_names_in_any_script(tmp_path):
    metadata = {"format": "pt", "größe": "3 × 4\n", "": "", "json": json.dumps({"a": [1, "ü"]})}
    names = {"blocks.0.attn.qkv.weight", "日本", "a b", '"', "\\", ""}
    safetensors.write(tmp_path / "x", {name: np.zeros(1) for name in names}, metadata)
    tensors, found = safetensors.read(tmp_path / "x")
    assert found == metadata and tensors.keys() == names


def test_nothing_at_all(tmp_path):
    safetensors.write(tmp_path / "x", {})
    assert safetensors.read(tmp_path / "x") == ({}, {})


def test_every_tensor_is_aligned(tmp_path):
    """Readers that map the file look at the numbers where they lie."""
    arrays = {"a": np.zeros(3, np.uint8), "b": np.zeros(3, np.float16), "c": np.zeros(3), "d": np.zeros(3, np.float32)}
    safetensors.write(tmp_path / "x", arrays)
    data = (tmp_path / "x").read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    for name, entry in json.loads(data[8 : 8 + length]).items():
        assert entry["data_offsets"][0] % arrays[name].itemsize == 0
    assert len(data) == 8 + length + sum(a.nbytes for a in arrays.values())


def test_a_file_of_the_safetensors_library(rng):
    tensors, metadata = safetensors.read(GOLDEN / "written_by_safetensors.safetensors")
    assert metadata == {"who": "the safetensors library", "größe": "3 × 4"}
    values = np.array([0.0, 1.0, -1.5, 3.140625, 65280.0, -0.0078125]).reshape(2, 3)
    for name, dtype in {"F64": "d", "F32": "f", "F16": "e", "BF16": "f"}.items():  # all exact in 8 bits of mantissa
        assert same(tensors.pop(name), values.astype(dtype)), name
    for bits in (8, 16, 32, 64):
        assert same(tensors.pop(f"I{bits}"), np.array([-2, 0, 127], f"int{bits}"))
        assert same(tensors.pop(f"U{bits}"), np.array([2, 0, 127], f"uint{bits}"))
    assert same(tensors.pop("BOOL"), np.array([True, False, True]))
    assert same(tensors.pop("scalar"), np.array(2.5, np.float32))
    assert same(tensors.pop("empty"), np.zeros((0, 4), np.float32))
    assert not tensors


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"x": np.zeros(2, np.complex64)}, None, "tensor 'x' has dtype complex64, which safetensors cannot hold"),
        ({"x": np.array(["a"])}, None, "tensor 'x' has dtype <U1"),
        ({"x": np.array([None])}, None, "tensor 'x' has dtype object"),
        ({"__metadata__": np.zeros(1)}, None, "cannot be called '__metadata__'"),
        ({}, {"step": 3}, "metadata 'step' is int; safetensors holds text only"),
    ],
)
def test_what_the_format_cannot_hold(tmp_path, tensors, metadata, message):
    with pytest.raises(mv.CheckpointError, match=message):
        safetensors.write(tmp_path / "x", tensors, metadata)
    assert list(tmp_path.iterdir()) == []


# --- complete or not there --------------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path):
    """A file that must survive, and a check that it did, alone."""
    path = tmp_path / "x.safetensors"
    safetensors.write(path, {"x": np.arange(3)})
    content = path.read_bytes()

    def check():
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]

    return path, check


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_half_way_leaves_the_old_file_and_nothing_else(old, error):
    path, check = old
    with pytest.raises(error), safetensors.replacing(path) as file:
        file.write(b"half of ")
        raise error
    check()


@pytest.mark.parametrize("function", ["fsync", "replace", "chmod"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(old, monkeypatch, function):
    path, check = old

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, function, full)
    with pytest.raises(mv.CheckpointError, match="x.safetensors: cannot be written: No space left on device"):
        safetensors.write(path, {"x": np.zeros(1000)})
    monkeypatch.undo()
    check()


def test_the_new_file_appears_only_when_complete(old):
    path, check = old
    with safetensors.replacing(path) as file:
        file.write(b"not yet")
        file.flush()
        assert safetensors.read(path)[0]["x"].tolist() == [0, 1, 2]
    assert path.read_bytes() == b"not yet"
    assert len(list(path.parent.iterdir())) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows replaces no open file and knows no such names")
def test_a_reader_beside_a_writer_sees_whole_files_only(tmp_path):
    path, stop, seen = tmp_path / "x.safetensors", threading.Event(), set()
    safetensors.write(path, {"x": np.zeros(20_000)})

    def read():
        while not stop.is_set():
            values = np.unique(safetensors.read(path)[0]["x"])
            seen.add(tuple(values))

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(30):
        safetensors.write(path, {"x": np.full(20_000, float(i))})
    stop.set()
    reader.join()
    assert seen and all(len(values) == 1 for values in seen)


def test_where_nothing_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "x", tmp_path):
        with pytest.raises(mv.CheckpointError, match=f"{path.name}: cannot be written"):
            safetensors.write(path, {"x": np.zeros(1)})

    def forbidden(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(safetensors.tempfile, "mkstemp", forbidden)
    with pytest.raises(mv.CheckpointError, match="cannot be written: Permission denied"):
        safetensors.write(tmp_path / "x", {"x": np.zeros(1)})
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows replaces no open file and knows no such names")
def test_folders_are_made_and_permissions_are_the_usual(tmp_path):
    path = tmp_path / "a" / "b" / ("long" * 60)
    safetensors.write(path, {"x": np.zeros(1)})
    (tmp_path / "usual").touch()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


# --- damaged files ----------------------------------------------------------------------------------------------------


def file_of(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


EIGHT = b"\0" * 8
DAMAGED = {
    "empty file": (b"", "not a safetensors file, or cut short"),
    "four bytes": (b"1234", "not a safetensors file, or cut short"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "not a safetensors file"),
    "header longer than the file": (file_of({"x": entry()}, EIGHT, length=10_000), "header of 10000 bytes in"),
    "header of 2**64 - 1 bytes": (file_of({}, length=2**64 - 1), "not a safetensors file, or cut short"),
    "header cut": (file_of(b'{"x": {"dtype"'), "damaged header"),
    "header not JSON": (file_of(b"hello"), "damaged header"),
    "header not text": (file_of(b"\xff\xfe\xfd"), "damaged header"),
    "header empty": (file_of(b""), "damaged header"),
    "header a list": (file_of([1]), "not a table of tensors"),
    "header null": (file_of(b"null"), "not a table of tensors"),
    "deep nesting": (file_of(b'{"x":' * 100_000), "damaged header"),
    "deep list": (file_of(b"[" * 200_000), "damaged header"),
    "a name twice": (
        file_of(b'{"x":' + json.dumps(entry()).encode() + b', "x":' + json.dumps(entry()).encode() + b"}", EIGHT),
        "a name appears twice",
    ),
    "a key twice": (file_of(b'{"x":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', EIGHT), "twice"),
    "data cut": (file_of({"x": entry()}, EIGHT[:5]), "cut short: tensor 'x' ends at byte 8, the file has 5"),
    "bytes left over": (file_of({"x": entry()}, EIGHT * 2), "bytes behind the last tensor"),
    "no tensor, but bytes": (file_of({}, EIGHT), "bytes behind the last tensor"),
    "a hole": (file_of({"x": entry(), "y": entry(offsets=(12, 20))}, b"\0" * 20), "'y' begins at byte 12"),
    "a hole in front": (file_of({"x": entry(offsets=(4, 12))}, b"\0" * 12), "'x' begins at byte 4"),
    "overlap": (file_of({"x": entry(), "y": entry(offsets=(4, 12))}, b"\0" * 12), "'y' begins at byte 4"),
    "the same bytes": (
        file_of({"x": entry(), "y": entry()}, EIGHT),
        "begins at byte 0, where the one before ends at 8",
    ),
    "negative offset": (file_of({"x": entry(offsets=(-8, 0))}, EIGHT), "damaged shape or byte range"),
    "offsets reversed": (file_of({"x": entry(offsets=(8, 0))}, EIGHT), "is not -8 bytes"),
    "offsets of text": (file_of({"x": entry(offsets=("0", "8"))}, EIGHT), "damaged shape or byte range"),
    "offsets of one": (file_of({"x": entry(offsets=(0,))}, EIGHT), "damaged entry"),
    "offsets of fractions": (file_of({"x": entry(offsets=(0, 8.0))}, EIGHT), "damaged shape or byte range"),
    "offsets a table": (file_of({"x": entry(offsets={"a": 0, "b": 8})}, EIGHT), "damaged shape or byte range"),
    "offsets a word": (file_of({"x": entry(offsets="ab")}, EIGHT), "damaged shape or byte range"),
    "offsets beyond the file": (file_of({"x": entry(offsets=(2**40, 2**40 + 8))}, EIGHT), "cut short"),
    "offset 10**30": (file_of({"x": entry(offsets=(10**30, 10**30 + 8))}, EIGHT), "damaged shape or byte range"),
    "shape too large": (file_of({"x": entry(shape=(3,))}, EIGHT), r"shape \[3\] of F32 is not 8 bytes"),
    "absurd shape": (file_of({"x": entry(shape=(2**40, 2**40))}, EIGHT), "is not 8 bytes"),
    "absurd empty shape": (file_of({"x": entry(shape=(0, 10**30), offsets=(0, 0))}), "damaged shape"),
    "nearly absurd empty shape": (file_of({"x": entry(shape=(0, 2**62, 2**62), offsets=(0, 0))}), "damaged header"),
    "shape with more digits than are read": (file_of(b'{"x":{"shape":[' + b"9" * 10_000 + b"]}}"), "damaged header"),
    "negative shape": (file_of({"x": entry(shape=(-2, -1))}, EIGHT), "damaged shape"),
    "shape of truth": (file_of({"x": entry(shape=(True, 2))}, EIGHT), "damaged shape"),
    "shape a number": (file_of({"x": entry(shape=2)}, EIGHT), "damaged shape"),
    "shape a table": (file_of({"x": entry(shape={}, offsets=(0, 4))}, EIGHT[:4]), "damaged shape"),
    "shape a word": (file_of({"x": entry(shape="2")}, EIGHT), "damaged shape"),
    "shape null": (file_of({"x": entry(shape=None)}, EIGHT), "damaged shape"),
    "shape infinite": (
        file_of(b'{"x":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,8]}}', EIGHT),
        "damaged shape",
    ),
    "40 axes": (file_of({"x": entry(shape=[1] * 40, offsets=(0, 4))}, EIGHT[:4]), "damaged shape"),
    "unknown dtype": (
        file_of({"x": entry(dtype="F8_E4M3", shape=(8,))}, EIGHT),
        "dtype 'F8_E4M3', which is not one of",
    ),
    "dtype a list": (file_of({"x": entry(dtype=["F32"])}, EIGHT), "which is not one of"),
    "dtype null": (file_of({"x": entry(dtype=None)}, EIGHT), "which is not one of"),
    "no dtype": (file_of({"x": {"shape": [2], "data_offsets": [0, 8]}}, EIGHT), "damaged entry for tensor 'x'"),
    "no shape": (file_of({"x": {"dtype": "F32", "data_offsets": [0, 8]}}, EIGHT), "damaged entry"),
    "entry a list": (file_of({"x": [1, 2]}, EIGHT), "damaged entry"),
    "entry a word": (file_of({"x": "F32"}, EIGHT), "damaged entry"),
    "entry null": (file_of({"x": None}, EIGHT), "damaged entry"),
    "metadata a list": (file_of({"__metadata__": ["a"]}), "metadata are not a table of texts"),
    "metadata a number": (file_of({"__metadata__": 3}), "metadata are not a table of texts"),
    "metadata of numbers": (file_of({"__metadata__": {"a": 3}}), "metadata are not a table of texts"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files(tmp_path, kind):
    content, message = DAMAGED[kind]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(mv.CheckpointError, match=message) as error:
        safetensors.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "x.safetensors: " in str(error.value)
    assert peak < 2_000_000 + 20 * len(content)  # a few bytes that claim to be many get no memory


def test_files_that_are_not_there_or_not_files(tmp_path):
    with pytest.raises(mv.CheckpointError, match="nowhere.safetensors: no such file"):
        safetensors.read(tmp_path / "nowhere.safetensors")
    with pytest.raises(mv.CheckpointError, match="cannot be read"):
        safetensors.read(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(mv.CheckpointError, match="cannot be read"):
        safetensors.read(tmp_path / "file" / "x")


def mutants(content, rng, count):
    """Files with some bytes changed, lost, doubled or put in, most of them in the header."""
    length = int.from_bytes(content[:8], "little")
    json_bytes = b'{}[]",:0123456789-.eE\\ntruefalsnu \xff\x00'
    for i in range(count):
        data = bytearray(content)
        at = int(rng.integers(0, 8 + length)) if i % 4 else int(rng.integers(0, len(content)))
        match i % 6:
            case 0:
                data[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                data[at] = json_bytes[int(rng.integers(len(json_bytes)))]
            case 2:
                del data[at:]
            case 3:
                del data[at : at + int(rng.integers(1, 20))]
            case 4:
                data[at:at] = bytes(rng.choice(list(json_bytes), int(rng.integers(1, 8))).tolist())
            case 5:
                data[at:at] = data[at : at + int(rng.integers(1, 40))]
        if i % 6 > 1 and i % 2:  # a length that fits again, so that the damage reaches what is behind it
            data[:8] = max(0, length + len(data) - len(content)).to_bytes(8, "little")
        yield bytes(data)


def test_300_mutilated_files(tmp_path, rng):
    path = tmp_path / "x.safetensors"
    arrays = {"weight": np.arange(12.0).reshape(3, 4), "bias": np.arange(3, dtype=np.float32), "n": np.array(7)}
    safetensors.write(path, arrays | {"empty": np.zeros((0, 2), np.float16)}, {"format": "pt", "model": "ViT"})
    outcomes = {"read": 0, "refused": 0}
    for content in mutants(path.read_bytes(), rng, 300):
        path.write_bytes(content)
        try:
            tensors, metadata = safetensors.read(path)
        except mv.CheckpointError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            assert all(isinstance(a, np.ndarray) for a in tensors.values())
            assert all(isinstance(text, str) for text in metadata.values())
            assert sum(a.nbytes for a in tensors.values()) <= 2 * len(content)
    assert outcomes["refused"] > 200 and outcomes["read"] > 10, outcomes
