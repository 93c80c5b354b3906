"""Jobs and their queue: a bounded number, one at work at a time, each in a process of its own."""

import asyncio
import json
import os
import secrets
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from vdpm.app.limits import Choice, Limits, Network
from vdpm.app.work import PAGE, RESULT, Task
from vdpm.app.workspace import Workspace
from vdpm.errors import VDPMError

# -P: the folder of a job is no place to import from.
WORKER = (sys.executable, "-P", "-m", "vdpm.app.work")
PATIENCE = 3.0
"""Seconds between asking a process to end and ending it."""
LONGEST_LINE = 2**20

SHARES = {
    "opening the video": (0.0, 0.03),
    "loading the network": (0.03, 0.10),
    "reading the frames": (0.10, 0.14),
    "encoding the frames": (0.14, 0.30),
    "decoding times": (0.30, 0.85),
    "reconstructing windows": (0.14, 0.70),
    "aligning the windows": (0.70, 0.80),
    "replacing windows": (0.80, 0.85),
    "packing the page": (0.93, 0.95),
    "writing the GLB": (0.95, 0.96),
    "writing point clouds": (0.97, 0.98),
}
"""Which part of a job each stage is, about; stages that are not named are within the one before."""


class State(StrEnum):
    """Where a job is."""

    UPLOADING = "uploading"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (State.DONE, State.FAILED, State.CANCELLED)


class QueueFullError(VDPMError):
    """No more videos can wait."""


@dataclass(eq=False)
class Job:
    """One video and what becomes of it. ``id``: not to be guessed, since it opens the job's files."""

    label: str
    choice: Choice
    folder: Path
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: State = State.UPLOADING
    received: int = 0
    stage: str = ""
    done: int = 0
    total: int = 0
    progress: float = 0.0
    error: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0

    @property
    def over(self) -> bool:
        return self.state in ENDED

    def hear(self, message: dict[str, Any]) -> None:
        """What its process tells."""
        if "stage" in message:
            self.stage, self.done, self.total = message["stage"], message["done"], message["total"]
            low, high = SHARES.get(self.stage, (self.progress, self.progress))
            share = low + (high - low) * self.done / max(self.total, 1)
            self.progress = max(self.progress, share)
        if "file" in message:
            self.files.append(message["file"])
        if "ready" in message:
            self.facts = message["ready"]
            self.files += [PAGE, RESULT]
        if "error" in message:
            self.error = message["error"]

    def as_json(self, ahead: int) -> dict[str, Any]:
        """For the page. ``ahead``: how many run or wait before it."""
        took = (self.ended or time.monotonic()) - self.began if self.began else 0.0
        return {
            **{"id": self.id, "label": self.label, "state": self.state, "error": self.error, "facts": self.facts},
            **{"stage": self.stage, "done": self.done, "total": self.total, "progress": round(self.progress, 3)},
            **{"files": self.files, "took": round(took, 1), "ahead": ahead, "choice": self.choice.as_json()},
        }


