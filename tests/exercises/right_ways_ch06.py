"""Chapter 06, solved in other ways."""

import math

import numpy as np
from right_ways import right

import minivit as mv


def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@right("attention")
def attention_by_einsum(q, k, v):
    q, k, v = (x.numpy() for x in (q, k, v))
    weights = softmax(np.einsum("...id,...jd->...ij", q, k) / q.shape[-1] ** 0.5)
    return np.einsum("...ij,...je->...ie", weights, v)


@right("attention")
def attention_query_by_query(q, k, v, scale=None):
    q, k, v = (x.numpy() for x in (q, k, v))
    y = np.zeros((*q.shape[:-1], v.shape[-1]))
    for lead in np.ndindex(q.shape[:-2]):
        for i, query in enumerate(q[lead]):
            scores = np.array([sum(a * b for a, b in zip(query, key, strict=True)) for key in k[lead]])
            e = np.exp((scores - scores.max()) / math.sqrt(len(query)))
            y[lead][i] = sum(weight * value for weight, value in zip(e / e.sum(), v[lead], strict=True))
    return y


@right("attention")
def attention_divided_at_the_end(q, k, v):
    """The sum of a row divides what was averaged, not the weights; the scale is shared between q and k."""
    root = q.shape[-1] ** 0.25
    scores = (q / root).numpy() @ (k / root).numpy().swapaxes(-1, -2)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e @ v.numpy() / e.sum(axis=-1, keepdims=True)


@right("attention")
def attention_of_tensors(q, k, v, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return mv.softmax(q @ k.swapaxes(-1, -2) * scale) @ v


@right("attention_vjp")
def vjp_by_jacobian(g, q, k, v):
    """Softmax's whole matrix of slopes for each row, diag(a) − a aᵀ."""
    by = q.shape[-1] ** -0.5
    a = softmax(q @ k.swapaxes(-1, -2) * by)
    slopes = a[..., :, None] * np.eye(a.shape[-1]) - a[..., :, None] * a[..., None, :]
    dscores = np.einsum("...ij,...ijk->...ik", g @ v.swapaxes(-1, -2), slopes) * by
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, a.swapaxes(-1, -2) @ g


@right("attention_vjp")
def vjp_by_the_output(g, q, k, v):
    """Σⱼ aᵢⱼ daᵢⱼ is g · y; a list in place of a tuple."""
    d = q.shape[-1]
    a = softmax(np.einsum("...id,...jd->...ij", q, k) / math.sqrt(d))
    y = np.einsum("...ij,...je->...ie", a, v)
    da = np.einsum("...ie,...je->...ij", g, v)
    ds = a * (da - (g * y).sum(axis=-1)[..., None])
    dq = np.einsum("...ij,...jd->...id", ds, k) / math.sqrt(d)
    dk = np.einsum("...ij,...id->...jd", ds, q) / math.sqrt(d)
    return [dq, dk, np.einsum("...ij,...ie->...je", a, g)]


@right("attention_vjp")
def vjp_row_by_row(g, q, k, v):
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    by = 1 / math.sqrt(q.shape[-1])
    for lead in np.ndindex(q.shape[:-2]):
        for i in range(q.shape[-2]):
            a = softmax(k[lead] @ q[lead][i] * by)
            da = v[lead] @ g[lead][i]
            ds = a * (da - a @ da) * by
            dq[lead][i] = ds @ k[lead]
            dk[lead] += np.outer(ds, q[lead][i])
            dv[lead] += np.outer(a, g[lead][i])
    return dq, dk, dv


@right("attention_bug")
def repaired_listing(x, w_q, w_k, w_v):
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    e = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights = e / e.sum(axis=2, keepdims=True)
    return weights @ v


@right("attention_bug")
def repaired_with_one_matrix(x, w_q, w_k, w_v):
    """The product of two of the matrices decides the scores; without a maximum, as these scores are small."""
    e = np.exp(np.einsum("bid,de,bje->bij", x, w_q @ w_k.T, x) / math.sqrt(w_q.shape[1]))
    return e @ x @ w_v / e.sum(axis=-1, keepdims=True)


@right("attention_bug")
def repaired_by_tensors(x, w_q, w_k, w_v):
    q, k, v = (mv.Tensor(x) @ w for w in (w_q, w_k, w_v))
    return mv.softmax(q / q.shape[-1] ** 0.5 @ k.swapaxes(1, 2)) @ v


@right("attention_bug")
def repaired_image_by_image(x, w_q, w_k, w_v):
    return np.stack([softmax((i @ w_q) @ (i @ w_k).T / np.sqrt(len(w_q.T))) @ (i @ w_v) for i in x])


@right("two_maps_one_output")
def every_row_changed(weights, v):
    known = np.concatenate([v, np.ones((len(v), 1))], axis=1)
    u = np.linalg.svd(known.T)[2][-1]
    return weights + u * (0.5 * weights / np.abs(u)).min(axis=1, keepdims=True)


@right("two_maps_one_output")
def a_random_change_made_invisible(weights, v):
    """What a random row has of the known columns is taken out of it by least squares."""
    known = np.column_stack([v, np.ones(len(v))])
    u = np.random.default_rng(1).standard_normal(len(v))
    u -= known @ np.linalg.lstsq(known, u, rcond=None)[0]
    other = weights.copy()
    other[-1] -= u * 0.9 * (weights[-1] / np.abs(u)).min()
    return other


@right("two_maps_one_output")
def traded_among_a_few_keys(weights, v):
    """The first d + 2 keys trade with one another; a list of lists."""
    n = v.shape[1] + 2
    system = np.vstack([v[:n].T, np.ones(n)])
    last = np.linalg.solve(system[:, :-1], -system[:, -1])
    u = np.append(last, 1.0)
    u *= (weights[1, :n] / np.abs(u)).min()
    other = weights.copy()
    other[1, :n] += u
    return np.clip(other, 0, None).tolist()
