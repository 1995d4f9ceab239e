# ---
# jupyter:
#   minivit:
#     title: Faster
#     question: Where does the time go?
#     here: [attention, blocks, gradients]
#     minutes: 45
#     exercises: [at_most, attention_in_tiles]
#     builds: [profile, use, gelu, composed.gelu, fused]
# ---

# %% [markdown]
# Our ViT is right, and slow enough that chapter 10 read most of its runs from a file. This chapter asks where the time goes, and
# takes some of it back. There is one rule: measure first. Of the ideas that sound fast, about half are not.
#
# What a clock says differs from machine to machine and from minute to minute. So a cell with a clock in it compares two ways
# and says only which was faster. Seconds come from stored files:
# [`scripts/faster_runs.py`](../scripts/faster_runs.py) made the first, [`benchmarks/cpu.py`](../benchmarks/cpu.py) the second
# (`python -m` and its name repeats either).

# %%
import json
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import matplotlib.pyplot as plt
import numpy as np

import minivit as mv


def stored(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


times, bench = (
    stored(name)
    for name in ("assets/11_times.json", "../benchmarks/results/cpu-2026-11-22.json")
)

# %% [markdown]
# On what machine? Numbers without that are gossip.

# %%
for name, found in (("11_times", times["about"]), ("cpu", bench["about"])):
    machine, blas = found["machine"], found["blas"][0]
    print(f"{name}: {machine['cores']} cores of an {machine['processor']};", end=" ")
    print(f"{blas['library']} {blas['version']}, kernels {blas['kernels']}", end=" ")
    print(f"(NumPy {found['versions']['numpy']}, {found['date']})")

# %% [markdown]
# ## Look before you guess
#
# The patient is a ViT for 28×28 images: patches of 4×4, so 50 tokens; width 96, six blocks, four heads; a batch of 128. (The benchmarks
# call it W2.) [`mv.profile`](../minivit/engine/profile.py#profile) watches every operation go by, forward and backward.

# %%
model = mv.create("vit_28", patch_size=4, dim=96, depth=6, mlp_ratio=4.0)
rng = np.random.default_rng(0)
images = rng.standard_normal((128, 28, 28, 1), np.float32)
labels = rng.integers(0, 10, 128)
with mv.profile() as seen:
    mv.cross_entropy(model(images), labels).backward()
rows = sorted(seen.rows.items(), key=lambda row: -row[1][2])  # by bytes
for (name, way), (calls, _, size) in rows[:7]:
    print(f"{name:15} {way:9}{calls:3} calls make {size / 1e6:6.1f} MB")
print(f"in all {sum(row[0] for row in seen.rows.values())} calls")

# %% [markdown]
# (`seen.table()` prints seconds too; try it.) The stored profile of a whole training step has the same rows, with seconds. We turn them into shares.

# %%
total, kinds = sum(times["profile"].values()), {}
for key, seconds in times["profile"].items():
    name, _, way = key.rpartition(" ")
    kinds.setdefault(name, {})[way] = 100 * seconds / total
order = sorted(kinds, key=lambda name: -sum(kinds[name].values()))

# %% [markdown]
# Every block has its attention (softmax and both its products, `self_attention`), four Linears, a GELU, two
# LayerNorms. **Which of the four kinds takes the most time in a training step, and about what share: 20, 40 or 60 per cent?**

# %% tags=["hide-output"]
guess = ...  # a kind, and a share
fig, ax = plt.subplots(figsize=(7.4, 3.2), layout="constrained")
names = [name.strip("_").replace("everything", "all the rest") for name in order[:5]]
forward = [kinds[n].get("forward", kinds[n].get("else", 0)) for n in order[:5]]
backward = [kinds[n].get("backward", 0) for n in order[:5]]
ax.barh(names, forward, color=mv.viz.BLUE, label="forward")
ax.barh(
    names, backward, left=forward, color=mv.viz.VERMILLION, hatch="//", label="backward"
)
ax.invert_yaxis()
ax.set(xlabel="share of a training step (%)")
ax.legend(frameon=False)
three = zip(names[:3], forward[:3], backward[:3], strict=True)
words = ", ".join(f"{n} {f:.0f} and {b:.0f}" for n, f, b in three)
mv.viz.show(fig, alt=f"Bars: per cent of a step, forward and backward: {words}.")

# %% [markdown]
# *Where a training step of W2 goes, on one core. A Linear's backward takes twice its forward: a product has two gradients (chapter 03). "All the rest"
# is Python, the optimiser and adding up gradients. Other sizes have other shares; many tokens move attention up.*
#
# The Linears, with more than everything else together. Attention's own part, which gets all the papers, comes second, and GELU, one line of algebra, is not
# far behind it.
#
# Before we make a part faster, we should know what that can be worth. The rest takes as long as before, and so sets a limit, known as **Amdahl's law**.
#
# *Your turn* ([`at_most`](../exercises/ch11.py#at_most), ★, 6 minutes). Then take GELU's share from the figure, and an infinite factor: what is the most that any GELU, however clever,
# could do for the whole step? Guess first.

# %% tags=["your-turn"]
from exercises import check


def at_most(share, factor):  # of the part -> how many times as fast the whole becomes
    ...


check("at_most", at_most)

# %% [markdown]
# ## The floor
#
# If most of the time is products, how fast can they be at all? We count multiplications: for one image, forward, all Linears and both products of attention. (Of
# the last block only the class token is read, so minivit computes only its row.)


# %%
def multiplications(T, D, L, hidden, pixels, K):  # L blocks; pixels of one patch
    block = 4 * T * D * D + 2 * T * D * hidden + 2 * T * T * D
    last = 2 * T * D * D + 2 * D * D + 2 * D * hidden + 2 * T * D  # one row asks
    return (T - 1) * pixels * D + (L - 1) * block + last + K * D


W2 = multiplications(T=50, D=96, L=6, hidden=384, pixels=16, K=10)
both = 2 * 128 * (3 * W2 - 49 * 16 * 96)  # and additions; pixels need no gradient
results = bench["results"]["default"]
bound = median(results["W2"]["gemm"]["train"])  # seconds for these products alone
print(f"W2's step: {both / 1e9:.1f} thousand million multiplications and additions,")
print(f"done at {both / bound / 1e9:.0f} thousand million a second at best")

# %% [markdown]
# The second line divides by a measured time: [`gemm_bound.py`](../benchmarks/gemm_bound.py) does the products of one step, in their shapes, on both cores, and nothing else.
# That time is the **GEMM bound** (GEMM is BLAS's name for a product of matrices). No program that multiplies by this library gets below it, in whatever language.
#
# The same file has the times of whole steps, of minivit and of others, taken in turn.

# %%
libraries = ("gemm", "minivit", "torch", "torch.compile", "jax")


def ratio(workload, library):  # to PyTorch: turn by turn, then the median
    ours, peer = (results[workload][name]["train"] for name in (library, "torch"))
    return float(np.median(np.array(ours) / np.array(peer)))


# %% [markdown]
# minivit is Python. PyTorch is C++, by hundreds of people. On four models, from digits (W1) to a ViT-Ti/16 on images of 224×224 (W4): **how long does minivit's training step
# take, ten times as long as PyTorch's, three times, or about as long?**

# %% tags=["hide-output"]
guess = ...  # 10, 3 or 1
fig, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
colours = ("k", mv.viz.BLUE, mv.viz.PALE, mv.viz.VERMILLION, mv.viz.GREEN)
for i, (library, mark) in enumerate(zip(libraries, "_o-^s", strict=True)):
    heights = [ratio(workload, library) for workload in results]
    places = np.arange(len(results)) + 0.04 * (i - 2) * (mark in "o^s")
    ax.plot(places, heights, mark, ms=9, color=colours[i], label=library)
ax.set_xticks(range(len(results)), list(results))
ax.set(ylabel="training step / PyTorch's", ylim=(0, 3))
ax.legend(frameon=False, ncols=5, loc="upper center")
pairs = [[ratio(w, name) for name in ("minivit", "gemm")] for w in results]
words = ", ".join(f"{ours:.2f} and {least:.2f}" for ours, least in pairs)
mv.viz.show(fig, alt="Dots: training step divided by PyTorch's, on four workloads. "
            f"minivit and the products alone: {words}.")  # fmt: skip

# %% [markdown]
# *Training steps in units of PyTorch's eager one; same weights, same first loss; medians of turns taken alternately on two cores. Below 1 is faster; "gemm" is the bound. One
# machine, and PyTorch's own BLAS is slow on this processor: part of the lead is OpenBLAS's.*
#
# About as long, if anything a little less. "Python is slow" is true of Python loops; ours hands large pieces to the same kind of library and waits. The bound shows
# what is left to gain: everything above the black dashes. So, first, are our pieces large enough?
#
# ## One product instead of many
#
# Chapter 07 packed the projections of all heads into one matrix. (6,400, 96) times (96, 288), or 48 products with (96, 6): the same
# multiplications, the same numbers.


# %%
def faster(a, b, rounds=9):  # is a faster than b? they take turns; the median decides
    quotients = []
    for _ in range(rounds):
        start = time.perf_counter()
        a()
        middle = time.perf_counter()
        b()
        quotients.append((time.perf_counter() - middle) / (middle - start))
    return median(quotients) > 1


x, w = rng.standard_normal((6400, 96)), rng.standard_normal((96, 288))
narrow = [w[:, i : i + 6].copy() for i in range(0, 288, 6)]
many = np.concatenate([x @ part for part in narrow], axis=1)
print("the same numbers:", np.allclose(x @ w, many))
print("one product is faster:", faster(lambda: x @ w, lambda: [x @ p for p in narrow]))

# %% [markdown]
# By how much? And there is another way to make many of one: leave the batch as it is, (128, 50, 96) @ (96, 288), and NumPy multiplies image by image. **How many
# times as long do the 48 narrow products take, and how many times the 128 images?** About once, 3 times, 30 times?

# %% tags=["hide-output"]
guess = ...  # two factors
ways = times["products"]["ways"]
for name, seconds in ways.items():
    print(f"{name:27} take {seconds / ways['one product']:4.1f} times as long")

# %% [markdown]
# The number of products is not what counts. Each of the 128 is 50 rows by 96 by 288, large enough to keep the arithmetic busy; the 48 are six columns wide, and whatever
# is loaded for them is used six times. How large is large enough?

# %%
rates = {int(n): rate for n, rate in times["products"]["gflops"].items()}
fig, ax = plt.subplots(figsize=(6.4, 3), layout="constrained")
ax.loglog(list(rates), list(rates.values()), "o-", color=mv.viz.BLUE, base=2)
ax.set(xlabel="n, for a product of n×n by n×n", ylabel="10⁹ a second")
ax.set_xticks([4, 16, 64, 256, 1024], ["4", "16", "64", "256", "1,024"])
ax.set_yticks([1, 4, 16, 64], ["1", "4", "16", "64"])
words = ", ".join(f"{rates[n]:.2g} at n = {n}" for n in (4, 16, 64, 1024))
mv.viz.show(fig, alt="Line, both axes logarithmic: multiplications and additions a "
            f"second, in thousand millions, of square products. {words}.")  # fmt: skip

# %% [markdown]
# *Arithmetic a second of one product on one core, by its size. Small ones spend their time on being called. Above some tens of rows and columns the curve is flat: there
# larger pieces gain nothing more.*
#
# ## Fewer passes over memory
#
# What is not a product does a few operations for each number, and then the time goes into fetching numbers. GELU, written as formulas, makes
# nine arrays to get one. Chapter 03's `@op` lets us write it as one operation with its own gradient, finding the slope on the way:


# %% tags=["check"]
def gelu_rule(xp, x):  # by tanh, as Flax has it
    c, a = (2 / np.pi) ** 0.5, 0.044715
    squared = x * x
    t = xp.tanh(c * x * (1 + a * squared))
    slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * a * squared)
    return 0.5 * x * (1 + t), lambda g: (g * slope,)


