"""The layers: what each computes, its random parts, and its first values."""

import math

import numpy as np
import pytest

import minivit as mv
from minivit.engine import random
from minivit.nn import (
    MLP,
    Attention,
    Block,
    Conv2d,
    Dropout,
    DropPath,
    GroupNorm,
    LayerNorm,
    LayerScale,
    Linear,
    SwiGLU,
    init,
)


def tensor(rng, *shape):
    return mv.Tensor(rng.standard_normal(shape))


def double(module):
    """float64, every parameter random."""
    rng = np.random.default_rng(1)
    for p in module.astype("float64").parameters():
        p.data[...] = rng.standard_normal(p.shape)
    return module


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def normed(x, norm):
    unit = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + norm.eps)
    return unit * norm.weight.data + norm.bias.data


def attention_by_loops(x, m):
    """One head after the other, (B, T, D) -> weights (B, heads, T, T) and result (B, T, D)."""
    width = x.shape[-1]
    d = width // m.num_heads
    qkv = x @ m.qkv.weight.data + m.qkv.bias.data
    weights, results = [], []
    for head in range(m.num_heads):
        q, k, v = (qkv[..., part * width + head * d : part * width + (head + 1) * d] for part in range(3))
        if m.q_norm is not None:
            q, k = normed(q, m.q_norm), normed(k, m.k_norm)
        weights.append(softmax(q @ k.swapaxes(1, 2) / math.sqrt(d)))
        results.append(weights[-1] @ v)
    return np.stack(weights, 1), np.concatenate(results, -1) @ m.proj.weight.data + m.proj.bias.data


@pytest.mark.parametrize("qk_norm", [False, True])
def test_attention_head_by_head(rng, qk_norm):
    module = double(Attention(12, 3, qk_norm=qk_norm, eps=0.1))
    x = tensor(rng, 2, 5, 12)
    weights, expected = attention_by_loops(x.numpy(), module)
    np.testing.assert_allclose(module(x).numpy(), expected, rtol=0, atol=1e-12)
    seen = {}
    with mv.nn.tapped(lambda name, make: seen.setdefault(name, make().numpy())):
        module(x)
    np.testing.assert_allclose(seen["attention"], weights, rtol=0, atol=1e-12)


def test_with_qk_norm_the_size_of_queries_and_keys_does_not_matter(rng):
    module = Attention(8, 2, qk_norm=True, eps=1e-12).astype("float64")
    x = tensor(rng, 1, 4, 8)
    before = module(x).numpy()
    module.qkv.weight.data[:, :16] *= 50
    np.testing.assert_allclose(module(x).numpy(), before, rtol=0, atol=1e-9)


