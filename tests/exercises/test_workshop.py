"""The answers of the workshop are what the library does; and what builds usual mistakes makes none by itself."""

import numpy as np
import pytest

import minivit as mv
from exercises.checking import examine
from exercises.manifest import exercise
from exercises.mistakes import ch06 as wrong06
from exercises.mistakes import ch07 as wrong07
from exercises.mistakes import ch08 as wrong08
from exercises.mistakes import ch09 as wrong09
from exercises.mistakes import ch10 as wrong10
from exercises.mistakes import ch11 as wrong11
from exercises.mistakes import ch17 as wrong17
from exercises.workshop import ch07, ch08, ch09, ch11, ch17
from minivit.interop.saved import to_file_layout

WITHOUT_A_FAULT = [
    ("attention_bug", wrong06.repaired()),
    ("shuffle_test", wrong07.verdict(wrong07.scrambled)),
    ("layer_norm", wrong08.normed),
    ("layer_norm_vjp", lambda g, x, weight, eps=1e-6: wrong08.gradients(g, x, weight, eps)),
    ("count_parameters", wrong09.without()),
    ("vit_forward", wrong09.vit()),
    ("adamw", wrong10.steps("")),
    ("attention_in_tiles", wrong11.in_tiles()),
    ("fold_preparation", wrong17.folded(lambda b, w, new, m, s: b - m @ new)),
]


@pytest.mark.parametrize(("name", "function"), WITHOUT_A_FAULT, ids=[name for name, _ in WITHOUT_A_FAULT])
def test_without_a_fault_nothing_is_wrong(name, function):
    """So each mistake is wrong by its fault and not by the way in which they are all written."""
    assert examine(exercise(name), function).passed


def test_the_optimiser_of_the_library_makes_the_same_steps():
    def by_the_library(p, gradients, lr, betas, eps, weight_decay):
        parameter = mv.nn.Parameter(p.copy())
        optimizer = mv.optim.AdamW([parameter], lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        for g in gradients:
            optimizer.step([g])
        return parameter.data

    assert examine(exercise("adamw"), by_the_library).passed


def test_the_fused_norm_passes():
    assert examine(exercise("layer_norm"), mv.layer_norm).passed


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


def test_attention_in_tiles_is_attention(rng):
    q, k, v = rng.standard_normal((3, 4)), rng.standard_normal((7, 4)), rng.standard_normal((7, 5))
    whole = mv.attention(q[None], k[None], v[None]).numpy()[0]
    assert all(np.allclose(ch11.attention_in_tiles(q, k, v, size), whole) for size in (1, 3, 7, 20))


def test_the_kernel_for_pytorch_is_what_the_library_writes(rng):
    weight = rng.standard_normal((4 * 4 * 3, 5))
    assert np.array_equal(ch17.patch_kernel(weight, 3), to_file_layout(weight, ("patch", 4, 4, 3)))


def test_a_folded_preparation_gives_the_same_tokens(rng):
    images, mean, std = rng.random((2, 6, 6, 3)), rng.random(3), 0.1 + rng.random(3)
    weight, bias = rng.standard_normal((2 * 2 * 3, 5)), rng.standard_normal(5)
    new, rest = ch17.fold_preparation(weight, bias, mean, std)
    prepared = mv.patchify((images - mean) / std, 2) @ weight + bias
    assert np.allclose(mv.patchify(images, 2) @ new + rest, prepared)
