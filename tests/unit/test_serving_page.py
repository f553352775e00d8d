"""The page's files as they are sent: all of them, with what the browser must know of each."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files

import pytest

from tallykeeper.http.app import create_app
from tallykeeper.http.page import PAGE, TYPES
from tallykeeper.settings import project_root
from tests.integration.serving_client import Client

ADDRESSES = ["/", *(f"/static/{name}" for name in TYPES if name != PAGE)]


@pytest.fixture
def client() -> Client:
    return Client(create_app(systems=[]))


def test_every_file_is_sent_and_packed() -> None:
    assert {each.name for each in files("tallykeeper.http").joinpath("static").iterdir()} == set(
        TYPES
    )
    packed = tomllib.loads((project_root() / "pyproject.toml").read_text())
    assert "**/static/*" in packed["tool"]["setuptools"]["package-data"]["tallykeeper"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_file_is_sent_once_and_then_known(client: Client, address: str) -> None:
    first = client.get(address)
    assert first.status_code == 200
    assert first.headers["content-type"] == TYPES[address.rpartition("/")[2] or PAGE]
    assert first.headers["x-content-type-options"] == "nosniff"
    assert first.headers["content-security-policy"].startswith("default-src 'self';")
    again = client.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = client.request("HEAD", address)
    assert (head.status_code, head.headers["etag"]) == (200, first.headers["etag"])


def test_whatever_the_files_name_is_relative_and_there(client: Client) -> None:
    for address in ADDRESSES:
        text = client.get(address).text
        named = re.findall(r"""(?:src|href)="([^"]*)"|from "([^"]*)"|url\(([^)]*)\)""", text)
        for name in ("".join(one) for one in named):
            assert not re.match(r"/|[a-z]+:", name), f"{address} names {name}"
            folder = address.rpartition("/")[0]
            assert client.get(f"{folder}/{name.removeprefix('./')}").status_code == 200, name


@pytest.mark.parametrize("address", ["/static/", "/static/nothing.js", "/static/%2e%2e/page.py"])
def test_nothing_else_is_sent(client: Client, address: str) -> None:
    assert client.get(address).status_code == 404