def test_attention_does_not_know_the_order_of_tokens(rng):
    module = Attention(8, 2).astype("float64")
    x, order = tensor(rng, 2, 6, 8), rng.permutation(6)
    np.testing.assert_allclose(module(x[:, order]).numpy(), module(x).numpy()[:, order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("heads", [0, 5])
def test_heads_of_equal_width(heads):
    with pytest.raises(mv.ConfigError, match=f"dim 8 does not divide into {heads} heads"):
        Attention(8, heads)


def test_block_is_pre_norm(rng):
    block = double(Block(8, 2, 3.0, layer_scale=0.5, eps=1e-3))
    x = tensor(rng, 2, 4, 8)
    middle = x + block.ls1(block.attn(block.norm1(x)))
    expected = middle + block.ls2(block.mlp(block.norm2(middle)))
    assert np.array_equal(block(x).numpy(), expected.numpy())
    assert block.mlp.fc1.weight.shape == (8, 24)
    assert [n for n, _ in block.named_parameters()][:2] == ["norm1.weight", "norm1.bias"]


def test_eps_reaches_every_norm_of_a_block():
    block = Block(8, 2, qk_norm=True, eps=0.25)
    norms = [m for _, m in block.named_modules() if isinstance(m, LayerNorm)]
    assert [m.eps for m in norms] == [0.25] * 4


def test_layer_scale_of_zero_makes_a_block_the_identity(rng):
    block = Block(8, 2, layer_scale=0.0)
    x = mv.Tensor(rng.standard_normal((2, 4, 8)).astype(np.float32))
    assert np.array_equal(block(x).numpy(), x.numpy())
    block(x).sum().backward()
    assert np.abs(block.ls1.gamma.grad).max() > 0  # from which it can still learn
    assert block.attn.qkv.weight.grad is not None and not block.attn.qkv.weight.grad.any()


def test_layer_scale_multiplies_each_feature(rng):
    scale = LayerScale(4, np.float64(0.5))  # NumPy's scalar must not make it float64
    assert scale.gamma.dtype == np.float32
    scale.gamma.data[...] = [1, 2, 3, 4]
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    assert np.array_equal(scale(mv.Tensor(x)).numpy(), x * np.array([1, 2, 3, 4], np.float32))


def test_swiglu(rng):
    module = double(SwiGLU(6, 5))
    x = tensor(rng, 2, 3, 6)
    packed = x.numpy() @ module.w12.weight.data + module.w12.bias.data
    gate, value = packed[..., :5], packed[..., 5:]
    expected = (gate / (1 + np.exp(-gate)) * value) @ module.w3.weight.data + module.w3.bias.data
    np.testing.assert_allclose(module(x).numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dim", "ratio", "hidden"), [(96, 4.0, 256), (48, 2.0, 64), (8, 4.0, 24), (10, 4.0, 32)])
def test_swiglu_is_two_thirds_as_wide_in_steps_of_eight(dim, ratio, hidden):
    block = Block(dim, 2, ratio, mlp="swiglu")
    assert block.mlp.w12.weight.shape == (dim, 2 * hidden)
    assert block.mlp.w3.weight.shape == (hidden, dim)


def test_mlp_kinds_of_gelu(rng):
    exact, tanh = double(MLP(4, 8)), double(MLP(4, 8, tanh_gelu=True))
    x = tensor(rng, 3, 4)
    a = x.numpy() @ exact.fc1.weight.data + exact.fc1.bias.data
    erf = np.vectorize(math.erf)
    forms = {exact: 0.5 * a * (1 + erf(a / math.sqrt(2)))}
    forms[tanh] = 0.5 * a * (1 + np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))
    for module, h in forms.items():
        expected = h @ module.fc2.weight.data + module.fc2.bias.data
        np.testing.assert_allclose(module(x).numpy(), expected, rtol=0, atol=1e-12)


def test_group_norm(rng):
    norm = double(GroupNorm(2, 6))
    x = tensor(rng, 2, 3, 4, 6)
    expected = np.empty(x.shape)
    for b in range(2):
        for group in (slice(0, 3), slice(3, 6)):
            part = x.numpy()[b, :, :, group]
            expected[b, :, :, group] = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
    expected = expected * norm.weight.data + norm.bias.data
    np.testing.assert_allclose(norm(x).numpy(), expected, rtol=0, atol=1e-12)
    with pytest.raises(mv.ConfigError, match="6 channels do not divide into 4 groups"):
        GroupNorm(4, 6)


def test_conv2d_layer(rng):
    conv = double(Conv2d(3, 5, 3, stride=2, padding=1))
    x = tensor(rng, 2, 6, 6, 3)
    y = conv(x)
    assert y.shape == (2, 3, 3, 5)
    window = np.pad(x.numpy(), ((0, 0), (1, 1), (1, 1), (0, 0)))[1, 2:5, 4:7]
    expected = np.einsum("ijc,ijck->k", window, conv.weight.data) + conv.bias.data
    np.testing.assert_allclose(y.numpy()[1, 1, 2], expected, rtol=0, atol=1e-12)
    assert Conv2d(3, 5, 3, bias=False).bias is None


@pytest.mark.parametrize("kind", [Dropout, DropPath])
def test_dropping_only_in_training_and_with_a_rate(rng, kind):
    x = tensor(rng, 3, 4, 5)
    assert kind(0.5).eval()(x) is x
    assert kind(0.0)(x) is x


def test_dropout_drops_values_and_keeps_the_mean(rng):
    x = mv.Tensor(np.ones((200, 50), np.float32), requires_grad=True)
    with random.drawing_from(random.stream(0, "test")):
        y = Dropout(0.25)(x)
    values, counts = np.unique(y.numpy(), return_counts=True)
    assert values.tolist() == [0, np.float32(1 / 0.75)]
    assert counts[0] / x.size == pytest.approx(0.25, abs=0.02)
    assert y.numpy().mean() == pytest.approx(1, abs=0.02)
    y.sum().backward()
    assert np.array_equal(x.grad, y.numpy())  # what was dropped receives no gradient


def test_drop_path_drops_whole_samples_and_keeps_the_mean(rng):
    x = mv.Tensor(rng.standard_normal((4000, 2, 3)).astype(np.float32))
    with random.drawing_from(random.stream(0, "test")):
        y = DropPath(0.4)(x).numpy()
    ratio = (y / x.numpy()).reshape(4000, 6)
    assert (ratio.max(axis=1) - ratio.min(axis=1)).max() < 1e-5  # one fate for the whole sample
    assert np.allclose(np.unique(ratio.round(4)), [0, round(1 / 0.6, 4)])
    assert (ratio[:, 0] == 0).mean() == pytest.approx(0.4, abs=0.03)
    assert ratio[:, 0].mean() == pytest.approx(1, abs=0.05)


def test_each_branch_of_a_block_is_dropped_on_its_own(rng):
    block = Block(8, 2, drop_path=0.5)
    x = mv.Tensor(rng.standard_normal((16, 3, 8)).astype(np.float32))
    with random.drawing_from(random.stream(4, "test")):
        y = block(x).numpy()
    draws = random.stream(4, "test")
    first, second = ((draws.random((16, 1, 1)) >= 0.5) * np.float32(2) for _ in range(2))
    assert not np.array_equal(first, second)
    middle = x + mv.Tensor(first.astype(np.float32)) * block.attn(block.norm1(x))
    expected = middle + mv.Tensor(second.astype(np.float32)) * block.mlp(block.norm2(middle))
    np.testing.assert_allclose(y, expected.numpy(), rtol=0, atol=1e-6)
    gone = (first + second).ravel() == 0
    assert gone.any() and np.array_equal(y[gone], x.numpy()[gone])


@pytest.mark.parametrize("make", [Attention, MLP, SwiGLU])
def test_dropout_comes_last_in_each_branch(rng, make):
    module = double(make(8, 2, dropout=0.5))
    x = tensor(rng, 2, 3, 8)
    whole = module.eval()(x).numpy()
    with random.drawing_from(random.stream(0, "test")):
        some = module.train()(x).numpy()
    gone = some == 0
    assert 5 < gone.sum() < 43
    np.testing.assert_allclose(some[~gone], 2 * whole[~gone], rtol=1e-12)


@pytest.mark.parametrize("make", [Dropout, DropPath])
@pytest.mark.parametrize("rate", [1, -0.1, 2, float("nan")])
def test_rates(make, rate):
    with pytest.raises(mv.ConfigError, match="is not a rate; choose 0 ≤ rate < 1"):
        make(rate)


def test_random_layers_repeat_with_their_stream(rng):
    block = Block(8, 2, dropout=0.3, drop_path=0.3)
    x = mv.Tensor(rng.standard_normal((4, 3, 8)).astype(np.float32))

    def run(*numbers):
        with random.drawing_from(random.stream(*numbers)):
            return block(x).numpy()

    assert np.array_equal(run(0, "dropout", 7), run(0, "dropout", 7))
    assert not np.array_equal(run(0, "dropout", 7), run(0, "dropout", 8))
    assert not np.array_equal(run(0, "dropout", 7), run(1, "dropout", 7))
    assert not np.array_equal(run(0, "dropout", 7), run(0, "other", 7))


def test_first_values():
    with random.drawing_from(random.stream(0, "test")):
        values = init.truncated_normal(200, 300, std=0.02)
        weight = Linear(400, 300).weight.data
    assert values.dtype == np.float32
    assert np.abs(values).max() <= 0.04
    assert values.std() == pytest.approx(0.02 * 0.8796, rel=0.02)  # the rest of a normal cut at two deviations
    assert weight.std() == pytest.approx(0.7 / math.sqrt(400) * 0.8796, rel=0.02)
    assert not Linear(3, 4, zero=True).weight.data.any()
    assert Linear(3, 4, bias=False).bias is None
    norm = LayerNorm(5)
    assert norm.eps == 1e-6 and (norm.weight.data == 1).all() and not norm.bias.data.any()


def test_an_error_names_the_parameter_and_the_module(rng):
    block = Block(8, 2)
    with pytest.raises(mv.ShapeError, match=r"parameter 'norm1.weight'.*in .*norm1"):
        block(mv.Tensor(np.zeros((1, 2, 9), np.float32)))
