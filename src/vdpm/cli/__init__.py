"""The command line: ``vdpm VERB ...``. Parse, call, print; a failure is one line on standard error and an exit code.

Exit codes: 0 done; 2 wrong arguments; 3 unreadable input; 4 unusable weights; 5 unwritable output; 1 any other
mistake that the user can mend; 70 a fault of vdpm itself; 130 interrupted; 143 terminated. ``VDPM_TRACEBACK=1`` shows
where an error arose.
"""

import io
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Annotated, Any, NoReturn

from vdpm.errors import UsageError, VDPMError, is_out_of_memory

INTERNAL_ERROR = 70
"""EX_SOFTWARE of sysexits.h."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C so that what is open gets closed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        from vdpm import __version__

        print(f"vdpm {__version__}")
        return 0
    try:
        with _terminated_by_sigterm(), warnings.catch_warnings():
            if "VDPM_TRACEBACK" not in os.environ:
                warnings.simplefilter("ignore")
            _parse(arguments or ["--help"]).run()
            sys.stdout.flush()
    except VDPMError as error:
        return _fail(str(error), error.exit_code)
    except Terminated:
        return _fail("terminated", 128 + signal.SIGTERM)
    except KeyboardInterrupt:
        return _fail("interrupted", 128 + signal.SIGINT)
    except BrokenPipeError:
        # Whoever read the output has gone. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if is_out_of_memory(error):
            return _fail("out of memory; use fewer frames (--max-frames) or a smaller --size", 1)
        hint = "this is a fault of vdpm; VDPM_TRACEBACK=1 shows where"
        return _fail(f"{type(error).__name__}: {error} ({hint})", INTERNAL_ERROR)
    return 0


def _parse(arguments: list[str]) -> Any:
    """The verb named by ``arguments``, filled in. Leaves with 0 after --help. Raises UsageError for a mistake."""
    import tyro

    from vdpm.cli.app import App
    from vdpm.cli.convert import Convert
    from vdpm.cli.data import Data
    from vdpm.cli.demo import Demo
    from vdpm.cli.evaluate import Evaluate, with_way
    from vdpm.cli.export import Export
    from vdpm.cli.info import Info
    from vdpm.cli.page import Page
    from vdpm.cli.reconstruct import Reconstruct
    from vdpm.cli.render import Render
    from vdpm.cli.scenes import Scenes
    from vdpm.cli.train import Train
    from vdpm.cli.view import View

    def verb(name: str, description: str) -> Any:
        return tyro.conf.subcommand(name, description=description)

    verbs = (
        Annotated[Reconstruct, verb("reconstruct", "A video to point maps, cameras, a preview and point clouds.")]
        | Annotated[Info, verb("info", "What a result folder holds.")]
        | Annotated[Page, verb("page", "A result as one HTML file to look at in a browser.")]
        | Annotated[App, verb("app", "A page on this machine to drop videos into.")]
        | Annotated[View, verb("view", "A result in a browser, live: play, follow pixels, compare.")]
        | Annotated[Render, verb("render", "A film of a result, or a sheet of its pictures.")]
        | Annotated[Export, verb("export", "A result in the formats of other programs.")]
        | Annotated[Demo, verb("demo", "The bundled clip, with errors against its truth.")]
        | Annotated[Convert, verb("convert", "Weights of another make into a folder of ours.")]
        | Annotated[Train, verb("train", "Train a network on our own scenes.")]
        | Annotated[Evaluate, verb("evaluate", "Errors on held-out scenes and on data sets: the paper's tables.")]
        | Annotated[Data, verb("data", "Whether the ground truth of a data set holds.")]
        | Annotated[Scenes, verb("scenes", "A picture of our own scenes, or folders with their ground truth.")]
    )
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(
                verbs,
                prog="vdpm",
                args=with_way(arguments),
                description="A video to dynamic point maps: 4D reconstruction. vdpm VERB --help tells more of a verb.",
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes),
            )
    except SystemExit as leave:
        if not leave.code:
            raise
        raise UsageError(f"{_without_box(complaint.getvalue())}; --help tells more") from None


def _without_box(text: str) -> str:
    """What tyro says in a framed box over several lines, up to the first rule in it, as one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    said: list[str] = []
    for line in plain.splitlines():
        words = line.strip(" \u2502")
        if set(words) == {"\u2500"}:
            break
        if words and words[0] not in "\u256d\u2570":
            said.append(words)
    return " ".join(said).rstrip(".")


def _fail(message: str, code: int) -> int:
    if os.environ.get("VDPM_TRACEBACK"):
        traceback.print_exc()
    print(f"vdpm: error: {' '.join(message.split())}", file=sys.stderr)
    return code


@contextmanager
def _terminated_by_sigterm() -> Iterator[None]:
    def on_sigterm(*_: object) -> NoReturn:
        # A second signal, as a group of processes gets it, must not cut the cleaning up short.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    previous = signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
