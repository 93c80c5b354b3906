"""Small files of trained networks: which clips tell how their matrices may be rounded, and how much each matters."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.model import VDPM, VDPMOutput
from vdpm.model.checkpoint_file import write_state
from vdpm.model.factor_rounding import Components, components_of, rounded_factors, thin_matrices
from vdpm.model.rounding import (
    REST_DIGITS,
    WIDEST_STEP,
    Compacted,
    Feedback,
    cheap_differences,
    cheap_integers,
    check_size,
    coarse_integers,
    feedback_of,
    few_digits,
    finest_of_size,
    relative_steps,
    second_moments,
)
from vdpm.model.updates import update_content
from vdpm.progress import Report, silent
from vdpm.synthetic import SceneConfig, SceneGenerator, training_seeds

CLIPS = 16
SCENES = SceneConfig(num_frames=6, height=112, width=168)
PACKING = 6
"""The level of zlib at which git, zip archives and wheels pack files."""
ROUNDS = 12
PROBES = 1
LEAST_STEP = 0.05
LEAST_STEP_OF_FACTORS = 0.005
"""Their integers have twice the bits, and there are few of them."""
DENSE_BESIDE_FACTORS = 0.18
"""Steps of dense matrices beside factors, of what the rule of equal errors gives: in one network 1.6 MiB shared so
added 0.006 to its loss, by the rule alone 0.014. Few matrices are dense then, and all that moves comes from them."""
CAMERA_WEIGHT, CONFIDENCE_WEIGHT, DESCRIPTOR_WEIGHT = 2.0, 0.1, 0.2
"""What a change of the cameras' encodings, of logarithms of confidences, of descriptors counts; of maps, 1."""


@dataclass(frozen=True)
class OwnClips:
    """``count`` clips of our own training scenes, always the same ones."""

    scenes: SceneConfig = SCENES
    count: int = CLIPS


class Shown(NamedTuple):
    """What the network is run on."""

    images: Float[Tensor, "1 frames 3 height width"]
    target_times: Int[Tensor, "1 1"]


def compact_at_step(model: VDPM, step: float, clips: OwnClips | None = None, report: Report = silent) -> Compacted:
    """``model`` with the integers of ``model.rounding.coarse_integers``, chosen on ``clips``.

    Raises UsageError for a step that is no step.
    """
    if not (math.isfinite(step) and 0 < step <= 1):
        raise UsageError(f"a step of {step:g} between integers; it must be above 0 and at most 1")
    shown = _made(clips or OwnClips(), report)
    moments = second_moments(model, lambda: _show(model, shown, report))
    return Compacted(coarse_integers(model.state_dict(), moments, step), {})


def compact_to_size(
    model: VDPM,
    mib: float,
    clips: OwnClips | None = None,
    report: Report = silent,
    *,
    before: Mapping[str, Tensor] | None = None,
    rank: int | None = None,
) -> Compacted:
    """``model`` for a file that zlib packs into at most ``mib`` MiB; see docs/training.md for what is done.

    ``before``: tensors of an earlier network, of which it is to become an update (``model.updates``); integers and rest
    are then those of the differences. ``rank``, with ``before``: the matrices of the backbone's blocks differ by
    factors of this rank, to which the difference is cut, and so do all others that differ by no more. Raises UsageError
    for a size that cannot be reached or a rank that they cannot have.
    """
    check_size(mib)
    tensors = model.state_dict()
    thin = () if rank is None or before is None else thin_matrices(tensors, before, rank)
    shown = _made(clips or OwnClips(), report)
    moments = second_moments(model, lambda: _show(model, shown, report))
    feedback = {name: feedback_of(inputs) for name, inputs in moments.items()}
    relative = relative_steps(tensors, feedback, sensitivities(model, shown, moments, report))
    if before is None or rank is None:
        return _of_size(model, mib, feedback, relative, before, report)
    components = {
        name: components_of(tensors[name].float() - before[name].float(), moments[name], rank)
        for name in thin
        if name in moments
    }
    return _with_factors(model, mib, feedback, relative, before, components, report)


def sensitivities(
    model: VDPM,
    clips: Sequence[tuple[Tensor, Tensor]],
    moments: Mapping[str, Float[Tensor, "inputs inputs"]],
    report: Report = silent,
) -> dict[str, Float[Tensor, "rows"]]:
    """How much the squared change of a clip's output grows with the error of each row of each matrix.

    In units of what the row's output changes, as ``moments`` tell. To first order, from slopes of random sums of
    the output (their mean square is the sum of the squared slopes); correct for errors that are spread as rounding
    with feedback spreads them: the inverse of the moments.
    """
    parameters = dict(model.named_parameters())
    roots = {name: _root(inputs) for name, inputs in moments.items()}
    found = {name: torch.zeros(len(parameters[name])) for name in moments}
    generator = torch.Generator().manual_seed(0)
    for number, (images, target) in enumerate(clips, 1):
        output = model(images, target)
        for probe in range(PROBES):
            total = _random_sum(output, generator)
            slopes = torch.autograd.grad(
                total, [parameters[name] for name in moments], retain_graph=probe + 1 < PROBES, materialize_grads=True
            )
            for name, slope in zip(moments, slopes):
                white = torch.linalg.solve_triangular(roots[name], slope.flatten(1).T, upper=False)
                found[name] += white.square().mean(0) / (PROBES * len(clips))
        report("slopes of the maps", number, len(clips))
    return found


