# ---
# jupyter:
#   minivit:
#     title: Start here
#     question: How do I know that it works?
#     here: []
#     minutes: 35
#     exercises: []
#     builds: []
# ---

# %% [markdown]
# This book builds a Vision Transformer: a program that cuts an image into patches and lets the patches ask each other
# questions. You write its gradients, its attention and its training yourself, in Python with NumPy, until it reads
# handwriting.
#
# Here the finished thing comes first, so do not stop at words that are new; they come back, in bold where they are
# explained. One question starts in earnest: how can anybody know that such a program is right?
#
# ## Set up
#
# In the folder of minivit, `make train` makes a Python environment, `.venv`, and trains a first model (without `make`:
# four lines in the [README](../README.md)). Copy the folder `book` to `mine`, so that what you type stays yours: `make
# book` writes its chapters anew. Then `.venv/bin/jupyter lab` opens a browser (Windows: `.venv\Scripts\jupyter lab`);
# the chapters are on the left, in `mine`. If the next cell says "ready", so are you.

# %%
import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minivit as mv

digits = mv.data.digits()  # 1,797 handwritten digits, 8×8 pixels each
print("ready:", digits)

# %% [markdown]
# ## It reads
#
# Here are five images that it was never trained on; they will accompany us through the book. In the first row, what the
# trained model says of each and how sure it is; in the second, the answers of its untrained twin: a model of the same
# size, with the weights with which training began.

# %%
five = digits.test.images[[2, 0, 1, 3, 4]]  # a 0, 1, 3, 7 and 8
trained = mv.load("assets/digits_vit.safetensors")
untrained = mv.create("vit_digits")
untrained.meta = trained.meta  # how its images are prepared
captions = []
for model in (trained, untrained):
    for shares in mv.predict(model, five):  # ten shares for each image, with sum 1
        captions.append(f"“{shares.argmax()}”, {shares.max():.0%}")
mv.viz.show(mv.viz.pictures([*five, *five], captions, columns=5, tile=1.25))

# %% [markdown]
# *Above each image the answer and its share of ten; first row trained, second row not. Five images prove nothing; they
# are for looking at.*
#
# The twin says "0" to everything, each time with a tenth of its conviction. All 360 test images now. **How many does
# the untrained twin get right: none, about 36, or about 180?** And the trained one?
#
# From here on each chapter asks you such questions before it shows a result. Write your guess in the cell, then run it.
# What comes out is folded: a click on the dots, or on the bar at the left, opens it. A guess that was wrong is worth
# more than one that was right, because you will remember why.

# %% tags=["hide-output"]
guess = ...  # for the untrained twin, and for the trained model
for name, model in (("untrained", untrained), ("trained", trained)):
    answers = mv.predict(model, digits.test.images).argmax(axis=1)
    right = (answers == digits.test.labels).sum()
    print(f"{name:9} {right} of {len(digits.test)}, {right / len(digits.test):.0%}")

# %% [markdown]
# Who knows nothing and answers all the same is right by chance in one case of ten. So 10 % is the zero of this scale,
# and a program that reads 12 % has learned next to nothing, however long it ran.
#
# ## What is in the file?
#
# The trained model came out of a file. What is in it: a program, a list of rules, a picture of each digit?

# %%
path = Path("assets/digits_vit.safetensors")
named = list(trained.named_parameters())
for name, p in named[:5]:
    print(f"{name:28} {p.shape}")
numbers = trained.num_parameters()
print(f"… {len(named)} arrays in all, with {numbers:,} numbers")
print(f"4 bytes each: {4 * numbers:,} of the file's {path.stat().st_size:,} bytes")

# %% [markdown]
# Arrays of numbers, each with a name. The few bytes that are left say how large the model is, what its classes are
# called, and how images are prepared for it. There is no program in the file: how the numbers are used stands in
# `minivit/`, on [one page](../minivit/models/vit.py) that you will be able to write yourself after chapter 09. What
# training made is the numbers, and nothing else.
#
# ## It learns
#
# Here is training itself, for a few seconds: one block instead of three, ten times through 1,257 images. How that is
# done is the subject of chapters 02, 03, 04 and 10.


# %%
def fresh():  # one block, its first weights always the same
    return mv.create("vit_digits", depth=1, pool="mean", seed=0).astype(np.float64)


