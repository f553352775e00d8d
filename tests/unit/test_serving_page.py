"""A page's files as they are sent: all of them, with what the browser must know of each."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path, PurePath

import pytest

from tallykeeper.http.app import create_app
from tallykeeper.http.page import DOCS, PAGE, TYPES
from tallykeeper.settings import SettingError, project_root
from tests.integration.serving_client import Client

PAGES = ("assets.page", "tallykeeper.http")
NAMES = {package: [f.name for f in (files(package) / "static").iterdir()] for package in PAGES}
OF_PROJECT, OWN = PAGES
FOLDERS = {OF_PROJECT: "/static", OWN: "/static/tallies"}
PLACES = {PAGE: "/", DOCS: "/docs"}
EACH = [
    (package, PLACES.get(name, f"{FOLDERS[package]}/{name}"))
    for package in PAGES
    for name in NAMES[package]
]


def project(folder: Path, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work for a project that says this in [tool.tallykeeper]."""
    (folder / "pyproject.toml").write_text(f"[tool.tallykeeper]\n{says}\n")
    monkeypatch.setenv("TALLY_PROJECT", str(folder))


def client(package: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client of the service of a project with that page, or with the library's own pages."""
    if package == OWN:
        project(folder, "", monkeypatch)
        monkeypatch.setenv("TALLY_SERVE_DOCS", "1")
    return Client(create_app(systems=[]))


def test_every_file_can_be_sent_and_is_packed() -> None:
    for names in NAMES.values():
        assert PAGE in names
        assert {PurePath(name).suffix for name in names} <= set(TYPES)
    packed = tomllib.loads((project_root() / "pyproject.toml").read_text())
    assert "**/static/*" in packed["tool"]["setuptools"]["package-data"]["tallykeeper"]


@pytest.mark.parametrize(("package", "address"), EACH)
def test_a_file_is_sent_once_and_then_known(
    package: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = client(package, tmp_path, monkeypatch)
    first = ask.get(address)
    assert first.status_code == 200
    name = {place: name for name, place in PLACES.items()}.get(address, PurePath(address).name)
    assert first.headers["content-type"] == TYPES[PurePath(name).suffix]
    content = (files(package) / "static" / name).read_bytes()
    assert first.content == content.replace(b'href="docs" hidden', b'href="docs"')
    assert first.headers["x-content-type-options"] == "nosniff"
    assert first.headers["content-security-policy"].startswith("default-src 'self';")
    again = ask.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = ask.request("HEAD", address)
    assert (head.status_code, head.headers["etag"]) == (200, first.headers["etag"])


@pytest.mark.parametrize(("package", "address"), EACH)
def test_whatever_the_files_name_is_relative_and_there(
    package: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = client(package, tmp_path, monkeypatch)
    named = re.findall(
        r"""(?:src|href)="([^"]*)"|from "([^"]*)"|url\(([^)]*)\)""", ask.get(address).text
    )
    for name in ("".join(one) for one in named):
        assert not re.match(r"/|[a-z]+:", name), f"{address} names {name}"
        if name.startswith("api/"):
            continue  # It asks the database.
        folder = address.rpartition("/")[0]
        assert ask.get(f"{folder}/{name.removeprefix('./')}").status_code == 200, name


@pytest.mark.parametrize("package", PAGES)
@pytest.mark.parametrize("address", ["/static/", "/static/nothing.js", "/static/%2e%2e/page.py"])
def test_nothing_else_is_sent(
    package: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client(package, tmp_path, monkeypatch).get(address).status_code == 404


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ('page = "nothing.here"', "page: expected a package with a folder static"),
        ('page = "tallykeeper.reads"', "page: expected a package with a folder static"),
        ("page = 7", "page: expected the name of a package, but it is '7'"),
    ],
)
def test_a_page_that_is_not_there_is_said_so(
    says: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path, says, monkeypatch)
    with pytest.raises(SettingError, match=re.escape(expected)):
        create_app(systems=[])


def test_the_list_of_tallies_is_beside_a_page_of_the_projects_own() -> None:
    ask = Client(create_app(systems=[]))
    listing = ask.get("/tallies")
    assert (listing.status_code, listing.content) == (
        200,
        (files(OWN) / "static" / PAGE).read_bytes(),
    )
    assert ask.get("/").content == (files(OF_PROJECT) / "static" / PAGE).read_bytes()


def test_the_addresses_are_shown_where_a_setting_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Client(create_app(systems=[])).get("/docs").status_code == 404
    monkeypatch.setenv("TALLY_SERVE_DOCS", "1")
    assert Client(create_app(systems=[])).get("/docs").status_code == 200
    monkeypatch.setenv("TALLY_SERVE_DOCS", "yes")
    with pytest.raises(SettingError, match="TALLY_SERVE_DOCS: expected 0 or 1"):
        create_app(systems=[])


def test_a_project_has_a_page_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    static = tmp_path / "own_page_of_a_test" / "static"
    static.mkdir(parents=True)
    (static / PAGE).write_text("<p>Our own")
    (static / "notes.txt").write_text("not for browsers")
    project(tmp_path, 'page = "own_page_of_a_test"', monkeypatch)
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    ask = Client(create_app(systems=[]))
    assert ask.get("/").text == "<p>Our own"
    assert ask.get("/static/notes.txt").status_code == 404