my_gelu = mv.op(gelu_rule)
z = mv.Tensor(rng.standard_normal((64, 384)))
print("gradcheck:", mv.gradcheck(my_gelu, z.numpy()[:2, :5]).split(", worst")[0])
for name, theirs in (("composed", mv.composed.gelu), ("fused", mv.gelu)):
    same = np.allclose(my_gelu(z).numpy(), theirs(z, approximate=True).numpy())
    print(f"as minivit's, {name}: {same}")

# %% [markdown]
# minivit has both forms of everything: [`composed.py`](../minivit/engine/composed.py#gelu), which this book derived, and
# [`fused.py`](../minivit/engine/fused.py#gelu), which runs, each held to the other by tests. The fused one works in place, in two arrays.
#
# We wrote `x * x`. The formula has a cube, and `x**3` is nearer to it. **If the cube is written `x**3` instead of `x * x * x`, the whole GELU takes** (a) as
# long, (b) twice as long, (c) thirty times as long?

# %% tags=["hide-output"]
guess = ...  # "a", "b" or "c"
each = times["gelus"]  # nanoseconds for each number, forward, one core
for name in ("x**3", "x*x*x", "in place"):
    print(f"by tanh, {name:9} {each[name]:5.1f} ns for each number")
for name in ("composed", "fused"):
    print(f"exact, {name:11} {each[name]:5.1f} ns")

