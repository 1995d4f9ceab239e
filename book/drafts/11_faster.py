# ---
# jupyter:
#   minivit:
#     title: Faster
#     question: Where does the time go?
#     here: [attention, blocks, gradients]
#     minutes: 45
#     exercises: []
#     builds: [profile, use, gelu, composed.gelu, fused]
# ---

# %% [markdown]
# Our ViT is right, and slow enough that chapter 10 read most of its runs from a file. This chapter asks where the time goes, and
# takes some of it back. There is one rule, **measure first**: of the ideas that sound fast, about half are not.
#
# What a clock says differs from machine to machine and from minute to minute. So the cells here that hold a clock compare two ways in
# turn and say only which was faster; seconds come from two stored files, measured when nothing else ran.
# [`scripts/faster_runs.py`](../scripts/faster_runs.py) made the first, [`benchmarks/cpu.py`](../benchmarks/cpu.py) the second.

# %%
import json
import time
import tracemalloc
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
    print(f"{name:8} {found['date']}, {machine['cores']} cores of an {machine['processor']},")
    print(f"         NumPy {found['versions']['numpy']} with {blas['library']}", end=" ")
    print(f"{blas['version']}, its kernels for {blas['kernels']}")

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
# (`seen.table()` prints seconds too; try it.) Every block has its attention (softmax and both its products, `self_attention`), four Linears, a GELU, two
# LayerNorms. **Which of the four kinds takes the most time in a training step, and about what share of it: a third, a half, three quarters?**

# %% tags=["hide-output"]
guess = ...  # a kind, and a share
total, kinds = sum(times["profile"].values()), {}
for key, seconds in times["profile"].items():
    name, _, way = key.rpartition(" ")
    kinds.setdefault(name, {})[way] = 100 * seconds / total
order = sorted(kinds, key=lambda name: -sum(kinds[name].values()))
for name in order[:6]:
    print(f"{name.strip('_'):15} {sum(kinds[name].values()):5.1f} % of the step")

# %% [markdown]
# The Linears, by far. Attention, which all the papers worry about, comes a good way behind, and the smallest of all is the part that is Python and nothing else.

# %%
fig, ax = plt.subplots(figsize=(7.4, 3.2), layout="constrained")
shown = order[:8]
names = [name.strip("_").replace("everything", "all the rest") for name in shown]
forward = [kinds[name].get("forward", kinds[name].get("else", 0)) for name in shown]
backward = [kinds[name].get("backward", 0) for name in shown]
ax.barh(names, forward, color=mv.viz.BLUE, label="forward")
ax.barh(names, backward, left=forward, color=mv.viz.VERMILLION, hatch="//", label="backward")
ax.invert_yaxis()
ax.set(xlabel="share of a training step (%)")
ax.legend(frameon=False)
words = ", ".join(f"{n} {f:.0f} and {b:.0f}" for n, f, b in zip(names[:4], forward, backward))
mv.viz.show(fig, alt="Bars: share of a training step in per cent, forward and "
            f"backward: {words}.")  # fmt: skip

# %% [markdown]
# *Where one training step of W2 goes, on one core. Backward takes about twice as long as forward: each product has two gradients (chapter 03). The order
# is that of this model; many tokens would move attention up.*
#
# ## The floor
#
# If most of the time is products, how fast can they be at all? We count multiplications: for one image, forward, all Linears and both products of attention. In
# the last block only the class token is read, so minivit computes only its row.


# %%
def multiplications(T, D, L, hidden, pixels, K):  # pixels of a patch, L blocks
    block = 4 * T * D * D + 2 * T * D * hidden + 2 * T * T * D
    last = 2 * T * D * D + 2 * D * D + 2 * D * hidden + 2 * T * D  # one row asks
    return (T - 1) * pixels * D + (L - 1) * block + last + K * D


W2 = multiplications(T=50, D=96, L=6, hidden=384, pixels=16, K=10)
step = 3 * 128 * W2 - 128 * 49 * 16 * 96  # backward twice; no gradient for pixels
floor = median(bench["results"]["default"]["W2"]["gemm"]["train"])  # seconds
print(f"a step: {2 * step / 1e9:.0f} thousand million additions and multiplications")
print(f"at best {2 * step / floor / 1e9:.0f} thousand million a second, on both cores")

# %% [markdown]
# The second line divides by a measured time: [`gemm_bound.py`](../benchmarks/gemm_bound.py) does the products of one step, with their shapes, and nothing else.
# That time is the **bound**: no program that calls this BLAS, in whatever language, gets below it.
#
# minivit is written in Python; PyTorch in C++, by hundreds of people. **How long does minivit's training step take: ten times as long as PyTorch's,
# three times, or about as long?**

