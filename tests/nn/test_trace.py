"""trace: the right arrays under the right names, bounded memory, and a model that is as it was before."""

import math
import tracemalloc

import numpy as np
import pytest

import minivit as mv
from minivit.engine.tensor import recording
from minivit.nn import Linear

SIZES = {"image_size": 12, "patch_size": 4, "in_channels": 2, "num_classes": 5, "dim": 16, "depth": 3, "num_heads": 4}


def vit(**options):
    """A ViT whose every parameter is random, the zero head included."""
    model = mv.ViT(**SIZES | options)
    rng = np.random.default_rng(1)
    state = {name: a + 0.2 * rng.standard_normal(a.shape, np.float32) for name, a in model.state_dict().items()}
    model.load_state_dict(state)
    return model


@pytest.fixture
def images(rng):
    return rng.random((7, 12, 12, 2), np.float32)


def layer_norm(x, norm):
    unit = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return unit * norm.weight.numpy() + norm.bias.numpy()


@pytest.mark.parametrize("options", [{}, {"qk_norm": True}, {"pool": "mean"}, {"registers": 2, "rope": True}])
def test_shapes(images, options):
    model = vit(**options)
    trace = mv.trace(model, images)
    t = 9 + model.num_prefix
    assert trace.logits.shape == (7, 5)
    assert [a.shape for a in trace.attention] == [(7, 4, t, t)] * 3
    assert [a.shape for a in trace.tokens] == [(7, t, 16)] * 4
    assert trace.final.shape == (7, t, 16)
    shapes = {
        "patch_embed": (7, 9, 16),
        "patch_embed.proj": (7, 9, 16),
        "blocks.0": (7, t, 16),
        "blocks.0.norm1": (7, t, 16),
        "blocks.1.attn.qkv": (7, t, 48),
        "blocks.1.attn.proj": (7, t, 16),
        "blocks.1.attn": (7, t, 16),
        "blocks.2.drop_path1": (7, t, 16),
        "blocks.2.mlp.fc1": (7, t, 64),
        "blocks.2.mlp": (7, t, 16),
        "head": (7, 5),
    }
    for name, shape in shapes.items():
        assert trace.features[name].shape == shape, name
    assert all(len(a) == 7 and type(a) is np.ndarray for a in trace.features.values())
    assert np.array_equal(trace.features["head"], trace.logits)
    assert all(trace.features[f"blocks.{i}"] is trace.tokens[i + 1] for i in range(3))  # shown twice, held once
    assert "3 attention maps, 4 tokens" in repr(trace)


def test_attention_equals_a_computation_from_the_tokens(images):
    model = vit()
    trace = mv.trace(model, images)
    for block, tokens, attention in zip(model.blocks, trace.tokens, trace.attention, strict=False):
        np.testing.assert_allclose(attention.sum(axis=-1), 1, rtol=0, atol=1e-6)
        qkv = layer_norm(tokens, block.norm1) @ block.attn.qkv.weight.numpy() + block.attn.qkv.bias.numpy()
        for head in range(4):
            q, k = qkv[..., 4 * head : 4 * head + 4], qkv[..., 16 + 4 * head : 16 + 4 * head + 4]
            scores = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(4))
            np.testing.assert_allclose(attention[:, head], scores / scores.sum(-1, keepdims=True), rtol=0, atol=1e-6)


