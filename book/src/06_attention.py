# ---
# jupyter:
#   minivit:
#     title: Attention
#     question: How do tokens talk?
#     here: [tokens, attention]
#     minutes: 50
#     exercises: [attention, attention_bug, attention_vjp, two_maps_one_output]
#     builds: [attention, composed.attention_weights]
# ---

# %% [markdown]
# *The cat refused to eat the food because it was cold.* What was cold? You know at once; and had the last word been "hungry",
# "it" would have been somebody else. To read "it" you looked back, weighed a few words against each other, and took over what
# one of them means. In chapter 05 tokens lived alone. Attention is how they look back, as arithmetic.
#
# We begin with words and vectors made up by hand, for this one example. Each word shows a **key**, three numbers that say what it
# is: names a thing, is alive, lies on a plate. The word "it" sends out a query: what it is looking for, in the same three
# numbers. Query times key, a dot product, is the score; chapter 04's softmax turns eleven scores into shares.

# %%
import json

import matplotlib.pyplot as plt
import numpy as np

import minivit as mv

words = ["the", "cat", "refused", "to", "eat", "the", "food", "because", "it", "was",
         "cold"]  # fmt: skip
keys, values = np.zeros((11, 3)), np.zeros((11, 2))
keys[1], keys[6] = (1, 1, 0), (1, 0, 1)  # the cat: a living thing; the food: on a plate
values[1], values[6] = (1, 0), (0, 1)  # what they hand over: "pet", "meal"
queries = {"it … cold": (2, 0, 2), "it … hungry": (2, 2, 0)}
weights = {name: mv.softmax(keys @ q).numpy() for name, q in queries.items()}
print({name: a[[1, 6]].round(2) for name, a in weights.items()}, "cat, food")

# %% [markdown]
# The query of a cold "it" asks for a thing on a plate, that of a hungry one for a thing that lives. Every word also holds a
# **value**: what it hands over when it is asked. Only two of ours hold anything, (1, 0) for the cat, "pet", and (0, 1) for the food,
# "meal". The largest share of the cold query goes to "food". **What does "it" receive?** (a) The food's value. (b) The
# cat's. (c) A value that no word holds.

# %% tags=["hide-output"]
guess = ...  # "a", "b" or "c"
for name, a in weights.items():
    print(f"{name:11} receives {(a @ values).round(2)}, largest share {a.max():.2f}")

# %% [markdown]
# (c). Attention does not pick a word; it averages the values of *all* words, each with its share. Even the nine that match nothing take
# part. That is a strength: an average has a gradient with respect to each share, a choice has none.

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.4), sharey=True, layout="constrained")
labels = [f"{i} {word}" for i, word in enumerate(words)]
for ax, (name, a) in zip(axes, weights.items(), strict=True):
    ax.barh(labels, a, color=mv.viz.BLUE)
    ax.set(title=f"“{name}” asks", xlabel="share", xlim=(0, 1))
axes[0].invert_yaxis()
cold, hungry = weights.values()
mv.viz.show(fig, alt="Two bar charts of the shares of eleven words. Asked by a cold "
            f"it: food {cold[6]:.2f}, cat {cold[1]:.2f}, each other word {cold[0]:.2f}. "
            f"By a hungry it: cat {hungry[1]:.2f}, food {hungry[6]:.2f}.")  # fmt: skip

# %% [markdown]
# *The shares that "it" gives to each word: one list of keys, two queries, two answers. Vectors of a trained model are not so tidy.*
#
# One thing we passed over. How does "it" know that "cold" follows? Its query must come from a vector that took in "cold" before, in an
# earlier round of attention: one reason why there will be layers. (Recurrent networks, the older way, read step by step; what the cat was
# had to survive six words on its way to "it". Attention compares all pairs at once.)
#
# ## One head
#
# In a network nobody writes keys by hand. Tokens $x$ of shape (T, D) are multiplied by three matrices, which are learned:
#
# $$q = xW_q, \quad k = xW_k, \quad v = xW_v, \qquad A = \operatorname{softmax}\!\Big(\frac{qk^\top}{\sqrt d}\Big), \quad y = Av$$
#
# By hand, for two tokens: say the scores after the division are $(\ln 3, 0)$, the shares then $(\tfrac34, \tfrac14)$, and values 8 and 4
# make $\tfrac34 \cdot 8 + \tfrac14 \cdot 4 = 7$. Why $\sqrt d$ stands there is the next section.

