"""ForeignViT: each pool is what it says, every parameter takes part, and impossible arguments are refused."""

import numpy as np
import pytest

import minivit as mv
from minivit.models.foreign import POOLS, ForeignViT
from minivit.models.presets import build

SIZES = {"image_size": 8, "patch_size": 4, "num_classes": 3, "dim": 16, "depth": 2, "num_heads": 2}
OPTIONS = {"registers": 2, "norm_pre": True, "patch_norm": True, "layer_scale": 0.5, "qk_norm": True}


def randomised(**options):
    model = ForeignViT(**SIZES | options).eval()
    rng = np.random.default_rng(0)
    for p in model.parameters():
        if p.requires_grad:
            p.data = (p.numpy() + 0.3 * rng.standard_normal(p.shape)).astype(np.float32)
    return model


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("attention_dim", [None, 10])
def test_every_parameter_takes_part(backend, pool, attention_dim):
    if pool == "map" and attention_dim:
        attention_dim = 20
    model = randomised(pool=pool, attention_dim=attention_dim, **OPTIONS).to(backend.name)
    images = backend.from_host(np.random.default_rng(1).random((2, 12, 8, 3), np.float32))
    mv.cross_entropy(model(images), backend.from_host(np.array([0, 2]))).backward()
    silent = {"attn_pool.latent"} if pool == "map" else set()
    for name, p in model.named_parameters():
        gradient = backend.to_numpy(p.grad)
        assert gradient.shape == p.shape and (
            np.abs(gradient).max() > 1e-7 or name in silent or "k_norm.bias" in name
        ), name


@pytest.mark.parametrize("pool", POOLS)
def test_what_each_pool_reads(pool):
    model = randomised(pool=pool, registers=2)
    images = np.random.default_rng(1).random((2, 8, 12, 3), np.float32)
    trace = mv.trace(model, images)
    final, prefix = trace.final, model.num_prefix
    assert prefix == 2 + (pool not in ("mean", "norm_mean", "map"))
    patches = final[:, prefix:].mean(axis=1)
    expected = {
        "cls": lambda: model.head(mv.Tensor(final[:, 0])),
        "mean": lambda: model.head(model.fc_norm(mv.Tensor(patches))),
        "norm_mean": lambda: model.head(mv.Tensor(patches)),
        "tokens_mean": lambda: model.head(mv.Tensor(final.mean(axis=1))),
        "cls_mean": lambda: model.head(mv.Tensor(np.concatenate([final[:, 0], patches], axis=1))),
        "cls_dist": lambda: (model.head(mv.Tensor(final[:, 0])) + model.head_dist(mv.Tensor(final[:, 1]))) / 2.0,
        "map": lambda: model.head(model.attn_pool(mv.Tensor(final[:, prefix:]))),
    }[pool]()
    np.testing.assert_allclose(trace.logits, expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(model(images).numpy(), trace.logits, atol=1e-6)
    assert model.features(images).shape == (2, 32 if pool in ("cls_mean", "cls_dist") else 16)


def test_norms_around_the_patch_matrix_and_before_the_blocks():
    model = randomised(patch_norm=True, norm_pre=True)
    images = np.random.default_rng(1).random((1, 8, 8, 3), np.float32)
    embed = model.patch_embed
    patches = embed.norm_out(embed.proj(embed.norm_in(mv.Tensor(mv.patchify(images, 4)))))
    tokens = mv.concatenate([model.cls_token, patches], axis=1) + model.pos_embed
    np.testing.assert_allclose(mv.trace(model, images).tokens[0], model.norm_pre(tokens).numpy(), atol=1e-6)


def test_heads_of_any_width():
    """With identity projections, wide attention is the attention of the composed operations."""
    model = randomised(attention_dim=6, num_heads=3)
    attention = model.blocks[0].attn
    x = mv.Tensor(np.random.default_rng(1).standard_normal((2, 5, 16)).astype(np.float32))
    inner = mv.composed.self_attention(attention.qkv(x), num_heads=3)
    assert inner.shape == (2, 5, 6)
    np.testing.assert_allclose(attention(x).numpy(), attention.proj(inner).numpy(), atol=1e-6)
    np.testing.assert_allclose(attention(x, first_only=True).numpy(), attention(x).numpy()[:, :1], atol=1e-6)


def test_saved_and_loaded(tmp_path):
    for pool in POOLS:
        model = randomised(pool=pool, position_resize="dino", attention_dim=12, **OPTIONS)
        mv.save(model, tmp_path / pool)
        again = mv.load(tmp_path / pool)
        images = np.random.default_rng(1).random((1, 12, 8, 3), np.float32)
        assert again.config == model.config and np.array_equal(again(images).numpy(), model(images).numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "max"}, "pool: unknown choice 'max', choose one of cls, mean, norm_mean"),
        ({"position_resize": "bilinear"}, "position_resize: unknown choice 'bilinear'"),
        ({"pool": "cls_dist"}, "the distillation token is the first register"),
        ({"attention_dim": 7}, "attention_dim 7 does not divide into num_heads 2"),
        ({"attention_dim": 8, "num_heads": 0}, "attention_dim 8 does not divide into num_heads 0"),
        ({"depths": 3}, "ForeignViT has no argument 'depths'; did you mean 'depth'"),
        ({"dim": 18, "positions": "sincos"}, "multiple of 4"),
    ],
)
def test_arguments_that_cannot_be(options, message):
    with pytest.raises(mv.ConfigError, match=message):
        build("ForeignViT", SIZES | options)
