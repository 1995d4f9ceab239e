# ---
# jupyter:
#   minivit:
#     title: Patches
#     question: How does an image become a sequence?
#     here: [patches, tokens]
#     minutes: 45
#     exercises: [patchify, conv_is_patchify, add_class_token, sincos_2d]
#     builds: [patchify, unpatchify, conv2d, nn.PatchEmbed, nn.sincos_2d, concatenate, broadcast_to]
# ---

# %% [markdown]
# Chapter 04 read an image as one row of 64 numbers, with a weight for every pixel. Chapter 01 showed where that leads with a
# photo: 196,608 values, and 144 GiB for a table that compares each with each. The way out was 256 patches. Now we cut them.
# Each becomes a vector that is told where it stood, and then we find out how far a network gets that looks at patches
# one at a time.
#
# First an image so small that we can follow every pixel: its values are their places in memory. It is to become six patches
# of 2×2. `reshape(6, 4)` would begin with 0, 1, 2, 3, a stretch of the first row: reshape moves no number past another, and 6
# has to come before 2. A transpose must do it. For that, every pixel gets four coordinates instead of two.

# %%
import json

import matplotlib.pyplot as plt
import numpy as np

import minivit as mv

small = np.arange(24).reshape(4, 6)  # (H, W)
# (row of patches, row inside, column of patches, column inside)
x = small.reshape(2, 2, 3, 2)
# (row of patches, column of patches, row inside, column inside)
x = x.transpose(0, 2, 1, 3)
sequence = x.reshape(6, 4)  # (N, P·P): N patches of P rows and P columns
print("reshape alone:  ", small.reshape(6, 4)[0])
print("the three steps:", *sequence)

# %% [markdown]
# The first patch holds 0, 1, 6, 7, as it should. What did the steps do? We letter the six patches A to F and look at the long
# row of memory before and after.