# %% tags=["check", "break"]
rng = np.random.default_rng(0)
five = mv.data.digits().test.images[[2, 0, 1, 3, 4]] / 255  # 0, 1, 3, 7, 8
x = mv.patchify(five, 2) @ rng.standard_normal((4, 48)) + mv.nn.sincos_2d(4, 4, 48)
W_q, W_k, W_v = rng.standard_normal((3, 48, 8)) / 48**0.5  # (D, d) each


def my_attention(q, k, v):  # (…, T, d), (…, S, d), (…, S, e) -> (…, T, e), (…, T, S)
    A = mv.softmax(q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5)  # row i: token i asks
    return A @ v, A


q, k, v = x @ W_q, x @ W_k, x @ W_v  # (B, T, D) -> (B, T, d), three times
y, A = my_attention(q, k, v)
print(y.shape, A.shape, np.allclose(y.numpy(), mv.attention(q, k, v).numpy()))
try:
    mv.attention(q, k, v[:, :12])  # values of twelve of the sixteen tokens
except mv.ShapeError as error:
    print(type(error).__name__, error)

# %% [markdown]
# The library's is [`mv.attention`](../minivit/engine/composed.py#attention), and the table alone is
# [`mv.composed.attention_weights`](../minivit/engine/composed.py#attention_weights). From here on we use those.
#
# "Queries, keys and values" sounds like three inputs. There is one, $x$, seen in three ways, hence **self-attention**. What
# broke was the attempt to bring values of twelve tokens to the keys of sixteen: token $j$ is found by its key and gives its value,
# so these two belong to the same tokens. Queries may come from elsewhere, T askers and S answerers; below, one token will ask
# sixteen.
#
# *Your turn* ([`attention`](../exercises/ch06.py#attention), ★★, 20 minutes), with Tensors in and out; then
# [`attention_bug`](../exercises/ch06.py#attention_bug) (★★, 15 minutes): a listing that runs, with three faults.

# %% tags=["your-turn"]
from exercises import check


def attention(q, k, v):  # Tensors (…, T, d), (…, S, d), (…, S, e) -> (…, T, e)
    ...


check("attention", attention)

# %% [markdown]
# The listing, to be repaired here or in the file:


# %% tags=["your-turn"]
def attention_bug(x, w_q, w_k, w_v):  # (B, T, D), three (D, d) -> (B, T, d)
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    scores = q @ k.transpose(0, 2, 1)
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights = e / e.sum(axis=1, keepdims=True)
    return weights @ v / np.sqrt(x.shape[-1])


check("attention_bug", attention_bug)

# %% [markdown]
# ## What kind of thing is the table?
#
# People call $A$ the "attention weights". Weights are what training changes, and ours are drawn and fixed: $W_q$, $W_k$, $W_v$. Now the
# head reads the 7 and then the 8. **How many of the 256 entries of $A$ are the same for both**, to three digits? All, some, or next to none?

# %% tags=["hide-output"]
guess = ...  # "all", "some", "none"
seven, eight = A.numpy()[3:]
equal = int((seven.round(3) == eight.round(3)).sum())
print("equal to three digits:", equal, "of", seven.size)
learned = W_q.size + W_k.size + W_v.size
print("numbers to learn:", learned, "for 16 tokens or for 16,000")

# %% [markdown]
# Next to none. The table is computed anew from each image; what is learned is *how* to compute it. The number of parameters does not depend on the
# number of tokens, which is why the same head reads a small image and a large one.
#
# Second question. We set $W_k = W_q$, so that queries and keys are the same vectors and the score of $i$ with $j$ is that of $j$ with $i$.
# **Is the table symmetric then?** Yes or no?