# %% [markdown]
# (c): a power goes through logarithms, number by number, even when it is 3. No reading of the code tells you; a clock does. In place, without new arrays, is worth
# something as well, and the fused exact GELU needs about half of what its formulas take.
#
# There is a trick for long chains: do not send the whole array through each step, send a **chunk** of it through all steps, small enough to stay in the
# processor's cache, the little memory beside its arithmetic. Six cheap steps over 8 million numbers:

# %%
sizes = {int(size): each for size, each in times["blocks"].items()}
fig, ax = plt.subplots(figsize=(6.4, 3), layout="constrained")
ax.loglog(list(sizes), list(sizes.values()), "o-", color=mv.viz.BLUE)
ax.set(xlabel="numbers in a chunk", ylabel="ns for each number")
ticks = [128, 2048, 32768, 524288, 8388608]
ax.set_xticks(ticks, ["128", "2,048", "32,768", "½ million", "8 million"])
ax.set_yticks([1, 3, 10], ["1", "3", "10"])
ax.minorticks_off()
best, whole = min(sizes, key=sizes.get), max(sizes)
mv.viz.show(fig, alt="Line, both axes logarithmic: nanoseconds for each number against "
            f"chunk size. {sizes[128]:.0f} for chunks of 128, least, {sizes[best]:.1f}, "
            f"for {best:,}, {sizes[whole]:.1f} for all {whole:,} at once.")  # fmt: skip

