"""Block systems solved along the clip: the same as solved densely, with work that grows with the length."""

import pytest
import torch

from vdpm.long_video.elimination import BlockSystem, elimination


def met(count: int, *far: tuple[int, tuple[int, ...]]) -> list[tuple[int, int]]:
    """Neighbours meet, and every fourth; ``far``: an unknown with others far away. Both orders, and each itself."""
    pairs = {(k, k) for k in range(count)}
    pairs |= {(k, k + step) for step in (1, 4) for k in range(count - step)}
    pairs |= {(one, other) for one, others in far for other in others}
    return sorted(pairs | {(b, a) for a, b in pairs})


@pytest.mark.parametrize("dense", [0, 1, 2])
@pytest.mark.parametrize("far", [(), ((29, (2, 3, 14)),), ((28, (0, 20)), (29, (1, 15)))])
def test_the_solution_is_that_of_the_whole_matrix(dense: int, far: tuple[tuple[int, tuple[int, ...]], ...]) -> None:
    count, size, generator = 30, 3, torch.Generator().manual_seed(0)
    pairs = met(count, *far)
    spans = [300 if k in dict(far) else 10 for k in range(count)]

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    whole = torch.zeros(count, count, size, size, dtype=torch.float64)
    for a, b in pairs:
        block = normal(size, size)
        whole[a, b] += block
        whole[b, a] += block.T
    full = torch.zeros(size * count + dense, size * count + dense, dtype=torch.float64)
    full[: size * count, : size * count] = whole.transpose(1, 2).reshape(size * count, -1)
    full[: size * count, size * count :] = normal(size * count, dense)
    full[size * count :] = full[:, size * count :].T
    full += 60 * torch.eye(len(full))
    rhs = normal(len(full))

    blocks = torch.stack([full[size * a : size * (a + 1), size * b : size * (b + 1)] for a, b in pairs])
    system = BlockSystem(torch.tensor(pairs), spans, size)
    columns = full[: size * count, size * count :].view(count, size, dense)
    corner = full[size * count :, size * count :]
    found, rest = system.solve(blocks, rhs[: size * count].view(count, size), columns, corner, rhs[size * count :])
    torch.testing.assert_close(torch.cat((found.flatten(), rest)), torch.linalg.solve(full, rhs), atol=1e-12, rtol=0)


def test_levels_meet_their_neighbours_alone_and_far_ones_are_the_border() -> None:
    pairs = met(100, (99, (0, 1, 40, 41)), (98, (10, 80)))
    order = elimination(pairs, [10] * 98 + [200, 300])
    assert order.border == (98, 99)
    level = {one: number for number, ones in enumerate(order.levels) for one in ones}
    assert len(level) == 98
    assert all(abs(level[a] - level[b]) <= 1 for a, b in pairs if a < 98 and b < 98)


def test_work_grows_with_the_length_and_parts_that_do_not_meet_are_all_there() -> None:
    assert elimination(met(400), [10] * 400).work < 2.1 * elimination(met(200), [10] * 200).work
    apart = [pair for pair in met(20) if (pair[0] < 9) == (pair[1] < 9)]
    assert sorted(one for level in elimination(apart, [10] * 20).levels for one in level) == list(range(20))
