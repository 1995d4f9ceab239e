"""What every test shares: the backends to run over, and settings that make property tests repeatable."""

import importlib.util
import os

import hypothesis
import numpy as np
import pytest
from fake_cupy import cupy as stand_in
from fake_cupy import cupyx as stand_in_extensions

from minivit.engine import backend as backends
from minivit.engine import ops  # noqa: F401  (gives Tensor its operators)

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, max_examples=60)
hypothesis.settings.load_profile("repeatable")


class StandInBackend(backends.CupyBackend):
    """The CuPy code path on the stand-in of fake_cupy.py."""

    name = "fake_cupy"
    kernels = None  # the stand-in cannot run CUDA; tests/engine/cuda_on_cpu.py can


backends.register(StandInBackend(stand_in, stand_in_extensions))


def _with_gpu() -> bool:
    if importlib.util.find_spec("cupy") is None:
        return False
    import cupy

    return cupy.cuda.is_available()


BACKENDS = ["numpy", "fake_cupy", *(["cupy"] if _with_gpu() else [])]


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Each backend in turn, the default one for new arrays while the test runs."""
    backends.use(request.param)
    return backends.get_backend(request.param)


@pytest.fixture(autouse=True)
def _same_default_backend():
    """A test that calls `use` or sets the default backend does not change the next one's."""
    before = backends.default_backend()
    yield
    backends.use(before.name)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a skip is a failure, unless its reason begins with `optional:` or names what this machine is not."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(("optional:", "Windows", "there is a GPU")):
            report.outcome, report.longrepr = "failed", f"skipped in CI, which nobody expected: {reason}"
    return report
