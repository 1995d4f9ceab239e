# ---
# jupyter:
#   minivit:
#     title: Many heads
#     question: Why more than one?
#     here: [attention]
#     minutes: 45
#     exercises: [split_heads, pack_qkv, shuffle_test]
#     builds: [nn.Attention, composed.split_heads, composed.merge_heads]
# ---

# %% [markdown]
# In chapter 06 patch 0 looked for its twin, found it, and brought back its colour: one question, one head. Now it gets
# two questions at once. **What colour is my twin? And what colour is the patch in the lower right corner?** The first
# asks for a thing, wherever it is. The second asks for a place, whatever is there.
#
# The images are those of `mv.data.twin`, and each patch becomes a row of 48 numbers.

# %%

import matplotlib.pyplot as plt
import numpy as np

import minivit as mv

twin = mv.data.twin(n_train=8000, n_val=1, n_test=2000)


def prepare(split):  # -> patches (n, 16, 48) and two colours for each image (n, 2)
    images = mv.data.standardise(split.images, twin.mean, twin.std)
    colours = np.stack([split.labels, split.extra["colours"][:, 15]], axis=1)
    return mv.patchify(images, 4).astype(np.float64), colours


x_train, y_train = prepare(twin.train)
x_test, y_test = prepare(twin.test)
print("patches", x_train.shape, "answers", y_train.shape)

# %% [markdown]
# Four of the images, with both answers. Find them yourself before you read the captions.

# %%
names = twin.class_names
captions = [f"{names[a]}, {names[b]}" for a, b in y_test[:4]]
fig = mv.viz.pictures(twin.test.images[:4], captions, tile=1.9)
same = (twin.test.extra["twin"] == 15).mean()
mv.viz.show(
    fig,
    alt="Four pictures of 4×4 coloured marks, the first mark grey, with the colours of "
    f"its twin and of the lower right corner: {'; '.join(captions)}. Of 2,000 images "
    f"{100 * same:.1f} % have the twin in that corner.",
)

# %% [markdown]
# *Above each image the colour of the twin of the grey mark, then the colour in the lower right corner. In about one
# image of fifteen the two are the same patch, so whoever answers both questions with one colour and finds one of the
# two is right about the other in about 30 %: that is chance here.*
#
# ## One head
#
# A **head** is what chapter 06 built: three projections and `mv.attention`. To be able to have several, we put them in a
# list, each with its own matrices and `1/n` of the width. What they bring back is written side by side, and one more
# Linear mixes it.


# %%
class Head(mv.nn.Module):
    def __init__(self, D, d):
        self.q, self.k, self.v = (mv.nn.Linear(D, d) for _ in range(3))

    def forward(self, x):  # (B, T, D) -> (B, T, d)
        return mv.attention(self.q(x), self.k(x), self.v(x))


