"""Clips of data sets read in the background, step by step, by processes of their own.

What a step wants follows from the run's seed, the step and the rank, so a resumed run asks for what it would have asked
for. Processes get our own requests and give back numbers in shared memory; what lies in the files stays theirs.
"""

import atexit
import os
import signal
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vdpm.data.clips import ClipSource
from vdpm.errors import InputError, VDPMError
from vdpm.structures import Snippet
from vdpm.training.config import Bucket

FIELDS = ("images", "timestamps", "c2w", "intrinsics", "points", "target_points", "valid", "dynamic", "target_valid")
STEPS_AHEAD = 2
"""Steps that each process has ready or in work."""
SECONDS_OF_GRACE = 30
"""How long a process that is told to end goes on, so that the run can finish its step and save."""


class Request(NamedTuple):
    """What one step wants of the data sets: for each of some clips of its batch which one's, and at which times."""

    step: int
    bucket: Bucket
    rows: list[int]
    sources: list[int]
    targets: Int[Tensor, "rows targets"]
    reference: int
    keys: list[list[int]]


class Delivery(NamedTuple):
    """Clips for the rows of a batch, by name of the field (images 8 bit; empty where there are none), and what was met
    on the way. ``failure``: why nothing could be drawn, if so."""

    step: int
    bucket: Bucket
    rows: Int[Tensor, "rows"]
    clips: dict[str, Tensor]
    attempts: int
    corrupt: list[tuple[str, str]]
    failure: str = ""


class Background:
    """Gives deliveries one step after the other, from any step on."""

    def __init__(
        self, sources: list[ClipSource], request: Callable[[int], Request], workers: int, pinned: bool
    ) -> None:
        self._reading, self._request = _Reading(sources), request
        self._workers, self._pinned = workers, pinned
        self._deliveries: Iterator[Delivery] | None = None
        self._next = -1
        # Before Python itself tells them to end and waits for it: they take their time.
        atexit.register(_close, weakref.ref(self))

    def take(self, step: int, bucket: Bucket) -> Delivery:
        """What ``step`` wants, whose batch has the shape of ``bucket``; starts anew where that was unexpected."""
        if self._deliveries is None or step != self._next:
            self._start(step)
        delivery = self._following()
        if delivery.bucket != bucket:
            # The clock has brought another shape than the steps would have.
            self._start(step)
            delivery = self._following()
        if delivery.failure:
            raise InputError(delivery.failure)
        self._next = step + 1
        return delivery

    def close(self) -> None:
        """Ends the processes; ``take`` would start them anew."""
        self._deliveries = None

    def _following(self) -> Delivery:
        assert self._deliveries is not None
        try:
            return next(self._deliveries)
        except RuntimeError as error:
            if "worker" not in str(error):
                raise
            raise VDPMError(
                f"a process that reads data sets has died ({str(error).splitlines()[0][:160]}); "
                "give more memory (and shared memory), or fewer --workers"
            ) from None

    def _start(self, step: int) -> None:
        self._deliveries = None
        loader = DataLoader(
            self._reading,
            batch_size=None,
            sampler=_Requests(self._request, step),
            num_workers=self._workers,
            collate_fn=_as_it_is,
            pin_memory=self._pinned,
            worker_init_fn=_leave_signals_to_the_run,
            prefetch_factor=STEPS_AHEAD if self._workers else None,
        )
        self._deliveries = iter(loader)


class _Reading(Dataset):
    """What a process does with a request."""

    def __init__(self, sources: list[ClipSource]) -> None:
        self.sources = sources

    def __getitem__(self, request: Request) -> Delivery:
        size, frames = (request.bucket.height, request.bucket.width), request.bucket.frames
        try:
            drawn = [
                self.sources[source].draw(key, frames, size, targets, request.reference)
                for source, key, targets in zip(request.sources, request.keys, request.targets.tolist())
            ]
        except VDPMError as error:
            # As words: raised here, it would reach the run with a page about this process around it.
            return Delivery(request.step, request.bucket, torch.zeros(0, dtype=torch.long), {}, 0, [], str(error))
        clips = {}
        for name in FIELDS if drawn else ():
            values = torch.stack([getattr(one.snippet, name) for one in drawn])
            clips[name] = (values * 255).round().to(torch.uint8) if name == "images" else values
        return Delivery(
            step=request.step,
            bucket=request.bucket,
            rows=torch.tensor(request.rows, dtype=torch.long),
            clips=clips,
            attempts=sum(one.attempts for one in drawn),
            corrupt=[file for one in drawn for file in one.corrupt],
        )


class _Requests(Sampler):
    """Requests of all steps from one on. They are made in the run's own process, as many as are being worked on."""

    def __init__(self, request: Callable[[int], Request], first: int) -> None:
        self._request, self._first = request, first

    def __iter__(self) -> Iterator[Request]:
        step = self._first
        while True:
            yield self._request(step)
            step += 1


def of_rows(delivery: Delivery, targets: Int[Tensor, "batch targets"], reference: int, device: torch.device) -> Snippet:
    """The delivered clips as a batch on ``device``; ``targets`` are those of the whole step."""
    clips = {name: value.to(device, non_blocking=True) for name, value in delivery.clips.items()}
    clips["images"] = clips["images"].float() / 255
    chosen = targets[delivery.rows].to(device)
    return Snippet(targets=chosen, reference=reference, sky=torch.zeros_like(clips["valid"]), **clips)


def merged(own: Snippet, read: Snippet, rows: Int[Tensor, "rows"]) -> Snippet:
    """The batch ``own`` with ``read`` in place of its ``rows``; what data sets do not all know is left out."""
    place = rows.to(own.images.device)
    own = replace(own, instances=None, visible=None)
    values = {}
    for name in (*FIELDS, "targets", "sky"):
        theirs, ours = getattr(read, name), getattr(own, name)
        values[name] = ours.index_copy(0, place, theirs.to(ours.dtype))
    return replace(own, **values)


def _as_it_is(delivery: Any) -> Any:
    return delivery


def _leave_signals_to_the_run(number: int) -> None:
    """Ctrl-C, and what ends a job, may reach every process; the run finishes its step, and then ends these."""
    # A group of their own: what is sent to the run's does not reach them.
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda number, frame: _end_later())


def _close(background: "weakref.ref[Background]") -> None:
    if (still := background()) is not None:
        still.close()


def _end_later() -> None:
    signal.alarm(SECONDS_OF_GRACE)