def test_final_and_logits_follow_from_the_last_tokens(images):
    for pool in ("cls", "mean"):
        model = vit(pool=pool)
        trace = mv.trace(model, images)
        if pool == "cls":
            np.testing.assert_allclose(trace.final, layer_norm(trace.tokens[-1], model.norm), rtol=0, atol=1e-5)
            read = trace.final[:, 0]
        else:
            assert np.array_equal(trace.final, trace.tokens[-1])
            read = layer_norm(trace.final.mean(axis=1), model.fc_norm)
        logits = read @ model.head.weight.numpy() + model.head.bias.numpy()
        np.testing.assert_allclose(trace.logits, logits, rtol=0, atol=1e-5)
        np.testing.assert_allclose(trace.logits, model.eval()(images).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_the_batch_size_changes_nothing(images, batch_size):
    whole, parts = mv.trace(vit(), images), mv.trace(vit(), images, batch_size=batch_size)
    np.testing.assert_allclose(parts.logits, whole.logits, rtol=0, atol=1e-5)
    np.testing.assert_allclose(parts.attention[2], whole.attention[2], rtol=0, atol=1e-6)
    np.testing.assert_allclose(parts.tokens[0], whole.tokens[0], rtol=0, atol=1e-5)
    assert parts.features.keys() == whole.features.keys()


def test_keep_says_what_is_stored(images):
    model = vit()
    parts = {"logits": None, "attention": [], "tokens": [], "final": None, "features": {}}
    for kind in parts:
        trace = mv.trace(model, images, keep=kind)
        for other, nothing in parts.items():
            assert (getattr(trace, other) if other != kind else nothing) == nothing, (kind, other)
        assert getattr(trace, kind) is not None and len(getattr(trace, kind))
    several = mv.trace(model, images, keep=("final", "attention"))
    assert several.final is not None and len(several.attention) == 3 and not several.features
    assert len(mv.trace(model, images, keep="tokens").tokens) == 4
    assert "blocks.1" in mv.trace(model, images, keep="features").features


def test_patterns_keep_by_name(images):
    model = vit()
    trace = mv.trace(model, images, keep=["blocks.*.mlp", "blocks.1.attn.attention", "blocks.2.input"])
    assert list(trace.features) == [
        "blocks.0.mlp",
        "blocks.1.attn.attention",
        "blocks.1.mlp",
        "blocks.2.input",
        "blocks.2.mlp",
    ]
    assert trace.logits is None and trace.attention == [] and trace.tokens == []
    whole = mv.trace(model, images)
    assert np.array_equal(trace.features["blocks.1.attn.attention"], whole.attention[1])
    assert np.array_equal(trace.features["blocks.2.input"], whole.tokens[2])
    one = mv.trace(model, images, keep=("logits", "norm"))
    assert list(one.features) == ["norm"] and np.array_equal(one.features["norm"], whole.final)


def test_a_pattern_that_matches_nothing(images):
    with pytest.raises(mv.ConfigError, match=r"nothing matches 'block.\*.mlp'; names are such as blocks.0"):
        mv.trace(vit(), images, keep=["logits", "block.*.mlp"])
    with pytest.raises(mv.ConfigError, match="did you mean 'attention'?"):
        mv.trace(vit(), images, keep="atention")
    with pytest.raises(mv.ConfigError, match="batch_size must be at least 1, got 0"):
        mv.trace(vit(), images, batch_size=0)


def test_reduce_is_applied_to_each_batch(images):
    model = vit()
    whole = mv.trace(model, images)
    calls = []

    def mean_over_heads(name, array):
        assert not recording.get()  # no graph is kept alive meanwhile
        calls.append((name, array.shape))
        return array.mean(axis=1)

    trace = mv.trace(model, images, batch_size=4, keep="attention", reduce=mean_over_heads)
    assert [a.shape for a in trace.attention] == [(7, 10, 10)] * 3
    np.testing.assert_allclose(trace.attention[1], whole.attention[1].mean(axis=1), rtol=0, atol=1e-6)
    assert calls[0] == ("blocks.0.attn.attention", (4, 4, 10, 10)) and len(calls) == 6
    sums = mv.trace(model, images, batch_size=4, keep="logits", reduce=lambda name, array: array.sum())
    np.testing.assert_allclose(sums.logits, [whole.logits[:4].sum(), whole.logits[4:].sum()], rtol=1e-5)


def test_the_model_is_as_it_was(images):
    model = vit(dropout=0.5, drop_path=0.5, patch_dropout=0.5)
    model.blocks[1].eval()
    modes = [m.training for _, m in model.named_modules()]
    state = model.state_dict()
    trace = mv.trace(model, images)
    assert np.array_equal(trace.logits, mv.trace(model, images).logits)  # nothing was dropped
    assert trace.tokens[0].shape == (7, 10, 16)
    assert [m.training for _, m in model.named_modules()] == modes
    assert all(np.array_equal(a, state[name]) for name, a in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_modes_come_back_after_an_error_too(images):
    model = vit()
    model.blocks[0].eval()
    modes = [m.training for _, m in model.named_modules()]
    with pytest.raises(mv.ShapeError):
        mv.trace(model, images[..., :1])

    def broken(name, array):
        raise KeyError(name)

    with pytest.raises(KeyError):
        mv.trace(model, images, reduce=broken)
    assert [m.training for _, m in model.named_modules()] == modes
    assert recording.get()
    model(images).sum().backward()  # nothing listens, and gradients are recorded again
    assert model.head.weight.grad is not None


@pytest.mark.parametrize("kind", ["linear", "cnn"])
def test_models_without_attention(images, kind):
    model = mv.create(kind, image_size=12, in_channels=2, num_classes=5)
    trace = mv.trace(model, images)
    assert trace.logits.shape == (7, 5)
    assert trace.attention == [] and trace.tokens == [] and trace.final is None
    assert trace.features["head"].shape == (7, 5)
    if kind == "cnn":
        assert trace.features["convs.1"].shape == (7, 6, 6, 32)
        assert trace.features["norms.2"].shape == (7, 3, 3, 64)


class Wrapper(mv.Module):
    """A model inside another one, with modules whose names are those of taps."""

    def __init__(self):
        self.backbone = vit(num_classes=0)
        self.attention, self.final = Linear(16, 8), Linear(8, 3)

    def forward(self, images):
        return self.final(self.attention(self.backbone(images)))


def test_a_model_inside_another(images):
    outer = Wrapper()
    trace = mv.trace(outer, images)
    assert trace.logits.shape == (7, 3)
    assert len(trace.attention) == 3 and trace.attention[0].shape == (7, 4, 10, 10)
    assert len(trace.tokens) == 4
    assert trace.final.shape == (7, 10, 16)
    assert trace.features["attention"].shape == (7, 8) and trace.features["final"].shape == (7, 3)
    assert trace.features["backbone.blocks.0"].shape == (7, 10, 16)
    inner = mv.trace(outer.backbone, images)  # its own names, although it is a part of something
    assert np.array_equal(inner.logits, trace.features["backbone"])
    assert len(inner.attention) == 3 and len(inner.tokens) == 4 and "blocks.0.mlp" in inner.features


def test_no_images_give_empty_arrays(images):
    trace = mv.trace(vit(), images[:0])
    assert trace.logits.shape == (0, 5) and trace.attention[0].shape == (0, 4, 10, 10)


def test_memory_is_bounded_by_what_is_kept(rng):
    model = vit(image_size=32, in_channels=1)  # 65 tokens: attention of 4 heads in 3 layers is 200 KB an image
    images = rng.random((64, 32, 32, 1), np.float32)

    def peak(**options):
        tracemalloc.start()
        mv.trace(model, images, batch_size=4, **options)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    everything, logits = peak(), peak(keep="logits")
    attention = 64 * 3 * 4 * 65 * 65 * 4
    assert everything > attention
    assert logits < attention / 3  # one batch of four passing through
    assert peak(keep="attention", reduce=lambda name, a: a.mean(axis=(1, 2))) < attention / 3


def test_over_backends(backend, images):
    trace = mv.trace(vit().to(backend.name), images)
    expected = mv.trace(vit().to("numpy"), images)
    for found, value in [(trace.logits, expected.logits), (trace.attention[2], expected.attention[2])]:
        assert type(found) is np.ndarray
        np.testing.assert_allclose(found, value, rtol=0, atol=2e-5)