# %% [markdown]
# *Six additions and multiplications for each of 8 million numbers, chunk by chunk, on one core. Left: the cost of six calls from Python for each chunk. Right: chunks no longer fit
# into the cache. The valley's place belongs to this machine.*
#
# Between the two lies a valley, wide and not very deep. minivit cuts where it costs nothing: a large batch is computed in parts, and each part's arrays are smaller.
#
# ## Two cores
#
# Parts can run side by side, in threads: NumPy lets other threads run while it computes. Or BLAS can share each single product among cores. We time an MLP of W2, two products and a GELU for
# 6,400 tokens: its halves one after the other, its halves side by side, or the whole with BLAS's own threads. And does cutting change results?


# %%
def trained(workers):
    model = mv.create("vit_28", depth=2)
    optimizer = mv.optim.AdamW(model.parameters())
    with mv.TrainStep(model, optimizer, shards=4, workers=workers) as step:
        losses = [step(images, labels) for _ in range(3)]
    return np.concatenate([losses, *(p.numpy().ravel() for p in model.parameters())])


same = np.array_equal(trained(workers=1), trained(workers=2))
print("one worker and two, bit for bit the same:", same)
serial = times["threads"]["serial"]
for name, seconds in times["threads"].items():
    print(f"an MLP, {name:15}: {serial / seconds:.2f} times as fast")

