"""A network as a base and updates: what is stored is what is loaded, and what does not belong together is refused."""

import lzma
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from vdpm.errors import CheckpointError
from vdpm.model import VDPM
from vdpm.model.factors import IntegerFactors, product
from vdpm.model.updates import (
    BASE_FILE,
    UPDATE_FILE,
    packed,
    scales_of_update,
    unpacked,
    update_content,
    update_files,
    updated,
    write_update,
)
from vdpm.model.weights import fingerprint

ROWS, ENTRIES = 6, 5


def changed(state: dict[str, Tensor], seed: int) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Tensor]]:
    """Differences for every tensor of a network, as an update may hold them."""
    generator = torch.Generator().manual_seed(seed)
    integers, rest = {}, {}
    for name, value in state.items():
        if value.ndim >= 2:
            whole = torch.randint(-7, 8, value.shape, generator=generator).to(torch.int8)
            scale = 2.0 ** torch.randint(-9, -6, (len(value),), generator=generator).float()
            integers[name] = (whole, scale)
        else:
            rest[name] = torch.randint(-8, 9, value.shape, generator=generator) / 64
    return integers, rest


def after(state: dict[str, Tensor], integers: dict[str, tuple[Tensor, Tensor]], rest: dict[str, Tensor]) -> dict:
    """The same by plain arithmetic."""
    result = dict(state)
    for name, (whole, scale) in integers.items():
        result[name] = state[name] + whole.float() * scale.reshape(-1, *[1] * (whole.ndim - 1))
    return result | {name: state[name] + value for name, value in rest.items()}


@pytest.fixture
def folder(tiny: VDPM, tmp_path: Path) -> Path:
    """A base and two updates."""
    folder = tmp_path / "model"
    tiny.save_pretrained(folder)
    (folder / "model.safetensors").rename(folder / BASE_FILE)
    state = tiny.state_dict()
    for number in (1, 2):
        integers, rest = changed(state, number)
        write_update(folder / UPDATE_FILE.format(number), fingerprint(state), integers, rest)
        state = after(state, integers, rest)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        VDPM.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("entries", [1, 4, 5])