# %% tags=["hide-output"]
guess = ...  # "yes" or "no"
scores = q[3] @ q[3].T / 8**0.5  # (T, T), keys = queries
tied = mv.softmax(scores).numpy()
for name, m in (("scores, tied", scores), ("A, tied", tied), ("A, our head", seven)):
    print(f"{name:12} largest entry of |A - Aᵀ|: {np.abs(m - m.T).max():.2f}")
columns = seven.sum(axis=0)
print("rows of A sum to", *np.unique(seven.sum(axis=1).round(6)), end=", ")
print(f"columns to {columns.min():.2f} up to {columns.max():.2f}")

# %% [markdown]
# No. The scores are symmetric, the shares are not: softmax divides row $i$ by the sum of row $i$, and another row has another sum. You may give
# a friend half of your attention while the friend divides theirs among many. Read the table by rows: row $i$ says how token $i$ divides its attention.
# A column may sum to anything, since some tokens are asked by many.
#
# ## Why divide by √d?
#
# Take vectors whose entries have mean 0 and variance 1, sixteen keys, and scores without the division. With $d = 4$ the largest of the sixteen
# shares is about 0.4 on average. **And with $d = 1{,}024$?** (a) Smaller: more numbers average out. (b) About the same. (c) Almost 1.

# %% tags=["hide-output"]
guess = ...  # "a", "b" or "c"
widths, found = 2 ** np.arange(11), []
for d in widths:
    # 200 times sixteen queries, sixteen keys
    a, b = rng.standard_normal((2, 200, 16, d))
    s = a @ b.swapaxes(-1, -2)  # (200, 16, 16)
    largest = [mv.softmax(z).numpy().max(axis=-1).mean() for z in (s, s / d**0.5)]
    found.append([s.std(), *largest])
spread, bare, divided = np.transpose(found)
for d in (4, 64, 1024):
    i = widths.tolist().index(d)
    print(f"d = {d:4}: scores spread by {spread[i]:4.1f}, largest share {bare[i]:.2f}")

# %% [markdown]
# (c), and the spread of the scores says why. A score is a sum of $d$ products $q_i k_i$. Each has mean 0 and variance
# $1 \cdot 1 = 1$; variances of independent numbers add, so the score has variance $d$ and spread $\sqrt d$. (a) confuses
# a sum with a mean. Divided by $\sqrt d$, scores have spread 1 at every width.

# %%
fig, (ax, bx) = plt.subplots(1, 2, figsize=(8.6, 3.2), layout="constrained")
ax.loglog(widths, spread, "o", color=mv.viz.INK, label="measured")
ax.loglog(widths, widths**0.5, color=mv.viz.PALE, label="√d")
bx.semilogx(widths, bare, "s--", color=mv.viz.VERMILLION, label="scores as they are")
bx.semilogx(widths, divided, "o-", color=mv.viz.BLUE, label="divided by √d")
ax.set(xlabel="width d of queries and keys", ylabel="spread of the scores")
bx.set(xlabel="width d of queries and keys", ylabel="largest of 16 shares", ylim=(0, 1))
ax.legend(frameon=False)
bx.legend(frameon=False)
mv.viz.show(fig, alt=f"Two charts against d, 1 to {widths[-1]}. Spread of the scores: "
            f"{spread[0]:.1f} to {spread[-1]:.0f}, along √d. Mean largest of 16 shares "
            f"at d = {widths[-1]}: {bare[-1]:.2f} with scores as they are, "
            f"{divided[-1]:.2f} when divided.")  # fmt: skip

