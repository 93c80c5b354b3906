"""One run of benchmarks/comparisons.py, in a process of its own: graft, train, score."""

import argparse
import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from vdpm.comparison_recipes import COMPARED
from vdpm.evaluation.held_out import NETWORK, OWN_ZERO_MOTION, ZERO_MOTION, score_family
from vdpm.evaluation.manifest import load_manifest
from vdpm.evaluation.pairwise import PairwisePredictor
from vdpm.evaluation.protocol import NetworkPredictor, Predictor
from vdpm.model import VDPM
from vdpm.model.graft import graft
from vdpm.training.config import TrainConfig
from vdpm.training.run import train

BY_NAME = {config.name.removeprefix("compare-"): config for config in COMPARED}

Scores = dict[str, dict[str, dict[str, list[float]]]]
"""Who answers, family, name of the error: one value a clip, NaN where it has none."""


def tiny(config: TrainConfig) -> TrainConfig:
    """The same comparison with a network and frames for a dry run on a CPU."""
    network = replace(
        config.network,
        **{"stem_channels": (4, 6, 8), "dim": 16, "heads": 2, "pairs": 2, "taps": (0, 1), "decoder_dim": 16},
        **{"decoder_heads": 2, "head_channels": (8, 8, 6, 4), "camera_dim": 16, "camera_heads": 2},
        **{"match_dim": 8, "match_pair": 1},
    )
    buckets = tuple(replace(bucket, height=32, width=48, batch=1) for bucket in config.buckets)
    optimizer = replace(config.optimizer, warmup_steps=1, cooldown_steps=0)
    return replace(
        config, model=network, buckets=buckets, optimizer=optimizer, steps=2, compile=False, bfloat16=False, log_every=1
    )


def one_run(arguments: argparse.Namespace) -> None:
    """Train and score ``arguments.run``; the body of a process that ``Launcher`` starts.

    ``trained.json`` appears after the training, ``scores.json`` at the end; what is there already is not made again.
    """
    config = BY_NAME[arguments.run]
    config = replace(tiny(config) if arguments.tiny else config, cuda_graphs=arguments.cuda_graphs)
    folder = arguments.output
    if not (folder / "trained.json").exists():
        train_one(config, arguments)
    made = json.loads((folder / "trained.json").read_text())
    began = time.monotonic()
    made["scores"] = scores_of(folder / "model", config, arguments)
    made["scoring_seconds"] = round(time.monotonic() - began, 1)
    write_json(folder / "scores.json", made)


def train_one(config: TrainConfig, arguments: argparse.Namespace) -> None:
    """Graft, train, keep the averaged weights and the log, write ``trained.json``."""
    seed, folder, steps = arguments.seed, arguments.output, arguments.steps
    if steps is not None:
        ratio = steps / config.steps
        optimizer = replace(
            config.optimizer,
            warmup_steps=round(ratio * config.optimizer.warmup_steps),
            cooldown_steps=math.floor(ratio * config.optimizer.cooldown_steps),
        )
        config = replace(config, optimizer=optimizer, steps=steps)
    folder.mkdir(parents=True, exist_ok=True)
    started = folder / "start"
    if arguments.backbone != "none":
        torch.manual_seed(seed)
        graft(VDPM(config.network), VDPM.from_pretrained(arguments.backbone)).save_pretrained(started)
    began = time.monotonic()
    train(
        config,
        folder,
        init=str(started) if arguments.backbone != "none" else None,
        seed=seed,
        minutes=arguments.minutes_per_run,
        device=arguments.device,
    )
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    frames_a_step = sum(b.share * b.frames * b.batch for b in config.buckets) / sum(b.share for b in config.buckets)
    made = {
        "variant": arguments.run,
        "seed": seed,
        "parameters": sum(value.numel() for value in VDPM(config.network).state_dict().values()),
        "steps": last["step"],
        "clips": last["clips"],
        "frames": round(last["step"] * frames_a_step),
        "training_seconds": round(time.monotonic() - began, 1),
    }
    write_json(folder / "trained.json", made)
    for leftover in (folder / "state.pt", started):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def scores_of(model: Path, config: TrainConfig, arguments: argparse.Namespace) -> Scores:
    """Errors on the held-out families, at the size that was trained.

    A pairwise network answers by pairs. The base network answers both ways: what the video alone is worth. Beside each
    stands its own shape with its motion taken away, and the true shape without motion.
    """
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    network = VDPM.from_pretrained(model, device=device)
    by_pairs = PairwisePredictor(network, arguments.graph)
    who: dict[str, Predictor] = {arguments.run: by_pairs}
    if config.network.decoder_kind != "pairwise":
        who = {arguments.run: NetworkPredictor(network)}
        if arguments.run == "base":
            who["base, by pairs"] = by_pairs
    bucket = config.buckets[0]
    result: Scores = {}
    for family in arguments.families:
        manifest = load_manifest(family)
        scenes = replace(manifest.config, height=bucket.height, width=bucket.width)
        for name, predictor in who.items():
            clips = list(
                score_family(predictor, manifest, clips=arguments.clips, config=scenes, device=device, batch=8)
            )
            result.setdefault(name, {})[family] = by_name([clip.by[NETWORK] for clip in clips])
            for contender in (ZERO_MOTION, OWN_ZERO_MOTION):
                label = "true shape, no motion" if contender == ZERO_MOTION else f"{name}, its motion taken away"
                result.setdefault(label, {})[family] = by_name([clip.by[contender] for clip in clips])
    return result


def by_name(clips: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Each score's values, clip by clip."""
    return {name: [round(clip[name], 6) for clip in clips] for name in clips[0]}


def write_json(path: Path, content: object) -> None:
    """Written beside, then renamed: what is there is whole."""
    beside = path.with_name(f".{path.name}.writing")
    beside.write_text(json.dumps(content, indent=1) + "\n")
    beside.replace(path)
