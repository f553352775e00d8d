"""The documentation as a site: built without a warning, searchable, and all on one host."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tallykeeper.settings import project_root
from tests.browser import screenshots

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("material") is None or importlib.util.find_spec("mkdocs") is None,
    reason="mkdocs-material is not installed: it is in the dependency group `docs` (`make setup`)",
)

# What a browser fetches by itself. A link that a reader may follow is none of it.
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?\b(?:src|data)\s*=\s*["']?
            (?P<tag>(?:https?:)?//[^"'\s>]+)
      | <link\b(?![^>]*\brel=["']?(?:canonical|next|prev)\b)[^>]*?\bhref\s*=\s*["']?
            (?P<link>(?:https?:)?//[^"'\s>]+)
      | url\(\s*["']?(?P<url>(?:https?:)?//[^"')\s]+)
      | @import\s+["'](?P<css>(?:https?:)?//[^"']+)
    """,
    re.VERBOSE | re.IGNORECASE,
)
# The theme's script knows three addresses: of a repository's stars and of a diagram language. It
# asks for them only where a page has such elements.
ASKS_ELSEWHERE = ('data-md-component="source"', 'class="mermaid"')


def loaded_from_elsewhere(text: str) -> list[str]:
    return [next(filter(None, found.groups())) for found in LOADED.finditer(text)]


def mkdocs(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(site)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = mkdocs(project_root() / "mkdocs.yml", folder)
    assert built.returncode == 0, built.stderr
    return folder


def pages(site: Path) -> dict[str, str]:
    return {str(path.relative_to(site)): path.read_text() for path in site.rglob("*.html")}


def test_every_page_is_found_by_the_search(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    docs = project_root() / "docs"
    expected = {
        str(path.relative_to(docs).with_suffix("")).removesuffix("index").rstrip("/")
        for path in docs.rglob("*.md")
    }
    assert {location.rstrip("/") for location in found} == expected
    assert any("incremental" in entry["text"].lower() for entry in index["docs"])


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    texts = pages(site)
    texts |= {str(path.relative_to(site)): path.read_text() for path in site.rglob("*.css")}
    assert {name: out for name, text in texts.items() if (out := loaded_from_elsewhere(text))} == {}
    assert [name for name, text in texts.items() if any(s in text for s in ASKS_ELSEWHERE)] == []


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        '<img alt="" src=https://example.org/a.png>',
        "@font-face { src: url(https://fonts.example/a.woff2) }",
        '@import "http://example.org/a.css";',
    ],
)
def test_what_is_loaded_from_another_host_is_seen(text: str) -> None:
    assert len(loaded_from_elsewhere(text)) == 1


def test_the_site_shows_what_the_repository_shows(site: Path) -> None:
    """Lists and tables that this renderer, other than GitHub's, makes one paragraph of."""
    wrong: list[tuple[str, str]] = []
    for name, text in pages(site).items():
        prose = re.sub(r"<(pre|code|script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
        wrong += [
            (name, paragraph[:80])
            for paragraph in re.findall(r"<p>(.*?)</p>", prose, flags=re.DOTALL)
            if re.search(r"\n(?:[-*] |\d+\. |\|)|\]\(|```", paragraph)
        ]
        wrong += [(name, code) for code in re.findall(r"<code>[^<]*\\\|[^<]*</code>", text)]
    assert wrong == []


def test_the_lists_of_pages_name_every_page() -> None:
    docs = project_root() / "docs"
    lists = (docs / "index.md", docs / "how-to" / "index.md", docs / "reference" / "documents.md")
    named = {
        (page.parent / link).resolve()
        for page in lists
        for link in re.findall(r"\]\(([^)#\s]+\.md)", page.read_text())
    }
    assert [str(path) for path in docs.rglob("*.md") if path not in {*named, lists[0]}] == []


def test_every_picture_is_shown_and_made_by_a_program() -> None:
    root = project_root()
    pages = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    shown = {name for page in pages for name in re.findall(r"images/([\w.-]+)\)", page.read_text())}
    pictures = {path.name for path in (root / "docs" / "images").iterdir()}
    assert pictures == shown
    taken = {*screenshots.PICTURES, *screenshots.OF_SERVICE, *screenshots.OF_SITE}
    assert {name for name in pictures if name.endswith(".png")} == taken


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_pages_beside_the_site_lead_somewhere(page: str) -> None:
    text = (project_root() / page).read_text()
    links = re.findall(r"\]\((?!https?://)([^)#\s]+)", text)
    assert links
    assert [link for link in links if not (project_root() / link).exists()] == []


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"index.md": "# A\n\n[gone](missing.md)\n"}, "missing.md"),
        ({"index.md": "# A\n\n[gone](#nowhere)\n"}, "#nowhere"),
        ({"index.md": "# A\n\n![gone](a.svg)\n"}, "a.svg"),
        ({"index.md": "# A\n", "other.md": "# Not in the navigation\n"}, "other.md"),
    ],
)
def test_a_broken_link_and_a_forgotten_page_stop_the_build(
    tmp_path: Path, files: dict[str, str], named: str
) -> None:
    (tmp_path / "docs").mkdir()
    for name, text in files.items():
        (tmp_path / "docs" / name).write_text(text)
    config = tmp_path / "mkdocs.yml"
    here = {
        "INHERIT": str(project_root() / "mkdocs.yml"),
        "docs_dir": "docs",
        "nav": [{"A": "index.md"}],
    }
    config.write_text(yaml.safe_dump(here))
    built = mkdocs(config, tmp_path / "site")
    assert built.returncode != 0
    assert named in built.stderr
