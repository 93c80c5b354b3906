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


def test_weights_count_in_the_mean_and_not_in_the_drawing() -> None:
    """1 and 4, the second three times: (1 + 12) / 4. What has no weight is left out."""
    found = bootstrap([1.0, 4.0, 100.0, math.nan], weights=[1.0, 3.0, 0.0, 5.0])
    assert found.mean == pytest.approx(13 / 4)
    assert (found.low, found.high, found.snippets) == (1.0, 4.0, 2)
    alike = bootstrap([1.0, 4.0, 2.5], weights=[2.0, 2.0, 2.0])
    assert alike == pytest.approx(bootstrap([1.0, 4.0, 2.5]))
