import math

import pytest
import torch

from vdpm.evaluation.bootstrap import bootstrap


def test_the_interval_of_a_normal_sample_is_that_of_theory() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(3)).tolist()
    found = bootstrap(values)
    error = torch.tensor(values).std().item() / 20
    assert found.mean == pytest.approx(sum(values) / 400, abs=1e-6)
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.3 * error)
    assert found == bootstrap(values)


def test_what_is_undefined_is_left_out() -> None:
    assert bootstrap([1.0, math.nan, 1.0]) == (1.0, 1.0, 1.0, 2)
    nothing = bootstrap([math.nan])
    assert nothing.snippets == 0
    assert math.isnan(nothing.mean)