# %% [markdown]
# *Random queries and keys, 200 draws for each width. Undivided, wide heads give nearly everything to one key before anything was
# learned. Real tokens are not random numbers; the argument is about the start of training.*
#
# ## Back through softmax
#
# Why is a decided head bad at the start? Because it cannot learn. Our two tokens again: shares $(\tfrac34, \tfrac14)$, values 8 and 4,
# output 7. A little more score for the first moves $\tfrac34 \cdot \tfrac14 = \tfrac{3}{16}$ of share from the second to it, and the output
# by $\tfrac{3}{16}(8 - 4) = \tfrac34$. In general, for one row with shares $a$ and $g$ the gradient of the shares:
#
# - $a_j = e^{s_j} / \sum_m e^{s_m}$. Above the line, $s_i$ appears only in $a_i$: it adds $a_i$ to the slope of $a_i$;
# - below the line it appears in every $a_j$, and takes away $a_j a_i$;
# - so $\partial a_j / \partial s_i = a_j\,(\delta_{ij} - a_i)$, with $\delta_{ij}$ 1 where $i = j$, else 0;
# - and the gradient of the scores is $\sum_j g_j\,a_j(\delta_{ij} - a_i) = a_i\,\big(g_i - \sum_j g_j a_j\big)$.


# %% tags=["check"]
@mv.op
def my_softmax(xp, s):  # (…, n) -> (…, n)
    a = xp.exp(s - s.max(axis=-1, keepdims=True))
    a = a / a.sum(axis=-1, keepdims=True)
    return a, lambda g: (a * (g - (g * a).sum(axis=-1, keepdims=True)),)


report = mv.gradcheck(my_softmax, rng.standard_normal((3, 5)))
print("gradcheck:", report.split(", worst")[0])
for start in (np.log([3.0, 1.0]), 8 * np.log([3.0, 1.0])):
    s = mv.Tensor(start, requires_grad=True)
    a = my_softmax(s)
    (a * np.array([8.0, 4.0])).sum().backward()
    print("shares", a.numpy().round(4).tolist(), "gradient", s.grad.round(4).tolist())
print("gradients sum to 0:", abs(s.grad.sum()) < 1e-12)

# %% [markdown]
# Each score's gradient is its share, times how much its value beats the average. The sum is 0, as it must be: adding 5 to all scores changes
# nothing. And the last line has its scores eight times as large, which is what $d = 64$ does without the division. There the first share
# is nearly 1: its value *is* the average, the other's share is next to nothing, and both gradients vanish. Right or wrong, such a head stays
# as it is.
#
# *Your turn* ([`attention_vjp`](../exercises/ch06.py#attention_vjp), ★★★, 30 minutes): all of attention, backwards. This formula, and
# chapter 03's for a product, twice.


# %% tags=["your-turn"]
def attention_vjp(g, q, k, v):  # arrays (…, T, e), (…, T, d), (…, S, d), (…, S, e)
    ...  # return dq, dk, dv


check("attention_vjp", attention_vjp)

# %% [markdown]
# ## Find my twin
#
# Now the task that chapter 05 promised. An image has 4×4 patches, each with one of eight marks in one of four colours. The first patch, top left,
# is grey. Exactly one of the others shows the same mark: its twin. **The answer is the twin's colour.** Find it in these four before you read on.

# %%
twin = mv.data.twin()
x, test_x = (mv.data.standardise(part.images, twin.mean, twin.std).astype(np.float64)
             for part in (twin.train, twin.test))  # fmt: skip
y, test_y, where = twin.train.labels, twin.test.labels, twin.test.extra["twin"]
colours = twin.test.extra["colours"][:, 1:, None] == np.arange(4)  # (n, 15, 4)
commonest = colours.sum(axis=1).argmax(axis=1)
rule = (commonest == test_y).mean()
fig = mv.viz.pictures(twin.test.images[:4], "ABCD", tile=2)
names = ", ".join(f"{n} {twin.class_names[test_y[i]]}" for i, n in enumerate("ABCD"))
mv.viz.show(fig, alt="Four images of 4×4 patches with coloured marks, the first patch "
            f"grey. Answers: {names}; the twins are patches "
            f"{', '.join(map(str, where[:4]))} from 0. Guessing the commonest colour is "
            f"right in {rule:.0%} of {len(test_y):,} images.")  # fmt: skip

# %% [markdown]
# *Four of 2,000 test images. Which patch matters depends on what another patch shows; no patch by itself tells.*
#
# Without comparing, the best one can do is to name the commonest colour of the image. Two networks try. First chapter 05's reader, with
# positions and a ReLU, for patches of 4×4 in colour.


