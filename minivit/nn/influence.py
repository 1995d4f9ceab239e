"""For models that have no attention to look at: how strongly each patch of an image moves the answer."""

from typing import Any

import numpy as np

from minivit.engine import backend as backends
from minivit.engine.tensor import Tensor, gradients
from minivit.nn.module import Module, evaluating
from minivit.nn.patches import Size, pair


def influence(model: Module, images: Any, patch_size: Size, target: int | None = None) -> np.ndarray:
    """The length of ∂ answer / ∂ pixels over each patch, relative to the mean patch: (B, H, W, C) -> (B, rows, columns).

    The answer is logit `target`, by default each image's largest (Simonyan et al. 2014). `images` are ready for the model.
    """
    x = Tensor(model.as_input(images).data, requires_grad=True)
    with evaluating(model):
        logits = model(x)
    chosen = backends.to_numpy(logits.data).argmax(axis=1) if target is None else np.full(len(images), target)
    seed = np.zeros(logits.shape, logits.dtype)
    seed[np.arange(len(chosen)), chosen] = 1
    found = gradients(logits, backends.backend_of(logits.data).from_host(seed))  # the parameters' own are left alone
    g = backends.to_numpy(found[id(x)][1])
    (p, q), (b, h, w, c) = pair(patch_size), g.shape
    lengths = np.sqrt((g.reshape(b, h // p, p, w // q, q, c) ** 2).sum(axis=(2, 4, 5)))
    return lengths / np.maximum(lengths.mean(axis=(1, 2), keepdims=True), np.finfo(lengths.dtype).tiny)