plan = {"epochs": 10, "lr": 0.003, "seed": 0, "progress": False}
young = fresh()
for row in mv.fit(young, digits, **plan).history:
    bar = "█" * round(40 * row["val_accuracy"])
    print(f"after {row['epoch']:2} times: {row['val_accuracy']:4.0%} {bar}")

# %% [markdown]
# The share of 180 other images, kept aside for watching, that it reads after each time through. (The trained model had
# three blocks, and went through them a hundred and fifty times.)
#
# ## It looks
#
# A Vision Transformer cuts each digit into sixteen patches. One more token, the class token, belongs to no patch; from
# it the answer is read. In every block it gives each patch a share of its attention. Those shares are numbers that can
# be fetched from the running model:

# %%
x = mv.data.standardise(five, digits.mean, digits.std)
last, before = (mv.trace(model, x).attention[-1] for model in (trained, untrained))
print(last.shape, "images, heads, who asks, who is asked")
print("rows sum to 1:", np.allclose(last.sum(axis=-1), 1, atol=1e-5))
mv.viz.show(mv.viz.class_attention(five, last, (4, 4), untrained=before))

# %% [markdown]
# *Where the class token looks in the last block, averaged over heads, compared with looking everywhere alike. Yellow:
# more, blue: less; where the image itself shows, about alike. Before training it looks everywhere alike, so what the
# middle row shows was learned. What it does not say is why the answer came out as it did: chapter 06 has a head whose
# strongest share lies beside the point in every second image, and whose answers are all right.*
#
# ## It ran, so it is right
#
# So far a program has run, learned and given good answers. Does that show that it is right? We plant a fault. In
# attention, scores are divided by $\sqrt d$, where $d$ is how many numbers a head compares. We leave that out, and
# nothing else.


# %%
class Forgetful(mv.nn.Module):  # the weights of an attention layer, used without 1 / √d
    def __init__(self, attention):
        self.qkv, self.proj = attention.qkv, attention.proj
        self.num_heads = attention.num_heads

    def forward(self, x, *_):
        parts = mv.split(self.qkv(x), 3, axis=-1)
        q, k, v = (mv.composed.split_heads(part, self.num_heads) for part in parts)
        return self.proj(mv.composed.merge_heads(mv.attention(q, k, v, scale=1.0)))


faulty = fresh()
faulty.blocks[0].attn = Forgetful(faulty.blocks[0].attn)

# %% [markdown]
# It is trained from the same first weights as `young`, with the same images in the same order. **What will it do?** (a)
# Stop with an error. (b) Stay near 10 %. (c) Learn about as well.

# %% tags=["hide-output"]
guess = ...  # "a", "b" or "c"
mv.fit(faulty, digits, **plan)
for name, model in (("young", young), ("faulty", faulty)):
    print(f"{name:6} {mv.evaluate(model, digits.test)[1]:.0%} of the test images right")

# %% [markdown]
# (c). No error, no warning, and a number to be proud of. "It ran, and it learns" cannot tell the two apart. In so small
# a model, with heads of twelve numbers, the fault hardly matters. With wider heads it can keep a model from solving its
# task, as chapter 06 measures; and by then nobody remembers the line.
#
# ## What a test is
#
# A **test** is a small program that runs another one and compares what comes out with something that is known *in
# another way*. What could we know about attention in another way? That it gives one token for each token; that no
# number in it is infinite; that shuffled tokens give shuffled answers; that its gradients are what small steps say.
# And, slow but plain, what the formula gives when it is followed one token at a time:


# %%
def slowly(layer, x):  # x (T, D): the formula, one head and one token at a time
    T, D = x.shape
    d = D // layer.num_heads
    qkv = x @ layer.qkv.weight.numpy() + layer.qkv.bias.numpy()  # (T, 3D)
    found = np.zeros((T, D))
    for start in range(0, D, d):
        q, k, v = (qkv[:, part * D + start :][:, :d] for part in range(3))
        for i in range(T):
            e = np.exp([q[i] @ k[j] / math.sqrt(d) for j in range(T)])
            found[i, start : start + d] = e / e.sum() @ v
    return found @ layer.proj.weight.numpy() + layer.proj.bias.numpy()


# %% [markdown]
# You need not follow it yet; chapters 06 and 07 build it up. The five tests get an attention layer and say yes or no.
# **How many of the five does the faulty layer fail?**

