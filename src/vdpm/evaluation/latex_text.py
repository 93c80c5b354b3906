"""Any text as LaTeX that every engine compiles without packages, pdflatex in its oldest font encoding (OT1) as well."""

import unicodedata

_ESCAPED = {letter: f"\\{letter}" for letter in "%_&#${}"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "`": r"\textasciigrave{}",
}
"""ASCII that means something to TeX, or that OT1 prints as another sign."""

_SIGNS = {
    "–": "--",
    "—": "---",
    "‐": "-",
    "‑": "-",
    "−": "$-$",
    "‘": "`",
    "’": "'",
    "‚": ",",
    "“": "``",
    "”": "''",
    "„": ",,",
    "«": r"$\ll$",
    "»": r"$\gg$",
    "…": r"\dots{}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "©": r"\textcopyright{}",
    "®": r"\textregistered{}",
    "™": r"\texttrademark{}",
    "°": r"\textdegree{}",
    "€": r"\texteuro{}",
    "´": r"\textasciiacute{}",
    "½": r"$\frac12$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≠": r"$\neq$",
    "≈": r"$\approx$",
    "∞": r"$\infty$",
    "√": r"$\surd$",
    "←": r"$\leftarrow$",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "µ": r"$\mu$",
    "¡": "!`",
    "¿": "?`",
    "ſ": "s",
}
_LIGATURES = {"-": "-", "'": "'", ",": ",", "`": "?!`"}
"""Signs that OT1 draws together with one before them, as a longer dash or another mark."""

_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0323": "d",
    "\u0327": "c",
    "\u0331": "b",
}
_GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
}  # fmt: skip
_GREEK_CAPITALS = {"gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega"}
_LATIN_TWINS = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo"))


def one_line(text: str) -> str:
    """``text`` without line breaks and other control characters, which would end a row, or a comment, early, and with
    U+FFFD for what no file can hold (bytes of a command line that were no text).
    """
    kinds = {"Cc": " ", "Zl": " ", "Zp": " ", "Cs": "\ufffd"}
    return " ".join("".join(kinds.get(unicodedata.category(letter), letter) for letter in text).split())


def to_latex(text: str) -> str:
    """``text`` in ASCII, every sign as itself: escaped, accented, or from mathematics.

    What LaTeX has no name for (other scripts, pictures) is written so that XeLaTeX and LuaLaTeX print it, as far as
    their font has it, and pdflatex its number, U+6A21.
    """
    out: list[str] = []
    for letter in unicodedata.normalize("NFC", one_line(text)):
        accent = _ACCENTS.get(letter)
        if accent is not None and out:
            out[-1] = f"\\{accent}{{{out[-1]}}}"
            continue
        made = _one(letter)
        joins = bool(out) and bool(made) and out[-1][-1:] in _LIGATURES.get(made[0], ())
        out.append("{}" + made if joins else made)
    # A row that begins with a bracket would be taken for an option of the line break before it.
    return ("{}" if text.startswith(("[", "*")) else "") + "".join(out)


def _one(letter: str) -> str:
    if letter in _ESCAPED:
        return _ESCAPED[letter]
    if letter.isascii():
        return letter
    if unicodedata.category(letter) == "Cf" or "\ufe00" <= letter <= "\ufe0f":
        return ""
    if letter in _SIGNS:
        return _SIGNS[letter]
    if letter in _LATIN_TWINS:
        return _LATIN_TWINS[letter]
    kind, _, meaning = unicodedata.decomposition(letter).rpartition("> ")
    if kind in ("<super", "<sub") and len(meaning) == 4 and chr(int(meaning, 16)).isascii():
        return f"${'^' if kind == '<super' else '_'}{{{_one(chr(int(meaning, 16)))}}}$"
    if kind == "<noBreak" and meaning == "0020":
        return "~"
    parts = unicodedata.normalize("NFD", letter)
    if len(parts) > 1 and parts[0].isascii() and all(part in _ACCENTS for part in parts[1:]):
        made = parts[0]
        for part in parts[1:]:
            made = f"\\{_ACCENTS[part]}{{{made}}}"
        return made
    return _greek(letter) or rf'\ifdefined\Uchar\Uchar"{ord(letter):X} \else U+{ord(letter):04X}\fi{{}}'


def _greek(letter: str) -> str | None:
    words = unicodedata.name(letter, "").lower().replace("lamda", "lambda").split()
    match words:
        case ["greek", "small", "letter", name] if name in _GREEK:
            return f"$\\{name}$"
        case ["greek", "small", "letter", "final", "sigma"]:
            return r"$\varsigma$"
        case ["greek", "capital", "letter", name] if name in _GREEK_CAPITALS:
            return f"$\\{name.capitalize()}$"
        case _:
            return None
