"""MLP-Mixer: the paper's size, the formula written out, what permuting patches does, names, taps and errors."""

import inspect
import math

import numpy as np
import pytest

import minivit as mv
from minivit.interop import saved
from minivit.models.mixer import Mixer

SIZES = {"image_size": (8, 12), "patch_size": 4, "in_channels": 2, "num_classes": 5, "dim": 8, "depth": 2}
SIZES |= {"tokens_mlp_dim": 10, "channels_mlp_dim": 12}  # a grid of 2 × 3 patches


def mixer(**options):
    """A Mixer whose every parameter is random, so that none can be left out unseen."""
    model = Mixer(**SIZES | options)
    rng = np.random.default_rng(1)
    model.load_state_dict({name: rng.normal(0, 0.4, p.shape) for name, p in model.named_parameters()})
    return model


@pytest.fixture
def images(rng):
    return rng.random((3, 8, 12, 2), np.float32)


# --- what it computes -------------------------------------------------------------------------------------------------


def test_the_papers_size():
    """Mixer-B/16 at 224 pixels has 59.9 million parameters, counted here from its equations too."""
    n, d, s, c, k, depth = 196, 768, 384, 3072, 1000, 12
    block = 4 * d + (n * s + s + s * n + n) + (d * c + c + c * d + d)
    model = Mixer()
    assert model.num_parameters() == (16 * 16 * 3 + 1) * d + depth * block + 2 * d + d * k + k == 59_880_472
    preset = dict(mv.presets["mixer_b16_224"])
    assert preset.pop("model") == "Mixer" and preset.items() <= model.config.items()


def test_the_small_preset_has_the_papers_size():
    assert mv.create("mixer_s16_224").num_parameters() == pytest.approx(18.5e6, abs=5e4)  # table 1


def written_out(model, images, tanh=False, eps=1e-6):
    """Equation 1 in float64, one image and one row or column at a time."""
    w = {name: p.numpy().astype(np.float64) for name, p in model.named_parameters()}

    def mlp(x, name):
        h = x @ w[f"{name}.fc1.weight"] + w[f"{name}.fc1.bias"]
        if tanh:
            h = 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        else:
            h = 0.5 * h * (1 + np.vectorize(math.erf)(h / math.sqrt(2)))
        return h @ w[f"{name}.fc2.weight"] + w[f"{name}.fc2.bias"]

    def norm(x, name):
        x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    (p, q), (rows, columns) = model.patch_size, model.grid
    logits, tokens = [], []
    for image in images.astype(np.float64):
        cut = [image[r * p : r * p + p, c * q : c * q + q].ravel() for r in range(rows) for c in range(columns)]
        x = np.stack(cut) @ w["stem.proj.weight"] + w["stem.proj.bias"]
        for i in range(len(model.blocks)):
            y = norm(x, f"blocks.{i}.norm1")
            x = x + np.stack([mlp(y[:, channel], f"blocks.{i}.mlp_tokens") for channel in range(x.shape[1])], axis=1)
            y = norm(x, f"blocks.{i}.norm2")
            x = x + np.stack([mlp(token, f"blocks.{i}.mlp_channels") for token in y])
        tokens.append(norm(x, "norm"))
        logits.append(tokens[-1].mean(axis=0) @ w["head.weight"] + w["head.bias"])
    return np.array(logits), np.array(tokens)


@pytest.mark.parametrize("options", [{}, {"mlp": "gelu_tanh", "eps": 0.01}, {"patch_size": (4, 2), "depth": 1}])
def test_it_computes_equation_1(images, options):
    model = mixer(**options)
    logits, tokens = written_out(model, images, options.get("mlp") == "gelu_tanh", options.get("eps", 1e-6))
    trace = mv.trace(model, images)
    np.testing.assert_allclose(trace.logits, logits, atol=2e-5)
    np.testing.assert_allclose(trace.final, tokens, atol=2e-5)


