"""What ``--help`` says of options: defaults that tell something, types without "None", docstrings as flowing text."""

import inspect
import types
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import docstring_parser
import tyro

_KINDS = {bool: "{True,False}", int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}


def telling_help(verb: Any) -> None:
    """Have the help of a verb, and of the verbs below it, leave out defaults that say nothing and the "None" of options
    that may be left out, and flow over the lines of their docstrings. ``verb``: a dataclass or an annotation that holds
    some.
    """
    if not (isinstance(verb, type) and is_dataclass(verb)):
        for part in get_args(verb):
            telling_help(part)
        return
    names = {field.name for field in fields(verb)}
    for owner in verb.__mro__[:-1]:
        declared = inspect.get_annotations(owner)
        told = {entry.arg_name: entry.description or "" for entry in docstring_parser.parse_from_object(owner).params}
        for name, kind in declared.items():
            telling_help(kind)
            if name in names and _HINT not in getattr(kind, "__metadata__", ()):
                # tyro would break the lines where the docstring does.
                text = " ".join(told.get(name, "").split()) or None
                declared[name] = Annotated[kind, tyro.conf.arg(help=text, metavar=_plain_kind(kind)), _HINT]
        if declared:
            owner.__annotations__ = declared


def _plain_kind(kind: Any) -> str | None:
    """What stands for the value of an option that is left out where it is None; None for what tyro says well."""
    given = getattr(kind, "__metadata__", ())
    if given:
        kind = get_args(kind)[0]
    if get_origin(kind) not in (Union, types.UnionType) or type(None) not in get_args(kind):
        return None
    if any(getattr(one, "metavar", None) for one in given):
        return None
    (value,) = (part for part in get_args(kind) if part is not type(None))
    return "{" + ",".join(map(str, get_args(value))) + "}" if get_origin(value) is Literal else _KINDS.get(value)


def _hint(default: str) -> str:
    """``default``: as it is written on the command line. A switch is off unless it is given, ``--no-...`` too."""
    return "" if default in ("", "None", "True", "False") else f"(default: {default})"


_HINT = tyro.conf.arg(help_behavior_hint=_hint)
