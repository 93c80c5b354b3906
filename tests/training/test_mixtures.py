"""What a batch may be made of besides dense clips of neighbouring frames: pairs far apart, sparse tracks."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fixtures.tiny_run import ALONE, RUN, TINY
from vdpm.errors import UsageError
from vdpm.model import VDPM
from vdpm.structures import Snippet
from vdpm.synthetic import SceneConfig
from vdpm.training.batch import TRACK_DENSITY, thin_out
from vdpm.training.config import Bucket, TrainConfig
from vdpm.training.supply import SceneSupply
from vdpm.training.trainer import Trainer

PAIRWISE = replace(TINY, name="pairs", decoder_kind="pairwise", mark_target=False)
PAIR = Bucket(frames=2, height=16, width=24, batch=4, stride=(1, 9))


def supplied(config: TrainConfig, step: int = 0) -> Snippet:
    return SceneSupply(config, ALONE).batch(step, float(step))[1]


def repeated(snippet: Snippet, times: int) -> Snippet:
    """Its clips one after the other, so often."""
    return replace(
        snippet,
        **{
            name: value.repeat(times, *[1] * (value.ndim - 1))
            for name, value in vars(snippet).items()
            if isinstance(value, torch.Tensor)
        },
    )


def test_frames_of_a_bucket_lie_as_far_apart_as_its_stride_says() -> None:
    scenes = SceneConfig(colour_samples=1, time_step=(0.1, 0.1), uneven_share=0.0)
    config = replace(RUN, scenes=scenes, buckets=(replace(PAIR, batch=32),), targets=2)
    gaps = (supplied(config).timestamps.diff() / 0.1).round().int().flatten().tolist()
    assert set(gaps) <= set(range(1, 10))
    assert len(set(gaps)) > 4
    with pytest.raises(UsageError, match="stride"):
        replace(PAIR, stride=(0, 3))


def test_several_targets_of_a_clip_are_different_times() -> None:
    config = replace(RUN, buckets=(Bucket(frames=4, height=16, width=16, batch=16),), targets=3)
    targets = supplied(config).targets
    assert all(len(set(row)) == 3 for row in targets.tolist())
    assert len({tuple(row) for row in targets.tolist()}) > 3
    more = replace(config, buckets=(PAIR,), targets=3)
    assert supplied(more).targets.shape == (4, 3)


def test_tracks_alone_are_left_of_clips_with_motion() -> None:
    config = replace(
        RUN,
        scenes=SceneConfig(colour_samples=1, static_share=0.5, moving_share=(0.9, 0.9)),
        buckets=(Bucket(frames=3, height=32, width=48, batch=12),),
    )
    dense = supplied(config)
    sparse = supplied(replace(config, sparse_share=1.0))
    assert torch.equal(sparse.images, dense.images)
    moves = (dense.dynamic & dense.valid).flatten(1)
    lively = moves.any(1)
    assert 0 < int(lively.sum()) < len(lively)
    still = ~lively
    assert torch.equal(sparse.valid[still], dense.valid[still])
    assert dense.target_valid is not None
    assert sparse.target_valid is not None
    assert torch.equal(sparse.target_valid[still], dense.target_valid[still])
    kept = sparse.valid.flatten(1)[lively]
    assert not bool((kept & ~moves[lively]).any())
    share = kept.sum() / moves[lively].sum()
    assert 0.3 * TRACK_DENSITY < share < 3 * TRACK_DENSITY
    assert not bool((sparse.target_valid & ~sparse.valid[:, None])[lively].any())


def test_a_share_of_the_clips_is_thinned_out() -> None:
    config = replace(
        RUN,
        scenes=SceneConfig(colour_samples=1, static_share=0.0),
        buckets=(Bucket(frames=2, height=16, width=24, batch=5),),
    )
    dense = repeated(supplied(config), 8)
    thinned = thin_out(dense, 0.5, torch.Generator().manual_seed(0))
    changed = (thinned.valid != dense.valid).flatten(1).any(1)
    lively = (dense.dynamic & dense.valid).flatten(1).any(1)
    assert 0.2 < changed.sum() / lively.sum() < 0.8
    with pytest.raises(UsageError, match="sparse_share"):
        replace(RUN, sparse_share=1.5)


def test_a_network_of_its_own_sizes_is_trained_and_pairs_of_it_need_two_frames(tmp_path: Path) -> None:
    config = replace(RUN, model=PAIRWISE, buckets=(PAIR,), targets=2, steps=2)
    assert config.network == PAIRWISE
    assert RUN.network.name == "vdpm-small"
    torch.manual_seed(0)
    model = VDPM(config.network)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run = Trainer(model, config, tmp_path, ALONE)
    run.run()
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert any(name.startswith("decoder.head.") for name in changed)
    assert VDPM.from_pretrained(tmp_path / "model").config == PAIRWISE
    with pytest.raises(UsageError, match="buckets of 2 frames"):
        replace(RUN, model=PAIRWISE)


@pytest.mark.parametrize("change", [{"time_conditioning": "add"}, {"decoder_kind": "head"}])
def test_other_decoders_are_trained(tmp_path: Path, change: dict[str, str]) -> None:
    network = replace(TINY, **change)  # type: ignore[arg-type]
    torch.manual_seed(0)
    Trainer(VDPM(network), replace(RUN, model=network, steps=2), tmp_path, ALONE).run()
    assert VDPM.from_pretrained(tmp_path / "model").config == network
