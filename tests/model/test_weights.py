"""Weights on disk: round trips, foreign checkpoints, and what is refused in one line."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from network_samples import TINY_OURS, TINY_RELEASED, fill_by_rule
from safetensors.torch import load_file, save_file
from torch import Tensor

from vdpm.errors import CheckpointError, OutputError
from vdpm.model import VDPM, VDPMConfig, weights
from vdpm.model.checkpoint_file import INT8_MIN_NUMEL, dequantize_rows, quantize_rows
from vdpm.model.convert import convert


def assert_same_state(a: VDPM, b: VDPM) -> None:
    assert a.config == b.config
    for name, tensor in a.state_dict().items():
        assert torch.equal(tensor, b.state_dict()[name]), name


def refusal(source: str | Path, config: VDPMConfig | None = TINY_RELEASED) -> str:
    with pytest.raises(CheckpointError) as caught:
        VDPM.from_pretrained(source, config=config)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


@pytest.fixture
def released() -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in fill_by_rule(VDPM(TINY_RELEASED)).state_dict().items()}


@pytest.fixture
def vggt(released: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = ("decoder.", "aggregator.time_conditioning_token")
    state = {name: tensor for name, tensor in released.items() if not name.startswith(ours)}
    return state | {"depth_head.norm.weight": torch.ones(4), "track_head.fmap.bias": torch.ones(2)}


def test_folder_round_trip_is_exact(tiny: VDPM, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    again = VDPM.from_pretrained(tmp_path / "model")
    assert_same_state(tiny, again)
    assert again.fingerprint() == tiny.fingerprint()
    assert not again.training


def test_file_alone_holds_its_configuration(tiny: VDPM, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    (tmp_path / "config.json").unlink()
    assert_same_state(tiny, VDPM.from_pretrained(str(tmp_path / "other.safetensors")))


def test_bfloat16_files_and_networks(tiny: VDPM, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path, dtype="bfloat16")
    again = VDPM.from_pretrained(tmp_path)
    for name, tensor in tiny.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor.bfloat16().float()), name
    half = VDPM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in half.state_dict().values()} == {torch.bfloat16}
    assert half.fingerprint() != again.fingerprint()


def test_int8_is_off_by_half_a_step_of_its_row(tiny: VDPM, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path, dtype="int8")
    again = VDPM.from_pretrained(tmp_path).state_dict()
    rounded = 0
    for name, tensor in tiny.state_dict().items():
        if tensor.ndim < 2 or not name.endswith(".weight") or tensor.numel() < INT8_MIN_NUMEL:
            assert torch.equal(again[name], tensor), name
            continue
        rows = tensor.flatten(1)
        bound = rows.abs().amax(1, keepdim=True) / 254
        difference = (again[name].flatten(1) - rows).abs()
        assert (difference <= bound * 1.001).all(), name
        rounded += int((difference > 0).any())
    assert rounded > 5
    stored = load_file(tmp_path / "model.safetensors")
    assert sum(tensor.dtype == torch.int8 for tensor in stored.values()) == rounded


def test_int8_of_a_zero_row_is_zero() -> None:
    weight = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    integers, scale = quantize_rows(weight)
    assert integers.tolist() == [[0, 0], [64, -127]]
    assert dequantize_rows(integers, scale)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s, "epoch": 3}, lambda s: {"state_dict": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_released_names_are_loaded_however_wrapped(
    released: dict[str, Tensor], wrap: Callable, prefix: str, tmp_path: Path
) -> None:
    torch.save(wrap({prefix + name: tensor for name, tensor in released.items()}), tmp_path / "model.pt")
    model = VDPM.from_pretrained(tmp_path / "model.pt", config=TINY_RELEASED)
    assert all(torch.equal(tensor, released[name]) for name, tensor in model.state_dict().items())
    assert model.load_report is not None
    assert model.load_report.initialized == ()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_vggt_loses_its_heads_and_gains_a_decoder(vggt: dict[str, Tensor], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"vggt{suffix}"
    if suffix == ".pt":
        torch.save(vggt, path)
    else:
        save_file(vggt, path)
    torch.manual_seed(0)
    model = VDPM.from_pretrained(path, config=TINY_RELEASED)
    report = model.load_report
    assert report is not None
    assert set(report.dropped) == {"depth_head.norm.weight", "track_head.fmap.bias"}
    assert set(report.initialized) == set(model.state_dict()) - set(vggt)
    assert "dropped 2" in str(report)
    assert all(torch.equal(model.state_dict()[name], vggt[name]) for name in set(vggt) - set(report.dropped))
    assert 0.3 < model.aggregator.time_conditioning_token.std() < 2
    assert (model.get_parameter("decoder.frame_blocks.0.0.ls2.gamma") == 0.01).all()
    assert model.encode(torch.rand(1, 2, 3, 14, 28)).taps[0].isfinite().all()


def test_vggt_that_lacks_more_is_refused(vggt: dict[str, Tensor], tmp_path: Path) -> None:
    del vggt["point_head.norm.weight"]
    torch.save(vggt, tmp_path / "vggt.pt")
    assert "1 of" in refusal(tmp_path / "vggt.pt")


def test_differences_are_named(released: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    missing = {name: tensor for name, tensor in released.items() if not name.startswith("camera_head.trunk")}
    torch.save(missing, path)
    count = len(released) - len(missing)
    message = refusal(path)
    assert f"{count} of {len(released)} tensors missing (camera_head.trunk" in message
    assert "config.json" in message

    torch.save(released | {"extra.weight": torch.ones(2)}, path)
    assert "1 unexpected (extra.weight)" in refusal(path)

    torch.save(released | {"point_head.norm.weight": torch.ones(65)}, path)
    assert "point_head.norm.weight: found 65, expected 64" in refusal(path)

    bad = released["point_head.norm.bias"].clone()
    bad[3] = float("nan")
    torch.save(released | {"point_head.norm.bias": bad}, path)
    assert "not finite numbers in 1 tensors (point_head.norm.bias)" in refusal(path)

    no_decoder = {name: tensor for name, tensor in released.items() if not name.startswith("decoder.")}
    torch.save(no_decoder, path)
    assert "missing (decoder." in refusal(path)


def test_weights_of_another_size_name_the_network(tmp_path: Path) -> None:
    fill_by_rule(VDPM(TINY_OURS)).save_pretrained(tmp_path)
    assert "does not fit tiny-released" in refusal(tmp_path)


class Payload:
    """Unpickling it would run a call."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("payload-ran"),))