class Heads(mv.nn.Module):
    def __init__(self, D, heads):
        self.list = [Head(D, D // heads) for _ in range(heads)]
        self.proj = mv.nn.Linear(D, D)

    def forward(self, x):  # (B, T, D) -> heads times (B, T, d) -> (B, T, D)
        return self.proj(mv.concatenate([head(x) for head in self.list], axis=-1))


# %% [markdown]
# Round it the least that can answer: patches to tokens, a position for each place, attention, and one Linear that
# reads both colours from what patch 0 has got.


# %%
class Seeker(mv.nn.Module):
    def __init__(self, make, positions=True):
        self.embed = mv.nn.Linear(48, 64)
        start = 0.3 * mv.random.current().standard_normal((16, 64))
        self.pos = mv.nn.Parameter(start) if positions else None
        self.attn = make()
        self.read = mv.nn.Linear(64, 2 * 4)  # two questions, four colours

    def forward(self, patches):  # (B, 16, 48) -> (B, 2, 4)
        x = self.embed(patches)
        x = x if self.pos is None else x + self.pos
        return self.read(self.attn(x)[:, 0]).reshape(-1, 2, 4)


# %% [markdown]
# The loop is that of chapter 04, in float64: 300 steps of plain descent with 64 images each. The loss is the mean over
# both questions.


# %%
def fresh(make, seed, positions=True):
    with mv.random.drawing_from(mv.random.stream(seed, "init")):
        return Seeker(make, positions).astype(np.float64)


def trained(model, seed, steps=400, rate=0.3):
    rng = mv.random.stream(seed, "batches")
    for _ in range(steps):
        i = rng.integers(0, len(x_train), 64)
        logits = model(mv.Tensor(x_train[i])).reshape(-1, 4)
        model.zero_grad()
        mv.cross_entropy(logits, y_train[i].reshape(-1)).backward()
        for p in model.parameters():
            p.data -= rate * p.grad
    return model


# %% [markdown]
# One head, 64 wide, gets both questions. It computes one table, so patch 0 has one row of weights, with sum 1, to spend on
# twin and corner. **What does it learn?** (a) To divide its weight evenly: it is right about each in 60 to 65 %. (b) Both,
# near 100 %: 64 numbers have room for two colours. (c) One question entirely; the other stays at chance.

# %% tags=["hide-output"]
guess = ...  # "a", "b" or "c"


def right(model):  # per cent for the two questions
    with mv.no_grad():
        said = model(mv.Tensor(x_test)).numpy().argmax(axis=2)
    return 100 * (said == y_test).mean(axis=0)


for seed in range(3):
    found = right(trained(fresh(lambda: Heads(64, 1), seed), seed))
    print(f"one head, seed {seed}: twin {found[0]:3.0f} %, corner {found[1]:3.0f} %")

# %% [markdown]
# (c), three times of three. Room was not the trouble: what patch 0 receives is *one average* of values, $a\,v_\text{twin} +
# (1-a)\,v_\text{corner}$. Divide the weight, and two colours arrive added up; nothing in the sum says which came from where,
# just as in chapter 05 a sum of linear things could not. With $a$ near ½ each answer is a coin toss between the two colours.
# On average that scores no better than one answer and one guess, and the first question learned gets all the weight.
#
# ## Two heads
#
# Two heads of half the width: two tables, two averages, side by side.

# %%
two = {}
for seed in range(3):
    start = fresh(lambda: Heads(64, 2), seed)
    two[seed] = trained(fresh(lambda: Heads(64, 2), seed), seed), start
    found = right(two[seed][0])
    print(f"two heads, seed {seed}: twin {found[0]:3.0f} %, corner {found[1]:3.0f} %")

# %% [markdown]
# Both, each time, and never more than half the weights in one head. Did they share out the work? Nobody told them to. We
# measure, over the 2,000 test images, how much of its weight patch 0 gives to the twin and to the corner in each head.


# %%
def looks(model, patches):  # patch 0's row of each table: (B, heads, 16)
    with mv.no_grad():
        x = model.embed(mv.Tensor(patches)) + model.pos
        rows = [mv.softmax(h.q(x)[:, :1] @ h.k(x).swapaxes(1, 2) / 32**0.5).numpy()
                for h in model.attn.list]  # fmt: skip
    return np.concatenate(rows, axis=1)


where, every = twin.test.extra["twin"], np.arange(2000)
for seed in range(3):
    for name, model in zip(("trained  ", "untrained"), two[seed], strict=True):
        A = looks(model, x_test)
        on = [(A[every, h, where].mean(), A[:, h, 15].mean()) for h in range(2)]
        said = [
            f"head {h}: twin {t:.2f}, corner {c:.2f}" for h, (t, c) in enumerate(on)
        ]
        print(f"seed {seed} {name}", *said, sep="   ")

# %% [markdown]
# They did, in all three runs: one head for the place, one for the thing. Which of the two takes which depends on the seed.
# Before training both spread their weight evenly, 1/16 to everyone.

# %%
chosen = [0, 2, 3, 4]
rows = np.concatenate([looks(m, x_test[chosen]) for m in two[0][::-1]], axis=1)
labels = [
    "untrained\nhead 0",
    "untrained\nhead 1",
    "trained\nhead 0",
    "trained\nhead 1",
]
fig, axes = plt.subplots(5, 4, figsize=(5.4, 6.6), layout="constrained")
for (i, b), ax in np.ndenumerate(axes):
    ax.set(xticks=[], yticks=[])
    if i == 0:
        ax.imshow(twin.test.images[chosen[b]])
        continue
    ax.imshow(rows[b, i - 1].reshape(4, 4), cmap="cividis", vmin=0, vmax=1)
    ax.plot(*divmod(where[chosen[b]], 4)[::-1], "o", mfc="none", mec="w", ms=17, mew=2)
    ax.plot(3, 3, "s", mfc="none", mec="w", ms=21, mew=1)
    axes[i, 0].set_ylabel(labels[i - 1], rotation=0, ha="right", va="center")
top = rows.max(axis=(0, 2))
mv.viz.show(fig, alt="Four images and, below each, four 4×4 maps of patch 0's attention. The "
            f"largest weight of the untrained heads is {top[0]:.2f} and {top[1]:.2f}; trained, one "
            f"head gives up to {top[2]:.2f} to the corner, the other {top[3]:.2f} to the twin.")  # fmt: skip

# %% [markdown]
# *Where patch 0 looks, on one scale from 0 (dark) to 1 (bright); ring: the twin, square: the corner. Seed 0. That a head looks at
# the twin shows that it could use it, not that it does: chapter 06 took the twin away to find out.*
#
# Not every pair of heads divides so neatly. Here the two questions have nothing in common, and the division pays at once.
#
# ## What a head costs
#
# Count the numbers to be learned in one head of 64, two of 32, four of 16, sixteen of 4. **Does the number grow with the heads,
# stay, or shrink?**

# %% tags=["hide-output"]
guess = ...  # "grows", "stays" or "shrinks"
for n in (1, 2, 4, 16):
    with mv.random.drawing_from(mv.random.stream(0, "init")):
        layer = Heads(64, n)
    print(
        f"{n:2} heads of {64 // n:2}: {layer.num_parameters():,} numbers to learn",
        end="",
    )
    print(f", {n * 16 * 16:5,} entries in the tables of an image")

# %% [markdown]
# It stays. "More heads" sounds like more of everything, but a head gets only its share of the columns: three projections
# of 64 × 64 are cut, not copied. Two things do change. Each head has a table of its own, so there are more entries to
# compute and keep. And each head becomes narrower: with 64 heads, a query is a single number.
#
# ## One product instead of many
#
# Six Linears for two heads, forty-eight for sixteen: many small products, and chapter 11 will show how slow those are. But a
# product treats its columns independently. Put the matrices of all heads side by side and multiply once, then give each
# head its columns. Only the second step needs care. We write features that say where they are, so that nothing can hide: 205
# is feature 5 of token 2.


# %%
def my_split_heads(x, heads):  # (B, T, D) -> (B, heads, T, d)
    B, T, D = x.shape
    return x.reshape(B, T, heads, D // heads).transpose(0, 2, 1, 3)


def my_merge_heads(x):  # (B, heads, T, d) -> (B, T, D)
    B, heads, T, d = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B, T, heads * d)


token, feature = np.mgrid[:5, :12]
x = (100 * token + feature)[None]  # (B, T, D) = (1, 5, 12)
print(my_split_heads(x, 3)[0, 1], "is head 1: columns 4 to 7 of every token")
print("merge undoes split:", np.array_equal(my_merge_heads(my_split_heads(x, 3)), x))

# %% [markdown]
# The reshape splits the last axis into `heads` and `d`; it moves nothing. The transpose then carries the heads in front of the
# tokens, so that each head is a `(T, d)` matrix. (B, 3, 5, 4) is the shape we want, and one reshape reaches it without the detour.
# What could be wrong with that?

# %% tags=["break"]
right_way = my_split_heads(x, 3)
wrong_way = x.reshape(1, 3, 5, 4)
try:
    lost = (wrong_way != right_way).sum()
    assert lost == 0, f"{lost} of {x.size} features are in the wrong place"
except AssertionError as error:
    print(type(error).__name__, error)
print(
    "the first row of head 1:",
    wrong_way[0, 1, 0],
    "where",
    right_way[0, 1, 0],
    "belongs",
)
