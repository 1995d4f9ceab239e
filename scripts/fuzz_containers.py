"""Open thousands of damaged weight files: each must load, or be refused with one clear error, and do nothing else.

    python -m scripts.fuzz_containers [--container npz] [--count 2000] [--seed 0]

Sound files are damaged at random, as bytes and behind their own checksums (the JSON of safetensors, the headers and
pickles in zip files, packed again). A failure is any exception but minivit's own, a tensor that is not what was
announced, more memory or time than a small file deserves, and an import, a call of the system or a file written.
"""

import argparse
import codecs
import io
import json
import pickletools
import random
import sys
import tempfile
import time
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from minivit.engine.errors import MinivitError
from minivit.interop import safetensors
from minivit.interop.stored import open_tensors

GOLDEN = Path(__file__).parent.parent / "tests" / "golden" / "containers"
MAX_MEMORY, MAX_SECONDS = (
    64 << 20,
    5.0,
)  # for files of a few kB; a file may unpack to 16 MiB and a hundred times its size
ODD = [
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**31,
    2**62,
    2**63 - 1,
    2**64 - 1,
]
FORBIDDEN = ("import", "exec", "compile", "os.", "subprocess.", "socket.", "pickle.", "shutil.", "ctypes.", "marshal.")
seen: list[str] = []  # what the interpreter did while a file was open
watching = False


def watch(event: str, arguments: tuple) -> None:
    """An audit hook (see `sys.addaudithook`): notes what reading a file of weights must never do."""
    if watching and (event.startswith(FORBIDDEN) or (event == "open" and "r" not in str(arguments[1] or "r"))):
        seen.append(f"{event} {str(arguments)[:100]}")


@contextmanager
def watched() -> Iterator[None]:
    global watching
    seen.clear()
    watching = True
    try:
        yield
    finally:
        watching = False


# --- sound files ------------------------------------------------------------------------------------------------------


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "cls_token": (1, 1, 8),
        "blocks.0.qkv.weight": (24, 8),
        "blocks.0.qkv.bias": (24,),
        "scale": (),
        "no": (0, 3),
    }
    found = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return found | {"half": np.ones((3, 2), np.float16), "steps": np.arange(4), "flags": np.array([True, False])}


def sound_safetensors(folder: Path) -> list[bytes]:
    safetensors.write(folder / "x", arrays(), {"format": "pt", "größe": "3 × 4"})
    library = GOLDEN.parent / "written_by_safetensors.safetensors"
    return [(folder / "x").read_bytes(), library.read_bytes()]


def sound_npz(folder: Path) -> list[bytes]:
    nested = {name.replace(".", "/"): np.asfortranarray(a) for name, a in arrays().items()}
    big_endian = {name: a.astype(a.dtype.newbyteorder(">")) for name, a in arrays().items()}
    files = [(GOLDEN / "bfloat16.npz").read_bytes()]
    for save, tensors in ((np.savez, nested), (np.savez_compressed, nested), (np.savez, big_endian)):
        file = io.BytesIO()
        save(file, **tensors)
        files.append(file.getvalue())
    return files


def sound_torch(folder: Path) -> list[bytes]:
    names = ("linear", "views", "types", "deit", "dino_full", "plain", "protocol4", "no_checksum")
    return [(GOLDEN / f"{name}.pth").read_bytes() for name in names]


# --- damage -----------------------------------------------------------------------------------------------------------


def damage(data: bytes, rng: random.Random) -> bytes:
    """One to four changes of bytes."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, width = rng.randrange(len(found) + 1), rng.choice((1, 2, 4, 8))
        kind = rng.randrange(8)
        if kind == 0:
            del found[at:]
        elif kind == 1:
            del found[at : at + rng.randrange(1, 60)]
        elif kind == 2:
            found[at:at] = rng.randbytes(rng.randrange(1, 60))
        elif kind == 3:  # a piece again, elsewhere
            begin = rng.randrange(len(found) + 1)
            found[at:at] = found[begin : begin + rng.randrange(1, 200)]
        elif kind == 4:
            found[at : at + width] = (rng.choice(ODD) % 256**width).to_bytes(width, rng.choice(("little", "big")))
        elif kind == 5 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 6 and at < len(found):
            found[at] = rng.randrange(256)
        else:  # a digit, where there are any
            places = [i for i, byte in enumerate(found[:4000]) if chr(byte).isdecimal()]
            if places:
                found[rng.choice(places)] = ord(rng.choice("0123456789-, "))
        if not found:
            break
    return bytes(found)


def damage_header(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose header is still JSON, with another value somewhere, or repeated, damaged or gone."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    table: dict = header
    while isinstance(inner := table[key := rng.choice(list(table))], dict) and rng.random() < 0.8:
        table = inner
    values = [*ODD, -1, 2.5, None, True, "F32", "BF16", [], {}, [[]], [0, 4], [-8, 0], [2**62, 2], [0] * 40, "x" * 1000]
    change = rng.randrange(4)
    if change == 0:
        del table[key]
    elif change == 1 and isinstance(inner, list) and inner:
        inner[rng.randrange(len(inner))] = rng.choice(values)
    elif change == 2:
        table[rng.choice(("x", "", "shape", "dtype", "__metadata__"))] = inner
    else:
        table[key] = rng.choice(values)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def damage_entry(data: bytes, rng: random.Random) -> bytes:
    """A zip file with one entry's content damaged, under checksums and sizes that are right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        contents = {}
        for info in archive.infolist():
            info.CRC = None  # PyTorch can leave it out
            contents[info.filename] = archive.read(info)
    name = rng.choice([n for n in contents if n.endswith((".npy", ".pkl"))])
    if name.endswith(".pkl") and rng.random() < 0.7:
        contents[name] = damage_pickle(contents[name], rng)
    else:
        head = 130 if name.endswith(".npy") else len(contents[name])
        contents[name] = damage(contents[name][:head], rng) + contents[name][head:]
    if rng.random() < 0.05:
        contents[rng.choice(("x", "../x.npy", "/x.npy", "a/data.pkl", "x/"))] = rng.choice(list(contents.values()))
    if rng.random() < 0.05:
        del contents[rng.choice(list(contents))]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


