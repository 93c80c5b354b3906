"""Which weights a name means, whether they fit a network, and folders of ``config.json`` and ``model.safetensors``, or
of a base and its updates (``model.updates``)."""

import hashlib
import logging
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vdpm.errors import CheckpointError, OutputError, UsageError
from vdpm.model.checkpoint_file import TORCH_SUFFIXES, StoredState, StoredType, read_state, write_state
from vdpm.model.config import PRESETS, VDPMConfig, preset_config
from vdpm.model.updates import BASE_FILE, UPDATE_FILE, update_files, updated

log = logging.getLogger("vdpm")

CONFIG_FILE, WEIGHTS_FILE, RELEASED_FILE = "config.json", "model.safetensors", "model.pt"
SHIPPED = Path(__file__).resolve().parents[1] / "weights"
RELEASED_HUB_ID = "edgarsucar/vdpm"

VGGT_DROPPED = ("depth_head.", "track_head.")
TIME_TOKEN_NAME, DECODER_PREFIX = "aggregator.time_conditioning_token", "decoder."
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
NAMES_SHOWN = 3


@dataclass(frozen=True)
class LoadReport:
    """What loading did: where the weights came from, which of their tensors were dropped, which of ours start anew."""

    source: str
    tensors: int
    dropped: tuple[str, ...] = ()
    initialized: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.tensors} tensors from {self.source}"]
        if self.dropped:
            parts.append(f"dropped {len(self.dropped)} ({_some(self.dropped)})")
        if self.initialized:
            parts.append(f"initialised {len(self.initialized)} ({_some(self.initialized)})")
        return "; ".join(parts)


@dataclass(frozen=True)
class LocatedWeights:
    """A weight file and, where they lie beside it, its configuration file and what is to be added to it in order."""

    file: Path
    config_file: Path | None
    updates: tuple[Path, ...] = ()


def locate_weights(source: str | Path, revision: str | None = None) -> LocatedWeights:
    """The files ``source`` means: a preset's name, an existing folder or file, or a hub id ``owner/name``.

    A preset's name means the preset (write ./NAME for a folder called so); then an existing path; only a name of the
    form owner/name that is no path goes to the hub. Raises CheckpointError where nothing is found.
    """
    text = str(source)
    if text in PRESETS:
        return _locate_preset(text)
    path = Path(source).expanduser()
    if path.is_dir():
        return _locate_in_folder(path)
    if path.exists():
        beside = path.with_name(CONFIG_FILE)
        return LocatedWeights(path, beside if path.name == WEIGHTS_FILE and beside.is_file() else None)
    is_file_name = path.suffix.lower() in (*TORCH_SUFFIXES, ".safetensors")
    if isinstance(source, str) and HUB_ID.fullmatch(text) and not is_file_name and not path.parent.is_dir():
        return _locate_on_hub(text, revision)
    raise CheckpointError(
        f"no weights at {text}: no such file or folder; give a path, a hub id owner/name or one of {', '.join(PRESETS)}"
    )


def _locate_preset(name: str) -> LocatedWeights:
    folder = SHIPPED / name
    if holds_weights(folder):
        return _locate_in_folder(folder)
    if name == "vdpm-1b":
        raise CheckpointError(
            f"weights of vdpm-1b do not come with the package; load the hub id {RELEASED_HUB_ID} instead, "
            "or give its model.pt or a folder made from it by `vdpm convert`"
        )
    raise CheckpointError(f"this installation lacks the weights of {name} ({folder}); install the package again")


def _locate_in_folder(folder: Path) -> LocatedWeights:
    config_file = folder / CONFIG_FILE
    for name in (WEIGHTS_FILE, RELEASED_FILE):
        if (folder / name).is_file():
            return LocatedWeights(folder / name, config_file if config_file.is_file() else None)
    if (folder / BASE_FILE).is_file():
        return LocatedWeights(folder / BASE_FILE, config_file if config_file.is_file() else None, update_files(folder))
    raise CheckpointError(f"folder {folder} holds neither {WEIGHTS_FILE} nor {RELEASED_FILE}; give a folder of weights")


def _locate_on_hub(hub_id: str, revision: str | None) -> LocatedWeights:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging as hub_logging

    def fetch(name: str) -> Path | None:
        try:
            return Path(hf_hub_download(hub_id, name, revision=revision))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            return None

    verbosity = hub_logging.get_verbosity()
    # It would announce each of its retries on standard error.
    hub_logging.set_verbosity_error()
    try:
        file = fetch(WEIGHTS_FILE) or fetch(RELEASED_FILE)
        if file is None:
            raise CheckpointError(f"hub repository {hub_id} holds neither {WEIGHTS_FILE} nor {RELEASED_FILE}")
        return LocatedWeights(file, fetch(CONFIG_FILE) if file.name == WEIGHTS_FILE else None)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"no file or folder {hub_id} here, and the hub gives no weights of that name ({type(error).__name__}); "
            "check the name and the connection"
        ) from None
    finally:
        hub_logging.set_verbosity(verbosity)


