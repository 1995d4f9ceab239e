"""Make the golden files of timm's Vision Transformers, and check both directions: timm's files here, our files in timm.

Run from the repository's root with a Python that has torch, timm and safetensors (none of them is needed by the tests):

    python tests/golden/make_timm.py

Each family of timm_families.json gets two files: its random weights, written by the safetensors library, and what timm
computes with them. timm_names.json lists the names and shapes of timm's own models, timm_holds.json those of the networks
that timm builds for what we save. written_by_safetensors.safetensors
holds one tensor of each kind. The seeds are fixed; torch's version and the machine may change the last digits, and
the order of the metadata in the last file is left to chance by the library that writes it.
"""

import functools
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch


def make_torchvision_importable() -> None:
    """timm imports torchvision; a build for another torch lacks its operators, of which timm's ViT uses none."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        make_torchvision_importable.keep = library
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]


make_torchvision_importable()
import safetensors  # noqa: E402
import safetensors.numpy  # noqa: E402
import safetensors.torch  # noqa: E402
import timm  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))
import minivit as mv  # noqa: E402
from minivit.interop import safetensors as ours  # noqa: E402
from minivit.interop import saved  # noqa: E402
from minivit.models.presets import build  # noqa: E402

BASE = {"image_size": 12, "patch_size": 4, "in_channels": 2, "num_classes": 5, "dim": 16, "depth": 2, "num_heads": 2}
BASE |= {"mlp_ratio": 2.0}

# name: (our arguments beside BASE, timm's that differ in more than their names, image sizes, our `format`)
FAMILIES = {
    "cls": ({"mlp_ratio": 4.0, "in_channels": 3}, {}, [(12, 12)], "pt"),
    "avg": ({"pool": "mean", "in_channels": 1, "depth": 3}, {}, [(12, 12)], "pt"),
    "registers": ({"registers": 3}, {"no_embed_class": True}, [(12, 12)], "pt"),
    "registers_avg": ({"registers": 2, "pool": "mean"}, {"no_embed_class": True}, [(12, 12), (8, 20)], "pt"),
    "layer_scale": ({"layer_scale": 0.1, "depth": 1}, {}, [(12, 12)], "pt"),
    "qk_norm": ({"qk_norm": True, "num_heads": 4}, {}, [(12, 12)], "pt"),
    "eps": ({"qk_norm": True, "eps": 0.01, "pool": "mean", "depth": 1}, {}, [(12, 12)], "minivit"),
    "tanh": ({"mlp": "gelu_tanh", "depth": 1}, {"act_layer": "gelu_tanh"}, [(12, 12)], "minivit"),
    "no_positions": ({"positions": "none", "qkv_bias": False, "depth": 1}, {"pos_embed": "none"}, [(12, 12)], "pt"),
    "non_square": ({"image_size": (8, 12), "patch_size": (2, 4)}, {}, [(8, 12)], "pt"),
    "other_size": ({"image_size": (16, 12)}, {}, [(16, 12), (12, 24), (24, 20), (8, 8), (4, 4)], "pt"),
    "features": ({"num_classes": 0, "depth": 1}, {}, [(12, 12)], "pt"),
    "everything": (
        {"image_size": (8, 12), "patch_size": (4, 2), "registers": 2, "layer_scale": 1.0, "qk_norm": True},
        {"no_embed_class": True},
        [(8, 12), (16, 6)],
        "pt",
    ),
}


# What we save and timm must load: name: (kind of model, its arguments beside BASE)
HELD = {
    "vit": ("ViT", {}),
    "no_bias": ("ViT", {"qkv_bias": False, "layer_scale": 0.1, "qk_norm": True}),
    "registers": ("ViT", {"registers": 3, "positions": "sincos"}),
    "registers_avg": ("ViT", {"registers": 2, "pool": "mean", "num_classes": 0}),
    "no_positions": ("ViT", {"positions": "none"}),
    "tanh": ("ViT", {"mlp": "gelu_tanh"}),
    "eps": ("ViT", {"eps": 0.01, "qk_norm": True}),
    "swiglu": ("ViT", {"mlp": "swiglu", "mlp_ratio": 4.0}),
    "non_square": ("ViT", {"image_size": (8, 12), "patch_size": (2, 4)}),
    "norm_pre": ("ForeignViT", {"norm_pre": True}),
    "norm_mean": ("ForeignViT", {"pool": "norm_mean", "mlp": "gelu_tanh"}),
    "norm_mean_registers": ("ForeignViT", {"pool": "norm_mean", "registers": 2}),
    "tokens_mean": ("ForeignViT", {"pool": "tokens_mean", "mlp": "swiglu"}),
    "distilled": ("ForeignViT", {"pool": "cls_dist", "registers": 1}),
    "distilled_features": ("ForeignViT", {"pool": "cls_dist", "registers": 1, "num_classes": 0}),
    "map": ("ForeignViT", {"pool": "map"}),
    "map_tanh": ("ForeignViT", {"pool": "map", "mlp": "gelu_tanh", "eps": 0.01, "registers": 1}),
    "mixer": ("Mixer", {"tokens_mlp_dim": 8, "channels_mlp_dim": 64}),
    "mixer_tanh": ("Mixer", {"tokens_mlp_dim": 5, "channels_mlp_dim": 40, "mlp": "gelu_tanh", "eps": 0.01}),
}


def timm_arguments(config: dict, extra: dict) -> dict:
    """Our constructor's words as timm's."""
    norm = {"norm_layer": functools.partial(torch.nn.LayerNorm, eps=config["eps"])} if "eps" in config else {}
    return {
        "img_size": config["image_size"],
        "patch_size": config["patch_size"],
        "in_chans": config["in_channels"],
        "num_classes": config["num_classes"],
        "embed_dim": config["dim"],
        "depth": config["depth"],
        "num_heads": config["num_heads"],
        "mlp_ratio": config["mlp_ratio"],
        "qkv_bias": config.get("qkv_bias", True),
        "qk_norm": config.get("qk_norm", False),
        "init_values": config.get("layer_scale"),
        "reg_tokens": config.get("registers", 0),
        "class_token": config.get("pool", "cls") == "cls",
        "global_pool": "token" if config.get("pool", "cls") == "cls" else "avg",
        "dynamic_img_size": True,  # resizes positions for images of another size; the same as without for its own
        **norm,
        **extra,
    }


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Every parameter to random values, so that none of them can be left out unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "gamma")):
                p.copy_(1 + 0.3 * noise)
            else:
                p.copy_(noise * (p[0].numel() ** -0.5 if p.ndim in (2, 4) else 0.3))


def run(model: torch.nn.Module, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Logits, tokens around the blocks, attention of the last block, and the gradients of the mean cross-entropy."""
    seen = {}
    handles = [model.blocks[0].register_forward_pre_hook(lambda _, args: seen.update({"tokens.0": args[0]}))]
    for i, block in enumerate(model.blocks):
        handles.append(
            block.register_forward_hook(lambda _, args, out, name=f"tokens.{i + 1}": seen.update({name: out}))
        )
    handles.append(
        model.blocks[-1].attn.attn_drop.register_forward_hook(lambda _, args, out: seen.update({"attention": out}))
    )
    model.zero_grad()
    logits = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).backward()
    for handle in handles:
        handle.remove()
    seen["logits"] = logits
    result = {name: value.detach().numpy().copy() for name, value in seen.items()}
    return result | {f"grad.{name}": p.grad.numpy().copy() for name, p in model.named_parameters()}


