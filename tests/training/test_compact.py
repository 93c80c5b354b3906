import lzma
import math
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file

from fixtures.tiny_run import TINY
from vdpm.errors import UsageError
from vdpm.model import VDPM
from vdpm.model.convert import convert
from vdpm.model.convert_update import convert_update
from vdpm.model.rounding import second_moments
from vdpm.synthetic import SceneConfig
from vdpm.training.compact import OwnClips, Shown, compact_at_step, compact_to_size, sensitivities

FEW = OwnClips(SceneConfig(num_frames=2, height=16, width=24), 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    VDPM(TINY).save_pretrained(folder)
    return folder


def relative_change(folder: Path, trained: Path) -> float:
    images = torch.rand(1, 2, 3, 16, 24, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        before, after = (
            VDPM.from_pretrained(source)(images, torch.zeros(1, 1, dtype=torch.long)).time_variant.points
            for source in (trained, folder)
        )
    return float((after - before).norm(dim=-1).mean() / before.norm(dim=-1).mean())


def packed(folder: Path) -> float:
    return len(zlib.compress((folder / "model.safetensors").read_bytes(), 6)) / 2**20


def test_a_folder_with_coarse_integers_loads_and_computes_nearly_the_same(trained: Path, tmp_path: Path) -> None:
    convert(trained, tmp_path / "plain", dtype="int8")
    convert(
        trained, tmp_path / "coarse", dtype="int8", compacted_by=lambda model: compact_at_step(model, 0.5, clips=FEW)
    )
    plain, coarse = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "coarse"))
    assert plain.keys() == coarse.keys()
    blocks = [name for name, value in coarse.items() if value.dtype == torch.int8 and "frame_blocks." in name]
    assert blocks
    for name in blocks:
        # Half a root mean square apart, few integers are beyond eight.
        assert (coarse[name].abs() > 8).float().mean() < 0.01
        assert int(plain[name].abs().max()) == 127
    assert relative_change(tmp_path / "coarse", trained) < 0.2


def test_a_file_has_the_size_that_was_asked_for(trained: Path, tmp_path: Path) -> None:
    convert(trained, tmp_path / "plain", dtype="int8")
    stages = set()

    def report(stage: str, done: int, total: int) -> None:
        assert 0 < done <= total
        stages.add(stage)

    changes = []
    for share, name in ((0.7, "fine"), (0.45, "coarse"), (0.45, "again")):
        convert(
            trained,
            tmp_path / name,
            dtype="int8",
            compacted_by=lambda model, share=share: compact_to_size(
                model, share * packed(tmp_path / "plain"), FEW, report
            ),
        )
        assert 0.97 * share < packed(tmp_path / name) / packed(tmp_path / "plain") <= share
        changes.append(relative_change(tmp_path / name, trained))
    # Nothing is drawn that has no seed.
    coarse, again = (load_file(tmp_path / name / "model.safetensors") for name in ("coarse", "again"))
    assert all(torch.equal(value, again[name]) for name, value in coarse.items())
    assert changes[0] < changes[1] == changes[2] < 0.2
    assert {"making clips", "slopes of the maps", "steps for the size"} < stages


def test_an_update_of_a_network_nearby_is_smaller_for_less_change(trained: Path, tmp_path: Path) -> None:
    model = VDPM.from_pretrained(trained)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * value.std(correction=0) * torch.randn(value.shape, generator=generator))
    model.save_pretrained(tmp_path / "later")
    convert(tmp_path / "later", tmp_path / "plain", dtype="int8")
    mib = 0.3 * packed(tmp_path / "plain")
    convert(
        tmp_path / "later",
        tmp_path / "whole",
        dtype="int8",
        compacted_by=lambda model: compact_to_size(model, 1.5 * mib, FEW),
    )
    convert_update(
        tmp_path / "later",
        trained,
        tmp_path / "update",
        compacted_by=lambda model, before: compact_to_size(model, mib, FEW, before=before),
    )
    size = (tmp_path / "update/update-1.safetensors.xz").stat().st_size / 2**20
    assert 0.95 * mib < size <= mib
    assert relative_change(tmp_path / "update", tmp_path / "later") < relative_change(
        tmp_path / "whole", tmp_path / "later"
    )