def read_weights(source: str | Path, config: VDPMConfig | None = None, revision: str | None = None) -> StoredState:
    """Tensors and configuration of ``source``; the configuration is ``config``, the file's, or told from its names.

    Raises CheckpointError for files that cannot be read.
    """
    located = locate_weights(source, revision)
    if config is None and located.config_file is not None:
        try:
            config = VDPMConfig.from_json(located.config_file.read_text(encoding="utf-8"))
        except (UsageError, OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{located.config_file}: {error}") from None
    stored = read_state(located.file)
    tensors = stored.tensors
    for update in located.updates:
        tensors = updated(tensors, fingerprint(tensors), update)
    return StoredState(tensors, config or stored.config or _config_by_names(tensors))


def _config_by_names(tensors: Mapping[str, Tensor]) -> VDPMConfig:
    """A file without a configuration is our small network if it has its stem, else the released architecture."""
    ours = any(name.startswith("aggregator.patch_embed.conv1.") for name in tensors)
    return preset_config("vdpm-small" if ours else "vdpm-1b")


def fit_weights(
    tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size], network: str, source: str
) -> tuple[dict[str, Tensor], LoadReport]:
    """Exactly the ``expected`` names and shapes out of ``tensors``, and what was dropped or is left to initialise.

    A VGGT checkpoint (neither time token nor decoder, but depth and track heads) loses those heads; the time token and
    the decoder are reported as to be initialised. Raises CheckpointError for anything else that differs: missing or
    unexpected names, shapes, values that are not finite.
    """
    kept = dict(tensors)
    dropped: tuple[str, ...] = ()
    missing = [name for name in expected if name not in kept]
    to_initialize: list[str] = []
    if TIME_TOKEN_NAME not in kept and not any(name.startswith(DECODER_PREFIX) for name in kept):
        dropped = tuple(name for name in kept if name.startswith(VGGT_DROPPED))
        if dropped:
            to_initialize = [name for name in missing if name == TIME_TOKEN_NAME or name.startswith(DECODER_PREFIX)]
            missing = [name for name in missing if name not in set(to_initialize)]
            kept = {name: value for name, value in kept.items() if name not in set(dropped)}
    unexpected = [name for name in kept if name not in expected]
    reshaped = [name for name in kept if name in expected and kept[name].shape != expected[name]]
    differences = []
    if missing:
        differences.append(f"{len(missing)} of {len(expected)} tensors missing ({_some(missing)})")
    if unexpected:
        differences.append(f"{len(unexpected)} unexpected ({_some(unexpected)})")
    if reshaped:
        shapes = [f"{name}: found {_shape(kept[name].shape)}, expected {_shape(expected[name])}" for name in reshaped]
        differences.append(f"{len(reshaped)} of another shape ({_some(shapes)})")
    if differences:
        raise CheckpointError(
            f"checkpoint {source} does not fit {network}: {'; '.join(differences)}; "
            f"give weights of {network}, or their own config.json beside them"
        )
    broken = [name for name, value in kept.items() if not _is_finite_float(value)]
    if broken:
        raise CheckpointError(
            f"checkpoint {source} holds values that are not finite numbers in {len(broken)} tensors "
            f"({_some(broken)}); fetch it again or take an earlier one"
        )
    return kept, LoadReport(source, len(kept), dropped, tuple(to_initialize))


def write_folder(
    folder: str | Path,
    tensors: Mapping[str, Tensor],
    config: VDPMConfig,
    dtype: StoredType | None,
    integers: Mapping[str, tuple[Tensor, Tensor]] | None = None,
) -> None:
    """Write ``config.json`` and ``model.safetensors`` into ``folder``, each whole or not at all.

    ``integers``: as of ``checkpoint_file.write_state``. Raises OutputError where that fails; a folder made for it is
    then removed again.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_state(folder / WEIGHTS_FILE, tensors, config, dtype, integers)
        beside = folder / f".{CONFIG_FILE}"
        beside.write_text(config.to_json(), encoding="utf-8")
        beside.replace(folder / CONFIG_FILE)
    except (OSError, OutputError) as error:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write weights to {folder} ({error.strerror}); choose another folder") from None


def holds_weights(folder: Path) -> bool:
    """Whether ``folder`` is one of weights, whole or a base with updates."""
    return any((folder / name).is_file() for name in (WEIGHTS_FILE, BASE_FILE))


def remove_weights(folder: Path, but: Collection[str]) -> None:
    """Remove weights in ``folder`` from before that what is there now, ``but``, stands in for."""
    stale = [folder / WEIGHTS_FILE, folder / BASE_FILE, *folder.glob(UPDATE_FILE.format("*"))]
    for path in stale:
        if path.name not in but:
            path.unlink(missing_ok=True)


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of names, types, shapes and bytes, in order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


def _is_finite_float(value: Tensor) -> bool:
    return value.is_floating_point() and bool(torch.isfinite(value).all())


def _some(names: list[str] | tuple[str, ...]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown + ", ..." if len(names) > NAMES_SHOWN else shown


def _shape(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "scalar"
