# ---
# jupyter:
#   minivit:
#     title: Images are arrays
#     question: What does a computer see?
#     here: [pixels]
#     minutes: 35
#     exercises: [shapes, tiles_view]
#     builds: []
# ---

# %% [markdown]
# You see three balls on a chequered cloth. The computer sees a box of numbers, and everything in this book happens to
# such boxes: photos, patches, weights, gradients. This chapter is about reading their *shape*, because most mistakes
# in the chapters to come are not wrong formulas. They are right formulas along the wrong axis.
#
# We need NumPy, matplotlib for drawing, and from minivit only its two tools: `mv.data` fetches images, `mv.viz` shows
# them.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minivit as mv

photo = mv.data.read_pixels("assets/photo.png")
print(type(photo).__name__, photo.shape, photo.dtype)

# %% [markdown]
# An **array** is a block of numbers of one kind, arranged along axes. This one has three axes: 256 rows from top to
# bottom, 256 columns from left to right, and 3 channels, the amounts of red, green and blue. We write its shape as
# `(H, W, C)`, height, width, channels. `uint8` is the kind: whole numbers from 0 to 255, one byte each.
#
# An index picks along the axes from left to right. Two indices leave one axis over:

# %%
print("row 200, column 140:", photo[200, 140])  # (C,)
print("its green alone:    ", photo[200, 140, 1])  # ()
print("the middle row:     ", photo[128].shape)  # (W, C)
print("the red channel:    ", photo[:, :, 0].shape)  # (H, W)

# %% [markdown]
# Row 200, column 140 lies on the green ball, and green is indeed the largest of its three numbers. Notice the order:
# row first, then column. A point in mathematics is *(x, y)*, across and then up; a pixel is *[row, column]*, down and
# then across. Mixing the two turns pictures on their side.
#
# A single channel is a picture too, in grey: bright where there is much of that colour.

# %%
channels = [photo[:, :, c] for c in range(3)]
names = ["red", "green", "blue"]
fig = mv.viz.pictures(channels, names, tile=2)
red, green, blue = (x[120, 60] for x in channels)
mv.viz.show(
    fig,
    alt="Three grey pictures, one for each channel of the photo. In the middle of "
    f"the red ball, row 120, column 60, red is {red}, green {green} and blue {blue}.",
)

# %% [markdown]
# *The same scene three times: how much red, green and blue there is. The red ball is bright in the first picture and
# dark in the third; the pale squares of the cloth are bright in all three. None of the three is "the" picture.*
#
# Before you run the next cell: **how many numbers is this photo?** People who say 65,536 have multiplied 256 by 256.
# That count has a name of its own. Is it the answer?

# %% tags=["hide-output"]
guess = ...  # your number
H, W, C = photo.shape
print(f"{H * W:,} pixels, {photo.size:,} values, {photo.nbytes:,} bytes")

# %% [markdown]
# A **pixel** is a place; at each place there are three values. So the photo has 65,536 pixels and 196,608 values. We
# shall need the larger number at the end of this chapter, where it gets much larger still.
#
# ## Many images at once
#
# A program rarely looks at one image. It takes a **batch**, and the batch becomes one more axis, in front: `(B, H, W,
# C)`. Here are the five handwritten digits that will accompany us, 8×8 pixels each and grey, so with one channel.

# %%
five = mv.data.digits().test.images[[2, 0, 1, 3, 4]]  # (B, H, W, C)
print(five.shape, five.dtype)
print(five[3, :, :, 0])  # the fourth image, its only channel

# %% [markdown]
# Narrow your eyes: there is a 7 with a bar in those numbers. `five[3]` chose the fourth image, the two colons kept
# all rows and all columns, and the last 0 chose the channel. In the picture each number becomes the brightness of a
# square.

