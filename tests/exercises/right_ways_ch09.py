"""Chapter 09, solved in other ways."""

import math

import numpy as np
from right_ways import right

import minivit as mv


@right("count_parameters")
def shape_by_shape(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    shapes = [(patch_size, patch_size, in_channels, dim), (dim,), (1, 1, dim)]
    shapes.append((1, 1 + (image_size // patch_size) ** 2, dim))
    for _ in range(depth):
        shapes += [(dim,), (dim,), (dim, 3 * dim), (3 * dim,), (dim, dim), (dim,)]
        shapes += [(dim,), (dim,), (dim, mlp_ratio * dim), (mlp_ratio * dim,), (mlp_ratio * dim, dim), (dim,)]
    shapes += [(dim,), (dim,), (dim, num_classes), (num_classes,)]
    return sum(math.prod(shape) for shape in shapes)


@right("count_parameters")
def as_a_polynomial(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    block = (4 + 2 * mlp_ratio) * dim**2 + (9 + mlp_ratio) * dim
    patches = (image_size / patch_size) ** 2  # a float, but a whole number
    return (in_channels * patch_size**2 + patches + num_classes + 5) * dim + num_classes + depth * block


@right("count_parameters")
def linear_by_linear(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    def linear(inputs, outputs):
        return (inputs + 1) * outputs

    norm, side = 2 * dim, image_size // patch_size
    hidden = int(dim * mlp_ratio)
    block = norm + linear(dim, 3 * dim) + linear(dim, dim) + norm + linear(dim, hidden) + linear(hidden, dim)
    tokens = side * side + 1
    total = linear(patch_size**2 * in_channels, dim) + dim + tokens * dim + norm + linear(dim, num_classes)
    return np.int64(total + depth * block)


def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


@right("vit_forward")
def in_numpy_alone(images, weights, patch_size, num_heads):
    def linear(x, name):
        return np.einsum("...i,io->...o", x, weights[name + ".weight"]) + weights[name + ".bias"]

    def norm(x, name):
        unit = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
        return unit * weights[name + ".weight"] + weights[name + ".bias"]

    b, h, w, c = images.shape
    p = patch_size
    patches = images.reshape(b, h // p, p, w // p, p, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, p * p * c)
    x = linear(patches, "patch_embed.proj")
    x = np.concatenate([np.repeat(weights["cls_token"], b, axis=0), x], axis=1) + weights["pos_embed"]
    i = 0
    while f"blocks.{i}.norm1.weight" in weights:
        qkv = linear(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv")
        q, k, v = qkv.reshape(*x.shape[:2], 3, num_heads, -1).transpose(2, 0, 3, 1, 4)
        heads = softmax(q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])) @ v
        x = x + linear(heads.swapaxes(1, 2).reshape(x.shape), f"blocks.{i}.attn.proj")
        x = x + linear(gelu(linear(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1")), f"blocks.{i}.mlp.fc2")
        i += 1
    return linear(norm(x, "norm")[:, 0], "head")


@right("vit_forward")
def image_by_image(images, weights, patch_size, num_heads):
    """One image at a time, head by head; only the class token goes through the last norm."""

    def linear(x, name):
        return mv.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"]).numpy()

    def norm(x, name):
        return mv.layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"]).numpy()

    def logits(image):
        rows = [linear(patch, "patch_embed.proj") for patch in mv.patchify(image[None], patch_size)[0]]
        x = np.stack([weights["cls_token"][0, 0], *rows]) + weights["pos_embed"][0]
        for name in sorted({name.rsplit(".norm1")[0] for name in weights if ".norm1" in name}):
            q, k, v = np.split(linear(norm(x, name + ".norm1"), name + ".attn.qkv"), 3, axis=-1)
            each = zip(*(np.split(part, num_heads, axis=-1) for part in (q, k, v)), strict=True)
            found = [mv.attention(*head).numpy() for head in each]
            x = x + linear(np.concatenate(found, axis=-1), name + ".attn.proj")
            x = x + linear(mv.gelu(linear(norm(x, name + ".norm2"), name + ".mlp.fc1")).numpy(), name + ".mlp.fc2")
        return linear(norm(x[0], "norm"), "head")

    return np.stack([logits(image) for image in images])


@right("vit_forward")
def with_the_layers_of_the_library(images, weights, patch_size, num_heads):
    """The modules Linear, LayerNorm, Attention and MLP, filled with these weights; float64 as these."""
    dim = weights["cls_token"].shape[-1]

    def filled(module, name):
        module = module.astype(np.float64)
        module.load_state_dict({k.removeprefix(name + "."): w for k, w in weights.items() if k.startswith(name + ".")})
        return module

    proj = filled(mv.nn.Linear(*weights["patch_embed.proj.weight"].shape), "patch_embed.proj")
    x = proj(mv.Tensor(mv.patchify(images, patch_size)))
    seat = mv.Tensor(np.tile(weights["cls_token"], (len(images), 1, 1)))
    x = mv.concatenate([seat, x], axis=1) + weights["pos_embed"]
    for i in range(sum(name.endswith("mlp.fc1.bias") for name in weights)):
        hidden = weights[f"blocks.{i}.mlp.fc1.bias"].size
        x = x + filled(mv.nn.Attention(dim, num_heads), f"blocks.{i}.attn")(
            filled(mv.nn.LayerNorm(dim), f"blocks.{i}.norm1")(x)
        )
        x = x + filled(mv.nn.MLP(dim, hidden), f"blocks.{i}.mlp")(filled(mv.nn.LayerNorm(dim), f"blocks.{i}.norm2")(x))
    return filled(mv.nn.Linear(*weights["head.weight"].shape), "head")(filled(mv.nn.LayerNorm(dim), "norm")(x)[:, 0])