# %% tags=["hide-output"]
guess = ...  # 10, 3 or 1
results = bench["results"]["default"]
libraries = ("gemm", "minivit", "torch", "torch.compile", "jax")


def ratio(workload, library, do="train"):  # turn by turn, then the median
    own, peer = (results[workload][name][do] for name in (library, "torch"))
    return float(np.median(np.array(own) / np.array(peer)))


for workload, found in results.items():
    line = (f"{name} {ratio(workload, name):.2f}" for name in libraries if name in found)
    print(workload, *line, sep="   ")

# %% [markdown]
# As a picture, from the smallest model to a ViT-Ti/16 on photos:

# %%
fig, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
style = dict(zip(libraries, ("k_", "o", "_", "^", "s"), strict=True))
for i, library in enumerate(libraries):
    spots = [w for w in results if library in results[w] and library != "torch"]
    if spots:
        ax.plot(spots, [ratio(w, library) for w in spots], style[library], ms=10, label=library)
ax.axhline(1, color=mv.viz.PALE, ls="--", label="torch")
ax.set(ylabel="training step / PyTorch's", ylim=0)
ax.legend(frameon=False, ncols=5, loc="upper center")
words = ", ".join(f"{w} {ratio(w, 'minivit'):.2f} over {ratio(w, 'gemm'):.2f}" for w in results)
mv.viz.show(fig, alt="Dots: time of a training step divided by PyTorch's on four workloads, "
            f"W1 to W4. minivit over the products alone: {words}.")  # fmt: skip

# %% [markdown]
# *Training steps in units of PyTorch's, medians of turns taken alternately, same weights, same first loss; below 1 is faster. "gemm" is the bound. One machine: PyTorch's
# BLAS is slow on this processor, so part of the lead belongs to OpenBLAS.*
#
# About as long, even a little less. That is no wonder once one sees the bound: both hand the same products to a library that runs at the
# machine's speed, and a Python program that makes few, large calls loses little between them. So what is left to us is, first, to make the calls large.
#
# ## One product instead of many
#
# Chapter 07 packed the projections of all heads into one matrix and said that this would be worth something. A product of (6,400, 96) and
# (96, 288), or 48 products with (96, 6): the same multiplications, the same numbers.


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
parts = np.split(w, 48, axis=1)


def many():
    return np.concatenate([x @ part for part in parts], axis=1)


print("close:", np.allclose(x @ w, many()))
print("one product is faster:", faster(lambda: x @ w, many))

# %% [markdown]
# By how much? And there is a second way to make many: leave the batch as it is, (128, 50, 96) @ (96, 288), where NumPy goes through the images one by one. **How many times
# as long do the 48 narrow products take? And the 128 images?** Less than twice, three times, ten times?

# %% tags=["hide-output"]
guess = ...  # two factors
ways = times["products"]["ways"]
for name, seconds in ways.items():
    print(f"{name:28} {seconds / ways['one product']:4.1f} times as long as one product")

# %% [markdown]
# Xx.

# %%
rates = {int(n): rate for n, rate in times["products"]["gflops"].items()}
fig, ax = plt.subplots(figsize=(6.4, 3), layout="constrained")
ax.loglog(list(rates), list(rates.values()), "o-", color=mv.viz.BLUE, base=2)
ax.set(xlabel="n, for products of n×n by n×n", ylabel="thousand million a second")
words = ", ".join(f"{rates[n]:.1f} at n = {n}" for n in (8, 64, 512))
mv.viz.show(fig, alt=f"Line, both axes logarithmic: arithmetic a second of square products, in thousand millions: {words}.")

# %% [markdown]
# *x.*
#
# ## Fewer passes over memory
#
# Y.


# %% tags=["check"]
def gelu_rule(xp, x):  # Flax's GELU, by tanh
    c, a = (2 / np.pi) ** 0.5, 0.044715
    squared = x * x
    t = xp.tanh(c * x * (1 + a * squared))
    slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * a * squared)
    return 0.5 * x * (1 + t), lambda g: (g * slope,)


my_gelu = mv.op(gelu_rule)
z = mv.Tensor(rng.standard_normal((64, 384)))
print("gradcheck:", mv.gradcheck(my_gelu, z.numpy()[:2, :5]).split(", worst")[0])
for name, theirs in (("composed", mv.composed.gelu), ("fused", mv.gelu)):
    print(name, np.allclose(my_gelu(z).numpy(), theirs(z, approximate=True).numpy()))