class JobQueue:
    """A context: while it lasts, jobs that were accepted run one after the other. Used from one event loop alone.

    ``command``: what to run for a job, in its folder; ``work`` says what it is told and tells.
    """

    def __init__(self, workspace: Workspace, limits: Limits, network: Network, command: Sequence[str] = WORKER) -> None:
        self.workspace = workspace
        self.limits = limits
        self.network = network
        self.command = command
        self.jobs: dict[str, Job] = {}
        self._process: Process | None = None
        self._running: Job | None = None
        self._wake = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "JobQueue":
        self._runner = asyncio.create_task(self._run_all())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        for job in self.jobs.values():
            if not job.over:
                job.state = State.DONE if job.facts else State.CANCELLED
        self._runner.cancel()
        with suppress(asyncio.CancelledError):
            await self._runner
        for job in self.jobs.values():
            if job.state is not State.DONE:
                self.workspace.remove(job.folder)

    def reserve(self, label: str, choice: Choice) -> Job:
        """A place for a video that is about to come. Raises QueueFullError, OutputError."""
        waiting = [job for job in self.jobs.values() if job.state in (State.UPLOADING, State.WAITING)]
        if len(waiting) >= self.limits.waiting:
            raise QueueFullError(f"{len(waiting)} videos wait already; try again when one is done")
        job = Job(label, choice, self.workspace.new_folder())
        self.jobs[job.id] = job
        return job

    def accept(self, job: Job) -> None:
        """Its video is there in full."""
        job.state = State.WAITING
        self._wake.set()

    def ahead(self, job: Job) -> int:
        """How many jobs come before one that waits."""
        before = 0
        for other in self.jobs.values():
            if other is job:
                break
            before += other.state in (State.UPLOADING, State.WAITING, State.RUNNING)
        return before

    async def cancel(self, job: Job) -> None:
        """Stops it, and removes its files unless its result was ready."""
        if job.over:
            return
        running = job is self._running
        job.state = State.CANCELLED
        if running:
            await self._stop_process()
        if job.facts:
            # Only downloads were still being written.
            job.state = State.DONE
        elif not running:
            await asyncio.to_thread(self.workspace.remove, job.folder)
        job.ended = job.ended or time.monotonic()

    async def remove(self, job: Job) -> None:
        """Stops it, forgets it and removes its files."""
        self.jobs.pop(job.id, None)
        await self.cancel(job)
        await asyncio.to_thread(self.workspace.remove, job.folder)

    def fail(self, job: Job, error: str) -> None:
        """Ends a job whose video did not come in full."""
        job.state, job.error, job.ended = State.FAILED, error, time.monotonic()
        self.workspace.remove(job.folder)

    async def _run_all(self) -> None:
        while True:
            waiting = next((job for job in self.jobs.values() if job.state is State.WAITING), None)
            if waiting is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._run(waiting)
            await self._forget_oldest()

    async def _run(self, job: Job) -> None:
        job.state, job.began, self._running = State.RUNNING, time.monotonic(), job
        error, code = "", 0
        try:
            code = await asyncio.wait_for(self._listen(job), self.limits.minutes * 60)
        except TimeoutError:
            error = f"{job.label}: stopped after {self.limits.minutes:g} minutes; take fewer frames"
        except (OSError, ValueError, LookupError, TypeError) as fault:
            error = f"{job.label}: its process said what it should not ({type(fault).__name__})"
        finally:
            await self._stop_process()
            self._running = None
        keep = bool(job.facts)
        if job.state is State.RUNNING:
            job.error = job.error or error or _reason(job, code)
            job.state = State.DONE if keep else State.FAILED
        job.ended = time.monotonic()
        if not keep:
            job.files.clear()
            await asyncio.to_thread(self.workspace.remove, job.folder)

    async def _listen(self, job: Job) -> int:
        """Runs the process of a job to its end; returns its exit code."""
        said = None if "VDPM_TRACEBACK" in os.environ else asyncio.subprocess.DEVNULL
        self._process = process = await asyncio.create_subprocess_exec(
            *self.command,
            cwd=job.folder,
            stdin=PIPE,
            stdout=PIPE,
            stderr=said,
            start_new_session=True,
            limit=LONGEST_LINE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        if job.state is not State.RUNNING:
            return 0  # cancelled while it was being started
        task = Task(job.label, self.limits.seconds, job.choice, self.network)
        with suppress(ConnectionError):
            process.stdin.write(task.dumps().encode() + b"\n")
            await process.stdin.drain()
        async for line in process.stdout:
            job.hear(json.loads(line))
        return await process.wait()

    async def _stop_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.returncode is not None:
                return
            # The group, which is its own: what it started goes with it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), PATIENCE)

    async def _forget_oldest(self) -> None:
        """Ended jobs above the number that is listed; of those that are kept in the user's folder the files stay."""
        ended = [job for job in self.jobs.values() if job.over]
        for job in ended[: max(0, len(ended) - self.limits.results)]:
            self.jobs.pop(job.id, None)
            if self.workspace.keep is None:
                await asyncio.to_thread(self.workspace.remove, job.folder)


def _reason(job: Job, code: int) -> str:
    """Why a process ended without telling; empty where it ended well."""
    if code == 0 and job.facts:
        return ""
    late = "; the result is whole, some downloads are missing" if job.facts else ""
    if code == -signal.SIGKILL:
        return f"{job.label}: stopped by the system, most often for lack of memory; take fewer frames{late}"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{job.label}: its process ended with {how}; VDPM_TRACEBACK=1 vdpm app shows where{late}"