# %%
class PatchReader(mv.nn.Module):
    def __init__(self, dim=64):
        self.embed = mv.nn.PatchEmbed(patch_size=4, in_channels=3, dim=dim)
        self.pos = mv.nn.Parameter(mv.nn.sincos_2d(4, 4, dim, base=100))
        self.fc1, self.fc2 = mv.nn.Linear(dim, 2 * dim), mv.nn.Linear(2 * dim, dim)
        self.head = mv.nn.Linear(dim, 4)

    def forward(self, images):  # (B, 16, 16, 3) -> (B, 4)
        tokens = self.embed(images) + self.pos  # (B, 16, D)
        return self.head(self.fc2(mv.relu(self.fc1(tokens))).mean(axis=1))


# %% [markdown]
# Then a single head in which only patch 0 asks. It has no positions and no ReLU, and fewer parameters. (`unit` and `scale` are for an experiment below.)


# %%
class OneHead(mv.nn.Module):
    def __init__(self, dim=32, unit=False, scale=None):
        self.embed = mv.nn.PatchEmbed(patch_size=4, in_channels=3, dim=dim)
        self.q, self.k, self.v = (mv.nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.head = mv.nn.Linear(dim, 4)
        self.unit, self.scale = unit, scale

    def views(self, images):  # -> q (B, 1, D), k and v (B, 16, D)
        x = self.embed(images)
        x = x / (x * x).mean(axis=-1, keepdims=True).sqrt() if self.unit else x
        return self.q(x[:, :1]), self.k(x), self.v(x)

    def forward(self, images):
        return self.head(mv.attention(*self.views(images), self.scale)[:, 0])


# %% [markdown]
# The loop is chapter 04's. `table` returns the sixteen shares that patch 0 gives in each image.


# %%
def train(model, x, y, epochs, seed, rate=0.1, size=64):
    for epoch in range(epochs):
        for batch in mv.data.batches(len(x), size, seed=seed, epoch=epoch):
            loss = mv.cross_entropy(model(mv.Tensor(x[batch])), y[batch])
            model.zero_grad()
            loss.backward()
            for p in model.parameters():
                p.data -= rate * p.grad


def right(model, x, y):  # the share of right answers
    with mv.no_grad():
        return float((model(mv.Tensor(x)).numpy().argmax(axis=1) == y).mean())


def table(model, x):  # -> (B, 16)
    with mv.no_grad():
        q, k, _ = model.views(mv.Tensor(x))
        return mv.composed.attention_weights(q, k, model.scale).numpy()[:, 0]


# %% [markdown]
# Both from one seed, three times through 8,000 training images:

# %%
for network in (PatchReader, OneHead):
    with mv.random.drawing_from(mv.random.stream(0, "init")):
        model = network().astype(np.float64)
    before = right(model, test_x, test_y)
    if network is OneHead:
        untrained = table(model, test_x)  # (n, 16), for later
    train(model, x, y, epochs=3, seed=0)
    score = f"untrained {before:.0%}, trained {right(model, test_x, test_y):.0%}"
    print(f"{network.__name__:11} {model.num_parameters():6,} numbers: {score}")
print(f"the commonest colour: {rule:.0%}")

# %% [markdown]
# The reader stays below the rule; one head, with less than a quarter of the parameters, makes no mistake. One seed, again, proves little:
# `python -m scripts.chapter_05_06_runs 06` trains both from five seeds, the reader three times as long. The results are stored.

# %%
with open("assets/06_runs.json", encoding="utf-8") as file:
    runs = json.load(file)["runs"]
for network in ("PatchReader", "OneHead"):
    scores = [run["test"] for run in runs if run.get("network") == network]
    print(f"{network:11} five seeds: {min(scores):.0f} to {max(scores):.0f} % right")


def solved(**kind):  # runs of a kind, and how many of them end above 99 %
    ends = [r["curve"][-1] for r in runs if kind.items() <= r.items()]
    return f"{sum(end > 99 for end in ends)} of {len(ends)}"


# %% [markdown]
# This time we know where a head *should* look. Ours is right on all 2,000 test images. **In what share of them does the largest of the
# sixteen shares lie on the twin?** (a) Nearly all. (b) About half. (c) One in sixteen.

# %% tags=["hide-output"]
guess = ...  # "a", "b" or "c"
trained = table(model, test_x)  # (n, 16)
peak, everyone = trained.argmax(axis=1), np.arange(len(where))
on_twin, on_asker = (peak == where).mean(), (peak == 0).mean()
print(f"largest on the twin: {on_twin:.0%}, on patch 0: {on_asker:.0%} of the images")
ahead = trained[:, 1:].argmax(axis=1) + 1 == where
print(f"twin ahead of the other fourteen: {ahead.mean():.0%}")
of_twin, of_asker = trained[everyone, where].mean(), trained[:, 0].mean()
print(f"mean share of the twin {of_twin:.2f}, of patch 0 {of_asker:.2f}")

# %% [markdown]
# (b). Patch 0 carries the same mark, so its own key answers its query as well as the twin's does; which of the two is a hair ahead varies from
# image to image. It costs nothing: patch 0 is grey, and its value speaks for no colour. (a) takes a map for a reason. A table shows from where values
# were fetched, not which of them decided.

# %%
rows = [twin.test.images[:4], *(a[:4].reshape(4, 4, 4) for a in (untrained, trained))]
names = ("image", "untrained", "trained")
fig, axes = plt.subplots(3, 4, figsize=(8, 6.2), layout="constrained")
for line, images, name in zip(axes, rows, names, strict=True):
    for i, ax in enumerate(line):
        drawn = ax.imshow(images[i], "cividis", vmin=0, vmax=0.6, extent=(0, 16, 16, 0))
        r, c = np.divmod(where[i], 4) * np.array(4) + 2  # the twin's middle, in pixels
        ax.plot(c, r, "s", mfc="none", mec=mv.viz.VERMILLION, ms=28, mew=2.5)
        ax.set(xticks=[], yticks=[], title="ABCD"[i], ylabel="" if i else name)
fig.colorbar(drawn, ax=axes[1:], label="share")
mv.viz.show(fig, alt="Four images, a frame round each twin, and 4×4 maps of the shares "
            f"that patch 0 gives. Untrained: no share above {untrained[:4].max():.2f}. "
            f"Trained: the twin gets {trained[range(4), where[:4]].min():.2f} or more, "
            "patch 0 nearly as much.")  # fmt: skip

# %% [markdown]
# *Above, the four images, their twins framed; below, the sixteen shares that patch 0 gives before training and after. Untrained, no patch stands out.
# Trained, two share nearly everything, the twin and the asker itself, and the map cannot say which of the two mattered.*
#
# To find out what decides, take it away: paint one patch black in every image, first the twin, then, as a control, some other patch.

# %%
patches = mv.patchify(twin.test.images, 4)  # (n, 16, 48)
for name, gone in (("the twin", where), ("another patch", where % 15 + 1)):
    cut = patches.copy()
    cut[np.arange(len(cut)), gone] = 0  # black
    images = mv.data.standardise(mv.unpatchify(cut, 4, 16), twin.mean, twin.std)
    print(
        f"without {name}: {right(model, images.astype(np.float64), test_y):.0%} right"
    )

# %% [markdown]
# Without the twin the head guesses; any other patch it does not miss. Deletion tests what a map suggests.
#
# *Your turn* ([`two_maps_one_output`](../exercises/ch06.py#two_maps_one_output), ★★, 12 minutes): a table and its values are given. Find another
# table that gives exactly the same output.


# %% tags=["your-turn"]
def two_maps_one_output(weights, v):  # (T, T), (T, d) -> another (T, T)
    ...


check("two_maps_one_output", two_maps_one_output)

# %% [markdown]
# ## √d, tried
#
# Last, the experiment for the argument about $\sqrt d$: the same head with $d = 64$, divided or not. Each token is first divided by the root mean square of
# its entries (`unit`), so that they have the size which the argument assumed; chapter 08 makes that a part of the network. Four learning rates, five seeds
# each, three epochs; stored runs of the script named above.

# %%
fig, (ax, bx) = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True, layout="constrained")
for run in [run for run in runs if run.get("unit")]:
    colour, mark = ((mv.viz.VERMILLION, "s"), (mv.viz.BLUE, "o"))[run["divided"]]
    if run["rate"] == 0.1:
        ax.plot(25 * np.arange(16), run["curve"], mark + "-", color=colour, ms=3)
    bx.semilogx(run["rate"], run["curve"][-1], mark, color=colour, mfc="none")