def damage_pickle(data: bytes, rng: random.Random) -> bytes:
    """A pickle with opcodes taken out, exchanged, repeated, or put in with arguments of every kind."""
    starts = [position for _, _, position in pickletools.genops(data)]
    pieces = [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, other = rng.randrange(len(pieces)), rng.randrange(len(pieces))
        kind = rng.randrange(5)
        if kind == 0 and len(pieces) > 1:
            del pieces[at]
        elif kind == 1:
            pieces[at], pieces[other] = pieces[other], pieces[at]
        elif kind == 2:
            pieces[at:at] = pieces[other : other + rng.randrange(1, 20)] * rng.choice((1, 2, 50))
        else:
            opcode = rng.choice(pickletools.opcodes).code.encode("latin1")
            size = rng.choice((0, 1, 2, 4, 8, 9))
            names = [b"os\nsystem\n", b"torch\nSize\n", b"collections\nOrderedDict\n", b"argparse\nNamespace\n"]
            pieces.insert(at, opcode + rng.choice([rng.randbytes(size), b"\xff" * size, b"\0" * size, *names]))
    return b"".join(pieces)


KINDS: dict[str, tuple[Callable[[Path], list[bytes]], list[Callable[[bytes, random.Random], bytes]]]] = {
    "safetensors": (sound_safetensors, [damage, damage_header]),
    "npz": (sound_npz, [damage, damage_entry]),
    "torch": (sound_torch, [damage, damage_entry]),
}


# --- the run ----------------------------------------------------------------------------------------------------------


def attempt(path: Path) -> str:
    """Open a file and read all of it: "loaded", "refused", or what else happened."""
    try:
        with watched():
            tensors, _ = open_tensors(path, finite=False)
            for tensor in tensors.values():
                array = tensor.read()
                if array.shape != tensor.shape or not array.flags.c_contiguous or not array.dtype.isnative:
                    return f"unexpected: {tensor.name} {tensor.shape} gave {array.dtype} {array.shape}"
        outcome = "loaded"
    except MinivitError as error:
        outcome = "refused" if str(path) in str(error) else f"unexpected: no path in {error}"
        if len(str(error)) > 3000:
            outcome = f"unexpected: a message of {len(str(error))} letters"
    except Exception as error:
        outcome = f"unexpected: {type(error).__name__}: {error}"
    return f"unexpected: {seen}" if seen else outcome


def fuzz(
    container: str, count: int, seed: int, folder: Path, keep: Path | None = None
) -> tuple[Counter, list[str], str]:
    """How many files were loaded, refused, and neither; what went wrong; and the largest memory and time of one file.

    A file that went wrong is copied into `keep`.
    """
    make, damages = KINDS[container]
    files, rng = make(folder), random.Random(f"{container} {seed}")
    outcomes, failures, most, longest = Counter(), [], 0, 0.0
    path = folder / "damaged"
    for data in files:
        path.write_bytes(data)
        if (outcome := attempt(path)) != "loaded":
            failures.append(f"a sound file of {len(data)} bytes: {outcome}")
    for i in range(count):
        data = rng.choice(damages)(rng.choice(files), rng)
        path.write_bytes(data)
        tracemalloc.start()
        start = time.perf_counter()
        outcome = attempt(path)
        seconds, memory = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        if memory > MAX_MEMORY or seconds > MAX_SECONDS:
            outcome = f"unexpected: {memory / 2**20:.0f} MiB, {seconds:.1f} s ({outcome})"
        most, longest = max(most, memory), max(longest, seconds)
        outcomes[outcome.split(":")[0]] += 1
        if outcome.startswith("unexpected"):
            failures.append(f"file {i} of {len(data)} bytes: {outcome}")
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{container}_{seed}_{i}").write_bytes(data)
    return outcomes, failures, f"at most {most / 1024:,.0f} KiB and {longest:.2f} s for one file"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--container", choices=KINDS, action="append")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the files that went wrong")
    options = parser.parse_args()
    sys.addaudithook(watch)
    for codec in ("cp437", "latin1", "raw_unicode_escape", "unicode_escape"):
        codecs.lookup(codec)  # imported by the interpreter when it first decodes a name
    failed = False
    for container in options.container or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            outcomes, failures, largest = fuzz(container, options.count, options.seed, Path(folder), options.keep)
        counts = ", ".join(f"{outcomes[kind]:,} {kind}" for kind in ("loaded", "refused", "unexpected"))
        print(f"{container:11} {counts}; {largest}")
        print("".join(f"  {failure}\n" for failure in failures[:20]), end="")
        failed |= bool(failures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
