"""Every container gives the same tensors, lazily; what is damaged or hostile gives one CheckpointError and nothing else."""

import gc
import importlib.util
import json
import math
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

import minivit as mv
from minivit.interop import safetensors, zip_file
from minivit.interop.source import Source
from minivit.interop.stored import open_tensors

GOLDEN = Path(__file__).parent.parent / "golden" / "containers"
ROOT = GOLDEN.parent.parent.parent


def numbers(*shape):
    """What make_containers.py stores."""
    return (np.arange(math.prod(shape), dtype=np.float32) / 2 - 8).reshape(shape)


def read_all(path, **options):
    tensors, metadata = open_tensors(path, **options)
    arrays = {}
    for name, tensor in tensors.items():
        arrays[name] = array = tensor.read()
        assert tensor.name == name and array.shape == tensor.shape and array.dtype.isnative, name
        assert array.flags.c_contiguous and array.flags.writeable, name
        assert array.dtype == (np.float32 if tensor.dtype == "BF16" else safetensors.DTYPES[tensor.dtype]), name
    return arrays, metadata


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)


def refused(path, message, seconds=30.0, memory=40_000_000):
    """The one error that opening and reading must give, in bounded time and memory; it names the file.

    (Unbounded, the time would be hours; counting memory alone makes Python ten times slower.)
    """
    tracemalloc.start()
    start, text = time.perf_counter(), "no error"
    try:
        read_all(path)
    except mv.CheckpointError as error:
        text = str(error)
    taken, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert re.search(message, text), text
    assert str(path) in text and len(text) < 2000
    assert taken < seconds and peak < memory
    return text


# --- what other libraries wrote ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "protocol4", "no_checksum"])
def test_a_state_dict(name):
    arrays, metadata = read_all(GOLDEN / f"{name}.pth")
    assert list(arrays) == ["weight", "bias"] and metadata == {}
    assert same(arrays["weight"], numbers(3, 4)) and same(arrays["bias"], numbers(3))


def test_tensors_that_share_and_turn_their_storage():
    arrays, _ = read_all(GOLDEN / "views.pth")
    whole = numbers(6, 8)
    expected = {
        "whole": whole,
        "transposed": whole.T,
        "rows": whole[2:4],
        "columns": whole[:, 3],
        "every_other": whole[1::2, 1::3],
        "axes": numbers(2, 3, 4).transpose(2, 0, 1),
        "expanded": numbers(1, 5),
        "repeated_part": np.stack([numbers(12)[2:5]] * 3),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "parameter": numbers(2, 2),
    }
    assert arrays.keys() == expected.keys()
    assert all(same(arrays[name], array) for name, array in expected.items())
    arrays["rows"][...] = 0  # each is its own copy
    assert same(arrays["whole"], whole)


def test_every_number_type_of_torch():
    arrays, _ = read_all(GOLDEN / "types.pth")
    assert same(arrays.pop("bool"), np.array([True, False]))
    assert same(arrays.pop("uint8"), np.arange(6, dtype=np.uint8))
    assert same(arrays.pop("bfloat16"), numbers(2, 3))
    assert len(arrays) == 7
    assert all(same(array, numbers(2, 3).astype(name)) for name, array in arrays.items())


def test_nested_names_and_plain_values():
    assert list(read_all(GOLDEN / "deit.pth")[0]) == ["model.weight", "model.bias"]
    arrays, metadata = read_all(GOLDEN / "plain.pth")
    assert list(arrays) == ["weight"]
    assert metadata == {
        "n": None, "t": True, "i": -3, "big": 2**70, "f": 0.5, "s": "é", "list": [1, [2, "x"]], "set": {1, 2},
        "tuple": (1, 2.5), "empty": {}, "size": (2, 3),
    }  # fmt: skip


def test_a_full_checkpoint_of_dino():
    arrays, metadata = read_all(GOLDEN / "dino_full.pth")
    for prefix in ("student.module.backbone", "teacher.backbone"):
        assert same(arrays[f"{prefix}.weight"], numbers(3, 4)) and same(arrays[f"{prefix}.bias"], numbers(3))
    assert same(arrays["dino_loss.center"], np.zeros((1, 4), np.float32))
    assert same(arrays["optimizer.state.0.step"], np.array(1, np.float32))
    assert arrays["optimizer.state.1.exp_avg"].shape == (3,)
    assert metadata["epoch"] == 100 and metadata.keys() == {"optimizer", "epoch", "args"}
    assert metadata["args"] == {
        "arch": "vit_small", "patch_size": 16, "lr": 0.0005, "local_crops_scale": (0.05, 0.4), "fp16": True,
    }  # fmt: skip
    assert metadata["optimizer"].keys() == {"param_groups"}
    assert metadata["optimizer"]["param_groups"][0]["params"] == [0, 1]


def test_bfloat16_of_ml_dtypes():
    path = GOLDEN / "bfloat16.npz"
    tensors, _ = open_tensors(path)
    assert {n: t.dtype for n, t in tensors.items()} == {"half": "BF16", "full": "F32"}
    arrays, _ = read_all(path)
    assert same(arrays["half"], numbers(2, 3)) and same(arrays["full"], numbers(2))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("legacy.pth", r"from before version 1.6.*torch.save\(torch.load\(path, map_location='cpu', weights_only=True"),
        ("tar.pth", "a tar archive.*only if you trust it.*weights_only=False"),
        ("module.pth", "asks for 'torch.nn.modules.linear.Linear'.*save its state_dict alone"),
        ("script.pt", r"a TorchScript program.*torch.jit.load\(path\).state_dict"),
        ("keras.h5", "an HDF5 file .*h5py"),
        ("flax.msgpack", "msgpack, as Flax writes it; .*msgpack_restore"),
        ("model.onnx", "an ONNX model"),
    ],
)
def test_formats_that_are_refused_with_advice(name, message):
    refused(GOLDEN / name, message, memory=1_000_000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"P", "neither a safetensors file"),
        (b"PK", "cut short: it begins as a zip file"),
        (b"\0" * 100, "neither a safetensors file, nor .npz, nor a zip file of PyTorch's, or damaged"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "neither a safetensors file"),
        (pickle.dumps({"a": 1}), "a plain pickle, which can execute anything"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page.*download it again"),
        (b'{"weight_map": {}}', "JSON, not weights; give the folder"),
        (b"\x1f\x8b\x08\0" + b"\0" * 20, "compressed; unpack it first"),
        (b"\x93NUMPY\x01\0" + b"\0" * 20, "a single array.*numpy.savez"),
        (b"GGUF\3\0\0\0" + b"\0" * 20, "a GGUF file"),
    ],
)
def test_other_beginnings(tmp_path, content, message):
    (tmp_path / "x.safetensors").write_bytes(content)  # the content decides, not the name
    refused(tmp_path / "x.safetensors", message, memory=1_000_000)