ax.set(xlabel="steps", ylabel="right on test images (%)", title="learning rate 0.1")
bx.set(xlabel="learning rate", title="after 375 steps: ○ divided, □ not")
ours, bare = solved(unit=True, divided=True), solved(unit=True, divided=False)
mv.viz.show(fig, alt="Accuracy of a head of width 64 by steps, and after 375 steps at "
            f"four learning rates, five seeds each. Above 99 % in the end: {ours} runs "
            f"divided by √d, {bare} not divided; most of these stay near 75 "
            "%.")  # fmt: skip
ours, bare = solved(unit=False, divided=True), solved(unit=False, divided=False)
print(f"small tokens, above 99 %: {ours} divided, {bare} not")

# %% [markdown]
# *Test accuracy of one head, one line or mark for each seed. Divided, it solves the task at the three larger rates; at 0.01 three epochs are too
# few. Not divided, it sticks: some marks were confused early, by shares near 1, and no gradient is left to undo it.*
#
# One caution, in the last printed line. Without `unit` our tokens are smaller, and the scores with them. There the undivided head solves the task in all
# ten runs, the divided one, slower, at the larger of two rates. A missing $\sqrt d$ may go unnoticed until something else changes: that a program learns
# does not prove it right.
#
# ## What it costs
#
# Every token asks every token. Scores and averages take $2T^2d$ multiplications, the three projections $3TDd$, and the table $4T^2$ bytes. We count
# them for $D = d = 64$, with the ratio of the first two; chapter 11 measures.

