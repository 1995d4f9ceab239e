"""Make small files of weights, and of what is taken for weights, with the libraries that write them.

Run from the repository's root with a Python that has torch, flax, ml_dtypes, h5py and onnx (the tests need none of them):

    python tests/golden/make_containers.py

The files are in containers/. Each holds `numbers(shape)`, which the tests compute again. Every file that PyTorch wrote is
read again by PyTorch here, legacy ones too. Made with torch 2.13.0+cpu, flax 0.12.8, ml_dtypes 0.6.0, h5py 3.16.0,
onnx 1.23.2 and NumPy 2.4.6 on Python 3.11. Some hold a random identity of PyTorch's, so bytes differ from run to run.
"""

import argparse
import io
import pickle
import struct
import tarfile
from collections import OrderedDict
from pathlib import Path

import flax.serialization
import h5py
import ml_dtypes
import numpy as np
import onnx
import torch

FOLDER = Path(__file__).parent / "containers"
TYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")


def numbers(*shape: int) -> np.ndarray:
    """-8, -7.5, -7, …: exact in every type of 16 bits or more."""
    return (np.arange(int(np.prod(shape)), dtype=np.float32) / 2 - 8).reshape(shape)


def tensor(*shape: int) -> torch.Tensor:
    return torch.from_numpy(numbers(*shape))


def save(name: str, value: object, **options: object) -> None:
    torch.save(value, FOLDER / name, **options)
    torch.load(FOLDER / name, weights_only=False)


def linear() -> torch.nn.Linear:
    layer = torch.nn.Linear(4, 3)
    layer.load_state_dict({"weight": tensor(3, 4), "bias": tensor(3)})
    return layer


def views() -> dict[str, torch.Tensor]:
    whole = tensor(6, 8)
    return {
        "whole": whole,
        "transposed": whole.T,
        "rows": whole[2:4],
        "columns": whole[:, 3],
        "every_other": whole[1::2, 1::3],
        "axes": tensor(2, 3, 4).permute(2, 0, 1),
        "expanded": tensor(5).expand(1, 5),
        "repeated_part": tensor(12)[2:5].expand(3, 3),  # still fewer numbers than the storage has
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(tensor(2, 2)),
    }


def dino_checkpoint() -> dict[str, object]:
    """As DINO's training writes it: the student wrapped for several machines, the teacher not, and everything else."""
    student = torch.nn.ModuleDict({"module": torch.nn.ModuleDict({"backbone": linear()})})
    optimizer = torch.optim.AdamW(student.parameters())
    student.module.backbone(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    student.module.backbone.load_state_dict(linear().state_dict())
    return {
        "student": student.state_dict(),
        "teacher": torch.nn.ModuleDict({"backbone": linear()}).state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 100,
        "args": argparse.Namespace(
            arch="vit_small", patch_size=16, lr=0.0005, local_crops_scale=(0.05, 0.4), fp16=True
        ),
        "dino_loss": OrderedDict(center=torch.zeros(1, 4)),
    }


def save_tar(name: str) -> None:
    """PyTorch's format before 0.1.10, written after its reader: three pickles with raw numbers between them, in a tar."""

    def member(archive: tarfile.TarFile, member_name: str, data: bytes) -> None:
        info = tarfile.TarInfo(member_name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> str | None:
            return "200" if isinstance(value, torch.Tensor) else None

    data, pickled = numbers(3, 4), io.BytesIO()
    storages = pickle.dumps(1, 2) + pickle.dumps((100, "cpu", torch.FloatStorage), 2)
    storages += struct.pack("<q", data.size) + data.tobytes() + pickle.dumps([], 2)
    tensors = pickle.dumps(1, 2) + pickle.dumps((200, 100, torch.FloatTensor), 2)
    tensors += struct.pack("<i4x2q2qq", 2, 3, 4, 4, 1, 0)
    Pickler(pickled, 2).dump({"weight": torch.zeros(3, 4)})
    with tarfile.open(FOLDER / name, "w", format=tarfile.PAX_FORMAT) as archive:
        member(archive, "storages", storages)
        member(archive, "tensors", tensors)
        member(archive, "pickle", pickled.getvalue())
    found = torch.load(FOLDER / name, weights_only=False)
    assert np.array_equal(found["weight"], data)


def save_onnx(name: str) -> None:
    weight = onnx.numpy_helper.from_array(numbers(3, 4), "weight")
    node = onnx.helper.make_node("MatMul", ["weight", "x"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("x", [4]), ("y", [3]))]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [weight]))
    onnx.checker.check_model(model)
    onnx.save(model, FOLDER / name)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    save("linear.pth", linear().state_dict())
    save("protocol4.pth", linear().state_dict(), pickle_protocol=4)
    torch.serialization.set_crc32_options(False)
    save("no_checksum.pth", linear().state_dict())
    torch.serialization.set_crc32_options(True)
    save("views.pth", views())
    types = {name: tensor(2, 3).to(getattr(torch, name)) if name != "uint8" else torch.arange(6) for name in TYPES}
    save("types.pth", types | {"uint8": types["uint8"].to(torch.uint8), "bool": torch.tensor([True, False])})
    save("deit.pth", {"model": linear().state_dict()})
    save("dino_full.pth", dino_checkpoint())
    plain = {"n": None, "t": True, "i": -3, "big": 2**70, "f": 0.5, "s": "é", "list": [1, [2, "x"]], "set": {1, 2}}
    save("plain.pth", plain | {"tuple": (1, 2.5), "empty": {}, "size": torch.Size([2, 3]), "weight": tensor(2)})

    save("module.pth", linear())
    save("legacy.pth", linear().state_dict(), _use_new_zipfile_serialization=False)
    torch.load(FOLDER / "legacy.pth", weights_only=True)  # what the error message advises
    torch.jit.trace(linear(), torch.zeros(1, 4)).save(FOLDER / "script.pt")
    save_tar("tar.pth")
    save_onnx("model.onnx")
    tree = {"params": {"head": {"kernel": numbers(4, 3), "bias": numbers(3)}}}
    (FOLDER / "flax.msgpack").write_bytes(flax.serialization.to_bytes(tree))
    with h5py.File(FOLDER / "keras.h5", "w") as file:
        file["head/kernel"] = numbers(4, 3)
    np.savez(FOLDER / "bfloat16.npz", half=numbers(2, 3).astype(ml_dtypes.bfloat16), full=numbers(2))
    for path in sorted(FOLDER.iterdir()):
        print(f"{path.name:16} {path.stat().st_size:7,} bytes")


if __name__ == "__main__":
    main()