def test_pickles_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Payload()}, tmp_path / "model.pt")
    assert "Python objects other than tensors" in refusal(tmp_path / "model.pt")
    assert not (tmp_path / "payload-ran").exists()


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_damaged_files_are_refused(tiny: VDPM, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith(".pt"):
        torch.save(tiny.state_dict(), path)
    else:
        tiny.save_pretrained(tmp_path)
    whole = path.read_bytes()
    noise = bytes(torch.randint(0, 256, (5000,), generator=torch.Generator().manual_seed(1)).tolist())
    for content in (whole[: len(whole) // 2], whole[:5], b"", b"not weights at all " * 50, noise):
        path.write_bytes(content)
        message = refusal(tmp_path, tiny.config)
        assert str(path) in message
        assert "is damaged or no" in message


def test_huge_or_false_headers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    header = json.dumps({"x": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]}}).encode()
    for content in (struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", len(header)) + header + b"\0" * 4):
        path.write_bytes(content)
        assert "damaged or no safetensors" in refusal(path)


def test_int8_without_scales_is_refused(tmp_path: Path) -> None:
    fill_by_rule(VDPM(TINY_RELEASED)).save_pretrained(tmp_path, dtype="int8")
    path = tmp_path / "model.safetensors"
    stored = load_file(path)
    save_file({name: tensor for name, tensor in stored.items() if not name.endswith("::scale")}, path)
    assert "lacks scales" in refusal(path)


def test_other_content_is_refused(tmp_path: Path) -> None:
    for content in ([1, 2], {}, {"model": {"a": 3}}, torch.ones(2)):
        torch.save(content, tmp_path / "model.pt")
        assert "no state dict" in refusal(tmp_path / "model.pt")
    save_file({"a": torch.ones(1)}, tmp_path / "b.safetensors", metadata={"vdpm": "{"})
    assert "configuration that cannot be read" in refusal(tmp_path / "b.safetensors", None)


def test_broken_configuration_names_its_file(tiny: VDPM, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"dim": "wide"}')
    message = refusal(tmp_path, None)
    assert str(tmp_path / "config.json") in message
    assert "dim is 'wide'" in message


def test_sources_that_are_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "holds neither" in refusal(tmp_path / "empty")
    assert "no such file or folder" in refusal("a/b/model.pt")
    assert "no such file or folder" in refusal("some/model.pt")
    assert "no such file or folder" in refusal("empty/model")
    assert "no such file or folder" in refusal("vdpm-large")
    assert "install the package again" in refusal("vdpm-small", None)
    one_line = refusal("vdpm-1b", None)
    assert "edgarsucar/vdpm" in one_line
    assert "vdpm convert" in one_line


def test_a_name_that_is_no_path_goes_to_the_hub(tiny: VDPM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    tiny.save_pretrained(tmp_path)
    asked: list[str] = []

    def download(hub_id: str, name: str, revision: str | None = None) -> str:
        asked.append(f"{hub_id}@{revision}/{name}")
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert_same_state(tiny, VDPM.from_pretrained("someone/network", revision="v2"))
    assert asked == ["someone/network@v2/model.safetensors", "someone/network@v2/config.json"]

    def offline(hub_id: str, name: str, revision: str | None = None) -> str:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    assert "check the name and the connection" in refusal("someone/network")


def test_convert_writes_a_folder_or_nothing(vggt: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(vggt, tmp_path / "vggt.pt")
    destination = tmp_path / "out"
    report = convert(tmp_path / "vggt.pt", destination, config=TINY_RELEASED, seed=3)
    assert len(report.dropped) == 2
    first = VDPM.from_pretrained(destination).fingerprint()
    with pytest.raises(OutputError, match="exists"):
        convert(tmp_path / "vggt.pt", destination, config=TINY_RELEASED)
    convert(tmp_path / "vggt.pt", destination, config=TINY_RELEASED, seed=3, overwrite=True)
    assert VDPM.from_pretrained(destination).fingerprint() == first
    with pytest.raises(CheckpointError):
        convert(tmp_path / "none.pt", tmp_path / "other", config=TINY_RELEASED)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "vggt.pt"]


def test_convert_never_removes_files_that_are_not_its_own(vggt: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(vggt, tmp_path / "vggt.pt")
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="left alone"):
        convert(tmp_path / "vggt.pt", theirs, config=TINY_RELEASED, overwrite=True)
    assert [path.name for path in theirs.iterdir()] == ["thesis.txt"]
    convert(tmp_path / "vggt.pt", ours, config=TINY_RELEASED, seed=1)
    before = VDPM.from_pretrained(ours).fingerprint()
    (ours / "README.md").write_text("my notes")
    convert(tmp_path / "vggt.pt", ours, config=TINY_RELEASED, seed=2, overwrite=True)
    assert VDPM.from_pretrained(ours).fingerprint() != before
    assert sorted(path.name for path in ours.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "theirs", "vggt.pt"]


def test_a_folder_that_cannot_be_written_is_one_line(tiny: VDPM, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        tiny.save_pretrained(tmp_path / "file" / "folder")


@pytest.mark.parametrize("name", ["vdpm-small"])
def test_shipped_weights_load(name: str) -> None:
    if not (weights.SHIPPED / name / weights.WEIGHTS_FILE).is_file():
        pytest.skip(f"the weights of {name} are not part of this checkout")
    assert VDPM.from_pretrained(name).config.name == name


def test_loading_does_not_import_the_compiler(tmp_path: Path) -> None:
    """Random initialisation on the meta device would, and that takes a second."""
    fill_by_rule(VDPM(TINY_OURS)).save_pretrained(tmp_path)
    load = "from vdpm import VDPM; VDPM.from_pretrained(sys.argv[1])"
    script = f"import sys; {load}; print('torch._dynamo' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_weights_are_as_readable_as_other_files(tiny: VDPM, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "config.json").stat().st_mode
