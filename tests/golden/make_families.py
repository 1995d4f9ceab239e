"""Make the golden files of the PyTorch families: small random models of the libraries themselves, and what they compute.

Run from the repository's root with a Python that has torch, timm, transformers and vit-pytorch (the tests need none):

    python tests/golden/make_families.py DINO DEIT

DINO is a folder with `vision_transformer.py` of facebookresearch/dino, DEIT one with `models.py` and `models_v2.py` of
facebookresearch/deit; their commits are recorded in SOURCES. For each family there is a file or a folder, written as that
library writes it, and an npz with images of two sizes and logits, final tokens and last attention. families.json says how
to load each. families_preprocess.npz holds a picture as timm and transformers prepare it.
"""

import argparse
import json
import shutil
import sys
import types
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from make_timm import make_torchvision_importable
from torch.nn import functional as F

make_torchvision_importable()
warnings.filterwarnings("ignore")
import safetensors.torch  # noqa: E402
import timm  # noqa: E402
import timm.layers  # noqa: E402
import transformers  # noqa: E402
import vit_pytorch  # noqa: E402
from PIL import Image  # noqa: E402
from timm.models.deit import VisionTransformerDistilled  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402
from transformers.models import deit, dinov2, dinov2_with_registers, vit  # noqa: E402, F401
from vit_pytorch import SimpleViT  # noqa: E402

HERE = Path(__file__).parent
SOURCES = {
    "facebookresearch/dino vision_transformer.py": "04c0ad957c9fd04cced6d703668bc049586d1d21",
    "facebookresearch/deit models.py": "085308b928d862b2fd3306d4ac28125e0b27d939",
    "facebookresearch/deit models_v2.py": "279faa06070f8c756f33809a22c475f71b99d857",
}
OWN, OTHER = (12, 12), (16, 8)
HEADS = {"num_heads": 2}  # what no file of theirs says
table: dict[str, dict] = {}