# %%
fig = mv.viz.pictures(five, ["0", "1", "3", "7", "8"], tile=1.3)
ink = five.mean(axis=(1, 2, 3))  # (B, H, W, C) -> (B,)
mv.viz.show(
    fig,
    alt=f"Five handwritten digits of 8×8 pixels, white on black: 0, 1, 3, 7 and 8. Mean "
    f"brightness from {ink.min():.0f} for the {'01378'[ink.argmin()]} to {ink.max():.0f} "
    f"for the {'01378'[ink.argmax()]}, of 255.",
)

# %% [markdown]
# *Five test images of the digits data, always these five. At 8×8 a digit is barely more than a hint, and still you
# read it.*
#
# The line with `mean(axis=(1, 2, 3))` deserves a second look. A **reduction** names the axes that go away. We named
# rows, columns and channels, so the batch axis is left: one number for each image. Say it in that form, "these axes
# go", and the shape of the result follows. `photo.mean(axis=(0, 1))` leaves the channels: the average colour.
#
# ## Bytes are not numbers to calculate with
#
# Let us make the photo brighter by adding 100 to each value.

# %%
brighter = photo + np.uint8(100)
safe = np.minimum(photo.astype(np.int64) + 100, 255).astype(np.uint8)
fig = mv.viz.pictures(
    [photo, brighter, safe], ["the photo", "+ 100 as bytes", "+ 100, cut at 255"]
)
row, column = 20, 128  # on the wall behind
mv.viz.show(
    fig,
    alt="Three pictures: the photo, the photo plus 100 in bytes, and cut at 255. "
    f"The wall's red, {photo[row, column, 0]} at first, becomes "
    f"{brighter[row, column, 0]} in bytes and {safe[row, column, 0]} when cut.",
)

# %% [markdown]
# *Left as it was; in the middle, what bytes make of it; on the right, what we meant. The wall in the middle is darker
# than before.*
#
# A byte holds 256 different values, and counting past 255 starts again at 0, like a clock past midnight. Nothing
# warns you. So the first thing done to images here is to leave bytes: divide by 255, in `float32`, a number with a
# decimal point in four bytes. Below is our version; minivit has one too,
# [`to_float`](../minivit/data/dataset.py#to_float), and from here on we use that.


# %% tags=["check"]
def my_to_float(images):  # uint8, any shape -> float32 in [0, 1]
    return images.astype(np.float32) / 255


x = mv.data.to_float(photo)
print(x.dtype, x.min(), x.max(), np.array_equal(x, my_to_float(photo)))

# %% [markdown]
# ## A sum depends on its order
#
# A `float32` keeps six to seven digits. That sounds like plenty. We add up all 196,608 values of the photo, one after
# another, from the first to the last; then we add the same values from the last to the first. In school, `a + b = b +
# a`. Before you run this: **do the two sums agree to the last printed digit?** And if not, are they off by a
# millionth, or by more?

# %% tags=["hide-output"]
guess = ...  # "equal", "a millionth", "more"
values = x.reshape(-1)  # (H, W, C) -> (196608,)
forward = np.cumsum(values)[-1]  # adds one after another
backward = np.cumsum(values[::-1])[-1]
exact = values.astype(np.float64).sum()
print(f"forward {forward:.2f}, backward {backward:.2f}, exactly {exact:.2f}")

# %% [markdown]
# Off by 15 one way and by 85 the other, in a sum of 134,230: not a millionth but one and six parts in ten thousand.
# Each addition rounds. Near 134,000 neighbouring float32 numbers lie 1/64 apart, half way there 1/128, so what a value
# adds gets rounded to a multiple of that, nearly two hundred thousand times, and the errors need not cancel. How does
# the error grow along the way?

