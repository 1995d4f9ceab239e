"""What moves the answer: gradients summed over patches, with nothing left behind in the model."""

import numpy as np
import pytest

import minivit as mv
from minivit.nn.influence import influence


def linear(rng):
    """Two classes over 4×6 grey pixels."""
    model = mv.create("linear", image_size=(4, 6), in_channels=1, num_classes=2)
    model.head.weight.data += rng.standard_normal(model.head.weight.shape, np.float32)
    return model


def test_of_a_linear_model_it_is_the_weights(rng):
    model = linear(rng)
    images = rng.random((3, 4, 6, 1), np.float32)
    chosen = model(images).numpy().argmax(axis=1)
    weights = model.head.weight.numpy().T[chosen].reshape(3, 2, 2, 3, 2)  # patches of 2×2
    lengths = np.sqrt((weights**2).sum(axis=(2, 4)))
    found = influence(model, images, 2)
    np.testing.assert_allclose(found, lengths / lengths.mean(axis=(1, 2), keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(influence(model, images, 2, target=0)[0], influence(model, images[:1], 2, target=0)[0])


def test_what_the_answer_does_not_depend_on_has_none(rng):
    model = linear(rng)
    model.head.weight.data.reshape(4, 6, 2)[:, 2:] = 0
    found = influence(model, rng.random((1, 4, 6, 1), np.float32), 2)
    assert found.shape == (1, 2, 3) and (found[..., 0] > 0).all() and not found[..., 1:].any()
    model.head.weight.data[...] = 0
    assert np.array_equal(influence(model, rng.random((1, 4, 6, 1), np.float32), 2), np.zeros((1, 2, 3)))


@pytest.mark.parametrize("name", ["cnn", "mixer", "vit"])
def test_it_agrees_with_differences(rng, name):
    """Where each of 2×2 patches is changed a little along its own gradient, the answer rises as the map says."""
    sizes = {"image_size": 8, "in_channels": 1, "num_classes": 3}
    if name == "mixer":
        model = mv.create("mixer_b16_224", **sizes, patch_size=4, dim=8, depth=1, tokens_mlp_dim=4, channels_mlp_dim=8)
    else:
        vit = {"patch_size": 4, "dim": 8, "depth": 1, "num_heads": 2}
        model = mv.ViT(**sizes | vit) if name == "vit" else mv.create(name, **sizes)
    model.astype("float64")
    for p in model.parameters():
        p.data += 0.3 * rng.standard_normal(p.shape)
    images = rng.random((1, 8, 8, 1))
    found, step = influence(model, images, 4, target=1)[0], 1e-6
    lengths = np.zeros((2, 2))
    for i, j in np.ndindex(8, 8):
        moved = images.copy()
        moved[0, i, j] += step
        change = (model(moved).numpy() - model(images).numpy())[0, 1] / step
        lengths[i // 4, j // 4] += change**2
    np.testing.assert_allclose(found, np.sqrt(lengths) / np.sqrt(lengths).mean(), rtol=1e-3)


def test_it_leaves_no_trace_in_the_model(backend, rng):
    model = mv.create("linear", image_size=4, in_channels=1, num_classes=2).train()
    found = influence(model, rng.random((2, 4, 4, 1), np.float32), 2)
    assert isinstance(found, np.ndarray) and found.dtype == np.float32
    assert model.training and all(p.grad is None for p in model.parameters())
