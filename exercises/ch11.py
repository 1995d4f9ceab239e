"""Exercises of chapter 11. Fill them in, then: python -m exercises check at_most

★ at_most, 6 minutes: What a faster part is worth to the whole
★★★ attention_in_tiles, 25 minutes: Attention without its table

Made from manifest.toml by `python -m exercises skeletons`.
"""

import numpy as np

import minivit as mv


def at_most(share, factor):
    """How many times as fast a step becomes when one part of it does.

    The part takes `share` of the step's time, from 0 to 1, and becomes `factor` times as fast; the rest takes as long as
    before. `factor` may be `math.inf`: then the part takes no time at all.
    """
    raise NotImplementedError


def attention_in_tiles(q, k, v, size):
    """Attention over `size` keys and values at a time: (T, d), (S, d), (S, e) -> (T, e).

    Exactly attention: softmax(qkᵀ / √d) v, the softmax over all keys. But the table (T, S) is never made, only the scores of
    one tile, (T, size), which are forgotten before the next tile; each tile is read once. The last tile may be shorter.
    Scores may be as large as 10,000, or as low as −10,000.
    """
    raise NotImplementedError
