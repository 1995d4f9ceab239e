"""Every operation in the registry: its value against NumPy, its gradient against small steps, and its manners."""

import numpy as np
import pytest
from gradient_cases import CASES, check_gradient, check_manners, operations

from minivit.engine import backend as backends

COVERED = {case.op for case in CASES}


def test_every_operation_has_a_case():
    missing = sorted(set(operations()) - COVERED)
    assert not missing, f"operations without a case in gradient_cases.py: {missing}"


def test_every_case_is_of_an_operation():
    assert not COVERED - set(operations()), "cases of operations that do not exist"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient(case, backend):
    check_gradient(case, backend)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32_stays_and_nothing_is_changed(case, backend):
    check_manners(case, backend, np.float32)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float16_stays(case):
    check_manners(case, backends.get_backend("numpy"), np.float16)
