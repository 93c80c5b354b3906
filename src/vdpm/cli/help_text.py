"""What ``--help`` says of defaults: those that tell something, nothing of "None", an off switch or an empty list."""

import inspect
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_args

import tyro


def telling_defaults(verb: Any) -> None:
    """Have the help of a verb, and of the verbs below it, leave out defaults that say nothing. ``verb``: a dataclass or
    an annotation that holds some.
    """
    if not (isinstance(verb, type) and is_dataclass(verb)):
        for part in get_args(verb):
            telling_defaults(part)
        return
    names = {field.name for field in fields(verb)}
    for owner in verb.__mro__[:-1]:
        declared = inspect.get_annotations(owner)
        for name, kind in declared.items():
            telling_defaults(kind)
            if name in names and _HINT not in getattr(kind, "__metadata__", ()):
                declared[name] = Annotated[kind, _HINT]
        if declared:
            owner.__annotations__ = declared


def _hint(default: str) -> str:
    """``default``: as it is written on the command line. A switch is off unless it is given, ``--no-...`` too."""
    return "" if default in ("", "None", "True", "False") else f"(default: {default})"


_HINT = tyro.conf.arg(help_behavior_hint=_hint)
