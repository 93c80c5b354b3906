import torch

from vdpm.synthetic.hashing import Draws, seed_keys


def test_seeds_that_share_half_of_their_key_still_draw_differently() -> None:
    # Between 200,000 seeds with one upper half and 200,000 with another some ten pairs have the same 32-bit key.
    seeds = torch.cat([torch.arange(200_000), 2**40 + torch.arange(200_000)])
    keys, order = seed_keys(seeds)[0].sort()
    same = (keys[1:] == keys[:-1]).nonzero()[:, 0]
    assert len(same) > 0
    first, second = Draws(seeds[order[same]]), Draws(seeds[order[same + 1]])
    assert (first.uniform("something", 4) != second.uniform("something", 4)).all()


def test_a_draw_does_not_depend_on_what_else_is_drawn() -> None:
    alone = Draws(torch.tensor([5, 2**40])).uniform("lonely", 3)
    draws = Draws(torch.tensor([7, 5, 2**40]))
    draws.uniform("another", 9)
    assert torch.equal(draws.uniform("lonely", 3)[1:], alone)
    assert not torch.equal(alone[0], alone[1])