def packed_mib(model: VDPM, compacted: Compacted, *, update: bool = False) -> float:
    """MiB of the file of weights as zlib packs it, or of the update, which is packed."""
    if update:
        return len(update_content("", compacted.integers, compacted.rest, compacted.factors)) / 2**20
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write_state(path, model.state_dict() | dict(compacted.rest), model.config, "int8", compacted.integers)
        return len(zlib.compress(path.read_bytes(), PACKING)) / 2**20


def _made(clips: OwnClips, report: Report) -> list[Shown]:
    generator = SceneGenerator(clips.scenes, torch.device("cpu"))
    made = []
    for seed in training_seeds(0, clips.count).tolist():
        made.append(Shown(generator(torch.tensor([seed])).images, torch.tensor([[seed % clips.scenes.num_frames]])))
        report("making clips", len(made), clips.count)
    return made


def _show(model: VDPM, clips: list[Shown], report: Report) -> None:
    for number, (images, target) in enumerate(clips, 1):
        model(images, target)
        report("inputs of the matrices", number, len(clips))


def _of_size(
    model: VDPM,
    mib: float,
    feedback: Mapping[str, Feedback],
    relative: Mapping[str, float],
    before: Mapping[str, Tensor] | None,
    report: Report,
) -> Compacted:
    """With the finest steps whose file is not larger than wanted."""
    tensors = model.state_dict()
    rest = {name: few_digits(value.float(), REST_DIGITS) for name, value in tensors.items() if name not in feedback}

    def at(logarithm: float) -> tuple[Compacted, float]:
        steps = {name: math.exp(logarithm) * value for name, value in relative.items()}
        if before is None:
            compacted = Compacted(cheap_integers(tensors, feedback, steps), rest)
        else:
            compacted = cheap_differences(tensors, before, feedback, steps)
        return compacted, packed_mib(model, compacted, update=before is not None)

    bounds = math.log(LEAST_STEP), math.log(WIDEST_STEP / min(relative.values()))
    return finest_of_size(mib, at, bounds, ROUNDS, report)


def _with_factors(
    model: VDPM,
    mib: float,
    feedback: Mapping[str, Feedback],
    relative: Mapping[str, float],
    before: Mapping[str, Tensor],
    components: Mapping[str, Components],
    report: Report,
) -> Compacted:
    """As ``_of_size``, an update with ``components`` as factors and all else as there."""
    tensors = {name: value for name, value in model.state_dict().items() if name not in components}
    sizes = {name: float(model.get_parameter(name).detach().square().mean().sqrt()) for name in components}
    dense = {name: known for name, known in feedback.items() if name not in components}

    def at(logarithm: float) -> tuple[Compacted, float]:
        steps = {name: math.exp(logarithm) * value for name, value in relative.items()}
        finer = {name: DENSE_BESIDE_FACTORS * step for name, step in steps.items()}
        compacted = cheap_differences(tensors, before, dense, finer)
        factors = {
            name: rounded_factors(known, feedback[name], min(steps[name], WIDEST_STEP) * sizes[name])
            for name, known in components.items()
        }
        compacted = replace(compacted, factors=factors)
        return compacted, packed_mib(model, compacted, update=True)

    bounds = math.log(LEAST_STEP_OF_FACTORS), math.log(WIDEST_STEP / min(relative.values()))
    return finest_of_size(mib, at, bounds, ROUNDS, report)


def _random_sum(output: VDPMOutput, generator: torch.Generator) -> Float[Tensor, ""]:
    """Its slopes' mean square is that of the sum of squares of changes, of maps relative to distance."""

    def drawn(values: Tensor) -> Tensor:
        return (torch.randn(values.shape, generator=generator) * values).sum()

    total = torch.zeros(())
    for points, confidence in (output.time_variant, output.decoded):
        distance = points.detach().norm(dim=-1)
        scale = torch.maximum(distance, distance.mean())[..., None]
        total = total + drawn(points / scale) / (2 * distance.numel()) ** 0.5
        total = total + CONFIDENCE_WEIGHT * drawn(confidence.log()) / (2 * distance.numel()) ** 0.5
    poses = output.pose_encodings
    distance = output.time_variant.points.detach().norm(dim=-1).mean()
    relative = torch.cat([poses[..., :3] / distance, poses[..., 3:]], dim=-1)
    total = total + CAMERA_WEIGHT * drawn(relative) / (3 * poses[..., 0].numel()) ** 0.5
    if output.descriptors is not None:
        total = total + DESCRIPTOR_WEIGHT * drawn(output.descriptors) / output.descriptors[..., 0].numel() ** 0.5
    return total


def _root(moments: Float[Tensor, "inputs inputs"]) -> Float[Tensor, "inputs inputs"]:
    damped = moments.double()
    damped = damped + 0.01 * damped.diagonal().mean().clamp_min(1e-12) * torch.eye(len(damped)).double()
    return torch.linalg.cholesky(damped).float()