# %% [markdown]
# It must not: chapter 01's sums depend on their order, so gradients of parts are added in the order of the parts, whoever finished first
# ([`TrainStep`](../minivit/training/step.py#TrainStep)). BLAS's threads help only inside products; the GELU between them stays on one core.
#
# So much for pieces. What is each idea worth to a whole training step? Take one away at a time: how many times as long does the step
# take without it?

# %%
for found in times["techniques"].values():
    w1, w2 = (found[workload] for workload in ("W1", "W2"))  # quartiles of the turns
    spans = (f"{w[1]:.2f} ({w[0]:.2f}–{w[2]:.2f})" for w in (w1, w2))
    print(f"{found['what']:36}", *spans, sep="   ")

# %% [markdown]
# W1 on the left, W2 on the right, with quartiles. No single trick is worth a factor of two; most are worth a tenth or two, and they multiply. And one of the
# ideas that sounded best, a Linear as one large product, is worth next to nothing here; the 128 images told us so.
#
# ## What every token costs
#
# Chapter 06 counted: scores and averages take $2T^2d$ multiplications, the table $4T^2$ bytes. Measured
# (`python -m benchmarks.scaling`), forward and backward, two heads of width 64:

# %%
core = stored("../benchmarks/results/scaling-2026-11-23.json")["attention_core"]
keys = ("tokens", "seconds", "score_bytes_allocated")
tokens, seconds, table = np.array([[row[key] for key in keys] for row in core]).T
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3), layout="constrained")
square = (tokens / tokens[-1]) ** 2
for ax, y, name in zip(
    axes, (1e3 * seconds, table / 2**20), ("milliseconds", "MiB of table"), strict=True
):
    ax.loglog(tokens, y, "o", color=mv.viz.BLUE)
    ax.loglog(tokens, y[-1] * square, "--", color=mv.viz.VERMILLION)
    ax.set(xlabel="tokens T (dashed: T²)", ylabel=name)
by = seconds[-1] / seconds[-2]
mv.viz.show(fig, alt=f"Two charts, axes logarithmic, {tokens[0]:.0f} to "
            f"{tokens[-1]:.0f} tokens. The last doubling multiplies time by {by:.1f}; "
            f"the table grows to {table[-1] / 2**20:.0f} MiB.")  # fmt: skip

# %% [markdown]
# *Attention alone, one image, against the number of tokens. The table has exactly heads · T² · 4 bytes. The time follows T² from a few hundred tokens on; below, calls cost more than
# arithmetic.*
#
# A block's Linears take $12TD^2$ multiplications, attention $2T^2D$: it overtakes them at $T = 6D$, which is 576 tokens at our width and 4,608 at ViT-B's.
#
# The multiplications are needed, the table is not. What a query finds is one sum, of $e^{\text{score}}$ times value, divided by another, of $e^{\text{score}}$ alone; and sums can grow while keys and
# values come in **tiles**, some at a time. But chapter 04 first subtracts the row's largest score, which is not known before the last tile. How
# can a sum be mended whose maximum turns out too small?
#
# *Your turn* ([`attention_in_tiles`](../exercises/ch11.py#attention_in_tiles), ★★★, 25 minutes): the same numbers as attention, with no more than `size` scores of a query at a time.


# %% tags=["your-turn"]
def attention_in_tiles(q, k, v, size):  # (T, d), (S, d), (S, e) -> (T, e)
    ...


check("attention_in_tiles", attention_in_tiles)

# %% [markdown]
# ## Another machine, the same lines
#
# CuPy is NumPy's twin for NVIDIA's GPUs: the same functions on arrays in the GPU's memory. Every operation here gets its library as `xp`, and `gelu_rule` above does not care
# which. So one line changes where all new arrays live: `mv.use("cupy")`. Those who come from PyTorch write something else:

# %% tags=["break"]
try:
    mv.use("cuda")
except mv.ConfigError as error:
    print(type(error).__name__, error)
print("the rule, given plain NumPy:", gelu_rule(np, z.numpy())[0].shape)