# %%
place = np.argsort(sequence.reshape(-1))  # where each pixel ends up
titles = ("the image", "in memory", "after the three steps")
views = (small, small.reshape(1, 24), sequence.reshape(1, 24))
fig, axes = plt.subplots(3, 1, figsize=(9, 4), height_ratios=[4, 1.3, 1.3])
for ax, title, pixels in zip(axes, titles, views, strict=True):
    ax.imshow(place[pixels] // 4, cmap="Pastel1", vmax=8)
    for (r, c), v in np.ndenumerate(pixels):
        ax.text(c, r, f"{'ABCDEF'[place[v] // 4]}\n{v}", ha="center", va="center")
    ax.set(xticks=[], yticks=[], title=title)
fig.tight_layout()
mv.viz.show(fig, alt="A 4×6 image in six lettered patches, and two strips of "
            f"{small.size} pixels. Pixel 6, of patch A, stands at place 6 in memory, "
            f"behind pixels of B and C, and at place {place[6]} after the three steps, "
            "where each patch is one stretch.")  # fmt: skip

# %% [markdown]
# *Above, the image with its six patches. In memory their rows are interleaved; at the bottom each patch is one stretch. The
# letters show which pixels travel together; no value has changed.*
#
# The first reshape gave names. The transpose moved the axis "row inside" past "column of patches". The last reshape
# dropped names again. The same three steps for a batch of colour images, where the axes B and C come along
# unharmed:

# %% tags=["check", "break"]
photo = mv.data.to_float(mv.data.read_pixels("assets/photo.png")).astype(np.float64)


def my_patchify(images, P):  # (B, H, W, C) -> (B, N, P·P·C)
    B, H, W, C = images.shape
    x = images.reshape(B, H // P, P, W // P, P, C)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # (B, rows, columns, P, P, C)
    return x.reshape(B, -1, P * P * C)


patches = my_patchify(photo[None], 16)
print(patches.shape, np.array_equal(patches, mv.patchify(photo[None], 16)))
print(np.array_equal(mv.unpatchify(patches, 16, (256, 256)), photo[None]))
try:
    mv.patchify(photo[None], 15)
except mv.ShapeError as error:
    print(type(error).__name__, error)

# %% [markdown]
# The library's are [`mv.patchify`](../minivit/nn/patches.py#patchify), which also refuses images that the patches do not tile,
# and its inverse [`mv.unpatchify`](../minivit/nn/patches.py#unpatchify). From here on we use those. The way back exchanges the
# same two axes once more and returns the photo to the last bit: cutting loses nothing.
#
# To look at the pieces we give each a margin, then put them together again as if the patches were that much larger.


# %%
def exploded(image, P, gap=3):  # (H, W, C) -> the same with orange gaps, in RGB
    x = mv.patchify(image[None], P).reshape(-1, P, P, image.shape[-1])  # (N, P, P, C)
    x = np.pad(x, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=np.nan)
    size = [n // P * (P + gap) for n in image.shape[:2]]
    whole = mv.unpatchify(x.reshape(1, len(x), -1), P + gap, size)[0]
    return np.where(np.isnan(whole), (0.9, 0.6, 0.0), whole)


digits = mv.data.digits()
five = digits.test.images[[2, 0, 1, 3, 4]]  # (5, 8, 8, 1): 0, 1, 3, 7, 8
seven = five[3] / 255


# %% [markdown]
# For the eye, each pixel of the 7 becomes a square of 8×8 dots, so that its 2×2 patches are 16×16 dots large.

# %%
large = np.kron(seven, np.ones((8, 8, 1)))  # (64, 64, 1)
row = np.concatenate([*mv.patchify(large[None], 16).reshape(16, 16, 16, 1)], axis=1)
titles = ("a 7 in 16 patches", "the photo in 256 patches", "the 7 as a sequence")
fig, axes = plt.subplot_mosaic("AB;CC", figsize=(8.5, 5), height_ratios=[6, 1])
for ax, image, title in zip(axes.values(), (large, photo, row), titles, strict=True):
    ax.imshow(exploded(image, 16))
    ax.set_title(title)
    ax.set_axis_off()
fig.tight_layout()
ink = mv.patchify(seven[None], 2)[0].mean(axis=1)  # (N,)
mv.viz.show(fig, alt=f"A 7 cut into {len(ink)} patches, the photo cut into "
            f"{patches.shape[1]}, and the patches of the 7 in one row. The brightest, "
            f"number {ink.argmax()} from 0, has mean brightness {ink.max():.2f}; "
            f"{(ink < 0.1).sum()} are below 0.1.")  # fmt: skip

# %% [markdown]
# *The 7 and the photo, with orange gaps drawn between patches; below, the sixteen patches of the 7, row by row from the top
# left. That line is all a network will get. Try to read the digit in it.*
#
# *Your turn* ([`patchify`](../exercises/ch05.py#patchify), ★★, 20 minutes): write it again without looking, from the axes. The
# check uses 8 rows, 12 columns and 3 channels, so that no two axes can be mistaken for each other.

# %% tags=["your-turn"]
from exercises import check


def patchify(images, patch_size):  # (B, H, W, C) -> (B, N, P·P·C)
    ...


check("patchify", patchify)

# %% [markdown]
# ## One matrix for every patch
#
# A patch of the photo is 768 numbers. We want a vector of $D$ numbers for it, which we call a **token**, and make it with one
# product, $xE$, where $E$ has shape $(P \cdot P \cdot C, D)$. The same $E$ serves every patch. That is cheap, and it is a belief:
# what is worth noticing in one corner is worth noticing in another.
#
# There is an older way to say this. A **convolution** slides a small window of weights, the kernel, over the image. At every
# place it multiplies window and kernel entry by entry and adds up: a dot product. The stride is how far it moves from one
# place to the next.


# %%
def my_conv(image, kernel, stride):  # (H, W, C), (h, w, C) -> (down, across)
    h, w, _ = kernel.shape
    down = range(0, image.shape[0] - h + 1, stride)
    across = range(0, image.shape[1] - w + 1, stride)
    windows = [[image[r : r + h, c : c + w] for c in across] for r in down]
    return np.array([[(window * kernel).sum() for window in line] for line in windows])


edge, coarse = np.zeros((3, 3, 3)), np.ones((16, 16, 3)) / 64
edge[:, 0], edge[:, 2] = -1, 1  # positive where it gets brighter to the right
coarse[:, :8] *= -1  # the same question, asked of 16×16 pixels
slid, strode = my_conv(photo, edge, 1), my_conv(photo, coarse, 16)
theirs = mv.conv2d(photo[None], edge[..., None]).numpy()  # (1, 254, 254, 1)
print(slid.shape, np.allclose(slid, theirs[0, :, :, 0]))

# %% [markdown]
# Both kernels ask whether it is brighter on the right than on the left: the first at every place, of 3×3 pixels, the second
# of 16×16 pixels, moving 16 at a time. The library's is [`mv.conv2d`](../minivit/engine/ops.py#conv2d); its kernels are
# `(h, w, C, D)`, so that $D$ of them slide at once.

# %%
fig, axes = plt.subplots(1, 3, figsize=(9, 3.9), layout="constrained")
titles = ("the photo", "a 3×3 kernel, stride 1", "a 16×16 kernel, stride 16")
for ax, title, view in zip(axes, titles, (photo, slid, strode), strict=True):
    ax.imshow(view, cmap="PuOr", vmin=-2, vmax=2)
    ax.set_title(f"{title}\n{view.shape[0]}×{view.shape[1]}", fontsize=11)
    ax.set_axis_off()
r, c = np.unravel_index(np.abs(strode).argmax(), strode.shape)
mv.viz.show(fig, alt="The photo and two maps of how much brighter it is on the right "
            f"than on the left. Stride 1: {slid.shape[0]}×{slid.shape[1]} places, thin "
            f"outlines. Stride 16: {strode.shape[0]}×{strode.shape[1]} coarse squares, "
            f"the strongest {strode[r, c]:.1f} at row {r}, column {c}.")  # fmt: skip

# %% [markdown]
# *The photo and two convolutions of it: purple where the right is brighter, orange where the left is. The middle one draws
# outlines; on the right every patch has given one answer. We chose these kernels by hand; they show what the operation
# does, not what a network would learn.*
#
# Now 48 random kernels of 16×16×3 at stride 16. They leave 48 numbers at each of 16×16 places. Beside it, the 256 patches
# times a matrix of 768×48, whose columns are the same kernels laid out as 768 numbers. **How do the results compare?**
# (a) Equal, up to rounding. (b) Similar, but windows overlap and patches do not. (c) Unrelated.

# %% tags=["hide-output"]
guess = ...  # "a", "b" or "c"
rng = np.random.default_rng(0)
kernels = rng.standard_normal((16, 16, 3, 48))  # (P, P, C, D)
by_conv = mv.conv2d(photo[None], kernels, stride=16).numpy()  # (1, 16, 16, 48)
by_patches = mv.patchify(photo[None], 16) @ kernels.reshape(768, 48)  # (1, 256, 48)
print(by_conv.shape, by_patches.shape)
print("equal:", np.allclose(by_conv.reshape(1, 256, 48), by_patches))

# %% [markdown]
# Equal. (b) remembers windows that overlap, as they do at stride 1. But a window that moves by its own width never sees a pixel
# twice: its stops *are* the patches, and 48 dot products are one product with 48 columns. So the ViT paper can write "a linear
# projection of flattened patches" and its authors' code can call a convolution.
#
# *Your turn* ([`conv_is_patchify`](../exercises/ch05.py#conv_is_patchify), ★★, 15 minutes): for any such kernel.


# %% tags=["your-turn"]
def conv_is_patchify(images, kernel):  # (B, H, W, C), (P, P, C, D) -> (B, H/P, W/P, D)
    ...


check("conv_is_patchify", conv_is_patchify)

# %% [markdown]
# In minivit, patchify followed by a Linear is [`mv.nn.PatchEmbed`](../minivit/nn/patches.py#PatchEmbed).

# %% tags=["check"]
embed = mv.nn.PatchEmbed(patch_size=16, in_channels=3, dim=48).astype(np.float64)
E, b = embed.proj.weight.numpy(), embed.proj.bias.numpy()
print(np.allclose(embed(mv.Tensor(photo[None])).numpy(), patches @ E + b))
print(f"numbers to learn: {embed.num_parameters():,}")
print(f"one Linear from all pixels to all tokens: {photo.size * 256 * 48:,}")

# %% [markdown]
# 36,912 numbers, however large the photo. Without sharing it would be more than two billion.
#
# ## Does the order matter?
#
# We have a sequence. What does it remember of the image? We embed the sixteen patches of the 7, average them, and let a
# matrix read ten logits from the mean. Then we shuffle the patches and read again. **Do the logits change?** Write
# your guess first.

# %% tags=["hide-output"]
guess = ...  # "yes" or "no"
tokens = mv.patchify(seven[None], 2)[0] @ rng.standard_normal((4, 48))  # (N, D)
W_head = rng.standard_normal((48, 10))  # (D, K)
order, same = rng.permutation(16), np.allclose


def read(tokens):  # (N, D) -> (K,)
    return tokens.mean(axis=0) @ W_head


print("the same logits:", same(read(tokens), read(tokens[order])))

# %% [markdown]
# A mean has no memory of order: to this network an image is a bag of patches. Most people now reach for positions: one
# vector for each place, added to whatever token stands there. We take sixteen random vectors. **Do the logits change now**,
# when the patches are shuffled and the places are not?

# %% tags=["hide-output"]
guess = ...  # "yes" or "no"
pos = rng.standard_normal((16, 48))  # (N, D), one vector for each place
print("the same logits:", same(read(tokens + pos), read(tokens[order] + pos)))

# %% [markdown]
# Still the same! In symbols, with $x_i$ the token that stands at place $i$ and $p_i$ the vector of the place:
#
# $$\frac{1}{N}\sum_i (x_i + p_i) = \frac{1}{N}\sum_i x_i + \frac{1}{N}\sum_i p_i$$
#
# The second term is the same for every image: it does what a bias does, and no more. While everything up to the mean is linear,
# no choice of positions, trained or not, can tell two orders apart. A position needs a step that is not linear and that sees
# *this* content at *this* place.


# %%
def relu(x):
    return np.maximum(x, 0)


shuffled = read(relu(tokens[order] + pos))
print("the same logits:", same(read(relu(tokens + pos)), shuffled))

# %% [markdown]
# *Your turn*, one line: keep `relu`, drop `pos`. Guess first. Then say what was missing in each of the two failures.

# %% tags=["your-turn"]
guess = ...  # "yes" or "no"
answer = ...  # same(read(relu(…)), read(relu(…)))
print("guess", guess, "and answer", answer)  # Ellipsis is Python's word for …

# %% [markdown]
# ## Places as vectors
#
# (Without `pos`, the same logits again: a ReLU sees content, but not place.)
#
# A vector that stands for a place is a **position embedding**. Random ones work, and many ViTs learn theirs from there. It helps
# to start from vectors that know what is near what. For a coordinate $x$ and a frequency $\omega$ take the pair
# $(\sin x\omega, \cos x\omega)$, a clock hand that turns as $x$ grows. At $\omega = 1$, place 0 is $(0, 1)$ and place 1 is
# $(0.84, 0.54)$; their dot product is $0.54 = \cos 1$. In general:
#
# $$\sin x\omega \,\sin x'\omega + \cos x\omega \,\cos x'\omega = \cos\big((x - x')\,\omega\big)$$
#
# How alike two places are depends on their distance alone. One clock repeats itself, so we take several, from fast to slow, for
# the column and as many again for the row.


# %% tags=["check"]
def my_sincos(rows, columns, D, base):  # -> (rows·columns, D)
    omega = base ** (-np.arange(D // 4) / (D // 4 - 1))  # from 1 down to 1/base
    y, x = np.mgrid[:rows, :columns].reshape(2, -1, 1) * omega  # each (N, D/4)
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)


pos = my_sincos(16, 16, 48, base=100)  # (256, 48)
print(pos.shape, np.allclose(pos, mv.nn.sincos_2d(16, 16, 48, base=100), atol=1e-6))
print("squared lengths:", np.unique((pos * pos).sum(axis=1).round(6)))

# %% [markdown]
# The library's is [`mv.nn.sincos_2d`](../minivit/nn/patches.py#sincos_2d). The slowest clock turns `base` times more slowly than the
# fastest; its usual 10,000 suits long sequences, and on our small grids most clocks would stand still, so we take 100. Each of the
# 24 clocks adds $\sin^2 + \cos^2 = 1$ to the squared length. Dot products divided by 24 are therefore cosines: 1 for a place and
# itself.

# %%
fig, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
alike = (pos @ pos.T / 24).reshape(16, 16, 16, 16)  # (row, column, row, column)
for ax, (r, c) in zip(axes, ((3, 3), (8, 8), (8, 14)), strict=True):
    picture = ax.imshow(alike[r, c], cmap="cividis", vmin=0, vmax=1)
    ax.plot(c, r, "o", mfc="none", mec="white", ms=12, mew=2)
    ax.set(title=f"row {r}, column {c}", xticks=[0, 15], yticks=[0, 15])
fig.colorbar(picture, label="cosine")
near, end, corner = alike[8, 8, 8, 9], alike[8, 8, 8, 15], alike[8, 8, 15, 15]
mv.viz.show(fig, alt="Three maps of a 16×16 grid: the cosine between one place's "
            "position and all others, a bright cross on that place. For row 8, column "
            f"8 it is {near:.2f} with its neighbour, {end:.2f} at the end of its row, "
            f"{corner:.2f} at the corner.")  # fmt: skip

# %% [markdown]
# *Cosine between the position of the circled place and every other. It falls with distance; along the same row or column half of
# the clocks agree, hence the cross. All of this was built in by the formula: nobody learned it.*
#
# A worry remains. From 5 + 3 = 8 nobody gets back 5 and 3, and we *add* a position to each token. **Can one matrix read from the
# sum what stood there, and where?** (a) Neither. (b) The place only. (c) Both, exactly. Guess for tokens of 48 numbers, then
# of 4.

# %% tags=["hide-output"]
guess = ...  # for 48, and for 4
pixels = mv.patchify(mv.data.to_float(digits.train.images), 2)  # (1257, 16, 4)
places = np.mgrid[:4, :4].reshape(2, 16).T  # (16, 2): row and column
wanted = np.concatenate([pixels, np.broadcast_to(places, (1257, 16, 2))], axis=2)
for D in (48, 4):
    tokens = pixels @ rng.standard_normal((4, D)) + mv.nn.sincos_2d(4, 4, D, base=100)
    fitted, held = tokens[:1000].reshape(-1, D), tokens[1000:].reshape(-1, D)
    matrix = np.linalg.lstsq(fitted, wanted[:1000].reshape(-1, 6))[0]  # the best (D, 6)
    error = np.abs(held @ matrix - wanted[1000:].reshape(-1, 6)).max(axis=0)
    worst = f"pixel {error[:4].max():.1f}, place {error[4:].max():.1f}"
    print(f"D = {D:2}, worst errors: {worst}")

# %% [markdown]
# With 48 numbers both, exactly, on images to which the matrix was not fitted. Four pixels fill only 4 of 48 directions, the positions
# lie along others, and a matrix can look along each. Plain numbers share the one direction there is; that is where 5 + 3
# misleads. Tokens of 4 numbers have no room, and lose both.
#
# *Your turn* ([`sincos_2d`](../exercises/ch05.py#sincos_2d), ★★, 20 minutes): for any grid, with an error for a $D$ that four does not
# divide. Mind the smallest $D$, 4: it has one clock, and then our formula for `omega` divides 0 by 0.


# %% tags=["your-turn"]
def sincos_2d(rows, columns, dim, base=10000.0):  # -> (rows·columns, dim)
    ...


check("sincos_2d", sincos_2d)

# %% [markdown]
# ## An empty seat
#
# Averaging makes one vector of sixteen. The ViT paper has another way, borrowed from language models: one more token in front, the
# **class token**, from which alone the answer is read. It is a parameter of shape (1, 1, D), repeated for every image of the batch.
#
# We put it there, let every token pass through the same small network by itself, and read the class token. **How many of our five
# digits are right?** And what share of all test images, at best, if we trained for a day?

# %% tags=["hide-output"]
guess = ...  # a number, and a share
seat = mv.Tensor(rng.standard_normal((1, 1, 48)), requires_grad=True)
tokens = mv.Tensor(mv.patchify(five / 255, 2) @ rng.standard_normal((4, 48)))
seats = mv.broadcast_to(seat, shape=(5, 1, 48))  # the same for every image
x = mv.concatenate([seats, tokens], axis=1)  # (5, 17, 48)
print("five answers:", (mv.relu(x)[:, 0].numpy() @ W_head).argmax(axis=1))
x[:, 0].sum().backward()
print("gradient:", seat.grad.shape, "every entry", *np.unique(seat.grad))
shares = np.bincount(digits.test.labels) / len(digits.test)  # of the ten digits
print(f"the commonest digit: {shares.max():.0%} of the test images")

# %% [markdown]
# Five images, one answer. The name suggests that the token *is* the class. It is the same vector for every image, and while tokens
# exchange nothing it stays so: a day of training moves the answer to the commonest digit, right in 10 % of cases. Think of a seat at the
# table, kept empty until chapter 06 lets the others talk to whoever sits there. (The picture fails in one point: the seat itself is
# trained. Its gradient is a sum over the five images, chapter 03's broadcasting backwards.)
#
# *Your turn* ([`add_class_token`](../exercises/ch05.py#add_class_token), ★, 10 minutes).


# %% tags=["your-turn"]
def add_class_token(tokens, class_token):  # Tensors (B, N, D), (1, 1, D) -> (B, N+1, D)
    ...


check("add_class_token", add_class_token)

# %% [markdown]
# ## A network that never compares two patches
#
# Now we assemble what works: patches of 2×2, one matrix, positions that start as clocks and are trained, two Linears with a ReLU
# between for each token by itself; then the mean, and ten logits. Two switches take away the positions or the ReLU.


# %%
class PatchReader(mv.nn.Module):
    def __init__(self, positions=True, nonlinear=True, dim=48):
        self.embed = mv.nn.PatchEmbed(patch_size=2, in_channels=1, dim=dim)
        start = mv.nn.sincos_2d(4, 4, dim, base=100)  # (N, D), trained from there
        self.pos = mv.nn.Parameter(start) if positions else None
        self.fc1, self.fc2 = mv.nn.Linear(dim, 2 * dim), mv.nn.Linear(2 * dim, dim)
        self.head, self.nonlinear = mv.nn.Linear(dim, 10), nonlinear

    def forward(self, images):
        x = self.embed(images)  # (B, H, W, C) -> (B, N, D)
        x = x if self.pos is None else x + self.pos
        x = self.fc1(x)
        x = self.fc2(mv.relu(x) if self.nonlinear else x)
        return self.head(x.mean(axis=1))  # (B, N, D) -> (B, D) -> (B, K)


# %% [markdown]
# The loop is that of chapter 04, with one addition: in the last 20 epochs the steps are shorter, so that the weights settle.


# %%
def train(model, x, y, seed, plan=((60, 0.2), (20, 0.05)), size=32):
    for epochs, rate in plan:
        for epoch in range(epochs):
            for batch in mv.data.batches(len(x), size, seed=seed, epoch=epoch):
                loss = mv.cross_entropy(model(mv.Tensor(x[batch])), y[batch])
                model.zero_grad()
                loss.backward()
                for p in model.parameters():
                    p.data -= rate * p.grad


def accuracy(model, x, y):  # the share of right answers
    with mv.no_grad():
        return float((model(mv.Tensor(x)).numpy().argmax(axis=1) == y).mean())


# %% [markdown]
# `standardise` shifts and scales pixels to mean 0 and variance 1 over the training images, which descent likes better than
# numbers that are all positive. We train with positions and without, from one seed.

# %%
x, test_x = (mv.data.standardise(part.images, digits.mean, digits.std).astype(np.float64)
             for part in (digits.train, digits.test))  # fmt: skip
for positions in (True, False):
    with mv.random.drawing_from(mv.random.stream(0, "init")):
        model = PatchReader(positions=positions).astype(np.float64)
    before = accuracy(model, test_x, digits.test.labels)
    train(model, x, digits.train.labels, seed=0)
    after = accuracy(model, test_x, digits.test.labels)
    print(
        f"positions {positions!s:5}: untrained {before:.0%}, trained {after:.0%} right"
    )

# %% [markdown]
# One seed proves little. `python -m scripts.chapter_05_06_runs 05` trains the network from five seeds with each setting of its
# switches, and once more on chapter 04's split by file order, whose test images probably come from other writers. Its results are stored.

# %%
names = ("linear", "linear, positions", "ReLU", "ReLU, positions", "…, other writers")
with open("assets/05_runs.json", encoding="utf-8") as file:
    runs = json.load(file)["runs"]  # five seeds for each name
fig, ax = plt.subplots(figsize=(8, 3), layout="constrained")
for i, run in enumerate(runs):
    ax.plot(run["before"], names[i // 5], "o", mfc="none", color=mv.viz.VERMILLION)
    ax.plot(run["test"], names[i // 5], "|", ms=16, mew=2, color=mv.viz.BLUE)
ax.margins(y=0.12)
ax.invert_yaxis()
ax.set(xlim=(0, 100), xlabel="right on 360 test images (%): untrained ○, trained |")
means = [np.mean([r["test"] for r in runs[i : i + 5]]) for i in range(0, 25, 5)]
mv.viz.show(fig, alt="Test accuracy, five seeds each. Untrained: near 10 %. Trained, "
            f"on average: linear {means[0]:.0f} %, with positions {means[1]:.0f}; ReLU "
            f"{means[2]:.0f}, with positions {means[3]:.0f}; on other writers "
            f"{means[4]:.0f}.")  # fmt: skip

# %% [markdown]
# *Share of 360 test images read correctly; circles before training, bars after, five seeds in each row. Positions do nothing
# for the linear network and take the other from about 68 % to about 95 %; with other writers it is about 90 %. One small network, one recipe.*
#
# The first two rows are the proof, measured: a linear network sees the mean patch, four numbers, wherever the patches stood.
# The last two are the surprise. No token ever learned what any other token contains, and nineteen digits of twenty are read. On
# these small, centred digits, "some ink at this place" adds up to an answer. So digits can show that a network works; they
# can never show what comparing patches is good for.
#
# Is there a task that this network cannot learn? Chapter 06 has one, in which a patch must find its twin.
#
# ## What we left out
#
# Patches may overlap, and a few ordinary convolutions in place of the one matrix often train better. Positions can also enter by
# turning vectors inside attention (rotary positions, [`rope_2d`](../minivit/nn/patches.py#rope_2d)), and when images grow, learned ones
# have to be [resized](../minivit/nn/patches.py#resize_positions). In a ViT the class token has a position of its own, one more constant.
#
# **Further reading.** Dosovitskiy and others, *An Image is Worth 16x16 Words* (2021), section 3.1: equation 1 is this chapter. Beyer,
# Zhai and Kolesnikov, *Better plain ViT baselines for ImageNet-1k* (2022), two pages: sine and cosine positions and the mean in place of the class token.
# Brendel and Bethge, *Approximating CNNs with Bag-of-local-Features models works surprisingly well on ImageNet* (2019): how far
# patches that never meet get on photos.
#
# ## In three sentences
#
# Reshape, transpose, reshape turns an image into a row of patches, and one shared matrix, which is a convolution whose stride is its
# width, turns patches into tokens. Positions are added so that order can matter, and they matter only where something nonlinear sees
# content and place together. An image becomes a sequence, then, by cutting, embedding and marking places; what it has not become
# is a conversation, since no token knows of another, and the class token waits for news.
#
# **From earlier chapters**: `pos` has shape (N, D) and is added to (B, N, D); what shape does its gradient have, and what was summed
# (chapter 03)? Why is the last row of the chart lower, and which row would you quote to a post office (chapter 04)?
#
# **To leave with**: a photo of 224×224×3, patches of 16×16, D = 768. Give N, the shape of E, and the shape of the tokens of two photos
# with a class token. Which of these numbers change when the photo becomes 384×384?
