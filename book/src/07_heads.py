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
import json

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
# *Above each image the colour of the grey mark's twin, then the colour in the lower right corner. In 7 % of the images the two are one
# patch, and in a quarter of the others their colours agree by accident. So who knows one answer and gives it twice is right about the
# other in 30 %: that is chance here.*
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
    def __init__(self, make):
        self.embed = mv.nn.Linear(48, 64)
        start = 0.3 * mv.random.current().standard_normal((16, 64))
        self.pos = mv.nn.Parameter(start)
        self.attn = make()
        self.read = mv.nn.Linear(64, 2 * 4)  # two questions, four colours

    def forward(self, patches):  # (B, 16, 48) -> (B, 2, 4)
        x = self.embed(patches) + self.pos
        return self.read(self.attn(x)[:, 0]).reshape(-1, 2, 4)


# %% [markdown]
# The loop is that of chapter 04, in float64: 400 steps of plain descent with 64 images each. The loss is the mean over
# both questions.


# %%
def fresh(make, seed):
    with mv.random.drawing_from(mv.random.stream(seed, "init")):
        return Seeker(make).astype(np.float64)


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
# One head, 64 wide, gets both questions. It computes one table, so patch 0 has one row of shares, with sum 1, to spend on
# twin and corner. **What does it learn?** (a) To divide the row evenly: it is right about each in 60 to 65 %. (b) Both,
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
# (c), three times of three. Room was not the trouble. What patch 0 receives is *one average* of values, $a\,v_\text{twin} +
# (1-a)\,v_\text{corner}$. Divide the row, and two colours arrive added up; nothing in the sum says which came from where,
# as in chapter 05, where a sum could not tell places apart. With $a$ near ½ each answer is a coin toss between the two colours.
# In right answers that is worth no more than one answer and one guess; and descent, having found the corner, stays with it.
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
# Both, each time, with heads of half the width. Did the two share out the work? Nobody told them to. We
# measure, over the 2,000 test images, how much of its row patch 0 gives to the twin and to the corner in each head.


# %%
def looks(model, patches):  # patch 0's row of each table: (B, heads, 16)
    with mv.no_grad():
        x = model.embed(mv.Tensor(patches)) + model.pos
        tables = [
            mv.composed.attention_weights(h.q(x), h.k(x)) for h in model.attn.list
        ]
    return np.stack([table.numpy()[:, 0] for table in tables], axis=1)


where, every = twin.test.extra["twin"], np.arange(2000)
for seed in range(3):
    for name, model in zip(("trained  ", "untrained"), two[seed], strict=True):
        A = looks(model, x_test)
        on = [(A[every, h, where].mean(), A[:, h, 15].mean()) for h in range(2)]
        said = [f"twin {t:.2f}, corner {c:.2f}" for t, c in on]
        print(f"seed {seed} {name}: head 0 {said[0]}; head 1 {said[1]}")

# %% [markdown]
# They did, in all three runs: one head for the place, one for the thing. Which of the two takes which depends on the seed.
# Before training both spread it evenly, 1/16 to everyone.

# %%
few = [0, 1, 5, 9]  # four test images
rows = np.concatenate([looks(m, x_test[few]) for m in two[0][::-1]], axis=1)
names = ["untrained 0", "untrained 1", "trained 0", "trained 1"]
fig, axes = plt.subplots(4, 5, figsize=(8.6, 6.2), layout="constrained")
for (b, i), ax in np.ndenumerate(axes):
    ax.set(xticks=[], yticks=[], title="" if b else ["image", *names][i])
    part = rows[b, i - 1].reshape(4, 4) if i else twin.test.images[few[b]]
    ax.imshow(part, cmap="cividis", vmin=0, vmax=1)
    r, c = divmod(where[few[b]], 4)
    if i:
        ax.plot(c, r, "o", mfc="none", mec="w", ms=20, mew=2)
        ax.plot(3, 3, "s", mfc="none", mec="w", ms=26)
top = ", ".join(f"{n} {t:.2f}" for n, t in zip(names, rows.max((0, 2)), strict=True))
mv.viz.show(fig, alt=f"Four images, maps of patch 0's shares. Largest: {top}.")

# %% [markdown]
# *Where patch 0 looks, on one scale from 0 (dark) to 1 (bright); ring: the twin, square: the corner. Seed 0. That a head looks at
# the twin shows that it could use it, not that it does: chapter 06 took the twin away to find out.*
#
# Do not expect such order of every layer. Here the two questions have nothing in common, and dividing them pays at once.
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
    learned, entries = layer.num_parameters(), n * 16 * 16
    print(f"{n:2} of {64 // n:2}: {learned:,} to learn, {entries:5,} entries in tables")

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
print("row 0 of head 1 is", wrong_way[0, 1, 0], "and should be", right_way[0, 1, 0])