# %%
steps = np.arange(1, values.size + 1)
truth = np.cumsum(values, dtype=np.float64)
error32 = np.abs(np.cumsum(values) - truth) / truth
fig, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
ax.loglog(steps[9::50], error32[9::50], color=mv.viz.VERMILLION, label="float32")
ax.axhline(2**-24, color=mv.viz.BLUE, ls="--", label="one rounding, 2⁻²⁴")
ax.set(xlabel="values added so far", ylabel="relative error")
ax.legend(frameon=False)
worst = error32[1000:].max()
mv.viz.show(
    fig,
    alt="Line chart, both axes logarithmic: relative error of the running float32 "
    f"sum against values added, up to {steps[-1]:,}. It ends at {error32[-1]:.1e}; "
    f"the largest is {worst:.1e}; a single rounding is {2**-24:.0e}.",
)

# %% [markdown]
# *Error of the float32 sum against values added so far. It climbs far above the dashed line, the error of one
# rounding. The dips are places where errors happened to cancel. The path depends on these values in this order; that
# it climbs does not.*
#
# Two lessons. First, `x.sum()` is better than our loop, because NumPy adds neighbours in memory in pairs, then pairs of
# pairs, so that no value passes through 196,608 roundings. Second, `==` is the wrong question for floats, even for
# three of them:

# %%
print("equal:", 0.1 + 0.2 == 0.3, " close:", np.isclose(0.1 + 0.2, 0.3))
for kind in (np.float32, np.float64):
    print(kind.__name__, "keeps", np.finfo(kind).precision, "digits for sure")

# %% [markdown]
# So "equal" will mean "close" from now on: `np.allclose`. Where small differences are the whole point, as when we check
# gradients in chapter 02, we pay twice the memory for `float64`.
#
# ## What reshape can do, and what it cannot
#
# Memory is one long row of cells. A shape is a way of reading that row: along the last axis first, then the one
# before it. So this array and its reshaped self hold the same cells in the same order.

# %%
a = np.arange(6).reshape(2, 3)
print(a, "read with 2 rows of 3\n")
print(a.reshape(3, 2), "read with 3 rows of 2\n")
print(a.T, "transposed")

# %% [markdown]
# We cut a lying rectangle out of the photo, 120 rows by 200 columns, and want it standing on its side: 200 rows by
# 120 columns. Two lines give that shape, `reshape(200, 120, 3)` and `transpose(1, 0, 2)`. The shapes agree to the
# last number. **Do the pictures?** Predict what each will look like: the same, mirrored, or something else?

# %% tags=["hide-output"]
guess = ...  # for reshape, and for transpose
lying = photo[110:230, 10:210]  # (120, 200, 3)
reshaped = np.ascontiguousarray(lying).reshape(200, 120, 3)
turned = lying.transpose(1, 0, 2)  # (120, 200, 3) -> (200, 120, 3)
kept = (reshaped == turned).all(axis=2).mean()
fig = mv.viz.pictures([reshaped, turned], ["reshape", "transpose"], tile=2.4)
mv.viz.show(
    fig,
    alt=f"Two pictures of {reshaped.shape[0]} rows by {reshaped.shape[1]} columns. "
    "Reshaped, the scene falls into stripes; transposed, it is whole and lies on its "
    f"side. Only {100 * kept:.1f} % of the pixels agree.",
)

# %% [markdown]
# *Left: the cells in their old order, read in rows of 120 where rows of 200 were written. Right: the axes exchanged.
# Same shape, same values, different places.*
#
# **Reshape** cuts the long row elsewhere; it never moves a number past another. **Transpose** exchanges axes: entry
# `[i, j]` comes from `[j, i]`. If an axis has to move, some transpose must stand in the code. Chapter 05 cuts an
# image into patches with reshape, transpose, reshape, and each of the three is needed.
#
# How can `transpose` exchange axes without touching memory? An array also stores its **strides**: how many bytes to
# jump for one step along each axis. Exchanging axes exchanges strides.


# %%
def layout(name, a):
    print(f"{name:10} {a.shape!s:14} strides {a.strides}")


