"""Usual mistakes in the exercises of chapters 07 to 09 are found, and other ways to write them pass."""

import numpy as np
import pytest

import minivit as mv
from exercises.checking import examine
from exercises.manifest import exercise
from exercises.workshop import ch07, ch08, ch09

# --- 07: heads --------------------------------------------------------------------------------------------------------


def reshape_alone(x, num_heads):
    b, t, width = x.shape
    return x.reshape(b, num_heads, t, width // num_heads)


def width_before_heads(x, num_heads):
    b, t, width = x.shape
    return x.reshape(b, t, width // num_heads, num_heads).transpose(0, 3, 1, 2)


def tokens_before_heads(x, num_heads):
    b, t, width = x.shape
    return x.reshape(b, t, num_heads, width // num_heads)


def heads_by_slices(x, num_heads):
    d = x.shape[-1] // num_heads
    return mv.stack([x[:, :, h * d : (h + 1) * d] for h in range(num_heads)], axis=1)


def repacked(axes=("heads", "parts"), bias_too=True):
    """Packed columns read as if they were stored in this order."""

    def pack_qkv(weight, bias, num_heads):
        sizes = {"heads": num_heads, "parts": 3}
        shape = (-1, *(sizes[a] for a in axes), weight.shape[1] // (3 * num_heads))
        turned = weight.reshape(shape).swapaxes(1, 2).reshape(weight.shape)
        return turned, bias.reshape(shape).swapaxes(1, 2).reshape(bias.shape) if bias_too else bias

    return pack_qkv


def columns_one_by_one(weight, bias, num_heads):
    d = weight.shape[1] // (3 * num_heads)
    chosen = [(3 * h + part) * d + i for part in range(3) for h in range(num_heads) for i in range(d)]
    return weight[:, chosen], bias[chosen]


def verdict(order, same=np.allclose, axis=1):
    """The test with one order, made by `order(n)`, along one axis."""

    def shuffle_test(layer, tokens):
        chosen = order(tokens.shape[axis])
        before, after = layer(tokens), layer(tokens.take(chosen, axis))
        if same(after, before):
            return "invariant"
        return "equivariant" if before.ndim == 3 and same(after, before.take(chosen, axis)) else "neither"

    return shuffle_test


def scrambled(n):
    return np.array([2, 0, 3, 1, 5, 4])[:n]


# --- 08: the block ----------------------------------------------------------------------------------------------------


def norm(axis=-1, ddof=0, outside=False, affine=True):
    """LayerNorm with another axis, variance or place for ε."""

    def layer_norm(x, weight, bias, eps=1e-6):
        x = x.numpy()
        deviation = x.std(axis=axis, ddof=ddof, keepdims=True)
        deviation = deviation + eps if outside else np.sqrt(deviation**2 + eps)
        unit = (x - x.mean(axis=axis, keepdims=True)) / deviation
        return unit * weight.numpy() + bias.numpy() if affine else unit

    return layer_norm


def norm_vjp(mean=True, stretch=True, weight_first=True, sums=-1):
    """The gradient of LayerNorm with one part left out, or its weight applied late."""

    def layer_norm_vjp(g, x, weight, eps=1e-6):
        deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
        unit = (x - x.mean(axis=-1, keepdims=True)) / deviation
        h = g * weight if weight_first else g
        dx = h - mean * h.mean(axis=-1, keepdims=True) - stretch * unit * (h * unit).mean(axis=-1, keepdims=True)
        dx = dx / deviation if weight_first else weight * dx / deviation
        rows = (g * unit).reshape(-1, x.shape[-1]), g.reshape(-1, x.shape[-1])
        return dx, rows[0].sum(axis=0 if sums == -1 else 1), rows[1].sum(axis=0)

    return layer_norm_vjp


def post_norm(x, norm1, attention, norm2, mlp):
    x = norm1(x + attention(x))
    return norm2(x + mlp(x))


def one_norm(x, norm1, attention, norm2, mlp):
    x = x + attention(norm1(x))
    return x + mlp(norm1(x))


def no_skip(x, norm1, attention, norm2, mlp):
    return mlp(norm2(attention(norm1(x))))


def skip_of_the_norm(x, norm1, attention, norm2, mlp):
    x = norm1(x)
    x = x + attention(x)
    x = norm2(x)
    return x + mlp(x)


def side_by_side(x, norm1, attention, norm2, mlp):
    return x + attention(norm1(x)) + mlp(norm2(x))


def thinks_first(x, norm1, attention, norm2, mlp):
    x = x + mlp(norm2(x))
    return x + attention(norm1(x))


# --- 09: the ViT ------------------------------------------------------------------------------------------------------


def count(qkv_bias=1, class_position=1, norms=4, last_norm=1, patch_bias=1):
    """The count with something forgotten."""

    def count_parameters(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
        tokens = class_position + (image_size // patch_size) ** 2
        start = patch_size**2 * in_channels * dim + patch_bias * dim + dim + tokens * dim
        attention = 4 * dim * dim + qkv_bias * 3 * dim + dim
        mlp = 2 * mlp_ratio * dim * dim + mlp_ratio * dim + dim
        return start + depth * (norms * dim + attention + mlp) + last_norm * 2 * dim + (dim + 1) * num_classes

    return count_parameters


def vit(order="pre", last_norm=True, pool="cls", activation=mv.gelu, positions=True, class_last=False, skip=True):
    """The forward pass with a part left out or elsewhere."""

    def vit_forward(images, weights, patch_size, num_heads):
        def linear(x, name):
            return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

        def norm(x, name):
            return mv.layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

        def attention(x, b):
            qkv = linear(x, f"{b}.attn.qkv")
            return linear(mv.composed.self_attention(qkv, num_heads), f"{b}.attn.proj")

        def mlp(x, b):
            return linear(activation(linear(x, f"{b}.mlp.fc1")), f"{b}.mlp.fc2")

        x = linear(mv.Tensor(mv.patchify(images, patch_size)), "patch_embed.proj")
        seat = mv.broadcast_to(weights["cls_token"], shape=(len(images), 1, x.shape[2]))
        x = mv.concatenate([x, seat] if class_last else [seat, x], axis=1)
        x = x + weights["pos_embed"] if positions else x
        for b in [f"blocks.{i}" for i in range(2) if f"blocks.{i}.norm1.weight" in weights]:
            if order == "pre":
                x = x * skip + attention(norm(x, f"{b}.norm1"), b)
                x = x * skip + mlp(norm(x, f"{b}.norm2"), b)
            else:
                x = norm(x + attention(x, b), f"{b}.norm1")
                x = norm(x + mlp(x, b), f"{b}.norm2")
        x = norm(x, "norm") if last_norm else x
        return linear(x.mean(axis=1) if pool == "mean" else x[:, 0], "head")

    return vit_forward


MISTAKES = [
    ("split_heads", reshape_alone, "entry [0, 0, 1, 0] of your result is 4, expected 100"),
    ("split_heads", width_before_heads, "entry"),
    ("split_heads", tokens_before_heads, "has shape"),
    ("pack_qkv", lambda weight, bias, num_heads: (weight, bias), "value 1 of your result"),
    ("pack_qkv", repacked(axes=("parts", "heads")), "value 1 of your result"),
    ("pack_qkv", repacked(bias_too=False), "value 2 of your result"),
    ("shuffle_test", verdict(lambda n: np.arange(n)), "'invariant', expected 'equivariant'"),
    ("shuffle_test", verdict(lambda n: np.arange(n)[::-1]), "expected 'neither'"),
    ("shuffle_test", verdict(lambda n: np.roll(np.arange(n), 1)), "expected 'neither'"),
    ("shuffle_test", verdict(scrambled, same=np.array_equal), "'neither', expected 'equivariant'"),
    ("shuffle_test", verdict(lambda n: np.array([1, 0]), axis=0), "expected"),
    ("layer_norm", norm(axis=0), "entry"),
    ("layer_norm", norm(ddof=1), "entry"),
    ("layer_norm", norm(outside=True), "entry"),
    ("layer_norm", norm(affine=False), "entry"),
    ("layer_norm_vjp", norm_vjp(mean=False, stretch=False), "value 1 of your result"),
    ("layer_norm_vjp", norm_vjp(mean=False), "value 1 of your result"),
    ("layer_norm_vjp", norm_vjp(stretch=False), "value 1 of your result"),
    ("layer_norm_vjp", norm_vjp(weight_first=False), "value 1 of your result"),
    ("layer_norm_vjp", norm_vjp(sums=0), "value 2 of your result"),
    ("block", post_norm, "entry"),
    ("block", one_norm, "entry"),
    ("block", no_skip, "entry"),
    ("block", skip_of_the_norm, "entry"),
    ("block", side_by_side, "entry"),
    ("block", thinks_first, "entry"),
    ("count_parameters", count(qkv_bias=0), "your result is"),
    ("count_parameters", count(class_position=0), "your result is"),
    ("count_parameters", count(norms=2), "your result is"),
    ("count_parameters", count(last_norm=0), "your result is"),
    ("count_parameters", count(patch_bias=0), "your result is"),
    ("vit_forward", vit(order="post"), "entry"),
    ("vit_forward", vit(last_norm=False), "entry"),
    ("vit_forward", vit(pool="mean"), "entry"),
    ("vit_forward", vit(activation=mv.relu), "entry"),
    ("vit_forward", vit(positions=False), "entry"),
    ("vit_forward", vit(class_last=True), "entry"),
    ("vit_forward", vit(skip=False), "entry"),
]
RIGHT = [
    ("split_heads", heads_by_slices),
    ("pack_qkv", columns_one_by_one),
    ("pack_qkv", repacked()),
    ("shuffle_test", verdict(scrambled)),
    ("layer_norm", mv.layer_norm),
    ("layer_norm", norm()),
    ("layer_norm_vjp", norm_vjp()),
    ("count_parameters", count()),
    ("vit_forward", vit()),
]


@pytest.mark.parametrize(("name", "mistake", "words"), MISTAKES)
def test_a_mistake_is_found_and_named(name, mistake, words):
    outcome = examine(exercise(name), mistake)
    assert not outcome.passed and words in outcome.message, outcome.message


@pytest.mark.parametrize(("name", "function"), RIGHT)
def test_another_way_to_write_it_passes(name, function):
    assert examine(exercise(name), function).passed


def test_packed_weights_are_those_of_the_library(rng):
    """What pack_qkv makes of weights stored head by head is what `mv.nn.Attention` multiplies with."""
    heads, d = 2, 3
    stored = rng.standard_normal((6, heads, 3, d))
    weight, bias = ch07.pack_qkv(stored.reshape(6, -1), rng.standard_normal(18), heads)
    x = rng.standard_normal((1, 5, 6))
    module = mv.nn.Attention(6, heads).astype(np.float64)
    module.qkv.weight.data[:], module.qkv.bias.data[:] = weight, 0 * bias
    module.proj.weight.data[:] = np.eye(6)
    parts = [[x @ stored[:, h, part] for part in range(3)] for h in range(heads)]
    by_hand = np.concatenate([mv.attention(*head).numpy() for head in parts], axis=-1)
    assert np.allclose(module(mv.Tensor(x)).numpy(), by_hand)


def test_the_gradient_of_layer_norm_is_the_tape_s(rng):
    x, weight, bias = (mv.Tensor(rng.standard_normal(s), requires_grad=True) for s in ((2, 3, 5), (5,), (5,)))
    g = rng.standard_normal((2, 3, 5))
    mv.composed.layer_norm(x, weight, bias).backward(g)
    ours = ch08.layer_norm_vjp(g, x.data, weight.data)
    assert all(np.allclose(a, t.grad) for a, t in zip(ours, (x, weight, bias), strict=True))


def test_the_block_of_the_workshop_is_the_library_s(rng):
    theirs = mv.nn.Block(6, 2).astype(np.float64)

    def over_arrays(part):
        return lambda a: part(mv.Tensor(a)).numpy()

    x = rng.standard_normal((2, 4, 6))
    parts = [over_arrays(part) for part in (theirs.norm1, theirs.attn, theirs.norm2, theirs.mlp)]
    assert np.allclose(ch08.block(x, *parts), theirs(mv.Tensor(x)).numpy())


def test_a_vision_transformer_is_what_the_workshop_says(rng):
    for images, weights, patch_size, num_heads in ch09.inputs_vit_forward(rng):
        size, channels = images.shape[1], images.shape[3]
        dim, classes = weights["head.weight"].shape
        depth = sum(name.endswith("norm1.weight") for name in weights)
        model = mv.ViT(size, patch_size, channels, classes, dim, depth, num_heads, mlp_ratio=2).astype(np.float64)
        model.load_state_dict(weights)
        ours = ch09.vit_forward(images, weights, patch_size, num_heads)
        assert np.allclose(ours.numpy(), model(images).numpy())
        assert ch09.count_parameters(size, patch_size, channels, classes, dim, depth, 2) == model.num_parameters()
