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
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Annotated, Any, NoReturn

from vdpm.errors import OutputError, UsageError, VDPMError, is_out_of_memory
from vdpm.progress import Stream

INTERNAL_ERROR = 70
"""EX_SOFTWARE of sysexits.h."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C so that what is open gets closed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _open_what_is_closed()
    try:
        told: Any = _Told(sys.stdout)
        with _terminated_by_sigterm(), warnings.catch_warnings(), redirect_stdout(told):
            if "VDPM_TRACEBACK" not in os.environ:
                warnings.simplefilter("ignore")
            if arguments == ["--version"]:
                from vdpm import __version__

                print(f"vdpm {__version__}")
            else:
                _parse(arguments or ["--help"]).run()
            sys.stdout.flush()
    except VDPMError as error:
        return _fail(str(error), error.exit_code)
    except Terminated as stop:
        return _fail("; ".join(("terminated", *map(str, stop.args))), 128 + signal.SIGTERM)
    except KeyboardInterrupt as stop:
        return _fail("; ".join(("interrupted", *map(str, stop.args))), 128 + signal.SIGINT)
    except BrokenPipeError:
        # Whoever read the output has gone.
        _drop_output()
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
    from vdpm.cli.help_text import telling_help
    from vdpm.cli.info import Info
    from vdpm.cli.page import Page
    from vdpm.cli.reconstruct import Reconstruct
    from vdpm.cli.render import Render
    from vdpm.cli.scenes import Scenes
    from vdpm.cli.train import Train
    from vdpm.cli.view import View

    verbs: dict[str, tuple[Any, str]] = {
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
        telling_help(verb)
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
        said = _without_box(complaint.getvalue(), " ".join(with_way(arguments)))
        raise UsageError(f"{said}; --help tells more") from None


def _without_box(text: str, typed: str) -> str:
    """What tyro says in a framed box of several lines, as one line: what is wrong, without the helps of options that
    stand farther in, and the first option of the verb ``typed`` that may have been meant. Where a terminal takes ASCII
    alone there are rules in place of the frame.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\u2502", " ").replace("\u2500", "-")
    parts: list[list[str]] = [[]]
    options: list[tuple[str, list[str]]] = []
    for line in plain.splitlines():
        inside = line.strip()
        if set(inside) == {"-"} or line.startswith("\u256d"):
            parts.append([])
        elif line.startswith(9 * " "):
            if options and (where := re.fullmatch(r"in vdpm (.*) --help", inside)):
                options[-1][1].append(where[1])
        elif inside and not line.startswith("\u2570"):
            parts[-1].append(inside)
            options.append((inside, []))
    # The first part is the title, or what stands before the frame.
    said = _plainly(parts[min(1, len(parts) - 1)])
    meant = [option for option, verbs in options if any(f"{typed} ".startswith(f"{verb} ") for verb in verbs)]
    return f"{said}; perhaps you meant {meant[0]}" if meant else said


def _plainly(lines: list[str]) -> str:
    """What tyro says of a mistake, in words of the command line and not of Python's types."""
    said = " ".join(lines).rstrip(".")
    wrong = re.match(r"Error parsing (\S+): ", said)
    if wrong is not None:
        given = re.search(r"instantiated from \[(.*?)\]", said) or re.search(r"('[^']*')$", said)
        kinds = {"INT INT": "two whole numbers", "int()": "a whole number", "to float": "a number"}
        kind = next((words for sign, words in kinds.items() if sign in said), None)
        return f"{wrong[1]} {given[1]} is not {kind}" if given and kind else said
    if said.startswith("Unrecognized or misplaced options: "):
        unknown = [line.partition(" (applied to ")[0] for line in lines[1:] if " (applied to " in line]
        return f"Unrecognized options: {', '.join(unknown)}"
    return said


def _open_what_is_closed() -> None:
    """Standard streams that were closed before we began (``>&-``, a service) lead nowhere instead: printing must not
    fail, and no file of ours may be opened in their place, where a library would write its messages.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115


class _Told:
    """Standard output, whose own errors (a full disk behind ``> file``) are told from those of other files."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._telling():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._telling():
            self._stream.flush()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            _drop_output()
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"standard output cannot be written ({reason}); send it elsewhere") from error


def _drop_output() -> None:
    """Standard output leads nowhere from now on. Python would complain again when it flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


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
