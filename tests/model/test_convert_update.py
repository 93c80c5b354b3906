"""Folders of a base and an update, made from two networks."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from network_samples import TINY_OURS, TINY_RELEASED
from torch import Tensor

from vdpm.errors import CheckpointError, OutputError
from vdpm.model import VDPM
from vdpm.model.convert import convert
from vdpm.model.convert_update import convert_update
from vdpm.model.rounding import Compacted

FILES = ["base.safetensors", "config.json", "update-1.safetensors.xz"]


def nearest(model: VDPM, before: Mapping[str, Tensor]) -> Compacted:
    """Each row's differences to the nearest seventh of the largest."""
    integers, rest = {}, {}
    for name, value in model.state_dict().items():
        way = value - before[name]
        if value.ndim < 2:
            rest[name] = way
            continue
        scale = way.flatten(1).abs().amax(1).clamp_min(1e-12) / 7
        shape = -1, *[1] * (value.ndim - 1)
        integers[name] = ((way / scale.reshape(shape)).round().to(torch.int8), scale)
    return Compacted(integers, rest)


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    VDPM(TINY_OURS).save_pretrained(tmp_path / "earlier", dtype="int8")
    return tmp_path / "earlier"


@pytest.fixture
def later(earlier: Path, tmp_path: Path) -> Path:
    """The earlier network, moved a little."""
    model = VDPM.from_pretrained(earlier)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.01 * torch.randn(value.shape, generator=generator))
    model.save_pretrained(tmp_path / "later")
    return tmp_path / "later"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_update_holds_the_later_network_nearly(earlier: Path, later: Path, tmp_path: Path) -> None:
    convert_update(later, earlier, tmp_path / "new", compacted_by=nearest)
    assert files(tmp_path / "new") == FILES
    assert (tmp_path / "new/base.safetensors").read_bytes() == (earlier / "model.safetensors").read_bytes()
    new, old, wanted = (VDPM.from_pretrained(path).state_dict() for path in (tmp_path / "new", earlier, later))
    for name, value in wanted.items():
        # Half a seventh of the largest difference of a row, and what bfloat16 leaves of the others.
        assert (new[name] - value).abs().max() <= 0.08 * (old[name] - value).abs().max() + 1e-7, name


def test_an_update_of_an_update_comes_after_it(earlier: Path, later: Path, tmp_path: Path) -> None:
    convert_update(later, earlier, tmp_path / "new", compacted_by=nearest)
    before = {name: (tmp_path / "new" / name).read_bytes() for name in FILES}
    model = VDPM.from_pretrained(later)
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(1.02)
    model.save_pretrained(tmp_path / "latest")
    # Into the folder itself.
    convert_update(tmp_path / "latest", tmp_path / "new", tmp_path / "new", compacted_by=nearest, overwrite=True)
    assert files(tmp_path / "new") == [*FILES, "update-2.safetensors.xz"]
    assert all((tmp_path / "new" / name).read_bytes() == content for name, content in before.items())
    new, wanted = (VDPM.from_pretrained(path).state_dict() for path in (tmp_path / "new", tmp_path / "latest"))
    assert all((new[name] - value).abs().max() < 0.03 * value.abs().max() + 1e-6 for name, value in wanted.items())


def test_whole_weights_and_updates_take_each_others_place(earlier: Path, later: Path, tmp_path: Path) -> None:
    convert(later, tmp_path / "new")
    (tmp_path / "new/README.md").write_text("mine")
    convert_update(later, earlier, tmp_path / "new", compacted_by=nearest, overwrite=True)
    assert files(tmp_path / "new") == sorted([*FILES, "README.md"])
    convert(later, tmp_path / "new", overwrite=True)
    assert files(tmp_path / "new") == ["README.md", "config.json", "model.safetensors"]


def test_what_is_no_update_is_refused(earlier: Path, later: Path, tmp_path: Path) -> None:
    VDPM(TINY_RELEASED).save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match="different networks"):
        convert_update(later, tmp_path / "other", tmp_path / "new", compacted_by=nearest)
    with pytest.raises(OutputError, match="exists"):
        convert_update(later, earlier, later, compacted_by=nearest)
    (tmp_path / "letters").mkdir()
    with pytest.raises(OutputError, match="no folder with weights"):
        convert_update(later, earlier, tmp_path / "letters", compacted_by=nearest, overwrite=True)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert not (tmp_path / "new").exists()


def test_nothing_is_left_where_the_update_fails(
    earlier: Path, later: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *content: object) -> None:
        path.write_bytes(b"half")
        raise OutputError(f"cannot write {path}")

    monkeypatch.setattr("vdpm.model.convert_update.write_update", full)
    with pytest.raises(OutputError, match="cannot write"):
        convert_update(later, earlier, tmp_path / "new", compacted_by=nearest)
    assert files(tmp_path) == ["earlier", "later"]