def test_nibbles_give_their_integers_back(entries: int) -> None:
    whole = torch.randint(-8, 8, (7, entries), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    stored = packed(whole)
    assert stored.shape == (7, (entries + 1) // 2)
    assert torch.equal(unpacked(stored, entries), whole)


def test_the_first_of_two_is_in_the_upper_half() -> None:
    assert packed(torch.tensor([[-8, 7, 1]], dtype=torch.int8)).tolist() == [[0x0F, 0x98]]


def test_folder_means_its_last_update(tiny: VDPM, folder: Path) -> None:
    state = tiny.state_dict()
    for number in (1, 2):
        state = after(state, *changed(state, number))
    loaded = VDPM.from_pretrained(folder).state_dict()
    assert loaded.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(loaded[name], value), name


def test_base_file_alone_is_the_first_network(tiny: VDPM, folder: Path) -> None:
    assert VDPM.from_pretrained(folder / BASE_FILE).fingerprint() == tiny.fingerprint()


def test_what_an_update_leaves_out_stays(tmp_path: Path) -> None:
    before = {"a.weight": torch.ones(ROWS, ENTRIES), "b": torch.zeros(3)}
    write_update(tmp_path / "u", fingerprint(before), {}, {"b": torch.full((3,), 0.5)})
    result = updated(before, fingerprint(before), tmp_path / "u")
    assert torch.equal(result["a.weight"], before["a.weight"])
    assert result["b"].tolist() == [0.5] * 3


def test_missing_updates_are_named(folder: Path) -> None:
    (folder / "update-1.safetensors.xz").unlink()
    assert "lacks update-1.safetensors.xz" in refusal(folder)
    (folder / "update-2.safetensors.xz").unlink()
    assert "lacks update-1.safetensors.xz" in refusal(folder)


def test_ten_updates_come_in_their_order(tmp_path: Path) -> None:
    for number in range(1, 12):
        (tmp_path / UPDATE_FILE.format(number)).touch()
    (tmp_path / "update-later.safetensors.xz").touch()
    assert [path.name for path in update_files(tmp_path)] == [UPDATE_FILE.format(number) for number in range(1, 12)]


def test_updates_of_other_weights_are_refused(folder: Path) -> None:
    shutil.copy(folder / "update-2.safetensors.xz", folder / "update-1.safetensors.xz")
    assert "update of other weights" in refusal(folder)


@pytest.mark.parametrize("kind", ["shape", "type", "name", "scale", "damaged", "cut", "huge", "infinite"])
def test_updates_that_do_not_fit_are_refused(tiny: VDPM, folder: Path, kind: str, tmp_path: Path) -> None:
    path = folder / "update-1.safetensors.xz"
    stored = load(lzma.decompress(path.read_bytes()))
    name = next(name for name in stored if name.endswith("::nibbles"))
    scale = name.replace("::nibbles", "::scale")
    if kind == "shape":
        stored[name] = stored[name][:, :-1].contiguous()
    elif kind == "type":
        stored[name] = stored[name].to(torch.int8)
    elif kind == "name":
        stored["stranger"] = torch.zeros(3)
    elif kind == "scale":
        del stored[scale]
    elif kind == "infinite":
        stored[scale] = torch.full_like(stored[scale], torch.inf)
    content = save(stored, metadata={"vdpm": f'{{"base": "{fingerprint(tiny.state_dict())}"}}'})
    if kind == "damaged":
        content = content[:-10]
    elif kind == "huge":
        # A few kilobytes that would fill the memory.
        content = bytes(2**26)
    path.write_bytes(lzma.compress(content)[: -10 if kind == "cut" else None])
    said = refusal(folder)
    # The first update is found at fault where it can be told, the second where only its base can.
    expected = {"infinite": "update of other weights"} | dict.fromkeys(("damaged", "cut", "huge"), "is damaged")
    assert expected.get(kind, "update-1.safetensors.xz") in said


RANK = 3


def thin(state: dict[str, Tensor], seed: int) -> dict[str, IntegerFactors]:
    """Factors for every matrix of the backbone's blocks."""
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for name, value in state.items():
        if value.ndim == 2 and name.startswith(("aggregator.frame_blocks.", "aggregator.global_blocks.")):
            left, right = (
                torch.randint(-127, 128, shape, generator=generator).to(torch.int8)
                for shape in ((len(value), RANK), (RANK, value.shape[1]))
            )
            factors[name] = IntegerFactors(left, right, torch.tensor([2.0**-20, 2.0**-18, 2.0**-17]).to(torch.bfloat16))
    return factors


def test_updates_with_factors_stand_between_others(tiny: VDPM, folder: Path) -> None:
    """The third holds factors, the fourth integers again."""
    state = dict(VDPM.from_pretrained(folder).state_dict())
    factors, (_, rest) = thin(state, 3), changed(state, 3)
    rest = {name: value for name, value in rest.items() if not name.startswith("decoder.")}
    assert factors
    third = folder / UPDATE_FILE.format(3)
    write_update(third, fingerprint(state), {}, rest, factors)
    later = after(state, {}, rest) | {name: state[name] + product(value) for name, value in factors.items()}
    loaded = VDPM.from_pretrained(folder).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in later.items())
    with pytest.raises(CheckpointError, match="low rank") as caught:
        scales_of_update(state, fingerprint(state), third)
    assert "\n" not in str(caught.value)
    integers, rest = changed(later, 4)
    write_update(folder / UPDATE_FILE.format(4), fingerprint(later), integers, rest)
    last = after(later, integers, rest)
    loaded = VDPM.from_pretrained(folder).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in last.items())