# --- npz --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["?", "b", "h", "i", "q", "B", "H", "I", "Q", "e", "f", "d"])
def test_npz_round_trip(tmp_path, rng, save, dtype):
    shapes = {"params/img/kernel": (3, 4, 2), "scalar": (), "empty": (0, 3), "ü": (70_000,)}
    arrays = {name: (rng.standard_normal(shape) * 50).astype(dtype) for name, shape in shapes.items()}
    arrays["turned"] = np.asfortranarray(arrays["params/img/kernel"])
    arrays["other order"] = arrays["turned"].astype(np.dtype(dtype).newbyteorder(">"))
    save(tmp_path / "x.npz", **arrays)
    found, metadata = read_all(tmp_path / "x.npz")
    assert list(found) == list(arrays) and metadata == {}
    assert all(same(found[name], a.astype(a.dtype.newbyteorder("="))) for name, a in arrays.items())
    assert open_tensors(tmp_path / "x.npz")[0]["scalar"].shape == ()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("fortran", [False, True])
def test_bfloat16_as_voids(tmp_path, compressed, fortran):
    halves = (numbers(3, 4).view(np.uint32) >> 16).astype(np.uint16).view("V2")
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "x", a=np.asfortranarray(halves) if fortran else halves)
    assert b"'|V2'" in (tmp_path / "x.npz").read_bytes() or compressed
    assert same(read_all(tmp_path / "x.npz")[0]["a"], numbers(3, 4))


def npy(header=None, data=bytes(24), version=1, length=None):
    text = header if isinstance(header, bytes) else str(header).encode()
    size = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + size.to_bytes(2 if version == 1 else 4, "little") + text + data


def plain(descr="<f4", fortran=False, shape=(2, 3)):
    return {"descr": descr, "fortran_order": fortran, "shape": shape}


def shaped(shape):
    """A header with another text for the shape."""
    return str(plain(shape="%")).encode().replace(b"'%'", shape)