def test_a_backbone_that_moved_by_low_ranks_is_stored_as_factors(trained: Path, tmp_path: Path) -> None:
    """What did not move takes no room."""
    model = VDPM.from_pretrained(trained)
    generator = torch.Generator().manual_seed(4)
    blocks = ("aggregator.frame_blocks.", "aggregator.global_blocks.")
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.startswith(blocks) and value.ndim == 2:
                left, right = (
                    torch.randn(shape, generator=generator) for shape in ((len(value), 3), (3, value.shape[1]))
                )
                value.add_(0.1 * value.std() * (left @ right))
            elif name.startswith("decoder."):
                value.add_(0.2 * value.std(correction=0) * torch.randn(value.shape, generator=generator))
    model.save_pretrained(tmp_path / "later")
    mib = 0.015
    convert_update(
        tmp_path / "later",
        trained,
        tmp_path / "thin",
        compacted_by=lambda model, before: compact_to_size(model, mib, FEW, before=before, rank=3),
    )
    assert 0.95 * mib < (tmp_path / "thin/update-1.safetensors.xz").stat().st_size / 2**20 <= mib
    stored = load(lzma.decompress((tmp_path / "thin/update-1.safetensors.xz").read_bytes()))
    assert {name.partition("::")[0] for name in stored if name.endswith("::left")} == {
        name for name, value in model.named_parameters() if name.startswith(blocks) and value.ndim == 2
    }
    assert all(name.startswith((*blocks, "decoder.")) for name in stored)
    assert all(value.shape[0] <= 3 for name, value in stored.items() if name.endswith("::right"))
    change = [relative_change(folder, tmp_path / "later") for folder in (tmp_path / "thin", trained)]
    assert change[0] < 0.03 * change[1]
    with pytest.raises(UsageError, match="rank of 32"):
        compact_to_size(model, mib, FEW, before=model.state_dict(), rank=32)


def test_slopes_tell_how_much_of_each_matrix_reaches_the_maps(trained: Path) -> None:
    model = VDPM.from_pretrained(trained)
    shown = [Shown(torch.rand(1, 2, 3, 16, 24, generator=torch.Generator().manual_seed(6)), torch.zeros(1, 1).long())]
    moments = second_moments(model, lambda: model(*shown[0]))
    before = sensitivities(model, shown, moments)
    first, last = (f"decoder.frame_blocks.0.0.mlp.{name}.weight" for name in ("fc1", "fc2"))
    with torch.no_grad():
        # Behind a matrix of zeros nothing of the one before it arrives, and of twice the matrix, four times the square.
        model.get_parameter(last).zero_()
        model.aggregator.frame_blocks[0].mlp.fc2.weight.mul_(2)
    after = sensitivities(model, shown, moments)
    assert float(before[first].min()) > 0
    assert float(after[first].max()) == 0
    earlier = "aggregator.frame_blocks.0.mlp.fc1.weight"
    assert 2 < float(after[earlier].mean() / before[earlier].mean()) < 8


@pytest.mark.parametrize("step", [0.0, -1.0, 1.5, math.nan])
def test_what_is_no_step_is_refused(step: float) -> None:
    with pytest.raises(UsageError, match="step"):
        compact_at_step(VDPM(TINY), step, FEW)


@pytest.mark.parametrize(("mib", "words"), [(0.0, "size"), (math.nan, "size"), (0.001, "no smaller than")])
def test_what_is_no_size_or_too_little_is_refused(trained: Path, mib: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        compact_to_size(VDPM.from_pretrained(trained), mib, clips=FEW)