# %% [markdown]
# Nothing complained but our own line. The shape is right, every value is there, and 48 of the 60 stand in the wrong head or the
# wrong row. Here is who gets what.

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.4, 3), layout="constrained")
ways = {"reshape, then transpose": right_way, "reshape alone": wrong_way}
for ax, (name, heads) in zip(axes, ways.items(), strict=True):
    owner = np.zeros((5, 12), int)
    for h in range(3):
        owner[heads[0, h] // 100, heads[0, h] % 100] = h
    ax.imshow(owner, cmap="cividis", vmin=-1, vmax=3)
    for (t, f), h in np.ndenumerate(owner):
        ax.text(f, t, h, ha="center", va="center", color="k" if h == 2 else "w")
    ax.set(title=name, xlabel="feature", ylabel="token", xticks=range(0, 12, 4))
mixed = [len(np.unique(heads[0, 0] // 100)) for heads in ways.values()]
words = f"bands, {mixed[0]} tokens in head 0; reshaped: stretches, {mixed[1]} tokens"
mv.viz.show(fig, alt=f"Two grids, 5 tokens by 12 features. Transposed: {words}.")

# %% [markdown]
# *Which of three heads receives each feature. Left: a band of columns from every token. Right: a stretch of memory; head 0 gets
# token 0, most of token 1, and nothing of the others.*
#
# It is one of the commonest faults in attention code, because it runs. Does it train?


# %%
class WrongHeads(mv.nn.Module):
    def __init__(self):
        self.q, self.k, self.v, self.proj = (mv.nn.Linear(64, 64) for _ in range(4))

    def forward(self, x):  # (B, 16, 64) -> (B, 16, 64), two heads
        q, k, v = (part(x).reshape(-1, 2, 16, 32) for part in (self.q, self.k, self.v))
        return self.proj(mv.attention(q, k, v).reshape(-1, 16, 64))


for seed in range(2):
    found = right(trained(fresh(WrongHeads, seed), seed))
    print(f"wrong split, seed {seed}: twin {found[0]:.0f} %, corner {found[1]:.0f} %")

# %% [markdown]
# It trains. It finds the twin more often than chance, and someone who has never seen two good heads may call it a start. Here we can
# compute what went wrong: head 0 holds tokens 0 to 7, cut in halves, so patch 0 never meets the other eight. Its twin is among the first in
# 7 of 15 images; $\tfrac{7}{15} + \tfrac{8}{15} \cdot \tfrac14 = 60\,\%$. At the end of this chapter you write the test that finds such faults.
#
# *Your turn* ([`split_heads`](../exercises/ch07.py#split_heads), ★★, 15 minutes): try to do it in another way than above.

# %% tags=["your-turn"]
from exercises import check


def split_heads(x, num_heads):  # Tensor (B, T, D) -> (B, heads, T, d)
    ...


check("split_heads", split_heads)

# %% [markdown]
# The last step: queries, keys and values are three products of the same `x`, so their matrices can stand side by side too. **Packed**,
# all of attention's first half is one Linear from $D$ to $3D$, columns q | k | v, and in each part head after head. That is
# [`mv.nn.Attention`](../minivit/nn/attention.py#Attention). We hand it the weights of our two trained heads.

# %% tags=["check"]
ours, packed = two[0][0].attn, mv.nn.Attention(64, num_heads=2).astype(np.float64)
columns = [getattr(head, part) for part in "qkv" for head in ours.list]
packed.load_state_dict({
    "qkv.weight": np.concatenate([c.weight.numpy() for c in columns], axis=1),
    "qkv.bias": np.concatenate([c.bias.numpy() for c in columns]),
    "proj.weight": ours.proj.weight,
    "proj.bias": ours.proj.bias,
})  # fmt: skip
x = mv.Tensor(np.random.default_rng(0).standard_normal((3, 16, 64)))
print([(name, p.shape) for name, p in packed.named_parameters()])
print("the same as our list:", np.allclose(packed(x).numpy(), ours(x).numpy()))

# %% [markdown]
# The same, and `Heads` retires. Splitting and merging are [`mv.composed.split_heads`](../minivit/engine/composed.py#split_heads) and
# [`merge_heads`](../minivit/engine/composed.py#merge_heads) from now on. Who brings weights from another library must know *its* order of
# the columns. Some pack them head by head, q, k, v of head 0 first; nothing in the shape (64, 192) tells.
#
# *Your turn* ([`pack_qkv`](../exercises/ch07.py#pack_qkv), ★★★, 20 minutes): put such columns into our order.


# %% tags=["your-turn"]
def pack_qkv(weight, bias, num_heads):  # (D, heads·3·d), (heads·3·d,), both kept
    ...


check("pack_qkv", pack_qkv)

# %% [markdown]
# Not every number of heads is possible, and the library says so:

# %% tags=["break"]
try:
    mv.nn.Attention(64, num_heads=5)
except mv.ConfigError as error:
    print(type(error).__name__, error)

# %% [markdown]
# ## What a head sees
#
# The columns of `qkv.weight` belong to heads: in a layer with four, columns 16 to 31 of the query part are head 1's. A
# token has 64 features. **We change feature 3 of token 9. Can that change what head 1 brings to token 0?** Think of what "its
# slice of the features" means.

# %% tags=["hide-output"]
guess = ...  # "yes" or "no"
with mv.random.drawing_from(mv.random.stream(0, "init")):
    layer = mv.nn.Attention(64, num_heads=4).astype(np.float64)


def brought(x):  # what each head brings, before proj mixes it: (B, heads, T, d)
    qkv = layer.qkv(x)  # (B, T, 3D)
    parts = (qkv[:, :, i * 64 : i * 64 + 64] for i in range(3))
    return mv.attention(*(mv.composed.split_heads(part, 4) for part in parts))


x = mv.Tensor(np.random.default_rng(0).standard_normal((1, 16, 64)), requires_grad=True)
for head in range(4):
    x.zero_grad()
    brought(x)[0, head, 0].sum().backward()
    slope, seen = x.grad[0, 9, 3], np.count_nonzero(x.grad)
    print(f"head {head}: slope {slope:+.0e}; {seen:,} of 1,024 slopes are not 0")

# %% [markdown]
# Yes: every head reads every feature of every token. What is cut is not the input but the *output* of the projections. Head 1's
# sixteen query features are sixteen mixtures of all 64; a head is a point of view, not a region. It sees no part of the image either:
# all sixteen tokens are in its table. (A wrong split, as above, would indeed blind it.)
#
# ## What position adds
#
# Take the positions away. **In the input of an attention layer, tokens 4 and 9 change places. What happens to its outputs?** (a) All
# change, for all look at all. (b) Outputs 4 and 9 change places, nothing else happens. (c) Nothing at all.

# %% tags=["hide-output"]
guess = ...  # "a", "b" or "c"
order = np.arange(16)
order[[4, 9]] = 9, 4
before = layer(x).numpy()
after = layer(mv.Tensor(x.numpy()[:, order])).numpy()
same = [t for t in range(16) if np.allclose(before[0, t], after[0, t])]
print("outputs that stayed:", same)
print("outputs in the new order:", np.allclose(after, before[:, order]))

# %% [markdown]
# (b). Let $\Pi$ be the matrix that puts the rows of $x$ into another order, so that $\Pi^\top \Pi$ changes nothing. In four steps:
#
# - projections treat tokens one by one: $q, k, v$ become $\Pi q, \Pi k, \Pi v$;
# - the scores become $\Pi q\,(\Pi k)^\top = \Pi\,(q k^\top)\,\Pi^\top$: rows and columns change places;
# - softmax works on each row, whatever the order in it, so the table $A$ becomes $\Pi A\, \Pi^\top$;
# - the output becomes $\Pi A\,\Pi^\top \Pi v = \Pi\,(A v)$.
#
# Outputs move with their inputs: attention is **equivariant** to the order of tokens. If a mean follows, even that is gone: the
# result is **invariant**, the same for every order. To attention, an image without positions is a bag of patches.

# %%
pos = np.random.default_rng(1).standard_normal((16, 64))
order = np.random.default_rng(2).permutation(16)
steps = {
    "attention": lambda x: layer(x),
    "attention, then mean": lambda x: layer(x).mean(axis=1),
    "positions, attention, then mean": lambda x: layer(x + mv.Tensor(pos)).mean(axis=1),
}
for name, step in steps.items():
    before = step(x).numpy()
    after = step(mv.Tensor(x.numpy()[:, order])).numpy()
    kept = np.allclose(after, before)
    moved = before.ndim == 3 and np.allclose(after, before[:, order])
    print(f"{name:32} the same: {kept!s:5}  in the new order: {moved}")

# %% [markdown]
# In chapter 05 a sum of positions could be lost in a mean. Here it is not: it enters the scores, where content and place are
# multiplied, and softmax is anything but linear. So positions should pay now, for the question about the corner. The runs for 1
# to 64 heads take two minutes, so they were made beforehand, by
# [`scripts/heads_runs.py`](../scripts/heads_runs.py): the same model and steps with `mv.nn.Attention`, five seeds each.

# %%
with open("assets/07_heads.json") as file:
    runs = json.load(file)
fig, axes = plt.subplots(1, 2, figsize=(8.8, 3.2), layout="constrained")
for k, run in enumerate(runs):
    form, colour = ("o", mv.viz.BLUE) if run["positions"] else ("^", mv.viz.VERMILLION)
    for ax, seeds in zip(axes, np.transpose(run["twin and corner"]), strict=True):
        ax.plot([k] * 5, seeds, form, color=colour, alpha=0.6)
for ax, what in zip(axes, ("the twin's colour", "the corner's colour"), strict=True):
    ax.axhline(30, color="gray", ls=":")
    ax.set(title=what, xlabel="heads (▲ without positions)", ylabel="right (%)", ylim=0)
    ax.set_xticks(range(len(runs)), [str(run["heads"]) for run in runs])
m = [np.mean(run["twin and corner"], axis=0).round().tolist() for run in runs]
words = f"1 head {m[0]}, 2 heads {m[1]}, 64 heads {m[6]}, 2 without positions {m[8]}"
mv.viz.show(fig, alt=f"Dots, five seeds: % right, twin and corner. Means: {words}.")

# %% [markdown]
# *Per cent of 2,000 test images answered rightly after 400 steps, one dot a seed; dotted: chance. Without positions no head finds the
# corner. Narrow heads, 32 and 64 of them, are behind at the twin; more steps help some.*
#
# Two to sixteen heads answer both questions, each seed. One head answers one: with positions the corner, which is quickly learned,
# without them the twin. And the narrowest heads are in trouble. A head of width 1 compares single numbers: $q_i k_j$ is largest where
# $k_j$ is largest or smallest, so it can single out two extremes and no mark between them. The ViT paper's
# heads are 64 to 80 columns wide.
#
# *Your turn* ([`shuffle_test`](../exercises/ch07.py#shuffle_test), ★★, 12 minutes): write the test. It gets a layer and must say what
# shuffling does to it. Beware of orders that are special, and of `==`.


# %% tags=["your-turn"]
def shuffle_test(layer, tokens):  # tokens (B, T, D), an array; so is layer(tokens)
    ...  # return "equivariant", "invariant" or "neither"


check("shuffle_test", shuffle_test)

# %% [markdown]
# Such a test would have found the wrong split: there, tokens depend on who their neighbours in memory are, so shuffled tokens give
# other outputs. It is a good habit. Where a symmetry is promised, test the symmetry.
#
# ## What we left out
#
# Nothing makes heads differ but their first weights and the task; in large models several often do the same, and many can be removed
# after training with little loss. Keys and values may be shared by all heads, which saves memory when text is generated. Positions can
# enter otherwise than by addition: as a number added to each score for each distance, or by turning queries and keys (`rope=True` in
# minivit).
#
# **Further reading.** Vaswani and others, *Attention Is All You Need* (2017), section 3.2.2: two short paragraphs that this chapter
# spelled out. Michel, Levy and Neubig, *Are Sixteen Heads Really Better than One?* (2019), takes heads away. Bhojanapalli and
# others, *Low-Rank Bottleneck in Multi-head Attention Models* (2020), on heads that are too narrow. Cordonnier, Loukas and Jaggi,
# *On the Relationship between Self-Attention and Convolutional Layers* (2020), shows what nine heads with positions can be.
#
# ## In three sentences
#
# Heads are bands of columns: reshape, transpose, attend in all at once, and put the bands side by side again, at no cost in parameters.
# Attention alone commutes with any order of its tokens, so whatever depends on place must come from the positions. Why more than one head?
# Because a head hands each token one average, and whoever asks two questions in one average gets the answers added up.
#
# **From earlier chapters**: why could no choice of positions help the linear, averaging reader of chapter 05? And why does chapter 06
# divide the scores by $\sqrt d$, where $d$ is the width of *one* head and not 64?
#
# **To leave with**: somebody replaces `transpose(0, 2, 1, 3)` in `split_heads` by a reshape to the same shape, and in `merge_heads` too.
# The two still undo each other, and training runs. Which test of this chapter fails, and why does "merge undoes split" not?