def write_zip(path, entries, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("version", [1, 2, 3])
def test_versions_of_npy(tmp_path, version):
    path = write_zip(tmp_path / "x", {"a.npy": npy(plain(), numbers(2, 3).tobytes(), version)})
    assert same(read_all(path)[0]["a"], numbers(2, 3))


BAD_NPY = {
    "objects": (npy(plain("|O"), bytes(48)), "'a' holds Python objects, which would have to be executed"),
    "text": (npy(plain("<U1")), "'a' has the number type 'U1', which no weight has"),
    "complex": (npy(plain("<c8", shape=(3,))), "number type 'c8'"),
    "one-byte voids": (npy(plain("|V1", shape=(24,))), "number type 'V1'"),
    "fields": (npy(plain([("x", "<f4")])), "not that of a plain array"),
    "objects in fields": (npy(plain([("x", "|O")])), "holds Python objects"),
    "absurd shape": (npy(plain(shape=(2**40, 2**40))), r"shape \(1099511627776, .* is not 24 bytes"),
    "absurd empty shape": (npy(plain(shape=(0, 2**59, 2**59)), b""), "is not 0 bytes"),
    "more digits than are read": (npy(shaped(b"(" + b"9" * 5000 + b",)")), "is not|damaged"),
    "negative shape": (npy(plain(shape=(-2, -3))), "not that of a plain array"),
    "40 axes": (npy(plain(shape=(1,) * 40), bytes(4)), "is not 4 bytes"),
    "shape of commas": (npy(shaped(b"(2,,3)")), "damaged shape"),
    "shape a number": (npy(plain(shape=6)), "not that of a plain array"),
    "shape too small": (npy(plain(shape=(2,))), r"shape \(2,\) of F32 is not 24 bytes"),
    "shape too large": (npy(plain(shape=(2, 4))), r"shape \(2, 4\) of F32 is not 24 bytes"),
    "an expression": (npy(b"__import__('os').system('true')"), "not that of a plain array"),
    "an expression inside": (npy(shaped(b"(2, __import__('os'))")), "not that of a plain array"),
    "another key": (npy(plain() | {"x": 1}), "not that of a plain array"),
    "no key": (npy(b"{}"), "not that of a plain array"),
    "deep nesting": (npy(b"(" * 9000), "not that of a plain array"),
    "long header": (npy(b"{" + b" " * 20_000), "a header of 20001 bytes"),
    "a header of 4 GB": (npy(b"", version=2, length=2**32 - 1), "a header of 4294967295 bytes"),
    "a header beyond the end": (npy(plain(), length=5000), r"has \d+ bytes, 5010 are needed"),
    "version 9": (npy(plain(), version=9), "does not begin as a .npy file does"),
    "not npy": (b"hello world, hello world", "does not begin as a .npy file does"),
    "short": (b"\x93NUMPY", "has 6 bytes, 12 are needed"),
    "empty": (b"", "has 0 bytes, 12 are needed"),
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("kind", BAD_NPY)
def test_damaged_arrays(tmp_path, kind, method):
    content, message = BAD_NPY[kind]
    refused(write_zip(tmp_path / "x.npz", {"a.npy": content}, method), message, memory=1_000_000)


def test_objects_written_by_numpy_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "x.npz", fine=numbers(2), a=np.array([Explosive(tmp_path / "executed")], object))
    refused(tmp_path / "x.npz", "'a' holds Python objects")
    assert not (tmp_path / "executed").exists()


def test_a_zip_file_of_something_else(tmp_path):
    refused(write_zip(tmp_path / "x", {"config.json": "{}", "model.weights.h5": "x"}), "'config.json' is not an array")


# --- zip --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path):
    """A sound npz of two arrays, as bytes, and a function that writes and tries a damaged one."""
    np.savez(tmp_path / "sound.npz", a=numbers(40), b=numbers(6))
    data = bytearray((tmp_path / "sound.npz").read_bytes())
    path = tmp_path / "x.npz"

    def check(data, message):
        path.write_bytes(data)
        return refused(path, message, memory=2_000_000)

    return data, check


def directory(data):
    """Where the entries of the directory begin, and where its end record is."""
    end = data.rindex(b"PK\5\6")
    first = data.index(b"PK\1\2")
    return first, data.index(b"PK\1\2", first + 4), end


def test_every_cut_of_a_zip_file(archive, tmp_path):
    data, check = archive
    for cut in [*range(2, 60), *range(60, len(data), 7)]:
        check(data[:cut], "cut short|damaged zip")


def test_entries_beyond_the_file(archive):
    data, check = archive
    first, second, end = directory(data)
    for offset in (len(data), len(data) - 10, 2**32 - 2, 2**31, second):
        changed = bytearray(data)
        changed[second + 42 : second + 46] = offset.to_bytes(4, "little")
        check(changed, "entry 'b.npy' is not at byte")
    for size in (2**32 - 2, len(data), 10_000):
        changed = bytearray(data)
        changed[second + 20 : second + 28] = size.to_bytes(4, "little") * 2
        check(changed, f"'b.npy' is not {size} bytes at")


def test_a_stored_entry_of_two_sizes(archive):
    data, check = archive
    _, second, _ = directory(data)
    data[second + 24 : second + 28] = (10).to_bytes(4, "little")
    check(data, "'b.npy' is not 152 bytes at")


def test_a_name_of_a_whole_page(tmp_path):
    path = write_zip(tmp_path / "x.npz", {"a" * 2000 + ".npy": npy(plain())})
    refused(path, "its name has 2004 bytes")


def test_entries_that_overlap(archive):
    data, check = archive
    first, second, end = directory(data)
    size = int.from_bytes(data[first + 20 : first + 24], "little") + 20
    data[first + 20 : first + 28] = size.to_bytes(4, "little") * 2
    check(data, "entry 'a.npy' reaches into 'b.npy'")


def test_an_entry_that_reaches_into_the_directory(archive):
    data, check = archive
    _, second, _ = directory(data)
    size = int.from_bytes(data[second + 20 : second + 24], "little") + 20
    data[second + 20 : second + 28] = size.to_bytes(4, "little") * 2
    check(data, "entry 'b.npy' reaches into 'its directory'")


def test_two_names_for_the_same_bytes(archive):
    """A quine-like bomb: many entries over the same bytes."""
    data, check = archive
    first, second, end = directory(data)
    changed = data[:second] + data[first:second] + data[end:]
    changed[second + 46 + 0 : second + 46 + 5] = b"c.npy"
    changed[end - (len(data) - len(changed)) :][12:16] = (2 * (second - first)).to_bytes(4, "little")
    check(changed, "is not at byte|directory is not where")


def test_duplicate_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        for _ in range(2):
            archive.writestr("a.npy", npy(plain()))
    refused(tmp_path / "x.npz", "two entries are called 'a.npy'")


def test_other_packings(archive, tmp_path):
    data, check = archive
    first, *_ = directory(data)
    data[first + 8] |= 1
    check(data, "'a.npy' is encrypted")
    path = write_zip(tmp_path / "y.npz", {"a.npy": npy(plain())}, zipfile.ZIP_BZIP2)
    refused(path, "packed by method 12; unpack it first")


@pytest.mark.parametrize("field", [4, 6, 8, 10, 12, 16])
def test_an_end_record_that_does_not_fit(archive, field):
    data, check = archive
    *_, end = directory(data)
    for value in (b"\xff", b"\x00", b"\x7f"):
        changed = bytearray(data)
        width = 4 if field >= 12 else 2
        changed[end + field : end + field + width] = value * width
        if changed != data:
            check(
                changed, "damaged zip file|cut short|names .* entries|not an entry|reaches into|not an array"
            ) if not (field in (4, 6) and value == b"\0") else None


def test_a_wrong_checksum(archive):
    data, check = archive
    data[data.index(numbers(40).tobytes()) + 8] ^= 1
    assert "a.npy" in check(data, "is damaged: its checksum does not fit")


def test_packed_data_that_do_not_unpack_as_they_say(tmp_path):
    np.savez_compressed(tmp_path / "sound.npz", a=np.arange(5000.0))
    sound = (tmp_path / "sound.npz").read_bytes()
    first, end = sound.index(b"PK\1\2"), sound.rindex(b"PK\5\6")
    begin = 30 + 5 + int.from_bytes(sound[28:30], "little")
    path = tmp_path / "x.npz"
    for place, message in ((begin + 40, "cannot be unpacked|checksum|does not unpack|plain array"), (None, "is not")):
        data = bytearray(sound)
        if place is None:  # another size
            data[first + 24 : first + 28] = (39_999).to_bytes(4, "little")
        else:
            data[place : place + 8] = b"\xff" * 8
        path.write_bytes(data)
        refused(path, message)
    longer = npy(plain("<f8", shape=(10,)), bytes(80)) + bytes(10_000)  # more behind what the directory says
    packed = zlib.compress(longer, wbits=-15)
    write_zip(path, {"a.npy": longer}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\1\2")
    assert packed in data
    data[first + 24 : first + 28] = (len(longer) - 10_000).to_bytes(4, "little")
    path.write_bytes(data)
    refused(path, "does not unpack to")
    assert end  # the sound file has an end record


def test_bombs(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(5_000_000))  # 40 MB in 40 kB
    message = refused(tmp_path / "x.npz", "would unpack to 40000", memory=2_000_000)
    assert "save the arrays without compression" in message
    np.savez_compressed(tmp_path / "y.npz", a=np.zeros(1_000_000))  # 8 MB are not worth a word
    assert same(read_all(tmp_path / "y.npz")[0]["a"], np.zeros(1_000_000))


def test_a_directory_of_very_many_entries(tmp_path):
    data = zip64({})
    (tmp_path / "x.npz").write_bytes(data[:24] + struct.pack("<2Q", 70_000, 70_000) + data[40:])
    refused(tmp_path / "x.npz", "its directory names 70000 entries", memory=1_000_000)


def zip64(entries):
    """A zip file with every size and offset in 64 bits, as for files of more than 4 GiB."""
    body, table = b"", b""
    for name, content in entries.items():
        wide = struct.pack("<2H3Q", 1, 24, len(content), len(content), len(body))
        crc, sizes = zlib.crc32(content), b"\xff" * 8
        fixed = struct.pack("<5HL8s2H", 45, 0, 0, 0, 0, crc, sizes, len(name), len(wide))
        table += (
            b"PK\1\2" + struct.pack("<H", 45) + fixed + struct.pack("<3HL4s", 0, 0, 0, 0, b"\xff" * 4) + name + wide
        )
        body += b"PK\3\4" + struct.pack("<5HL2L2H", 45, 0, 0, 0, 0, crc, 0, 0, len(name), 0) + name + content
    end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, len(entries), len(entries), len(table), len(body))
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(body) + len(table), 1)
    return body + table + end + locator + b"PK\5\6" + b"\0" * 4 + b"\xff" * 12 + b"\0\0"