def test_what_has_not_changed_takes_no_room() -> None:
    zeros = torch.zeros(ROWS, ENTRIES, dtype=torch.int8), torch.ones(ROWS)
    nothing = IntegerFactors(
        torch.zeros(ROWS, 0).to(torch.int8), torch.zeros(0, 5).to(torch.int8), torch.zeros(0).bfloat16()
    )
    some = IntegerFactors(
        *(torch.ones(shape).to(torch.int8) for shape in ((ROWS, 1), (1, 5))), torch.ones(1).bfloat16()
    )

    def names(integers: dict, rest: dict, factors: dict) -> set[str]:
        return set(load(lzma.decompress(update_content("", integers, rest, factors))))

    assert names({}, {"a": torch.zeros(3), "b": torch.ones(3)}, {"c": nothing}) == {"b"}
    # The scales of a matrix that stayed are steps that others may take over, but not from a file with factors.
    assert names({"a": zeros}, {}, {}) == {"a::nibbles", "a::scale"}
    assert names({"a": zeros}, {}, {"c": some}) == {"c::left", "c::right", "c::factor_scale"}


@pytest.mark.parametrize(
    "kind",
    ["shape", "rank", "type", "scale", "spread", "negative", "lone", "twice", "vector", "window", "later", "much"],
)
def test_factors_that_do_not_fit_are_refused(tmp_path: Path, kind: str) -> None:
    before = {"a": torch.ones(ROWS, ENTRIES), "v": torch.ones(ROWS), "w": torch.ones(ROWS, ENTRIES, 1, 1)}
    path = tmp_path / "u"
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randint(-9, 9, (2, ROWS), generator=generator), torch.randint(-9, 9, (2, ENTRIES))
    stored = {"a::left": left.to(torch.int8), "a::right": right.to(torch.int8)}
    stored["a::factor_scale"] = torch.tensor([0.5, 0.25]).to(torch.bfloat16)
    base, version = fingerprint(before), 2

    def write() -> None:
        metadata = {"vdpm": f'{{"base": "{base}", "version": {version}}}'}
        path.write_bytes(lzma.compress(save({name: value.contiguous() for name, value in stored.items()}, metadata)))

    write()
    expected = before["a"] + (left.T * torch.tensor([0.5, 0.25])) @ right.float()
    assert torch.equal(updated(before, base, path)["a"], expected)
    if kind == "shape":
        stored["a::left"] = stored["a::left"].T
    elif kind == "rank":
        # More than a matrix of this shape can have.
        stored = {
            "a::left": torch.ones(ENTRIES + 1, ROWS).to(torch.int8),
            "a::right": torch.ones(ENTRIES + 1, ENTRIES).to(torch.int8),
            "a::factor_scale": torch.ones(ENTRIES + 1).to(torch.bfloat16),
        }
    elif kind == "type":
        stored["a::right"] = stored["a::right"].to(torch.uint8)
    elif kind == "scale":
        stored["a::factor_scale"] = stored["a::factor_scale"].float()
    elif kind == "spread":
        stored["a::factor_scale"] = torch.tensor([2.0**-11, 2.0**11]).to(torch.bfloat16)
    elif kind == "negative":
        stored["a::factor_scale"] = -stored["a::factor_scale"]
    elif kind == "lone":
        del stored["a::left"]
    elif kind == "twice":
        stored["a"] = torch.zeros(ROWS, ENTRIES).to(torch.bfloat16)
    elif kind in ("vector", "window"):
        stored = {name.replace("a", kind[0], 1): value for name, value in stored.items()}
    elif kind == "later":
        version = 3
    elif kind == "much":
        # A few kilobytes that would fill the memory.
        stored["a::left"] = torch.zeros(2**13, 2**13).to(torch.int8)
    write()
    with pytest.raises(CheckpointError) as caught:
        updated(before, base, path)
    said = str(caught.value)
    assert str(path) in said
    assert "\n" not in said
    expected_words = {"later": "newer vdpm", "much": "is damaged"}
    assert expected_words.get(kind, "does not fit") in said
