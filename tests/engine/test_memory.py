import sys

import pytest

from minivit.engine.memory import keep_pages


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can be told")
def test_a_step_reuses_its_pages():
    import resource

    import numpy as np

    if not keep_pages():
        pytest.skip("this C library is not glibc")
    for _ in range(3):
        np.ones(4_000_000, np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(4_000_000, np.float32)  # 16 MB, 3,900 pages
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 1000