def test_zip_files_of_64_bits(tmp_path):
    data = zip64({b"a.npy": npy(plain(), numbers(2, 3).tobytes()), b"b.npy": npy(plain(shape=(6,)))})
    (tmp_path / "x").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "x") as archive:
        assert archive.testzip() is None
    arrays, _ = read_all(tmp_path / "x")
    assert same(arrays["a"], numbers(2, 3)) and same(arrays["b"], np.zeros(6, np.float32))
    for at in range(data.index(b"PK\1\2"), len(data)):
        changed = bytearray(data)
        changed[at] ^= 0xFF
        (tmp_path / "x").write_bytes(changed)
        try:
            read_all(tmp_path / "x")
        except mv.CheckpointError:
            continue


def test_parts_of_an_entry(tmp_path):
    """Stored or packed, any part of an entry can be read."""
    content = np.random.default_rng(0).integers(0, 4, 400_000, np.uint8).tobytes()
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        source = Source(write_zip(tmp_path / "x", {"a": content, "b": b"x"}, method))
        entry = zip_file.entries(source)["a"]
        for begin, end in (
            (0, 400_000),
            (0, 0),
            (399_999, 400_000),
            (1, 262_145),
            (262_144, 262_146),
            (65_537, 400_000),
        ):
            buffer = bytearray(end - begin)
            zip_file.fill(source, entry, begin, memoryview(buffer))
            assert buffer == content[begin:end]
        with pytest.raises(mv.CheckpointError, match="has 400000 bytes, 400001 are needed"):
            zip_file.fill(source, entry, 1, memoryview(bytearray(400_000)))


# --- pickles ----------------------------------------------------------------------------------------------------------


class Explosive:
    """Pickles as a call of a function."""

    def __init__(self, marker, function=os.system):
        self.call = function, (f"touch {marker}",)

    def __reduce__(self):
        return self.call


def op(value):
    """The opcodes that push a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def call(name, *arguments):
    return b"c" + name.replace(".", "\n", 1).encode() + b"\n(" + b"".join(arguments) + b"tR"


def tensor(shape=(2, 3), strides=(3, 1), offset=0, count=6, storage="FloatStorage", key="0", kind="storage"):
    """A tensor's opcodes."""
    identity = b"(" + op(kind) + b"ctorch\n" + storage.encode() + b"\n" + op(key) + op("cpu") + op(count) + b"tQ"
    arguments = (op(offset), op(shape), op(strides), b"\x89", b"ccollections\nOrderedDict\n)R")
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + identity + b"".join(arguments) + b"tR"


def table(**items):
    return b"}(" + b"".join(op(name) + value for name, value in items.items()) + b"u"


def write_torch(path, body, storages=None, byteorder="little"):
    """PyTorch's zip file around a pickle's opcodes."""
    storages = {"0": numbers(6).tobytes()} if storages is None else storages
    entries = {"x/data.pkl": b"\x80\x02" + body + b".", "x/byteorder": byteorder, "x/version": "3\n"}
    return write_zip(path, entries | {f"x/data/{key}": content for key, content in storages.items()})


def test_what_the_hand_made_pickles_look_like(tmp_path):
    path = write_torch(tmp_path / "x.pth", table(a=tensor(), b=tensor((3, 2), (1, 3))))
    arrays, _ = read_all(path)
    assert same(arrays["a"], numbers(2, 3)) and same(arrays["b"], numbers(2, 3).T)


def test_the_stride_of_an_axis_of_one_does_not_matter(tmp_path):
    items = {"a": tensor((1, 6), (2**62, 1)), "b": tensor((6, 1), (1, 2**62)), "c": tensor((1,), (7,), offset=5)}
    arrays, _ = read_all(write_torch(tmp_path / "x.pth", table(**items)))
    assert same(arrays["a"], numbers(1, 6)) and same(arrays["b"], numbers(6, 1)) and same(arrays["c"], numbers(6)[5:])


def test_attributes_of_an_ordered_dict_are_dropped(tmp_path):
    body = TABLE + b")R" + op("a") + tensor() + b"s}" + op("_metadata") + tensor() + b"sb"
    arrays, metadata = read_all(write_torch(tmp_path / "x.pth", body))
    assert list(arrays) == ["a"] and metadata == {}


def test_big_endian_and_repacked_files(tmp_path):
    big = numbers(6).astype(">f4").tobytes()
    path = write_torch(tmp_path / "x.pth", table(a=tensor()), {"0": big}, "big")
    assert same(read_all(path)[0]["a"], numbers(2, 3))
    with zipfile.ZipFile(GOLDEN / "views.pth") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    packed, plain = read_all(write_zip(path, entries, zipfile.ZIP_DEFLATED))[0], read_all(GOLDEN / "views.pth")[0]
    assert all(same(packed[name], plain[name]) for name in plain)


REFUSED_NAMES = [
    "os.system", "posix.system", "nt.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "__builtin__.eval",
    "builtins.__import__", "builtins.getattr", "builtins.open", "importlib.import_module", "runpy.run_path",
    "torch.load", "torch.hub.load", "numpy.core.multiarray._reconstruct", "operator.attrgetter", "types.FunctionType",
    "collections.OrderedDict.update", "argparse.ArgumentParser", "torch._utils._rebuild_tensor_v2.__globals__", "this.s",
    "minivit.interop.unpickle.unpickle", "torch.Size.__new__", "codecs.encode", "_codecs.encode", "", ".", "torch. Size",
]  # fmt: skip


