"""LaTeX of any name: what was seen to compile, held without TeX. (pdflatex and lualatex of TeX Live 2022 took it.)"""

import re

import pytest

from vdpm.evaluation.latex_text import one_line, to_latex
from vdpm.evaluation.table_report import ReportTable

COMMANDS = set(
    re.findall(
        r"\S+",
        "ss ae AE oe OE o O l L i S P dots frac times cdot pm leq geq neq approx infty surd ll gg leftarrow rightarrow "
        "uparrow downarrow ifdefined Uchar else fi alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu "
        "nu xi pi rho sigma varsigma tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi "
        "Psi Omega textbackslash textasciicircum textasciitilde textasciigrave textasciiacute textbar textless "
        "textgreater textcopyright textregistered texttrademark textdegree texteuro",
    )
) | set("%_&#${}`'^~=\".urHvdcb")


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        (r"50 % of A_b & c", r"50 \% of A\_b \& c"),
        (r"\pi^{2}~$x$ #1|<a>", r"\textbackslash{}pi\textasciicircum{}\{2\}\textasciitilde{}\$x\$ \#1\textbar{}"
         r"\textless{}a\textgreater{}"),
        ("[0.1] *", "{}[0.1] *"),
        ("*starred", "{}*starred"),
        ("Größe, naïve n̂", r"Gr\"{o}\ss{}e, na\"{i}ve \^{n}"),
        ("π³ and x₀ of Ω", r"$\pi$$^{3}$ and x$_{0}$ of $\Omega$"),
        ("a -- b --- c", "a -{}- b -{}-{}- c"),
        ("– — ?` !` ''", r"-- --- ?\textasciigrave{} !\textasciigrave{} '{}'"),
        ("„gut“", ",,gut``"),
        ("型🙂", r'\ifdefined\Uchar\Uchar"578B \else U+578B\fi{}\ifdefined\Uchar\Uchar"1F642 \else U+1F642\fi{}'),
        ("one\ntwo\r\n\u2028three\x00", "one two three"),
        ("soft\u00adhyphen \u202eback", "softhyphen back"),
        ("not text \udcff", r'not text \ifdefined\Uchar\Uchar"FFFD \else U+FFFD\fi{}'),
    ],
)  # fmt: skip
def test_what_names_become(text: str, latex: str) -> None:
    assert to_latex(text) == latex


def test_every_sign_there_is_comes_out_as_plain_commands() -> None:
    """ASCII, braces in pairs, no command that LaTeX without packages lacks, nothing that ends a cell or a line."""
    for number in (*range(0x2700), *range(0x2701, 0x20000, 29)):
        made = to_latex(f"a{chr(number)}b")
        assert made.isascii(), hex(number)
        assert {*re.findall(r"\\([A-Za-z]+|.)", made)} <= COMMANDS, (hex(number), made)
        bare = re.sub(r"\\[%_&#${}]", "", made)
        assert bare.count("{") == bare.count("}"), hex(number)
        assert bare.count("$") % 2 == 0, hex(number)
        outside = re.sub(r"\$[^$]*\$|\\[~^=.\"'`](?=\{)", "", bare)
        assert not re.search(r"[%#&|^_<>]", outside), (hex(number), made)
        assert not (set(outside) & {"~"}) or number == 0xA0, hex(number)


def test_odd_names_stay_in_their_place_in_the_table() -> None:
    odd = "a\nb | c <i> & \udcff"
    table = ReportTable(f"T {odd}", (odd, "x"), ((odd, ("1", "2"), False),), (f"note {odd}",))
    assert one_line(odd) == "a b | c <i> & \ufffd"
    lines = table.markdown().splitlines()
    assert lines[0] == "## T a b | c <i> & \ufffd"
    assert lines[2] == "| method | a b \\| c \\<i> & \ufffd | x |"
    assert lines[4] == "| a b \\| c \\<i> & \ufffd | 1 | 2 |"
    assert lines[6:] == ["- note a b | c <i> & \ufffd"]
    latex = table.latex().splitlines()
    assert len(latex) == 9
    assert not any(line.startswith("%") for line in latex)
    assert sum(line.endswith(r" \\") for line in latex) == 2
    assert "note a b" in latex[-1]
