"""One server has one address, however it is typed."""

from __future__ import annotations

import pytest

from assets.fediverse.instances import BadInstance, base_url_of


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("https://mastodon.social", "https://mastodon.social"),
        (" HTTPS://Mastodon.Social/ ", "https://mastodon.social"),
        ("mastodon.social", "https://mastodon.social"),
        ("https://mastodon.social:443", "https://mastodon.social"),
        ("http://localhost:80", "http://localhost"),
        ("localhost:3000", "https://localhost:3000"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://[::1]:3000/", "http://[::1]:3000"),
    ],
)
def test_an_address_is_stored_in_one_way(typed: str, stored: str) -> None:
    assert base_url_of(typed) == stored
    assert base_url_of(stored) == stored


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "https://",
        "ftp://a.example",
        "https://a.example/path",
        "https://a.example?q=1",
        "https://a.example#x",
        "https://a.example:port",
        "https://a.example:99999",
        "https://a b.example",
        "https://a..example",
        "https://[::1",
        "a\0b",
        "a" * 300,
    ],
)
def test_what_is_no_address_of_a_server_is_refused(typed: str) -> None:
    with pytest.raises(BadInstance, match="expected an instance's address"):
        base_url_of(typed)


def test_a_password_is_never_shown() -> None:
    for typed in ("https://ann:s3cret@a.example", "ftp://ann:s3cret@a.example"):
        with pytest.raises(BadInstance) as caught:
            base_url_of(typed)
        assert "s3cret" not in str(caught.value)
