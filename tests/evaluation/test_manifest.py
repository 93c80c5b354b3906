"""Manifests: what they say is read back, a changed generator is noticed, bad files give one line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vdpm.errors import InputError, OutputError, UsageError
from vdpm.evaluation.manifest import figures_of, load_manifest, make_manifest, read_manifest, write_manifests
from vdpm.synthetic.families import FAMILIES


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manifests")
    write_manifests(folder, count=3)
    return folder


def test_a_manifest_is_read_back_as_it_was_made(written: Path) -> None:
    for family in FAMILIES:
        made, read = make_manifest(family, 3), read_manifest(written / f"{family}.json")
        assert read == made
        assert read.digest() == made.digest()
        assert read.dumps() == (written / f"{family}.json").read_text()
        assert read.differences() == ()
        assert read.pairs == {2: (0, 1), 8: (0, 4)}
        assert read.seeds(2).tolist() == [read.first_seed, read.first_seed + 1]


def test_families_differ_in_what_they_show() -> None:
    rows = [make_manifest(family, 1).fingerprint[0] for family in FAMILIES]
    assert len(set(rows)) == len(FAMILIES)


def test_the_packages_manifests_hold_200_snippets_each() -> None:
    manifests = [load_manifest(family) for family in FAMILIES]
    assert [manifest.family for manifest in manifests] == list(FAMILIES)
    assert all(manifest.count == 200 and manifest.config.num_frames == 10 for manifest in manifests)
    seeds = [seed for manifest in manifests for seed in manifest.seeds().tolist()]
    assert len(set(seeds)) == 600


@pytest.mark.parametrize("family", FAMILIES)
def test_the_packages_manifests_are_those_of_its_generator(family: str) -> None:
    """After a change of the scenes that is meant: python -m vdpm.evaluation.manifest."""
    manifest = load_manifest(family)
    assert manifest.config == FAMILIES[family]
    assert manifest.differences() == ()


def test_a_changed_generator_is_noticed(written: Path) -> None:
    manifest = read_manifest(written / "rigid.json")
    other = replace(manifest, config=replace(manifest.config, figure_share=1.0, density=(0.9, 1.0)))
    assert "another generator" in other.differences()[0]
    moved = [list(row) for row in manifest.fingerprint]
    moved[1][3] += 0.2
    changed = replace(manifest, fingerprint=tuple(map(tuple, moved)))
    assert "1 of 3 probed snippets differ" in changed.differences()[0]
    fewer = replace(manifest, fingerprint=tuple(row[:4] for row in manifest.fingerprint))
    assert "not comparable" in fewer.differences()[0]
    rounded = replace(manifest, fingerprint=tuple(tuple(round(v, 2) for v in row) for row in manifest.fingerprint))
    assert rounded.differences() == ()


def test_figures_do_not_depend_on_the_other_probes(written: Path) -> None:
    manifest = read_manifest(written / "unseen.json")
    assert figures_of(replace(manifest, probes=(2,)))[0] == pytest.approx(manifest.fingerprint[2], abs=1e-3)


def test_settings_that_are_gone_or_new_are_told(written: Path, tmp_path: Path) -> None:
    content = json.loads((written / "rigid.json").read_text())
    del content["config"]["zoom_share"]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(content))
    assert "older than zoom_share" in read_manifest(path).differences()[0]
    content["config"]["zoom_share"], content["config"]["of_tomorrow"] = 0.0, 1
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="of_tomorrow"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a manifest"),
        ({"format_version": 2}, "not a manifest"),
        ({"config": {"density": [1.0, 0.2]}}, "density"),
        ({"config": {"density": "many"}}, "of another kind"),
        ({"config": {"density": [0.1, "much"]}}, "of another kind"),
        ({"config": {"num_frames": 2.5}}, "of another kind"),
        ({"config": {"sensor": 3}}, "'sensor' is not an object"),
        ({"config": {"sensor": {"of_tomorrow": 3}}}, "sensor.of_tomorrow"),
        ({"config": []}, "'config' is not an object"),
        ({"seeds": {"first": -4, "count": 3}}, "'first' is not"),
        ({"seeds": {"first": 4, "count": 1 << 40}}, "'count' is not"),
        ({"pairs": {"2": [0, 1], "8": [0, 99]}}, "'8' is not|'8' holds"),
        ({"pairs": {"2": [3, 1], "8": [0, 4]}}, "margin 2"),
        ({"fingerprint": {"snippets": [0, 1], "values": [[1.0], [1.0, 2.0]]}}, "several lengths"),
        ({"fingerprint": {"snippets": [], "values": []}}, "no rows"),
        ({"fingerprint": {"snippets": [0], "values": ["x"]}}, "not a list of lists"),
        ({"family": 7}, "'family' is not text"),
    ],
)
def test_bad_manifests_give_one_line(written: Path, tmp_path: Path, change: dict, message: str) -> None:
    content = json.loads((written / "rigid.json").read_text()) | change
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as raised:
        read_manifest(tmp_path / "bad.json")
    assert len(str(raised.value).splitlines()) == 1


def test_what_is_no_manifest_gives_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    with pytest.raises(InputError, match="no such manifest"):
        read_manifest(path)
    for content, message in ((b"\xff\xfe", "cannot be read"), (b"[1", "not valid JSON"), (b"[1]", "not a JSON object")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_manifest(path)
    path.write_bytes(b" " * (2 << 20))
    with pytest.raises(InputError, match="larger than"):
        read_manifest(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path)
    with pytest.raises(UsageError, match="no family 'all'"):
        load_manifest("all")
    with pytest.raises(OutputError, match="cannot be written"):
        write_manifests(tmp_path / "missing", count=1)
    with pytest.raises(UsageError, match="1 to 200"):
        load_manifest("rigid").seeds(201)
