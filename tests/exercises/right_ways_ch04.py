"""Chapter 04, solved in other ways."""

import numpy as np
from right_ways import right


@right("softmax")
def softmax_row_by_row(x):
    rows = x.numpy().reshape(-1, x.shape[-1])
    return np.stack([np.exp(r - r.max()) / np.exp(r - r.max()).sum() for r in rows]).reshape(x.shape)