layout("photo", photo)
layout("transposed", photo.transpose(1, 0, 2))
layout("every 4th", photo[::4, ::4])
print("slice shares memory:", np.shares_memory(photo, photo[::4, ::4]))
print("list shares memory: ", np.shares_memory(photo, photo[[0, 4]]))

# %% [markdown]
# One step down is 768 bytes, a row of 256 pixels of 3 bytes. Slices and transposes are **views**: another shape and
# other strides over the same memory. They cost nothing, and they alias: who writes into `photo[:10]` changes the
# photo. Picking rows by a list, as in `photo[[0, 4]]`, makes a **copy**, because no jump of constant length reaches
# them in general.
#
# ## Broadcasting
#
# To subtract the average colour from each pixel we write `y - y.mean(axis=(0, 1))`: shapes `(256, 256, 3)` and
# `(3,)`. NumPy stretches the smaller one, without copying. The rule, **broadcasting**: line the shapes up at their
# right ends; two axes fit if they are equal or one of them is 1 or missing. Anything else is refused.

# %% tags=["break"]
y = photo / 255  # NumPy divides in float64
centred = y - y.mean(axis=(0, 1))  # (256, 256, 3) - (3,) -> (256, 256, 3)
print(centred.shape, "averages 0:", np.allclose(centred.mean(axis=(0, 1)), 0))
try:
    y - y.mean(axis=(1, 2))  # (256, 256, 3) - (256,): one average for each row
except ValueError as error:
    print(type(error).__name__, error)

# %% [markdown]
# The second one was refused: 3 against 256. It is a lucky case. Had the photo been 3 pixels high, it would have run,
# subtracting the averages of three rows from three channels. (The repair is `keepdims=True`: shape `(256, 1, 1)` says which axis the averages belong
# to.)
#
# Now a case without luck. Our five digits are 0, 1, 3, 7, 8, and a model has answered each one perfectly, as a
# column. We measure its mean squared error. **What comes out: zero, an error message, or some other number?**

# %% tags=["hide-output"]
guess = ...  # 0, "error", or a number
labels = np.array([0.0, 1.0, 3.0, 7.0, 8.0])  # (5,)
answers = labels.reshape(5, 1)  # (5, 1), all right
gaps = answers - labels
print(gaps.shape, "mean squared error", np.mean(gaps**2))

# %% [markdown]
# Perfect answers, and an error of 20.32. Lined up from the right, `(5, 1)` and `(5,)` make `(5, 5)`: every answer
# minus every label, twenty-five differences where we meant five. Most people expect an error message, since the
# shapes differ. But broadcasting exists to make different shapes work, and it cannot know that we did not mean it. A
# model trained on it would learn to answer the average every time, with a loss that falls all the while. minivit's
# losses refuse such shapes.
#
# That table of every pair is the most important shape in this book, once it is meant.
#
# ## A table with an entry for every pair
#
# A Transformer compares everything with everything: for *n* items it fills a table of *n* × *n* entries. What the
# entries mean is the business of chapter 06; today we ask what they cost. In float32, four bytes an entry:
#
# $$\text{bytes}(n) = 4\,n^2$$


# %%
def pair_table_bytes(items):
    return 4 * items * items


def spoken(count):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:,.0f} {unit}"
        count /= 1024


counts = {"values": 256 * 256 * 3, "pixels": 256 * 256, "patches": 16 * 16}
for what, items in counts.items():
    print(f"{items:>9,} {what:8} {spoken(pair_table_bytes(items)):>8}")

# %% [markdown]
# If each of the 196,608 values of our photo were an item, one table would fill 144 GiB, more than most computers
# have, for one image, in one layer. Taking pixels as items still needs 16 GiB. But cut the photo into a grid of 16 ×
# 16 **patches** of 16 × 16 pixels and take patches as items: 256 items, 256 KiB. That is the idea in the title of the
# paper this book is about, *An Image is Worth 16x16 Words*. How coarse must patches be?

