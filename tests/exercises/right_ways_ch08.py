"""Chapter 08, solved in other ways."""

import math

import numpy as np
from right_ways import right


@right("layer_norm")
def norm_of_arrays(x, weight, bias, eps=1e-6):
    x, weight, bias = x.numpy(), weight.numpy(), bias.numpy()
    unit = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    return weight * unit + bias


@right("layer_norm")
def norm_row_by_row(x, weight, bias, eps=1e-6):
    rows = []
    for row in x.numpy().reshape(-1, x.shape[-1]):
        mean = sum(row) / len(row)
        variance = sum((a - mean) ** 2 for a in row) / len(row)
        rows.append([(a - mean) / math.sqrt(variance + eps) for a in row])
    return np.array(rows).reshape(x.shape) * weight.numpy() + bias.numpy()


@right("layer_norm")
def norm_by_einsum(x, weight, bias, eps=1e-6):
    centred = x.numpy() @ (np.eye(x.shape[-1]) - 1 / x.shape[-1])
    variance = np.einsum("...d,...d->...", centred, centred) / x.shape[-1]
    return np.einsum("...d,...,d->...d", centred, (variance + eps) ** -0.5, weight.numpy()) + bias.numpy()


@right("layer_norm")
def norm_of_tensors(x, weight, bias, eps=1e-6):
    """The mean of the squares of the centred row, and powers in place of roots."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return bias + weight * centred * ((centred * centred).mean(axis=-1, keepdims=True) + eps) ** -0.5


def statistics(x, eps):
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    return (x - x.mean(axis=-1, keepdims=True)) / deviation, deviation


@right("layer_norm_vjp")
def vjp_with_sums(g, x, weight, eps=1e-6):
    """D · h minus sums, divided by D at the end."""
    size = x.shape[-1]
    unit, deviation = statistics(x, eps)
    h = g * weight
    dx = (size * h - h.sum(-1, keepdims=True) - unit * (h * unit).sum(-1, keepdims=True)) / (size * deviation)
    return dx, (g * unit).reshape(-1, size).sum(axis=0), g.reshape(-1, size).sum(axis=0)


@right("layer_norm_vjp")
def vjp_step_by_step(g, x, weight, eps=1e-6):
    """Back through each line of the forward pass."""
    size = x.shape[-1]
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    inverse = (variance + eps) ** -0.5
    dunit = g * weight
    dvariance = (dunit * centred).sum(axis=-1, keepdims=True) * -0.5 * inverse**3
    dcentred = dunit * inverse + dvariance * 2 * centred / size
    dx = dcentred - dcentred.mean(axis=-1, keepdims=True)
    others = tuple(range(x.ndim - 1))
    return dx, np.add.reduce(g * centred * inverse, axis=others), np.add.reduce(g, axis=others)


@right("layer_norm_vjp")
def vjp_by_jacobian(g, x, weight, eps=1e-6):
    """Each row's matrix of slopes; the gradients of weight and bias in a loop; a list in place of a tuple."""
    size = x.shape[-1]
    unit, deviation = statistics(x, eps)
    slopes = (np.eye(size) - 1 / size - unit[..., :, None] * unit[..., None, :] / size) / deviation[..., None]
    dweight, dbias = np.zeros(size), np.zeros(size)
    for row in np.ndindex(x.shape[:-1]):
        dweight += g[row] * unit[row]
        dbias += g[row]
    return [np.einsum("...i,...ij->...j", g * weight, slopes), dweight, dbias]


@right("block")
def both_halves_in_a_loop(x, norm1, attention, norm2, mlp):
    for norm, part in ((norm1, attention), (norm2, mlp)):
        x = x + part(norm(x))
    return x


@right("block")
def findings_added_at_the_end(x, norm1, attention, norm2, mlp):
    seen = attention(norm1(x))
    return x + seen + mlp(norm2(x + seen))


@right("block")
def in_a_copy(x, norm1, attention, norm2, mlp):
    total = x.copy()
    total += attention(norm1(total))
    total += mlp(norm2(total))
    return total