# %% tags=["hide-output"]
guess = ...  # 0 to 5


def tests(layer):
    rng = np.random.default_rng(0)
    x, order = rng.standard_normal((1, 17, 48)), rng.permutation(17)
    y = layer(mv.Tensor(x)).numpy()
    yield "one token for each token", y.shape == x.shape
    yield "all numbers finite", bool(np.isfinite(y).all())
    shuffled = layer(mv.Tensor(x[:, order])).numpy()
    yield "shuffled in, shuffled out", np.allclose(shuffled, y[:, order])
    report = mv.gradcheck(layer, x)  # chapter 03's referee
    yield "gradients are what small steps say", "ok" in report
    yield "as the formula, done slowly", np.allclose(y[0], slowly(layer, x[0]))


right = young.blocks[0].attn
for (name, one), (_, other) in zip(tests(right), tests(Forgetful(right)), strict=True):
    print(f"{name:35} right: {one!s:5} faulty: {other}")

# %% [markdown]
# One. Four of the five pass, and not because they are careless: what they ask about is as it should be. The faulty
# layer *has* the right shape, treats tokens alike, and its gradients are the true gradients of the wrong formula.
#
# So this is what a passing test proves: that for the inputs that were tried, the one thing that was asked is so. It
# leaves open all other inputs and all other questions. A test is worth as much as the faults that would make it fail.
# How do you find out? As here: plant a fault, and watch. A test that cannot fail is decoration.
#
# A program can also test what it is given. Some cells of this book break on purpose, to show what it then says:

# %% tags=["break"]
try:
    trained(x[:, :7])  # the last row of pixels is missing
except mv.ShapeError as error:
    print(type(error).__name__, error)

# %% [markdown]
# The library is held in these ways: gradients [by small steps](../tests/engine/test_gradients.py), fast formulas
# [against slow ones](../tests/engine/test_fused.py), results against [another
# library's](../tests/golden/test_golden_timm.py), and [planted faults](../tests/engine/test_planted_faults.py) that all
# these must catch. `make test` runs them.
#
# ## 98.3 beats 98.1?
#
# A last trap. Scores are numbers, and numbers look like proof. A **seed** is the number from which all chance in a
# training run is drawn: first weights, order of images. `python -m scripts.start_runs` trained both kinds, with three
# blocks and thirty times through the images. With seed 0 the right model reads 97.8 %, the faulty one 97.5 %. The right
# one wins. **In how many of the five seeds?**

# %% tags=["hide-output"]
guess = ...  # 1 to 5
with open("assets/00_runs.json", encoding="utf-8") as file:
    runs = json.load(file)["test_accuracy"]
runs = {kind: 100 * np.array(found) for kind, found in runs.items()}
for kind, found in runs.items():
    print(f"{kind:6} {found.round(1)}  from {found.min():.1f} to {found.max():.1f} %")
print("the right one is ahead in", (runs["right"] > runs["faulty"]).sum(), "of 5 seeds")

# %% [markdown]
# Here are the same ten runs as a picture.

# %%
fig, ax = plt.subplots(figsize=(7, 2.2), layout="constrained")
for pair in zip(*runs.values(), strict=True):
    ax.plot(pair, [0, 1], color=mv.viz.PALE, lw=1)
ax.plot(runs["right"], [0] * 5, "o", color=mv.viz.BLUE, alpha=0.7, ms=8)
ax.plot(runs["faulty"], [1] * 5, "s", color=mv.viz.VERMILLION, alpha=0.7, ms=8)
ax.set(yticks=[0, 1], yticklabels=["right", "faulty"], ylim=(1.4, -0.4))
ax.set(xlabel="test images right (%)")
ends = {k: f"{k} {s.min():.1f} to {s.max():.1f}" for k, s in runs.items()}
words = f"Per cent of 360 test images right: {ends['right']}, {ends['faulty']}"
mv.viz.show(fig, alt=f"Dots, five seeds in each of two rows. {words}.")

# %% [markdown]
# *Each dot is a training run; a line joins the two of one seed. The dots of one row lie further apart than the rows do.
# One small model, one recipe, 360 images, of which one is 0.3 points.* The two runs on a line differ in one thing only,
# so we may subtract them:

# %%
gaps = runs["faulty"] - runs["right"]
print("faulty minus right:", gaps.round(1), "on average", gaps.mean().round(1))