# %%
def peak(f, x):  # memory of forward and backward, in arrays as large as x
    x = mv.Tensor(x, requires_grad=True)
    tracemalloc.start()
    f(x).backward(np.ones_like(x.numpy()))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / x.numpy().nbytes

for name, f in (("composed", mv.composed.gelu), ("mine", my_gelu), ("fused", mv.gelu)):
    print(name, peak(f, x))

# %% [markdown]
# blocks

# %%
sizes = {int(size): each for size, each in times["blocks"].items()}
fig, ax = plt.subplots(figsize=(6.4, 3), layout="constrained")
ax.semilogx(list(sizes), list(sizes.values()), "o-", color=mv.viz.BLUE, base=2)
ax.set(xlabel="numbers in a block", ylabel="nanoseconds for each number", ylim=0)
best = min(sizes, key=sizes.get)
mv.viz.show(fig, alt=f"Line: nanoseconds per number against block size. {sizes[128]:.2f} for blocks of 128, least, "
            f"{sizes[best]:.2f}, for {best:,}, {sizes[1 << 23]:.2f} for all 8 million at once.")  # fmt: skip

# %% [markdown]
# threads


# %%
def trained(workers):
    model = mv.create("vit_28", depth=2)
    with mv.TrainStep(model, mv.optim.AdamW(model.parameters()), shards=4, workers=workers) as step:
        losses = [step(images, labels) for _ in range(3)]
    return np.concatenate([losses, *(p.numpy().ravel() for p in model.parameters())])


print("one worker and two, bit for bit:", np.array_equal(trained(1), trained(2)))
for name, seconds in times["threads"].items():
    print(f"{name:16} {times['threads']['serial'] / seconds:.2f} times as fast as one core")

# %% [markdown]
# ablation

# %% tags=["hide-output"]
guess = ...
for found in times["techniques"].values():
    w1, w2 = found["W1"][1], found["W2"][1]
    print(f"{found['what']:36} W1 {w1:.2f}   W2 {w2:.2f}")

# %% [markdown]
# T²

# %%
scaling = stored("../benchmarks/results/scaling-2026-11-22.json")
tokens, seconds, table = np.transpose(
    [(r["tokens"], r["seconds"], r["score_bytes_allocated"]) for r in scaling["attention_core"]]
)
fig, (ax, bx) = plt.subplots(1, 2, figsize=(8.6, 3.2), layout="constrained")
ax.loglog(tokens, 1e3 * seconds, "o", color=mv.viz.BLUE, label="measured")
ax.loglog(tokens, 1e3 * seconds[-1] * (tokens / tokens[-1]) ** 2, "--", color=mv.viz.PALE, label="T²")
bx.loglog(tokens, table / 2**20, "s", color=mv.viz.VERMILLION, label="measured")
bx.loglog(tokens, 2 * 4 * tokens**2 / 2**20, "--", color=mv.viz.PALE, label="2 heads · T² · 4 bytes")
ax.set(xlabel="tokens T", ylabel="milliseconds")
bx.set(xlabel="tokens T", ylabel="MiB of the table")
for axes in (ax, bx):
    axes.legend(frameon=False)
slope = np.log(seconds[-1] / seconds[-2]) / np.log(2)
mv.viz.show(fig, alt=f"attention {slope:.2f}")

# %% [markdown]
# CuPy

# %% tags=["break"]
try:
    mv.use("cuda")
except mv.ConfigError as error:
    print(type(error).__name__, error)

# %% [markdown]
# sync

# %%
queue = ThreadPoolExecutor(1)  # takes work at once, does it later, as a GPU does
a = rng.standard_normal((1200, 1200))
start = time.perf_counter()
waiting = [queue.submit(np.matmul, a, a) for _ in range(5)]
launched = time.perf_counter() - start
done = [task.result() for task in waiting]  # wait for the queue
finished = time.perf_counter() - start
print("looks more than ten times as fast without waiting:", finished > 10 * launched)

# %% [markdown]
# batch 1

# %% tags=["hide-output"]
guess = ...
alone = {int(n): seconds for n, seconds in times["forward"].items()}
with mv.no_grad(), mv.profile() as seen:
    mv.create("vit_digits", dim=64, depth=4)(np.zeros((1, 8, 8, 1), np.float32))
launches = sum(row[0] for row in seen.rows.values())
print(launches, alone)
