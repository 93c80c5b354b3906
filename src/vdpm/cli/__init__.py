"""The command line: ``vdpm VERB ...``. Parse, call, print; a failure is one line on standard error and an exit code.

Exit codes: 0 done; 2 wrong arguments; 3 unreadable input; 4 unusable weights; 5 unwritable output; 1 any other
mistake that the user can mend; 70 a fault of vdpm itself; 130 interrupted; 143 terminated. ``VDPM_TRACEBACK=1`` shows
where an error arose.
"""

import difflib
import functools
import io
import operator
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
    from vdpm.cli.help_text import telling_defaults
    from vdpm.cli.info import Info
    from vdpm.cli.page import Page
    from vdpm.cli.reconstruct import Reconstruct
    from vdpm.cli.render import Render
    from vdpm.cli.scenes import Scenes
    from vdpm.cli.train import Train
    from vdpm.cli.view import View

    verbs: dict[str, tuple[type, str]] = {
        "reconstruct": (Reconstruct, "A video to point maps, cameras, a preview and point clouds."),
        "info": (Info, "What a result folder holds."),
        "page": (Page, "A result as one HTML file to look at in a browser."),
        "app": (App, "A page on this machine to drop videos into."),
        "view": (View, "A result in a browser, live: play, follow pixels, compare."),
        "render": (Render, "A film of a result, or a sheet of its pictures."),
        "export": (Export, "A result in the formats of other programs."),
        "demo": (Demo, "The bundled clip, with errors against its truth."),
        "convert": (Convert, "Weights of another make into a folder of ours."),
        "train": (Train, "Train a network on our own scenes."),
        "evaluate": (Evaluate, "Errors on held-out scenes and on data sets: the paper's tables."),
        "data": (Data, "Whether the ground truth of a data set holds."),
        "scenes": (Scenes, "A picture of our own scenes, or folders with their ground truth."),
    }
    if not arguments[0].startswith("-") and arguments[0] not in verbs:
        near = difflib.get_close_matches(arguments[0], verbs, n=1)
        meant = f"did you mean {near[0]}" if near else "vdpm --help names those that there are"
        raise UsageError(f"there is no verb {arguments[0]!r}; {meant}")
    for before, argument in zip(["", *arguments], arguments):
        if not argument:
            # A path of no letters would be the folder one stands in.
            where = f"{before} ''" if before.startswith("-") else "an argument"
            raise UsageError(f"{where} is empty; write a value, or set the variable that it comes from")
    for verb, _ in verbs.values():
        telling_defaults(verb)
    described = (
        Annotated[verb, tyro.conf.subcommand(name, description=description)]
        for name, (verb, description) in verbs.items()
    )
    choice: Any = functools.reduce(operator.or_, described)
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(
                choice,
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
    """What tyro says in a framed box of several lines, as one line: what is wrong, without the helps of options that
    stand farther in, and the first option that may have been meant. Where a terminal takes ASCII alone there are rules
    in place of the frame.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\u2502", " ").replace("\u2500", "-")
    parts: list[list[str]] = [[]]
    for line in plain.splitlines():
        inside = line.strip()
        if set(inside) == {"-"} or line.startswith("\u256d"):
            parts.append([])
        elif inside and not line.startswith((9 * " ", "\u2570")):
            parts[-1].append(inside)
    # The first part is the title, or what stands before the frame.
    said = " ".join(parts[min(1, len(parts) - 1)]).rstrip(".")
    meant = [part[1] for part in parts if len(part) > 1 and part[0].startswith("Perhaps you meant")]
    return f"{said}; perhaps you meant {meant[0]}" if meant else said


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