# %%
for what, tokens in (("digit", 16), ("photo, patches", 196), ("photo, pixels", 224**2)):
    pairs, projections = 2 * tokens**2 * 64, 3 * tokens * 64 * 64  # D = d = 64
    size, ratio = 4 * tokens**2 / 2**20, pairs / projections
    print(f"{what:14} {tokens:6,} tokens, table {size:8.3f} MiB, ratio {ratio:5.1f}")

# %% [markdown]
# Twice the width and height make four times the patches and sixteen times the table. For few tokens the projections cost more than talking does; for pixels, the
# table is all that counts.
#
# ## What we left out
#
# Language models hide the words to come: their scores are set to −∞ before softmax. Our head had no positions, because only the mark matters. And there are ways to
# compute the same without ever storing the whole table; the multiplications remain.
#
# **Further reading.** Vaswani and others, *Attention Is All You Need* (2017), section 3.2.1, whose footnote is our argument for $\sqrt d$. Bahdanau, Cho
# and Bengio, *Neural Machine Translation by Jointly Learning to Align and Translate* (2015), where a recurrent network first looked back. Jain and Wallace,
# *Attention is not Explanation* (2019), and Wiegreffe and Pinter's answer, *Attention is not not Explanation* (2019).
#
# ## In three sentences
#
# A head makes of each token a query, a key and a value; query times key, divided by $\sqrt d$ and passed through softmax, says how each token divides its attention, and
# the values are averaged accordingly. The division keeps the shares soft at the start, because a softmax that has decided passes no gradient back. So tokens talk by
# asking all the others at once and taking home an average of what they hold, and with that one head solves a task that a network of lone patches could not.
#
# **From earlier chapters**: the gradient of cross-entropy, $p - y$, sums to 0 along a row, too; why must it (chapter 04)? In an image of the twin task all patches but the
# first are shuffled; what happens to our head's answer, and what would happen if positions were added (chapter 05)?
#
# **To leave with**: a token's shares are (½, ½, 0, 0) and the values are 8, 4, 1, 1. What is the output, and what is the gradient of each score? What changes
# when 5 is added to all scores, and what when all are multiplied by 5?