def randomise(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Every parameter to random values, so that none can be left out or mixed up unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            scale = name.endswith(("gamma", "lambda1", "gamma_1", "gamma_2"))
            if scale or (p.ndim == 1 and name.endswith("weight")):
                p.copy_(1 + 0.3 * noise)
            else:
                p.copy_(noise * (p[0].numel() ** -0.5 if name.endswith("weight") and p.ndim in (2, 4) else 0.3))
    return model.eval()


def images(size: tuple[int, int], channels: int = 3) -> np.ndarray:
    return np.random.default_rng(size[1]).standard_normal((2, *size, channels)).astype(np.float32)


def torch_images(size: tuple[int, int], channels: int = 3) -> torch.Tensor:
    return torch.from_numpy(images(size, channels).transpose(0, 3, 1, 2).copy())


def record(name: str, path: str, own: dict, other: dict | None, **load) -> None:
    """Write what a model computes, {"logits", "final", "attention"} at each size, and note how it is to be loaded."""
    arrays = {}
    for i, (size, outputs) in enumerate([(OWN, own), (OTHER, other)]):
        for key, value in ({"images": images(size)} | outputs if outputs else {}).items():
            arrays[f"{i}.{key}"] = value.detach().numpy() if isinstance(value, torch.Tensor) else value
    np.savez_compressed(HERE / f"family_{name}.npz", **arrays)
    table[name] = {"path": path, "expected": f"family_{name}.npz", "sizes": 1 + bool(other), **load}
    print(f"{name:22s} {path:45s} {1 + bool(other)} sizes, logits {arrays['0.logits'].shape}")


def watched(model: torch.nn.Module, size: tuple[int, int], final: torch.nn.Module, attention: torch.nn.Module) -> dict:
    """The logits of a model, and what two of its modules give."""
    seen = {}
    handles = [final.register_forward_hook(lambda _, args, out: seen.update(final=out))]
    handles += [attention.register_forward_hook(lambda _, args, out: seen.update(attention=out))]
    with torch.no_grad():
        seen["logits"] = model(torch_images(size))
    for handle in handles:
        handle.remove()
    return {key: seen[key].clone() for key in ("logits", "final", "attention")}


# ---------------------------------------------------------------- timm

TIMM = {
    "timm_pre_norm": {"pre_norm": True},
    "timm_deit_3": {"no_embed_class": True, "init_values": 1.0},
    "timm_no_bias": {"qkv_bias": False, "proj_bias": False},
    "timm_register_positions": {"reg_tokens": 2},
    "timm_avg_with_class": {"global_pool": "avg"},
    "timm_norm_then_avg": {"global_pool": "avg", "class_token": False, "fc_norm": False},
    "timm_map": {"global_pool": "map", "class_token": False, "reg_tokens": 1},
    "timm_swiglu": {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU, "mlp_ratio": 3.0},
    "timm_distilled": {},
}


def make_timm() -> None:
    for number, (name, options) in enumerate(TIMM.items()):
        sizes = {"img_size": 12, "patch_size": 4, "num_classes": 5, "embed_dim": 16, "depth": 2, "num_heads": 2}
        kind = VisionTransformerDistilled if name == "timm_distilled" else VisionTransformer
        model = kind(**{**sizes, "mlp_ratio": 2.0, "dynamic_img_size": True, **options})
        randomise(model, number)
        safetensors.torch.save_file(model.state_dict(), HERE / f"family_{name}.safetensors")
        final = model.norm if not isinstance(model.norm, torch.nn.Identity) else model.blocks[-1]
        outputs = [watched(model, size, final, model.blocks[-1].attn.attn_drop) for size in (OWN, OTHER)]
        record(name, f"family_{name}.safetensors", *outputs, overrides=HEADS)


# ---------------------------------------------------------------- DINO and DeiT, from their repositories


def make_dino(folder: str) -> None:
    sys.modules["vit_utils"] = types.SimpleNamespace(trunc_normal_=torch.nn.init.trunc_normal_)
    sys.path.insert(0, folder)
    import vision_transformer as source

    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    sizes = {"img_size": [12], "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2}

    def backbone(seed: int) -> torch.nn.Module:
        return randomise(source.VisionTransformer(**sizes, qkv_bias=True, norm_layer=norm), seed)

    def with_head(seed: int) -> torch.nn.Module:
        model = torch.nn.Module()
        model.backbone, model.head = backbone(seed), source.DINOHead(16, 24, hidden_dim=16, bottleneck_dim=8)
        return randomise(model, seed)

    def outputs(model: torch.nn.Module, size: tuple[int, int]) -> dict:
        with torch.no_grad():
            x = torch_images(size)
            final = model.get_intermediate_layers(x, 1)[0]
            return {"logits": model(x), "final": final, "attention": model.get_last_selfattention(x)}

    alone = backbone(50)
    torch.save(alone.state_dict(), HERE / "family_dino.pth")
    record("dino", "family_dino.pth", outputs(alone, OWN), outputs(alone, OTHER), overrides=HEADS)

    student, teacher = with_head(51), with_head(52)
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad])
    student.head(student.backbone(torch_images(OWN))).sum().backward()
    optimizer.step()
    checkpoint = {
        "student": {f"module.{key}": value for key, value in student.state_dict().items()},
        "teacher": teacher.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(arch="vit_small", patch_size=4, local_crops_scale=(0.05, 0.4), lr=5e-4),
        "dino_loss": {"center": torch.zeros(1, 24)},
    }
    torch.save(checkpoint, HERE / "family_dino_full.pth")
    for name, model, part in (("teacher", teacher, {}), ("student", student, {"part": "student"})):
        both = (outputs(model.backbone, size) for size in (OWN, OTHER))
        record(f"dino_{name}", "family_dino_full.pth", *both, overrides=HEADS | part)


