"""Chapter 05, solved in other ways."""

import numpy as np
from right_ways import right

import minivit as mv


@right("patchify")
def patches_by_loop(images, patch_size):
    b, h, w, _ = images.shape
    cuts = [
        images[:, i : i + patch_size, j : j + patch_size].reshape(b, -1)
        for i in range(0, h, patch_size)
        for j in range(0, w, patch_size)
    ]
    return np.stack(cuts, axis=1).astype(np.float32)


@right("patchify")
def patches_by_einsum(images, patch_size):
    b, h, w, c = images.shape
    p = patch_size
    return np.einsum("brpsqc->brspqc", images.reshape(b, h // p, p, w // p, p, c)).reshape(b, -1, p * p * c)


@right("patchify")
def patches_by_windows(images, patch_size):
    b, *_, c = images.shape
    p = patch_size
    windows = np.lib.stride_tricks.sliding_window_view(images, (p, p), axis=(1, 2))[:, ::p, ::p]
    return np.moveaxis(windows, 3, -1).reshape(b, -1, p * p * c)


@right("patchify")
def patches_of_tensors(images, patch_size):
    b, h, w, c = images.shape
    p = patch_size
    x = mv.Tensor(images).reshape(b, h // p, p, w // p, p * c).swapaxes(2, 3)
    return x.reshape(b, h // p * (w // p), p * p * c)


@right("patchify")
def pixel_by_pixel(images, patch_size):
    b, h, w, c = images.shape
    p = patch_size
    found = np.empty((b, h // p * (w // p), p * p * c))
    for row in range(h):
        for column in range(w):
            start = (row % p * p + column % p) * c
            found[:, row // p * (w // p) + column // p, start : start + c] = images[:, row, column]
    return found


@right("conv_is_patchify")
def convolution_by_einsum(images, kernel):
    p, _, c, _ = kernel.shape
    b, h, w, _ = images.shape
    return np.einsum("brpsqc,pqcd->brsd", images.reshape(b, h // p, p, w // p, p, c), kernel)


@right("conv_is_patchify")
def window_by_window(images, kernel):
    p, _, _, d = kernel.shape
    b, h, w, _ = images.shape
    found = np.zeros((b, h // p, w // p, d))
    for i in range(h // p):
        for j in range(w // p):
            found[:, i, j] = np.tensordot(images[:, i * p : i * p + p, j * p : j * p + p], kernel, 3)
    return found


@right("conv_is_patchify")
def offset_by_offset(images, kernel):
    p = len(kernel)
    return sum(images[:, i::p, j::p] @ kernel[i, j] for i in range(p) for j in range(p))


@right("conv_is_patchify")
def with_the_kernel_patchified(images, kernel):
    p, _, _, d = kernel.shape
    b, h, w, _ = images.shape
    weight = mv.patchify(np.moveaxis(kernel, 3, 0), p)[:, 0]
    return np.matmul(mv.patchify(images, p), weight.T).reshape(b, h // p, -1, d)


@right("add_class_token")
def stacked_seat_by_seat(tokens, class_token):
    rows = [mv.concatenate([class_token[0], tokens[i]], axis=0) for i in range(len(tokens))]
    return mv.stack(rows)


@right("add_class_token")
def broadcast_by_adding_zeros(tokens, class_token):
    seats = class_token + mv.Tensor(np.zeros((tokens.shape[0], 1, 1)))
    return mv.concatenate([seats, tokens], axis=-2)


@right("add_class_token")
def copies_joined(tokens, class_token):
    seats = mv.concatenate([class_token] * tokens.shape[0], axis=0)
    return mv.concatenate((seats, tokens), axis=1)


@right("add_class_token")
def by_ones_times_the_token(tokens, class_token):
    seats = mv.Tensor(np.ones((tokens.shape[0], 1, 1))) @ class_token
    return mv.concatenate([seats, tokens], axis=1)


@right("sincos_2d")
def place_by_place(rows, columns, dim, base=10000.0):
    n = dim // 4
    found = np.zeros((rows * columns, dim))
    for y in range(rows):
        for x in range(columns):
            for i in range(n):
                omega = base ** (-i / (n - 1)) if n > 1 else 1.0
                values = np.sin(x * omega), np.cos(x * omega), np.sin(y * omega), np.cos(y * omega)
                found[y * columns + x, i::n] = values
    return found


@right("sincos_2d")
def by_geomspace_and_outer(rows, columns, dim, base=10000.0):
    omega = np.geomspace(1, 1 / base, dim // 4)
    x = np.outer(np.tile(np.arange(columns), rows), omega)
    y = np.outer(np.repeat(np.arange(rows), columns), omega)
    return np.hstack([np.sin(x), np.cos(x), np.sin(y), np.cos(y)]).astype(np.float32)


@right("sincos_2d")
def axis_by_axis_and_broadcast(rows, columns, dim, base=10000.0):
    omega = np.exp(-np.log(base) * np.arange(dim // 4) / max(dim // 4 - 1, 1))

    def waves(n):
        angle = np.einsum("i,j->ij", np.arange(n), omega)
        return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)

    across = np.broadcast_to(waves(columns), (rows, columns, dim // 2))
    down = np.broadcast_to(waves(rows)[:, None], (rows, columns, dim // 2))
    return np.concatenate([across, down], axis=2).reshape(rows * columns, dim)