# %% [markdown]
# One seed would have let us tell either story: "leaving out $\sqrt d$ helps", or "it harms". Whoever says that 98.3
# beats 98.1 must say how far one and the same model moves when nothing but the seed changes. So with each number of
# this book stands how many images there were, how many seeds, and how far apart they fell.
#
# ## Are you ready?
#
# You need some Python and some calculus; no machine learning, and no NumPy: chapter 01 begins there. Ten questions. The
# first five are Python; type your answers into the list.
#
# 1. `[n * n for n in range(4)]`
# 2. `def f(x, y=2): return x**y`. What is `f(3)`?
# 3. `a = [1, 2]`, then `b = a`, then `b.append(3)`. What is `a`?
# 4. `list(zip("ab", (1, 2)))[1]`
# 5. A class has a method `__call__(self, x)` that returns `2 * x`; `t` is an object of it. What is `t(4)`?

# %% tags=["your-turn"]
mine = [..., ..., ..., ..., ...]

# %% [markdown]
# And five from school:
#
# 6. The slope of $w^3$ at $w = 2$.
# 7. The slope of $(3w + 1)^2$ at $w = 1$.
# 8. $f = a\,b + a$ with $a = 3$, $b = 2$. How fast does $f$ change when only $a$ does?
# 9. $\ln(e^2 \cdot e^3)$
# 10. $\begin{pmatrix} 1 & 2 \end{pmatrix} \begin{pmatrix} 3 \\ 4 \end{pmatrix}$

# %% tags=["your-turn"]
school = [..., ..., ..., ..., ...]

# %% [markdown]
# Ready to compare? The next cell works the answers out and ticks those that you have.


# %% tags=["hide-output"]
def f(x, y=2):
    return x**y


def slope(of, at, h=1e-5):  # by small steps: chapter 02
    return round((of(at + h) - of(at - h)) / (2 * h), 6)


a = b = [1, 2]
b.append(3)
truth = [[n * n for n in range(4)], f(3), a, list(zip("ab", (1, 2), strict=True))[1]]
truth += [type("T", (), {"__call__": lambda self, x: 2 * x})()(4)]
truth += [slope(lambda w: w**3, 2), slope(lambda w: (3 * w + 1) ** 2, 1)]
truth += [slope(lambda a: a * 2 + a, 3), round(math.log(math.e**2 * math.e**3), 6)]
truth += [1 * 3 + 2 * 4]
for i, answer in enumerate(truth):
    print(f"{i + 1:2}  {answer!s:13}", "✓" if (mine + school)[i] == answer else "·")