# %% [markdown]
# What changes: where arrays live, which library multiplies, the order of sums and so the last digits, and a few operations have
# [CUDA twins](../minivit/engine/kernels.py). What must not: names, shapes, dtypes, the random numbers (drawn on the CPU, then sent), and every result to
# rounding. Tests hold this on [a stand-in](../tests/fake_cupy.py) for CuPy that keeps its rules and has no GPU. **No time on a GPU was ever measured for this book, and none is quoted.**
#
# If you measure one, mind this. A GPU takes an order, puts it in a queue and returns at once. A thread can play that part:

# %%
gpu = ThreadPoolExecutor(1)  # a stand-in: takes orders at once, works them off in turn
a = rng.standard_normal((1200, 1200))
start = time.perf_counter()
orders = [gpu.submit(np.matmul, a, a) for _ in range(5)]
ordered = time.perf_counter() - start
done = [order.result() for order in orders]  # wait until the queue is empty
finished = time.perf_counter() - start
print("the first clock reading is too small by a factor of ten or more:", end=" ")
print(finished > 10 * ordered)

# %% [markdown]
# Whoever stops the clock after giving orders measures how fast orders are given. So: **synchronise**, then read the clock. In minivit
# that is [`synchronize`](../minivit/engine/backend.py#CupyBackend.synchronize) of the backend; `mv.profile` and [`benchmarks/gpu.py`](../benchmarks/gpu.py) do it for you.
#
# Last, "GPUs always win". We can test that without one. Suppose a device whose arithmetic takes no time at all, so that only the fixed cost of a forward pass remains, Python and the
# calls, which we read off our CPU's times at two batch sizes. For W1's digit model, **how many times as fast is this miracle with 128 images? And with one image?**

# %% tags=["hide-output"]
guess = ...  # two factors
alone, full = (times["forward"][size] for size in ("1", "128"))  # seconds
each = (full - alone) / 127  # what one more image costs
fixed = alone - each  # what remains for no image at all
for batch, seconds in ((128, full), (1, alone)):
    print(f"{batch:3} images: at most {seconds / fixed:4.1f} times as fast")

# %% [markdown]
# With one image, next to nothing: nearly all of its time is spent on giving orders, which no device makes shorter. (A real GPU adds to that: the way there and back, and its own cost for each
# order.) A GPU wins where each order is large: large batches, wide models. Which is this chapter's whole lesson, once more.
#
# *Your turn*: find the slowest operation of your own model. Print `seen.table()` for a batch of 1 and for a batch of 64, and say before you look
# which line will change its place.

# %% tags=["your-turn"]
with mv.profile() as seen:
    ...  # a forward and a backward pass of your model
report = seen.table()  # print(report)

# %% [markdown]
# ## What we left out
#
# Attention tile by tile, inside one program for a GPU, is FlashAttention; it saves passes over memory, not multiplications. Numbers of two bytes
# halve the traffic and, on hardware made for them, the time. Compilers fuse chains of operations by themselves; torch.compile and JAX above are two. Whoever needs more processes
# than threads finds `processes=True` in `TrainStep`.
#
# **Further reading.** Williams, Waterman and Patterson, *Roofline* (2009), on the two ceilings, arithmetic and memory. Goto and van de Geijn, *Anatomy of High-Performance Matrix
# Multiplication* (2008): what happens inside `@`. Dao and others, *FlashAttention* (2022). Horace He, *Making Deep Learning Go Brrrr From First Principles* (2022), a web page on
# compute, memory and overhead.
#
# ## In three sentences
#
# A training step's time goes first into the products of its Linears, which run at the machine's speed once they are large, then into passes over memory between them, and last into the calls
# themselves. Large pieces, fewer passes and parts side by side each give a little, and a Python program that does all three is no slower than C++. Which of the three eats *your* time depends on sizes:
# at batch 1 it is the calls, at batch 128 the products, at 4,000 tokens attention; so look before you guess.
#
# **From earlier chapters**: why does the packed `qkv` give the same numbers as separate heads (07)? Why must gradients of parts be added in a fixed order if a run is to be repeated bit for bit (01)?
#
# **To leave with**: a colleague's GPU runs one product of 4,096×4,096 "in 20 microseconds". How many multiplications and additions a second would that be, and what did the colleague probably measure?
