"""What a step of time costs in the live viewer: bytes to the browser, and time of the server.

    python benchmarks/live_view.py                    # a made-up clip: 24 frames of 518 x 294, a fifth of it moving
    python benchmarks/live_view.py DIR                # a result
    python benchmarks/live_view.py --points 500000 --json out.json

A client connects as a browser does, and counts what it is sent: at first (everything that is shown), while the clip is
gone through the first time (what is new is made and sent), and the second time (it is all there). The made-up clip is
read from memory, so reading times are those of choosing points, not of a disk.
"""

import argparse
import asyncio
import json
import os
import resource
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vdpm.archive import load
from vdpm.geometry.image_transform import ImageTransform
from vdpm.structures import Cameras, DynamicPointMaps, PointMap, Reconstruction
from vdpm.viewer.live.cloud import CloudOptions
from vdpm.viewer.live.session import Session
from vdpm.viewer.live.viewer import Viewer


def made_up(frames: int = 24, size: tuple[int, int] = (294, 518)) -> Reconstruction:
    """A wall, and before it a fifth of the picture that goes to the right; noise in every map, made when it is read."""
    height, width = size
    focal = 0.8 * width
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack([(x - width / 2) / focal, (y - height / 2) / focal, torch.ones_like(x)], dim=-1)
    share = [frame / max(1, frames - 1) for frame in range(frames)]
    c2w = torch.eye(4).repeat(frames, 1, 1)
    c2w[:, 0, 3] = torch.tensor([0.4 * s for s in share])
    body = (y > 0.3 * height) & (y < 0.7 * height) & (x > 0.2 * width) & (x < 0.7 * width)

    def read(target: int | None, source: int) -> PointMap:
        draws = torch.Generator().manual_seed(1000 * source + (source if target is None else target))
        time_shown = source if target is None else target
        z = torch.where(body, 1.5, 3.0 + 0.3 * (x / width))
        points = rays * z[..., None] + c2w[source, :3, 3]
        points[..., 0] += torch.where(body, 0.8 * (share[time_shown] - share[source]), 0.0)
        points *= 1 + 0.002 * torch.randn(points.shape, generator=draws)
        return PointMap(points, 1 + 5 * torch.rand(size, generator=draws))

    everything = tuple(range(frames))
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]).repeat(frames, 1, 1)
    draws = torch.Generator().manual_seed(7)
    return Reconstruction(
        frames=torch.randint(0, 256, (frames, height, width, 3), generator=draws, dtype=torch.uint8),
        timestamps=torch.arange(frames).double() / 12,
        frame_indices=torch.arange(frames),
        cameras=Cameras(c2w, intrinsics, size),
        maps=DynamicPointMaps(frames, size, everything, everything, read),
        transform=ImageTransform.identity(size),
        name="made up",
    )


class Counter:
    """A client that says of itself what a browser would, and counts the bytes it is sent."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer, self.received, self._stop = viewer, 0, threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.thread.start()

    async def _run(self) -> None:
        import msgspec
        import viser
        from websockets.asyncio.client import connect

        camera = {
            "type": "ViewerCameraMessage",
            "wxyz": (1.0, 0.0, 0.0, 0.0),
            "position": (0.0, 0.0, 0.0),
            "fov": 1.0,
            "near": 0.01,
            "far": 100.0,
            "image_height": 800,
            "image_width": 1200,
            "look_at": (0.0, 0.0, 1.0),
            "up_direction": (0.0, -1.0, 0.0),
        }
        url = self.viewer.url.replace("http", "ws")
        async with connect(
            url, origin=self.viewer.url, subprotocols=[f"viser-v{viser.__version__}"], max_size=None, compression=None
        ) as connection:
            await connection.send(msgspec.msgpack.encode(camera))
            while not self._stop.is_set():
                try:
                    self.received += len(await asyncio.wait_for(connection.recv(), 0.1))
                except TimeoutError:
                    continue

    def settled(self, quiet: float = 0.5) -> int:
        """Bytes received when nothing has come for a while."""
        last, since = -1, time.monotonic()
        while time.monotonic() - since < quiet:
            if self.received != last:
                last, since = self.received, time.monotonic()
            time.sleep(0.02)
        return self.received

    def close(self) -> None:
        self._stop.set()
        self.thread.join()


def measure(result: Reconstruction, points: int) -> dict[str, Any]:
    """All figures, by name."""
    began = time.monotonic()
    with Viewer(result, port=18700, options=CloudOptions(max_points=points)) as viewer:
        reading = viewer.readings[0]
        while reading.cloud.loaded() is None:
            time.sleep(0.005)
        first = time.monotonic() - began
        while not reading.cloud.loaded().complete:  # type: ignore[union-attr]
            time.sleep(0.02)
        complete = time.monotonic() - began
        # Nothing is made ahead, so that what a step costs is told from what was there.
        Session._prepare = lambda self, row: False  # type: ignore[method-assign]
        counter = Counter(viewer)
        while not viewer.sessions:
            time.sleep(0.005)
        (session,) = viewer.sessions.values()
        while session.sides[0].number != reading.cloud.number:
            time.sleep(0.02)
        opened = counter.settled(1.5)
        spent: list[float] = []
        show = session._show

        def timed(row: int) -> None:
            # Of its thread alone, so that what else the machine does is not counted.
            start = time.thread_time()
            show(row)
            spent.append(time.thread_time() - start)

        session._show = timed  # type: ignore[method-assign]
        passes = []
        for _ in range(2):
            spent.clear()
            before, steps = counter.settled(), 0
            for row in range(1, len(reading.times)):
                session.go_to(row)
                while session.clock.row != row or len(spent) <= steps:
                    viewer.wait(0.005)
                steps = len(spent)
            passes.append((counter.settled() - before, list(spent)))
            session.go_to(0)
            counter.settled()
        loaded = reading.cloud.loaded()
        assert loaded is not None
        moving = sum(len(part.moving) for part in loaded.moving)
        counter.close()
    rows = {"points": len(loaded), "moving points": moving, "times": len(reading.times)}
    rows |= {"seconds to the first points": round(first, 2), "seconds until all is read": round(complete, 2)}
    rows["MB when a browser opens it"] = round(opened / 1e6, 2)
    for name, (sent, times) in zip(("first", "second"), passes):
        rows[f"kB a step, {name} time through"] = round(sent / 1e3 / (len(reading.times) - 1), 2)
        rows[f"ms of the server a step, {name} time through (median)"] = round(1e3 * sorted(times)[len(times) // 2], 2)
        rows[f"ms of the server a step, {name} time through (most)"] = round(1e3 * max(times), 2)
    rows["MB of memory at most"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--points", type=int, default=500_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = made_up() if arguments.folder is None else load(arguments.folder)
    found = measure(replace(result), arguments.points) | {"threads": os.environ.get("OMP_NUM_THREADS", "all")}
    for name, value in found.items():
        print(f"{name:<55} {value}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