def make_deit(folder: str) -> None:
    sys.path.insert(0, folder)
    import models
    import models_v2

    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    sizes = {"patch_size": 4, "num_classes": 5, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2}
    third = partial(models_v2.vit_models, block_layers=models_v2.Layer_scale_init_Block)
    makers = {"deit": models.VisionTransformer, "deit_distilled": models.DistilledVisionTransformer, "deit_3": third}
    for number, (name, make) in enumerate(makers.items()):
        make = partial(make, **sizes, qkv_bias=True, norm_layer=norm)
        model = randomise(make(img_size=12), 60 + number)
        extra = {"deit": 1, "deit_distilled": 2, "deit_3": 0}[name]  # prefix tokens that have a position
        larger = make(img_size=OTHER)
        state = model.state_dict()
        torch.save({"model": state}, HERE / f"family_{name}.pth")
        # As DeiT's main.py does before fine-tuning at another size.
        patches = state["pos_embed"][:, extra:].reshape(1, 3, 3, 16).permute(0, 3, 1, 2)
        patches = F.interpolate(patches, size=(4, 2), mode="bicubic", align_corners=False)
        patches = patches.permute(0, 2, 3, 1).flatten(1, 2)
        larger.load_state_dict(state | {"pos_embed": torch.cat([state["pos_embed"][:, :extra], patches], 1)})
        both = [(model, OWN), (larger.eval(), OTHER)]
        outputs = (watched(m, size, m.norm, m.blocks[-1].attn.attn_drop) for m, size in both)
        record(name, f"family_{name}.pth", *outputs, overrides=HEADS)


# ---------------------------------------------------------------- Hugging Face


def make_huggingface() -> None:
    base = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 12, "patch_size": 4}
    mlp, registers = {"intermediate_size": 24}, {"num_register_tokens": 2}
    five = {"id2label": {i: f"kind of {i}" for i in range(5)}, "label2id": {f"kind of {i}": i for i in range(5)}}
    dinov2s = transformers.Dinov2WithRegistersForImageClassification, transformers.Dinov2WithRegistersConfig
    cases = {
        "hf_vit": (transformers.ViTForImageClassification, transformers.ViTConfig, mlp | five),
        "hf_vit_bare": (transformers.ViTModel, transformers.ViTConfig, mlp | {"hidden_act": "gelu_new"}),
        "hf_deit": (transformers.DeiTForImageClassification, transformers.DeiTConfig, mlp | {"layer_norm_eps": 1e-3}),
        "hf_deit_teacher": (transformers.DeiTForImageClassificationWithTeacher, transformers.DeiTConfig, mlp | five),
        "hf_dinov2": (transformers.Dinov2ForImageClassification, transformers.Dinov2Config, {"mlp_ratio": 2, **five}),
        "hf_dinov2_bare": (
            transformers.Dinov2Model,
            transformers.Dinov2Config,
            {"mlp_ratio": 3, "use_swiglu_ffn": True},
        ),
        "hf_dinov2_registers": (*dinov2s, {"mlp_ratio": 2, "qkv_bias": False, **registers, **five}),
    }
    processors = {
        "hf_vit": transformers.ViTImageProcessorPil(size={"height": 12, "width": 12}),
        "hf_deit": transformers.DeiTImageProcessorPil(size={"height": 16, "width": 16}, crop_size=12),
        "hf_dinov2": transformers.BitImageProcessorPil(size={"shortest_edge": 14}, crop_size=12),
    }
    for number, (name, (kind, config, options)) in enumerate(cases.items()):
        model = randomise(kind(config(**base, **options, attn_implementation="eager")), 70 + number)
        folder = HERE / f"family_{name}"
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        if name in processors:
            processors[name].save_pretrained(folder)
        body = getattr(model, model.base_model_prefix, model)

        def outputs(size: tuple[int, int], model=model, body=body) -> dict:
            seen, resizes = {}, {} if "dinov2" in type(model).__module__ else {"interpolate_pos_encoding": True}
            handle = body.register_forward_hook(lambda _, args, out: seen.update(final=out.last_hidden_state))
            with torch.no_grad():
                out = model(torch_images(size), output_attentions=True, **resizes)
            handle.remove()
            logits = out.logits if hasattr(out, "logits") else seen["final"][:, 0]
            return {"logits": logits, "final": seen["final"], "attention": out.attentions[-1]}

        record(name, f"family_{name}", outputs(OWN), outputs(OTHER), overrides={})
        # The same weights under the names that they have in memory, as `torch.save(model.state_dict())` writes them.
        if name in ("hf_deit", "hf_dinov2"):
            continue  # the others have all of their names
        torch.save(model.state_dict(), HERE / f"family_{name}_memory.bin")
        known = {"num_heads": 2, "eps": model.config.layer_norm_eps}
        known |= {"mlp": "gelu_tanh"} if model.config.hidden_act == "gelu_new" else {}
        table[f"{name}_memory"] = table[name] | {"path": f"family_{name}_memory.bin", "overrides": known}