@pytest.mark.parametrize("name", REFUSED_NAMES)
@pytest.mark.parametrize("protocol", [2, 4])
def test_names_that_are_not_allowed(tmp_path, name, protocol):
    module, _, attribute = name.rpartition(".")
    by_protocol = {2: b"c" + f"{module}\n{attribute}\n".encode(), 4: op(module) + op(attribute) + b"\x93"}
    found = by_protocol[protocol]
    before = set(sys.modules)
    for body in (found, found + op(("echo",)) + b"R", b"}(" + op("a") + found + b"u", found + b")\x81", found + b"}b"):
        refused(write_torch(tmp_path / "x.pth", body), "its pickle asks for")
    assert "this" not in sys.modules and set(sys.modules) == before


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.system, subprocess.check_call, eval, exec, __import__])
def test_nothing_is_executed(tmp_path, protocol, function):
    data = pickle.dumps({"weight": [Explosive(tmp_path / "executed", function)]}, protocol)
    path = write_zip(tmp_path / "x.pth", {"x/data.pkl": data})
    refused(path, "its pickle (asks for|uses the opcode)")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.pth"]


SIZE, TABLE, SPACE = b"ctorch\nSize\n", b"ccollections\nOrderedDict\n", b"cargparse\nNamespace\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
HOSTILE = {
    # what is called, made or changed
    "a class is called with a text": (b"ctorch\nFloatStorage\n" + op(("x",)) + b"R", "calls 'torch.FloatStorage'"),
    "a tensor is called": (tensor() + b")R", "calls a Tensor"),
    "a text is called": (op("os.system") + b")R", "calls a str"),
    "a dict is called": (b"})R", "calls a dict"),
    "arguments are no tuple": (SIZE + b"]R", "no value that suits"),
    "arguments are a number": (SIZE + b"K\1R", "no value that suits"),
    "too few arguments": (REBUILD + b")R", "no value that suits"),
    "an OrderedDict of a list": (TABLE + op(([],)) + b"R", "calls 'collections.OrderedDict'"),
    "an object of a function": (REBUILD + b")\x81", "makes an object of 'torch._utils._rebuild_tensor_v2'"),
    "an object of a text": (op("x") + b")\x81", "makes an object of a str"),
    "a Namespace with arguments": (SPACE + op((1,)) + b"\x81", "makes an object of 'argparse.Namespace'"),
    "attributes of a class": (TABLE + b"}" + op("popitem") + op("x") + b"sb", "sets attributes of 'collections.Ordered"),
    "attributes of a function": (REBUILD + b"}b", "sets attributes of 'torch._utils._rebuild"),
    "attributes of a tensor": (tensor() + op({"shape": 3}) + b"b", "sets attributes of a Tensor"),
    "attributes of a dict": (b"}}b", "sets attributes of a dict"),
    "attributes in slots": (SPACE + b")\x81" + op((None, {"__class__": 1})) + b"b", "sets attributes of a Namespace"),
    "a class as a value": (b"}" + op("a") + TABLE + b"s", "'a' is a Name"),
    "a storage as a value": (
        b"}" + op("a") + b"(" + op("storage") + b"ctorch\nFloatStorage\n" + op("0") + op("cpu") + op(6) + b"tQs",
        "'a' is a Storage",
    ),
    "attributes in a tuple": (op(("x",)) + b"}b", "sets attributes of a tuple"),
    # opcodes of older protocols, or that no weights need
    "INST": (b"(ios\nsystem\n", "uses the opcode INST"),
    "OBJ": (b"(" + SIZE + b"o", "uses the opcode OBJ"),
    "EXT1": (b"\x82\x01", "uses the opcode EXT1"),
    "NEWOBJ_EX": (SIZE + b")}\x92", "uses the opcode NEWOBJ_EX"),
    "PERSID": (b"Pstorage\n", "uses the opcode PERSID"),
    "DUP": (b"}2", "uses the opcode DUP"),
    "POP": (b"}0", "uses the opcode POP"),
    "STRING": (b"S'abc'\n", "uses the opcode STRING"),
    "NEXT_BUFFER": (b"\x97", "uses the opcode NEXT_BUFFER"),
    "an opcode that is none": (b"\xfe", "damaged pickle"),
    # a machine without what it needs
    "an empty stack": (b"", "no value that suits"),
    "a tuple of nothing": (b"\x86", "no value that suits"),
    "no mark": (b"t", "no value that suits"),
    "a memo that was never set": (b"h\5", "no value that suits"),
    "a call of nothing": (b"R", "no value that suits"),
    "a list gets items without a mark": (b"e", "no value that suits"),
    "a dict gets an odd number of items": (b"}(K\1K\2K\3u", "damaged pickle"),
    "a tuple gets items": (b")(K\1e", "no value that suits"),
    "a text gets items": (op("x") + b"(K\1K\2u", "no value that suits"),
    "a name of two numbers": (b"K\1K\2\x93", "a name is not text"),
    "many arguments": (SIZE + b"(" + b"K\1" * 9 + b"tR", "arguments are not a short tuple"),
    "arguments are a text": (SIZE + op("x" * 100_000) + b"R", "arguments are not a short tuple"),
    "a mark alone": (b"(", "no value that suits"),
    "no text": (b"X\2\0\0\0\xff\xfe", "damaged pickle"),
    "no number": (b"Iabc\n", "damaged pickle"),
    # not a state dict
    "a list": (b"]", "holds a list, where a dict"),
    "a number": (b"K\1", "holds a int"),
    "a tensor alone": (tensor(), "holds a Tensor"),
    "the same key twice": (b"}(" + op("a") + tensor() + op("a") + tensor() + b"u", "has the key 'a' twice"),
    "the same name twice": (table(**{"a.b": tensor()}, a=table(b=tensor())), "two tensors are called 'a.b'"),
    "1 and '1'": (b"}(K\1" + tensor() + op("1") + tensor() + b"u", "two tensors are called '1'"),
    "a tensor as a key": (b"}(" + tensor() + b"K\1u", "has a Tensor as a key"),
    "a list as a key": (b"}(]K\1u", "has a list as a key"),
    "a huge number as a key": (b"}" + op(10**5000) + b"K\1s", "has a int as a key"),
    "a set of tensors": (b"c__builtin__\nset\n(](" + tensor() + b"etR", "more than texts and numbers"),
    # tensors
    "a storage that is not there": (table(a=tensor(key="7")), "the storage '7' is not there"),
    "a storage elsewhere": (table(a=tensor(key="../data.pkl")), "is not there"),
    "a storage named by a number": (table(a=tensor(key=0)), "a storage without a name or a class"),
    "a storage of another kind": (table(a=tensor(storage="ComplexFloatStorage")), "asks for 'torch.ComplexFloatStorage'"),
    "a storage that is a function": (table(a=tensor(storage="Size")), "a storage without a name or a class"),
    "a storage larger than its entry": (table(a=tensor(count=7)), "'0' is to hold 7 numbers of F32, and has 24 bytes"),
    "a storage of 2**62": (table(a=tensor(count=2**62)), "is to hold"),
    "a storage of -1": (table(a=tensor(count=-1)), "not made of whole numbers"),
    "a storage of truth": (table(a=tensor(count=True)), "not made of whole numbers"),
    "no storage": (table(a=tensor(kind="module")), "refers to something that is not a storage"),
    "a text for a storage": (op("storage") + b"Q", "refers to something that is not a storage"),
    "a list for a storage": (REBUILD + b"(]K\0" + op((2,)) + op((1,)) + b"\x89}tR", "a tensor without a storage"),
    "a tensor beyond its storage": (table(a=tensor(offset=1)), "leaves its 6 numbers"),
    "an offset of 2**62": (table(a=tensor(offset=2**62)), "leaves its 6 numbers"),
    "an offset below 0": (table(a=tensor(offset=-1)), "not made of whole numbers"),
    "strides below 0": (table(a=tensor(strides=(-3, 1), offset=3)), "not made of whole numbers"),
    "strides beyond the storage": (table(a=tensor(strides=(4, 1))), "leaves its 6 numbers"),
    "strides of 2**62": (table(a=tensor(strides=(2**62, 2**62))), "leaves its 6 numbers"),
    "a shape without strides": (table(a=tensor(strides=())), "no tensor has the shape"),
    "absurd shape": (table(a=tensor((2**40, 2**40), (0, 0))), "no tensor has the shape"),
    "absurd empty shape": (table(a=tensor((0, 2**59, 2**59), (0, 0, 0))), "no tensor has the shape"),
    "a shape that repeats": (table(a=tensor((10**6, 10**6), (0, 0))), "repeats the 6 numbers"),
    "a shape of fractions": (table(a=tensor((2.0, 3))), "not made of whole numbers"),
    "a shape of lists": (table(a=tensor([2, 3])), "not made of whole numbers"),
    "17 axes": (table(a=tensor((1,) * 17, (1,) * 17)), "not made of whole numbers"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pickles(tmp_path, kind):
    body, message = HOSTILE[kind]
    path = write_torch(tmp_path / "x.pth", body)
    refused(path, message, memory=2_000_000)
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]
    assert read_all(GOLDEN / "linear.pth")[0].keys() == {"weight", "bias"}  # and nothing was changed for the next


def laughs(count):
    """A list mentioned twice in the next, `count` times: 2**count ends."""
    body = b"]q\x20"
    for i in range(32, 32 + count):
        body += b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1])
    return body


