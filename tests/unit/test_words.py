"""The project uses the field's words, and not private ones for which it has others.

Of the product and its docs all text is looked at, of tests and benchmarks the comments, docstrings
and names.
"""

from __future__ import annotations

import io
import re
import subprocess
import tokenize
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOOKED_AT: tuple[str, ...] = (
    "tallykeeper",
    "assets",
    "pipelines",
    "resources",
    "deploy",
    "docs",
    "README.md",
)
LOOKED_AT += ("CONTRIBUTING.md", "Makefile", "mkdocs.yml")
# History, decisions, and what is written from measurements and tests.
LEFT_OUT = re.compile(
    r"docs/design\.md|docs/reference/(benchmarks|changes|documents)\.md|\.(json|svg|png)$"
    r"|tallykeeper/catalog/migrations/0002_names\.sql"
)
# Each with what to write instead.
INSTEAD = {
    r"told": "notified, reported, named",
    r"mend(s|ed|ing)?": "resolve, repair",
    r"heard": "received, processed",
    r"gone(?! (on|back))": "deleted, missing, closed",
    r"of late": "recently",
    r"whoever": "the role, process or session that",
    r"what came of it": "the result",
    r"gives(?! (up|way))": "returns",
    r"taken(?! (off|over|out of|together|earlier))": "consumed, processed, used",
    r"misfits?": "mismatch",
    r"what must stay true": "Invariants",
    r"stand(s|ing)? (in for|in (a|the) (file|SELECT))": "replace, be in",
}
# Everybody's words as names of a table, a column or a moment.
ONLY_IN_PROSE = {"gone", "taken", "gives"}
# Pictures, snapshots and locks are taken in everybody's language.
STANDARD = re.compile(
    r"\b(pictures?|photos?|photographs?|files?|video|snapshots?|lock|EXIF|branch|name)\b"
)
# The word list itself.
QUOTED = re.compile(r"docs/contributing/names\.md")


def _files(folders: Iterable[str] = LOOKED_AT) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    return [name for name in listed if name and not (LEFT_OUT.search(name) or QUOTED.search(name))]


def private_words(text: str) -> list[str]:
    """Each use in the text: the line's number, the word, and what to write instead."""
    return _uses(text, 1)


def _uses(text: str, first_line: int) -> list[str]:
    found = []
    for number, line in enumerate(text.split("\n"), first_line):
        for word, instead in INSTEAD.items():
            for match in re.finditer(rf"(?<![\w.`])({word})(?![\w`])", line, re.IGNORECASE):
                if match[1].lower() == "taken" and STANDARD.search(line):
                    continue
                found.append(f"{number}: {match[1]!r}; write {instead}")
    return found


def test_the_product_and_its_docs_use_the_field_s_words() -> None:
    found = [
        f"{name}:{use}"
        for name in _files()
        for use in private_words((ROOT / name).read_text(encoding="utf-8"))
    ]
    assert found == []


def private_words_of_code(text: str) -> list[str]:
    """Each use in a module's comments, docstrings and names."""
    found, begins_statement = [], True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        said = ""
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and begins_statement):
            said = token.string
        if token.type == tokenize.NAME:
            words = token.string.lower().split("_")
            said = " ".join(word for word in words if word not in ONLY_IN_PROSE)
        found += _uses(said, token.start[0])
        if token.type not in {tokenize.NL, tokenize.COMMENT}:
            ends = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
            begins_statement = token.type in ends
    return found


def test_tests_and_benchmarks_use_the_field_s_words() -> None:
    found = [
        f"{name}:{use}"
        for name in _files(("tests", "benchmarks"))
        if name.endswith(".py") and name != "tests/unit/test_words.py"
        for use in private_words_of_code((ROOT / name).read_text(encoding="utf-8"))
    ]
    assert found == []


def test_of_code_the_comments_docstrings_and_names_are_looked_at() -> None:
    code = '"""It is mended."""\n\nTOLD_OF = taken = "told"  # of late\nsays("gone")\n'
    assert [use.split(";")[0] for use in private_words_of_code(code)] == [
        "1: 'mended'",
        "3: 'told'",
        "3: 'of late'",
    ]


@pytest.mark.parametrize(
    ("text", "uses"),
    [
        ("You are told when it is mended.", 2),
        ("Whoever asks, it gives what has been taken of late.", 4),
        ("All that is gone, and what was heard.", 2),
        ("It gives up, and gives way. A picture was taken. The lock was taken.", 0),
        ("It stands in the SELECT, and stands in for it.", 2),
        ("recommended, amended, foretold, mistaken, `told`", 0),
    ],
)
def test_a_private_word_is_noticed_and_a_standard_one_is_not(text: str, uses: int) -> None:
    assert len(private_words(text)) == uses