# %%
sizes = [1, 2, 4, 8, 16, 32, 64, 128]  # pixels along the side of a patch
table = [pair_table_bytes((256 // p) ** 2) for p in sizes]
fig, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
ax.bar([str(p) for p in sizes], table, color=mv.viz.BLUE)
ax.axhline(x.nbytes, color=mv.viz.VERMILLION, ls="--", label="the photo itself")
ax.set(yscale="log", xlabel="patch size (pixels)", ylabel="bytes of one table")
ax.legend(frameon=False)
mv.viz.show(
    fig,
    alt="Bar chart, logarithmic: bytes of the table of all pairs against patch size. "
    f"{spoken(table[0])} for 1 pixel, {spoken(table[4])} for 16, {spoken(table[7])} "
    f"for 128; each doubling divides by {table[0] / table[1]:.0f}.",
)

# %% [markdown]
# *Bytes of one pair table for a 256×256 photo, by patch size; the dashed line is the photo in float32. Doubling the
# side of a patch divides the table by sixteen: a quarter of the items, squared. What the chart does not show is the
# price, which is that a patch hides the order of what is inside it from the table.*
#
# ## Exercises
#
# They lie in [exercises/ch01.py](../exercises/ch01.py), where `python -m exercises check shapes` checks them; or work
# here. First [`shapes`](../exercises/ch01.py#shapes) (★, 5 minutes): six sums of arrays, given by their shapes in the
# docstring there. Write down what comes out, or "error", and run nothing before you have all six.

# %% tags=["your-turn"]
from exercises import check


def shapes():
    # 1. (3, 4) + (4,)        2. (3, 4) + (3,)         3. (3, 1) + (1, 4)
    # 4. (5,) + (5, 1)        5. (2, 1, 4) + (3, 1)    6. (2, 3) + (3, 2)
    ...  # return [(3, 4), "error", …], six of them


check("shapes", shapes)

# %% [markdown]
# Then [`tiles_view`](../exercises/ch01.py#tiles_view) (★★, 12 minutes): cut a grey image into square tiles so that
# `[r, c]` is a whole tile, and do not copy a single pixel. Draw the axes first: which of them counts tiles, which
# counts rows inside a tile? It is chapter 05's central step in disguise.


# %% tags=["your-turn"]
def tiles_view(image, size):  # (H, W) -> (H/size, W/size, size, size), a view
    ...


check("tiles_view", tiles_view)

# %% [markdown]
# ## What we left out
#
# Screens do not show twice the light for twice the number: stored values follow a curve (gamma), and averaging
# colours in them is slightly wrong. We ignore that, as nearly all of image recognition does. Column-first memory
# (Fortran's order) exists and changes strides, not shapes. And half-precision numbers, two bytes long, halve the
# table, at three digits.
#
# **Further reading.** Harris and others, *Array programming with NumPy* (Nature 585, 2020), on shapes, strides and
# broadcasting in six pages. Goldberg, *What every computer scientist should know about floating-point arithmetic*
# (ACM Computing Surveys, 1991): the first ten pages explain why our sums disagreed. Dosovitskiy and others, *An Image
# is Worth 16x16 Words* (2021): read the first page now, the rest after chapter 09.
#
# ## In three sentences
#
# An image is a block of numbers with named axes, and a shape says how a long row of memory is read. Reshape reads it
# differently, transpose exchanges axes, broadcasting repeats along missing ones, and none of the three complains when
# you meant another. A computer sees 196,608 values, far too many to compare each with each, so a Transformer looks at
# 256 patches instead.
#
# **From earlier chapters**: what does a passing test prove about a program, and what does it leave open (00)? What is in
# a trained model's file (00)?
#
# **To leave with**: `images` is `(B, H, W, C)`. Write down, without running anything, the shapes of
# `images.mean(axis=0)`, `images - images.mean(axis=(1, 2), keepdims=True)`, and the number of bytes of a pair table
# for 14 × 14 patches.