MANY = b"".join(op(f"t{i}") + b"h\x64" for i in range(5000))
ABUSE = {
    "a memo of 2**32 places": (b"}r\xff\xff\xff\xff", None),
    "a memo far away": (b"}p" + b"9" * 4000 + b"\n", None),
    "a text of 2**63 bytes": (b"\x8d" + b"\xff" * 7 + b"\x7fabc", "damaged pickle"),
    "a text of 2**64 bytes": (b"\x8d" + b"\xff" * 8 + b"abc", "damaged pickle"),
    "a frame of 2**63 bytes": (b"\x95" + b"\xff" * 7 + b"\x7f}", None),
    "a number of 2**31 bytes": (b"\x8b\xff\xff\xff\x7f1", "damaged pickle"),
    "a number of many digits": (b"L" + b"9" * 10_000_000 + b"L\n", "damaged pickle"),
    "a list in itself": (b"}" + op("a") + b"]q\0h\0as", "nested too deep"),
    "a dict in itself": (b"}q\x64" + op("a") + b"h\x64s", "nested too deep"),
    "lists in lists": (b"}" + op("a") + b"]" * 100_000 + b"a" * 99_999 + b"s", "nested too deep"),
    "dicts in dicts": (b"}K\1" * 100_000 + b"N" + b"s" * 100_000, "nested too deep"),
    "tuples in tuples": (b"}" + op("a") + b")" + b"\x85" * 100_000 + b"s", "nested too deep"),
    "tuples in tuples as a key": (b"})" + b"\x85" * 100_000 + b"Ns", "has a tuple as a key"),
    "tuples in tuples in a set": (b"\x8f()" + b"\x85" * 100_000 + b"\x90", "more than texts and numbers"),
    "2**40 ends": (b"}" + op("a") + b"(" + laughs(40) + b"t" + b"s", "shared so often"),
    "marks in marks": (b"(" * 100_000, "damaged pickle"),
    "very many opcodes": (b"N" * 5_000_000, "more than 400000 opcodes"),
    "a long list made a set again and again": (
        b"](" + b"K\1" * 20_000 + b"eq\0c__builtin__\nset\nq\1" + b"h\1h\0\x85R" * 20_000, "too many and too large"),
    "lists in lists for a name": (b"(" + laughs(200) + b"\x93", "a name is not text"),
    "a huge number in a set": (
        b"\x8b\0\0\x10\0" + b"\1" * (1 << 20) + b"q\1" + b"](" + b"h\1" * 100_000 + b"eq\0c__builtin__\nset\nh\0\x85R",
        "more than texts and numbers"),
    "a long shape used again and again": (b"(" + b"K\1" * 100_000 + b"tq\0" + SIZE + b"h\0\x85R", "not made of whole"),
    "a long key on many levels": (
        b"X" + (20_000_000).to_bytes(4, "little") + b"k" * 20_000_000 + b"q\0" + b"}h\0" * 9 + b"}" + b"s" * 9,
        "more than 500 letters"),
    "a long name": (b"}" + op("k" * 1_000_000) + tensor() + b"s", "a name in it has more than 500 letters"),
    "one tensor by 5,000 names": (
        b"}(" + op("a") + tensor((2, 5000), (5000, 1), count=10_000) + b"q\x64" + MANY + b"u",
        "share storages so much that they would take 200040000 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ABUSE)
def test_pickles_that_ask_for_much(tmp_path, kind):
    body, message = ABUSE[kind]
    path = write_torch(tmp_path / "x.pth", body, {"0": bytes(40_000)})
    if message is None:
        assert read_all(path) == ({}, {})  # a name for a place in the memo costs nothing
    else:
        refused(path, message, memory=100_000_000)


def test_a_pickle_that_is_too_long_or_has_no_end(tmp_path):
    path = tmp_path / "x.pth"
    write_zip(path, {"x/data.pkl": bytes(40_000_000)}, zipfile.ZIP_STORED)
    refused(path, "has 40000000 bytes; 150 describe a tensor", memory=2_000_000)
    refused(write_zip(path, {"x/data.pkl": b"\x80\x02}"}), "damaged pickle")
    refused(write_zip(path, {"x/data.pkl": b""}), "damaged pickle")
    refused(write_zip(path, {"x/data.pkl": b"}.", "y/data.pkl": b"}."}), "there are 2 pickles")


def test_every_cut_of_a_pickle(tmp_path):
    with zipfile.ZipFile(GOLDEN / "dino_full.pth") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    data = entries["dino_full/data.pkl"]
    for cut in range(0, len(data), 5):
        path = write_zip(tmp_path / "x.pth", entries | {"dino_full/data.pkl": data[:cut]})
        with pytest.raises(mv.CheckpointError, match="x.pth: damaged pickle|x.pth: its pickle asks for"):
            open_tensors(path)


# --- reading ----------------------------------------------------------------------------------------------------------


def write_each(folder, tensors):
    """The same tensors in every container."""
    safetensors.write(folder / "x.safetensors", tensors)
    np.savez(folder / "x.npz", **tensors)
    np.savez_compressed(folder / "packed.npz", **tensors)
    items, storages = {}, {}
    for i, (name, array) in enumerate(tensors.items()):
        strides = tuple(step // array.itemsize for step in np.ascontiguousarray(array).strides)
        items[name] = tensor(array.shape, strides, count=array.size, key=str(i))
        storages[str(i)] = array.tobytes()
    write_torch(folder / "x.pth", table(**items), storages)
    return [folder / name for name in ("x.safetensors", "x.npz", "packed.npz", "x.pth")]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(tmp_path, value):
    tensors = {"sound": numbers(5), "broken.weight": numbers(2, 3)}
    tensors["broken.weight"][1, 1] = value
    for path in write_each(tmp_path, tensors):
        opened, _ = open_tensors(path)
        assert same(opened["sound"].read(), numbers(5))
        with pytest.raises(
            mv.CheckpointError, match=r"'broken.weight' has 1 of 6 numbers that are NaN or infinite"
        ) as e:
            opened["broken.weight"].read()
        assert str(path) in str(e.value)
        arrays, _ = read_all(path, finite=False)
        assert np.array_equal(arrays["broken.weight"], tensors["broken.weight"], equal_nan=True)


def test_only_what_is_asked_for_is_read(tmp_path):
    tensors = {"large": np.zeros(2_000_000, np.float32), "small": numbers(10)}
    for path in write_each(tmp_path, {n: a + numbers(1) for n, a in tensors.items()}):
        if path.name == "packed.npz":
            continue
        tracemalloc.start()
        opened, _ = open_tensors(path)
        assert opened["large"].shape == (2_000_000,) and opened["large"].dtype == "F32"
        opened["small"].read()
        before = tracemalloc.get_traced_memory()[1]
        array = opened["large"].read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert before < 1_000_000 and peak < array.nbytes + 1_000_000, path


def test_a_file_replaced_or_cut_after_it_was_opened(tmp_path):
    for path in write_each(tmp_path, {"a": numbers(50_000)}):
        shutil.copy(path, tmp_path / "copy")
        opened, _ = open_tensors(path)
        if sys.platform != "win32":
            os.replace(tmp_path / "copy", path)
            assert same(opened["a"].read(), numbers(50_000))
        del opened
        opened, _ = open_tensors(path)
        os.truncate(path, 1000)
        with pytest.raises(mv.CheckpointError, match="cut short"):
            opened["a"].read()


def test_files_are_closed(tmp_path):
    if not Path("/proc/self/fd").exists():
        pytest.skip("Windows and macOS list no open files here")
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for path in write_each(tmp_path, {"a": numbers(5)}):
        opened, _ = open_tensors(path)
        opened["a"].read()
    del opened
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(mv.CheckpointError, match="nowhere: no such file"):
        open_tensors(tmp_path / "nowhere")
    with pytest.raises(mv.CheckpointError, match="no weights in this folder: neither model.safetensors, "):
        open_tensors(tmp_path)
    with pytest.raises(mv.CheckpointError, match="cannot be read"):
        open_tensors("a\0b")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(mv.CheckpointError, match="pipe: cannot be read: it is not a file"):
        open_tensors(tmp_path / "pipe")
    with pytest.raises(mv.CheckpointError, match="it is not a file"):
        open_tensors("/dev/zero")


# --- folders ----------------------------------------------------------------------------------------------------------


def write_shards(folder, index=None, **changes):
    """Two safetensors files and their index, as Hugging Face's libraries write them."""
    shards = {
        "model-1-of-2.safetensors": {"a": numbers(3), "b": numbers(2)},
        "model-2-of-2.safetensors": {"c": numbers(4)},
    }
    for file, tensors in shards.items():
        safetensors.write(folder / file, tensors, {"format": "pt"})
    found = {name: file for file, tensors in shards.items() for name in tensors} | changes
    found = {name: file for name, file in found.items() if file is not None}
    text = json.dumps({"metadata": {"total_size": 36}, "weight_map": found}) if index is None else index
    (folder / "model.safetensors.index.json").write_text(text)


def test_a_folder_with_a_config(tmp_path):
    (tmp_path / "config.json").write_text('{"layer_norm_eps": 1e-12}')
    (tmp_path / "preprocessor_config.json").write_text('{"size": 8}')
    shutil.copy(GOLDEN / "linear.pth", tmp_path / "pytorch_model.bin")
    arrays, metadata = read_all(tmp_path)
    assert list(arrays) == ["weight", "bias"]
    assert metadata == {"config": {"layer_norm_eps": 1e-12}, "preprocessor": {"size": 8}}
    safetensors.write(tmp_path / "model.safetensors", {"x": numbers(3)}, {"format": "pt"})  # before the .bin
    arrays, metadata = read_all(str(tmp_path))
    assert list(arrays) == ["x"] and metadata["format"] == "pt" and metadata["config"] == {"layer_norm_eps": 1e-12}


def test_a_folder_with_one_other_file_or_several(tmp_path):
    np.savez(tmp_path / "ViT-B_16.npz", a=numbers(2))
    (tmp_path / "README.md").write_text("weights")
    assert list(read_all(tmp_path)[0]) == ["a"]
    np.savez(tmp_path / "another.npz", a=numbers(2))
    refused(tmp_path, "which of these are the weights: ViT-B_16.npz, another.npz")


def test_shards(tmp_path):
    write_shards(tmp_path)
    arrays, metadata = read_all(tmp_path)
    assert list(arrays) == ["a", "b", "c"] and metadata == {}
    assert same(arrays["c"], numbers(4))
    shutil.copy(GOLDEN / "linear.pth", tmp_path / "pytorch_model-1.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(("bias", "weight"), "pytorch_model-1.bin")})
    )
    for name in ("model.safetensors.index.json", "model-1-of-2.safetensors", "model-2-of-2.safetensors"):
        (tmp_path / name).unlink()
    assert list(read_all(tmp_path)[0]) == ["bias", "weight"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d": "model-3-of-3.safetensors"}, "model-3-of-3.safetensors: no such file"),
        ({"d": "model-1-of-2.safetensors"}, "1 tensors are in none of its files, such as 'd'"),
        ({"c": "model-1-of-2.safetensors"}, "1 tensors are in none of its files, such as 'c'"),
        ({"b": None}, "model-1-of-2.safetensors holds 'b', which the index does not say"),
        ({"b": "model-2-of-2.safetensors"}, "holds 'b', which the index does not say"),
        ({"a": "../model-1-of-2.safetensors"}, "is not the name of a file in this folder"),
        ({"a": "/etc/passwd"}, "is not the name of a file in this folder"),
        ({"a": ".."}, "is not the name of a file in this folder"),
        ({"a": "x\\y"}, "is not the name of a file in this folder"),
        ({"a": ""}, "is not the name of a file in this folder"),
        ({"a": 3}, "no `weight_map` from tensors to files"),
        ({"index": "{}"}, "no `weight_map`"),
        ({"index": "[]"}, "not a table, but a list"),
        ({"index": "{"}, "not JSON"),
        ({"index": "[" * 100_000}, "not JSON"),
        ({"index": '{"weight_map": 3}'}, "no `weight_map`"),
    ],
)
def test_indices_that_do_not_fit(tmp_path, changes, message):
    write_shards(tmp_path, **changes)
    refused(tmp_path, message)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[1]", b"null", b"[" * 100_000])
def test_damaged_descriptions(tmp_path, text):
    safetensors.write(tmp_path / "model.safetensors", {"x": numbers(3)})
    (tmp_path / "config.json").write_bytes(text)
    refused(tmp_path, "config.json: not (JSON|a table)")


# --- fuzzing ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fuzzing():
    """scripts/fuzz_containers.py as a module."""
    spec = importlib.util.spec_from_file_location("fuzz_containers", ROOT / "scripts" / "fuzz_containers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("container", ["safetensors", "npz", "torch"])
def test_thousands_of_damaged_files_in_short(fuzzing, tmp_path, container):
    outcomes, failures, _ = fuzzing.fuzz(container, 300, 1, tmp_path)
    assert failures == [] and outcomes["refused"] > 150 and outcomes["loaded"] > 3, outcomes
    assert [p.name for p in tmp_path.iterdir() if p.name != "x"] == ["damaged"]


@pytest.mark.parametrize("fault", ["another error", "memory", "another shape"])
def test_the_fuzzing_notices_faults(fuzzing, tmp_path, monkeypatch, fault):
    def faulty(source, entry, skip, buffer):
        if fault == "another error":
            raise KeyError("planted")
        if fault == "memory":
            np.empty(65 << 20, np.uint8)
        return sound(source, entry, skip, buffer)

    sound = zip_file.fill
    if fault == "another shape":
        monkeypatch.setattr(fuzzing, "open_tensors", lambda path, finite: wrong(*open_tensors(path, finite=finite)))
    else:
        monkeypatch.setattr(zip_file, "fill", faulty)
    outcomes, failures, _ = fuzzing.fuzz("npz", 20, 0, tmp_path)
    assert outcomes["unexpected"] > 0 or fault == "another shape"  # which only a file that loads can have
    assert failures


def wrong(tensors, metadata):
    for t in tensors.values():
        t.shape = (*t.shape, 1)
    return tensors, metadata


def test_reading_does_nothing_else(tmp_path):
    """Python's own audit, in a process of its own: nothing is imported, compiled, run or written for hostile files."""
    paths = []
    for i, (body, _) in enumerate([*HOSTILE.values(), *ABUSE.values()]):
        if len(body) < 1_000_000:
            paths.append(write_torch(tmp_path / f"{i}.pth", body))
    for i, function in enumerate((os.system, eval, exec, __import__)):
        data = pickle.dumps(Explosive("executed", function))
        paths.append(write_zip(tmp_path / f"call{i}.pth", {"x/data.pkl": data}))
    program = """if True:
        import codecs, sys
        from scripts import fuzz_containers as fuzzing
        for codec in ("cp437", "latin1", "raw_unicode_escape"):
            codecs.lookup(codec)
        sys.addaudithook(fuzzing.watch)
        with fuzzing.watched():
            __import__("this_is_seen") if False else compile("1", "", "eval")
        assert fuzzing.seen, "the audit is blind"
        from pathlib import Path
        outcomes = {path: fuzzing.attempt(Path(path)) for path in sys.argv[1:]}
        wrong = {path: outcome for path, outcome in outcomes.items() if outcome not in ("loaded", "refused")}
        assert not wrong, wrong
        print(len(outcomes))
    """
    found = subprocess.run(
        [sys.executable, "-c", program, *map(str, paths)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) == len(paths) > 80
    assert not (ROOT / "executed").exists()