def permuted(model, order):
    """The same function of permuted patches: rows of each token MLP's first matrix, columns of its second, its bias."""
    other = Mixer(**model.config)
    state = model.state_dict()
    for i in range(len(model.blocks)):
        name = f"blocks.{i}.mlp_tokens"
        state[f"{name}.fc1.weight"] = state[f"{name}.fc1.weight"][order]
        state[f"{name}.fc2.weight"] = state[f"{name}.fc2.weight"][:, order]
        state[f"{name}.fc2.bias"] = state[f"{name}.fc2.bias"][order]
    other.load_state_dict(state)
    return other


def test_permuting_patches_and_token_weights_together_changes_nothing(images):
    model, order = mixer(), np.array([4, 0, 5, 2, 1, 3])
    shuffled = mv.unpatchify(mv.patchify(images, 4)[:, order], 4, (8, 12))
    before = mv.trace(model, images)
    after = mv.trace(permuted(model, order), shuffled)
    np.testing.assert_allclose(after.logits, before.logits, atol=1e-5)
    np.testing.assert_allclose(after.final, before.final[:, order], atol=1e-5)  # each token went along with its patch


def test_permuting_only_one_of_them_changes_the_logits(images):
    model, order = mixer(), np.array([4, 0, 5, 2, 1, 3])
    shuffled = mv.unpatchify(mv.patchify(images, 4)[:, order], 4, (8, 12))
    before = model(images).numpy()
    for other in (model(shuffled), permuted(model, order)(images)):
        assert np.abs(other.numpy() - before).max() > 0.01


def test_the_last_bias_of_a_token_mlp_is_lost_in_the_next_norm(images):
    """It moves all channels of a token alike, which LayerNorm takes out again; so it has to be checked by value on import."""
    model = mixer()
    before = model(images).numpy()
    model.blocks[0].mlp_tokens.fc2.bias.data += 3
    np.testing.assert_allclose(model(images).numpy(), before, atol=1e-5)
    model.blocks[0].mlp_tokens.fc1.bias.data += 3
    assert np.abs(model(images).numpy() - before).max() > 0.01


# --- training ---------------------------------------------------------------------------------------------------------


def test_gradients(images):
    model = mixer(image_size=(4, 8), depth=1, dim=4, tokens_mlp_dim=3, channels_mlp_dim=5, eps=1e-3)
    modules = dict(model.named_modules())
    names, values = zip(*((n, p.numpy().astype(np.float64)) for n, p in model.named_parameters()), strict=True)

    def run(x, *weights):
        for name, weight in zip(names, weights, strict=True):
            owner, _, attribute = name.rpartition(".")
            setattr(modules[owner], attribute, weight)
        return model(x)

    mv.gradcheck(run, images[:2, :4, :8].astype(np.float64), *values)


def test_it_learns_where_a_patch_stands(rng):
    """One bright patch in noise: the class is its place, which a model blind to positions could not tell."""
    model = Mixer(**SIZES | {"in_channels": 1, "num_classes": 6})
    labels = rng.integers(6, size=96)
    images = 0.1 * rng.random((96, 8, 12, 1), np.float32)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 3)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
    assert float(mv.cross_entropy(model(images), labels).numpy()) == pytest.approx(math.log(6), abs=1e-5)
    optimizer = mv.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(40):
        model.zero_grad()
        mv.cross_entropy(model(images), labels).backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
    assert (model.eval()(images).numpy().argmax(axis=1) == labels).all()


def test_every_backend_gives_the_same(backend, images):
    reference = mixer().to("numpy")
    model = mixer()
    (model(images) ** 2).sum().backward()
    (reference(images) ** 2).sum().backward()
    np.testing.assert_allclose(model(images).numpy(), reference(images).numpy(), atol=1e-5)
    for (name, p), q in zip(model.named_parameters(), reference.parameters(), strict=True):
        np.testing.assert_allclose(mv.to_numpy(p.grad), q.grad, rtol=1e-3, atol=1e-4, err_msg=name)