def make_family(number: int, name: str) -> dict:
    """Write one family's two files, check our saved file in timm, and return its entry of the table."""
    options, extra, sizes, form = FAMILIES[name]
    config = BASE | options
    arguments = timm_arguments(config, extra)
    model = VisionTransformer(**arguments).eval()
    randomise(model, 100 + number)
    weights = HERE / f"timm_{name}.safetensors"
    safetensors.torch.save_file(model.state_dict(), weights)

    rng = np.random.default_rng(number)
    expected, worst = {}, 0.0
    copy = mv.ViT(**config)
    saved.from_file(copy, ours.read(weights)[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ours.safetensors"
        mv.save(copy.eval(), path)
        again = VisionTransformer(**arguments).eval()
        randomise(again, 0)
        again.load_state_dict(safetensors.torch.load_file(path), strict=True)
        with safetensors.safe_open(path, "pt") as file:
            assert file.metadata()["format"] == form, (name, file.metadata())
    for i, (h, w) in enumerate(sizes):
        images = rng.random((2, h, w, config["in_channels"]), np.float32)
        labels = rng.integers(0, config["num_classes"] or config["dim"], 2)
        found = run(model, images, labels)
        with torch.no_grad():
            back = again(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
        assert np.array_equal(back, found["logits"]), name
        worst = max(worst, float(np.abs(copy(images).numpy() - found["logits"]).max()))
        if i:  # at other sizes, what resizing touches
            found = {k: v for k, v in found.items() if k in ("logits", "tokens.0", "grad.pos_embed")}
        expected |= {f"{i}.{k}": v for k, v in {**found, "images": images, "labels": labels}.items()}
    assert worst < 2e-5, (name, worst)
    np.savez_compressed(HERE / f"timm_{name}.npz", **expected)
    print(f"{name:14s} largest difference of our logits {worst:.1e}; our file loads strictly in timm, same logits")
    return {"config": config, "format": form, "sizes": len(sizes)}


def names_of_presets() -> dict[str, dict[str, list[int]]]:
    """The names and shapes of timm's own models, which hold no numbers here."""
    with torch.device("meta"):
        models = {name: timm.create_model(name) for name in mv.presets if name.endswith("_patch16_224")}
    return {name: {k: list(v.shape) for k, v in model.state_dict().items()} for name, model in models.items()}


def check_preset() -> None:
    """Our Ti/16, saved, in timm's own model of that name: strictly, with the same logits."""
    model = mv.create("vit_tiny_patch16_224", seed=3)
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data += 0.02 * rng.standard_normal(p.shape, np.float32)
    images = rng.random((2, 224, 224, 3), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ours.safetensors"
        mv.save(model.eval(), path)
        other = timm.create_model("vit_tiny_patch16_224").eval()
        other.load_state_dict(safetensors.torch.load_file(path), strict=True)
    with torch.no_grad():
        theirs = other(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    with mv.no_grad():
        worst = np.abs(model(images).numpy() - theirs).max()
    assert worst < 2e-5, worst
    print(f"vit_tiny_patch16_224 (5.7 million parameters): our file in timm.create_model, logits differ by {worst:.1e}")


def check_what_we_save() -> dict[str, dict]:
    """Each model of HELD, saved here, in the network that our metadata asks timm for: strictly, with the same output."""
    table = {}
    for name, (kind, options) in HELD.items():
        base = {k: v for k, v in BASE.items() if kind != "Mixer" or k not in ("num_heads", "mlp_ratio")}
        model, rng = build(kind, base | options).eval(), np.random.default_rng(len(name))
        for p in model.parameters():
            p.data += 0.3 * rng.standard_normal(p.shape, np.float32)
        if options.get("norm_pre"):  # timm's patch matrix then has no bias
            model.patch_embed.proj.bias.data[...] = 0
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ours.safetensors"
            mv.save(model, path)
            metadata, tensors = ours.read(path)[1], safetensors.torch.load_file(path)
            again = mv.load(path).state_dict()
            assert all(np.array_equal(again[k], v) for k, v in model.state_dict().items())
        other = eval(metadata["timm"], {"functools": functools, "timm": timm, "torch": torch}).eval()
        other.load_state_dict(tensors, strict=True)
        images = rng.random((2, *model.image_size, 2), np.float32)
        with torch.no_grad():
            theirs = other(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
        found = model(images).numpy()
        if kind != "Mixer" and "cls_dist" in options.values() and not options.get("num_classes", 1):
            found = (found[:, :16] + found[:, 16:]) / 2  # timm's distilled network without classes gives the mean
        worst = np.abs(found - theirs).max() / max(1, np.abs(theirs).max())
        assert worst < 2e-5, (name, worst)
        print(f"{name:20s} saved here, in {metadata['timm'].partition('(')[0]}: outputs differ by {worst:.1e}")
        shapes = {k: list(v.shape) for k, v in other.state_dict().items()}
        table[name] = {"kind": kind, "config": base | options, "timm": metadata["timm"], "format": metadata["format"]}
        table[name]["shapes"] = shapes
    return table


def write_every_dtype() -> None:
    """A file by the safetensors library with every dtype we read, and ours opened by that library."""
    values = torch.tensor([0.0, 1.0, -1.5, 3.140625, 65280.0, -0.0078125])
    kinds = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    tensors = {kind: values.to(dtype).reshape(2, 3) for kind, dtype in kinds.items()}
    for bits in (8, 16, 32, 64):
        tensors[f"I{bits}"] = torch.tensor([-2, 0, 127], dtype=getattr(torch, f"int{bits}"))
        tensors[f"U{bits}"] = torch.tensor([2, 0, 127], dtype=getattr(torch, f"uint{bits}"))
    tensors["BOOL"] = torch.tensor([True, False, True])
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.zeros(0, 4)
    metadata = {"who": "the safetensors library", "größe": "3 × 4"}
    safetensors.torch.save_file(tensors, HERE / "written_by_safetensors.safetensors", metadata)

    arrays = {str(np.dtype(d)): np.arange(5).astype(d) for d in (*"bhilqBHILQ?", np.float16, np.float32, np.float64)}
    arrays |= {"scalar": np.array(2.5, np.float32), "empty": np.zeros((0, 4), np.float32), "view": np.eye(3)[:, ::2].T}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ours.safetensors"
        ours.write(path, arrays, metadata)
        for theirs in (safetensors.numpy.load_file(path), safetensors.torch.load_file(path)):
            assert theirs.keys() == arrays.keys()
            for name, array in arrays.items():
                value = np.asarray(theirs[name])
                assert value.dtype == array.dtype and np.array_equal(value, array), name
        with safetensors.safe_open(path, "np") as file:
            assert file.metadata() == metadata
    print("our file of every dtype is opened by the safetensors library, with NumPy and with torch")


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    timm.layers.set_fused_attn(False)  # so that the attention weights exist and can be recorded
    families = {name: make_family(i, name) for i, name in enumerate(FAMILIES)}
    versions = {"torch": torch.__version__, "timm": timm.__version__, "safetensors": safetensors.__version__}
    versions |= {"numpy": np.__version__}
    table = {"versions": versions, "families": families}
    (HERE / "timm_families.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    names = {"versions": versions, "models": names_of_presets()}
    (HERE / "timm_names.json").write_text(json.dumps(names, separators=(",", ":")) + "\n", encoding="utf-8")
    check_preset()
    held = {"versions": versions, "models": check_what_we_save()}
    (HERE / "timm_holds.json").write_text(json.dumps(held, separators=(",", ":")) + "\n", encoding="utf-8")
    write_every_dtype()


if __name__ == "__main__":
    main()
