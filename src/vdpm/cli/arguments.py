"""Arguments that several verbs read the same way."""

from vdpm.errors import UsageError


def parse_frames(text: str, option: str, words: tuple[str, ...] = ("all", "none")) -> str | list[int]:
    """One of ``words``, or frame numbers: '0,4,9', '0-8', '0-4,9'. Raises UsageError, naming ``option``, for
    anything else.
    """
    text = text.strip()
    if text in words:
        return text
    frames: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()) or max(len(first), len(last)) > 9:
            raise UsageError(f"{option} {text!r} is not {', '.join(words)}, or frame numbers such as 0,4,9 or 0-8")
        a, b = int(first), int(last) if dash else int(first)
        if b < a:
            raise UsageError(f"{option} {text!r}: the range {part.strip()} runs backwards; write {b}-{a}")
        if b - a > 100_000:
            raise UsageError(f"{option} {text!r}: the range {part.strip()} is longer than any video; give fewer frames")
        frames.extend(range(a, b + 1))
    return sorted(set(frames))