def test_stochastic_depth_rises_with_depth_and_is_off_in_eval(images):
    model = mixer(drop_path=0.9, depth=3)
    assert [b.drop_path1.rate for b in model.blocks] == pytest.approx([0, 0.45, 0.9])
    assert np.array_equal(model.eval()(images).numpy(), mixer(depth=3)(images).numpy())
    from minivit.engine import random

    with random.drawing_from(random.stream(0, "dropout")):
        assert not np.array_equal(model.train()(images).numpy(), model.eval()(images).numpy())


# --- taps, names, files -----------------------------------------------------------------------------------------------


def test_trace_shows_tokens_final_and_logits_and_no_attention(images):
    trace = mv.trace(mixer(), images)
    assert [t.shape for t in trace.tokens] == [(3, 6, 8)] * 3 and trace.final.shape == (3, 6, 8)
    assert trace.logits.shape == (3, 5) and trace.attention == []
    assert trace.features["blocks.1.mlp_tokens"].shape == (3, 8, 6)
    assert np.array_equal(trace.tokens[0], trace.features["stem"])


def test_without_classes_it_gives_features(images):
    model = mixer(num_classes=0)
    assert model.head is None and np.array_equal(model(images).numpy(), model.features(images).numpy())
    assert model(images).shape == (3, 8)


def test_files_have_timms_names_and_layout():
    shapes = {name: array.shape for name, array in saved.to_file(mixer(depth=1)).items()}
    block = {
        "norm1.weight": (8,), "norm1.bias": (8,), "norm2.weight": (8,), "norm2.bias": (8,),
        "mlp_tokens.fc1.weight": (10, 6), "mlp_tokens.fc1.bias": (10,),
        "mlp_tokens.fc2.weight": (6, 10), "mlp_tokens.fc2.bias": (6,),
        "mlp_channels.fc1.weight": (12, 8), "mlp_channels.fc1.bias": (12,),
        "mlp_channels.fc2.weight": (8, 12), "mlp_channels.fc2.bias": (8,),
    }  # fmt: skip
    assert shapes == {
        "stem.proj.weight": (8, 2, 4, 4), "stem.proj.bias": (8,),
        **{f"blocks.0.{name}": shape for name, shape in block.items()},
        "norm.weight": (8,), "norm.bias": (8,), "head.weight": (5, 8), "head.bias": (5,),
    }  # fmt: skip


def test_save_and_load(images, tmp_path):
    model = mixer(mlp="gelu_tanh", drop_path=0.1)
    mv.save(model, tmp_path / "mixer.safetensors")
    again = mv.load(tmp_path / "mixer.safetensors")
    assert again.config == model.config
    assert np.array_equal(again(images).numpy(), model.eval()(images).numpy())


def test_config_holds_every_argument():
    assert mixer().config.keys() == inspect.signature(Mixer).parameters.keys()


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(12, 8), (8, 8), (16, 12)])  # the first has as many patches, in another grid
def test_another_image_size_is_refused(rng, size):
    with pytest.raises(mv.ShapeError, match=rf"made for 8×12 images, got {size[0]}×{size[1]}.*resize the images"):
        mixer()(rng.random((1, *size, 2), np.float32))


def test_a_single_image_is_refused(rng):
    with pytest.raises(mv.ShapeError, match="batch axis"):
        mixer()(rng.random((8, 12, 2), np.float32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens_mlp_dim": 0}, "tokens_mlp_dim must be a whole number, at least 1, got 0"),
        ({"channels_mlp_dim": 1.5}, "channels_mlp_dim must be a whole number"),
        ({"image_size": 10}, "image_size 10×10 is not a whole number of 4×4 patches"),
        ({"patch_size": None}, "must each be a whole number or a pair"),
        ({"mlp": "gelu_tan"}, "did you mean 'gelu_tanh'"),
        ({"drop_path": 1.0}, "drop_path"),
    ],
)
def test_sizes_that_cannot_be(options, message):
    with pytest.raises(mv.ConfigError, match=message):
        Mixer(**SIZES | options)