# ---------------------------------------------------------------- lucidrains


def make_lucidrains() -> None:
    sizes = {"patch_size": 4, "num_classes": 5, "dim": 16, "depth": 2, "mlp_dim": 24}
    cases = {
        "lucidrains": (vit_pytorch.ViT, {"heads": 2, "dim_head": 8}),
        "lucidrains_mean": (vit_pytorch.ViT, {"heads": 3, "dim_head": 4, "pool": "mean"}),
        "lucidrains_one_head": (vit_pytorch.ViT, {"heads": 1, "dim_head": 16}),
        "lucidrains_simple": (SimpleViT, {"heads": 3, "dim_head": 8}),
    }
    for number, (name, (kind, options)) in enumerate(cases.items()):
        model = randomise(kind(image_size=12, **sizes, **options), 80 + number)
        torch.save(model.state_dict(), HERE / f"family_{name}.pt")
        outputs = [watched(model, OWN, model.transformer.norm, model.transformer.layers[-1][0].attend)]
        if kind is SimpleViT:  # whose positions are computed, so that its weights fit a model of another size
            larger = kind(image_size=OTHER, **sizes, **options)
            larger.load_state_dict(model.state_dict())
            larger.eval()
            outputs.append(watched(larger, OTHER, larger.transformer.norm, larger.transformer.layers[-1][0].attend))
        size = {"image_size": 12} if kind is SimpleViT else {}
        record(
            name,
            f"family_{name}.pt",
            outputs[0],
            (outputs + [None])[1],
            overrides={"num_heads": options["heads"]} | size,
        )


# ---------------------------------------------------------------- preparation of images


def make_preprocess() -> None:
    """A picture of no simple proportions, as the libraries prepare it; the settings are in the file."""
    rng = np.random.default_rng(5)
    smooth = np.kron(rng.integers(0, 256, (5, 7, 3)), np.ones((9, 9, 1)))
    picture = np.clip(smooth + rng.integers(-20, 20, smooth.shape), 0, 255).astype(np.uint8)  # 45×63
    image, arrays = Image.fromarray(picture), {"picture": picture}
    turned = image.transpose(Image.Transpose.ROTATE_90)
    settings = {
        "timm_usual": {"input_size": (3, 24, 24), "crop_pct": 0.9, "interpolation": "bicubic"},
        "timm_bilinear": {"input_size": (3, 17, 17), "crop_pct": 0.875, "interpolation": "bilinear"},
        "timm_whole": {"input_size": (3, 24, 24), "crop_pct": 1.0, "interpolation": "bicubic"},
        "timm_squash": {"input_size": (3, 24, 24), "crop_pct": 0.95, "crop_mode": "squash", "interpolation": "bicubic"},
        "timm_pair": {"input_size": (3, 16, 28), "crop_pct": 0.9, "interpolation": "bicubic"},
    }
    for name, said in settings.items():
        said |= {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
        prepare = timm.data.create_transform(is_training=False, **said)
        arrays[name] = prepare(image).numpy().transpose(1, 2, 0)
        arrays[f"{name}.turned"] = prepare(turned).numpy().transpose(1, 2, 0)
    for name in ("hf_vit", "hf_deit", "hf_dinov2"):
        processor = transformers.AutoImageProcessor.from_pretrained(HERE / f"family_{name}", backend="pil")
        arrays[name] = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    np.savez_compressed(HERE / "families_preprocess.npz", **arrays)
    table["preprocess"] = settings


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    timm.layers.set_fused_attn(False)  # so that the attention weights exist and can be recorded
    make_timm()
    make_dino(sys.argv[1])
    make_deit(sys.argv[2])
    make_huggingface()
    make_lucidrains()
    make_preprocess()
    preprocess = table.pop("preprocess")
    libraries = {m.__name__: m.__version__ for m in (torch, timm, transformers, safetensors, np)}
    libraries["vit_pytorch"] = __import__("importlib.metadata").metadata.version("vit-pytorch")
    whole = {"versions": libraries, "sources": SOURCES, "preprocess": preprocess, "families": table}
    (HERE / "families.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