# %% [markdown]
# Eight or more: turn the page. Five to seven: turn it too, and look up what you missed when it comes. Fewer: chapters 3
# to 5 and 9 of the Python Tutorial (docs.python.org), or the chapter on the chain rule in the book you learned calculus
# from, will pay for themselves within a week.
#
# ## The map
#
# Each chapter asks one question and builds a part of the library. What you have built is checked against minivit's own,
# and from then on minivit's is used. Exercises can be done in two places. In the chapter: a cell marked *Your turn*
# holds `...` where your code goes, and its last line checks it. Or in the files of `exercises/`, with any editor; then,
# in the folder of minivit and with the Python of its environment,
#
# ```
# .venv/bin/python -m exercises list              # all of them, and how far you are
# .venv/bin/python -m exercises check patchify    # what is still wrong with one, and a question
# .venv/bin/python -m exercises hint patchify     # a hint; call it again for the next one
# ```
#
# [For students](../exercises/STUDENTS.md) has the other commands.
#
# | chapter | question | what it builds | exercises |
# |---|---|---|---|
# | [01 Images are arrays](01_images.ipynb) | What does a computer see? | shapes, bytes; [`data/`](../minivit/data/dataset.py) | [`shapes`, `tiles_view`](../exercises/ch01.py) |
# | [02 What is a gradient?](02_gradients.ipynb) | How does a program learn? | [`engine/tensor.py`](../minivit/engine/tensor.py) | [`numerical_grad`, `topo_order`, `backward`](../exercises/ch02.py) |
# | [03 Tensors that remember](03_tensors.ipynb) | And with arrays? | [`engine/ops.py`](../minivit/engine/ops.py), [`gradcheck.py`](../minivit/engine/gradcheck.py) | [`unbroadcast`, `matmul_vjp`, `take_vjp`, `which_vjp_lies`](../exercises/ch03.py) |
# | [04 A first classifier](04_classifier.ipynb) | What is a loss? | [`engine/composed.py`](../minivit/engine/composed.py), [`nn/module.py`](../minivit/nn/module.py), [`layers.py`](../minivit/nn/layers.py) | [`softmax`, `cross_entropy`, `first_loss`, `training_bug`](../exercises/ch04.py) |
# | [05 Patches](05_patches.ipynb) | How does an image become a sequence? | [`nn/patches.py`](../minivit/nn/patches.py) | [`patchify`, `conv_is_patchify`, `add_class_token`, `sincos_2d`](../exercises/ch05.py) |
# | [06 Attention](06_attention.ipynb) | How do tokens talk? | [`attention`](../minivit/engine/composed.py#attention) | [`attention`, `attention_vjp`, `attention_bug`, `two_maps_one_output`](../exercises/ch06.py) |
# | [07 Many heads](07_heads.ipynb) | Why more than one? | [`nn/attention.py`](../minivit/nn/attention.py) | [`split_heads`, `pack_qkv`, `shuffle_test`](../exercises/ch07.py) |
# | [08 The block](08_block.ipynb) | Why so many small parts? | [`nn/block.py`](../minivit/nn/block.py) | [`layer_norm`, `layer_norm_vjp`, `block`](../exercises/ch08.py) |
# | [09 The ViT](09_vit.ipynb) | Does it fit together? | [`models/vit.py`](../minivit/models/vit.py) | [`count_parameters`, `vit_forward`](../exercises/ch09.py) |
# | [10 Training](10_training.ipynb) | What makes it good? | [`training/`](../minivit/training/loop.py) | [`adamw`, `clip_global_norm`](../exercises/ch10.py) |
# | [11 Faster](11_faster.ipynb) (a detour) | Where does the time go? | [`engine/fused.py`](../minivit/engine/fused.py), [`backend.py`](../minivit/engine/backend.py) | [`at_most`, `attention_in_tiles`](../exercises/ch11.py) |
# | [17 Real weights](17_real_weights.ipynb) | Does it hold for the real thing? | [`interop/`](../minivit/interop/pretrained.py) | [`patch_kernel`, `fold_preparation`](../exercises/ch17.py) |
#
# Planned, and not yet there: 12 Two kinds of prior, 13 Looking inside, 14 Two minds compared, 15 When the image breaks,
# 16 Is attention needed?
#
# Read 01 to 10 in order. 11 is a detour that can wait; 17 comes after 10. Most chapters take under an hour to read, and
# the exercises as long again.
#
# ## What we left out
#
# Nothing shows that a program of this kind is right for every image; the tests here are of the arithmetic, and beyond
# it there are only measurements. Even the 360 test images are of one kind, written by the people who also wrote the
# training images; chapter 04 shows what strangers' handwriting costs. And one can become better at passing tests than
# at what they stood for: a test that was looked at while choosing is used up.
#
# **Further reading.** Dijkstra, *Notes on Structured Programming* (1970), for the sentence that testing shows the
# presence of bugs, never their absence. Bouthillier and others, *Accounting for Variance in Machine Learning
# Benchmarks* (2021), on what changes when the seed does. Recht and others, *Do ImageNet Classifiers Generalize to
# ImageNet?* (2019), where a new test set was made as the old one had been.
#
# ## In three sentences
#
# A trained model is arrays of numbers in a file, and a program that uses them; training made the numbers, and an
# untrained twin shows what was there without it. That a program runs, learns and scores well does not show that it is
# right, since a faulty one can do all three; and a difference between two scores means nothing until you know how far
# one of them moves by chance. How do I know that it works? I compare it, part by part, with what I know in another way,
# on inputs that would expose the mistakes I can think of, having planted such mistakes to see them found; and what no
# test asked, I do not know.
#
# **From earlier chapters**: there are none. Two to keep until chapter 10: what would have to be the same on both sides
# before you call one model better than another? And what should a model that knows nothing have as its loss?
#
# **To leave with**: a friend's program sorts lists. She tried it on `[3, 1, 2]`, and it gave `[1, 2, 3]`. Write down
# two programs that pass this test and do not sort, and one more test that exposes both.
