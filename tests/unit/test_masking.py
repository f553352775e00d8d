"""No secret comes out of a line that is masked, whatever it is and however it is written there."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tallykeeper.operations.masking import masked

# A word that is in no mask and no form, between whatever a secret may have around it.
WORD = "GeheimXq7"
ANY = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=8)
SECRETS = st.builds(lambda before, after: f"{before}{WORD}{after}", ANY, ANY)


def quoted(secret: str) -> str:
    """As libpq quotes it."""
    return secret.replace("\\", "\\\\").replace("'", "\\'")


# Secrets as they stand, blanks and all.
ANYHOW: dict[str, Callable[[str], str]] = {
    "an address": lambda s: f"no postgresql://ann:{s}@db:5432/app",
    "a driver's address": lambda s: f"(postgresql+psycopg2://ann:{s}@db/app?sslmode=require)",
    "a proxy's address": lambda s: f"cannot reach http://ann:{s}@proxy:3128",
    "quoted by libpq": lambda s: f"host=db password='{quoted(s)}' user=ann",
    "another quoted": lambda s: f"host=db sslpassword = '{quoted(s)}' user=ann",
    "quoted in SQL": lambda s: "ALTER ROLE ann PASSWORD '" + s.replace("'", "''") + "' LOGIN",
    "JSON": lambda s: json.dumps({"user": "ann", "password": s, "host": "db"}),
    "JSON as it stands": lambda s: json.dumps({"api_key": s}, ensure_ascii=False),
    "a header": lambda s: f"sent Authorization: Digest {s}",
}
# Secrets without blanks: where they end cannot be known otherwise.
UNBROKEN: dict[str, Callable[[str], str]] = {
    "a parameter": lambda s: f"host=db password={s} user=ann",
    "passwd": lambda s: f"passwd={s} is wrong",
    "pwd": lambda s: f"pwd={s}",
    "the environment": lambda s: f"PGPASSWORD={s} psql",
    "a token": lambda s: f"token: {s} was refused",
    "a key": lambda s: f"key={s}",
    "Bearer": lambda s: f"Bearer {s} has expired",
    "a header's Bearer": lambda s: f"'Authorization': 'Bearer {s}'",
    "a query": lambda s: f"GET https://db.example/p?a=1&access_token={s}&b=2",
}
# Secrets of an address, encoded.
ENCODED: dict[str, Callable[[str], str]] = {
    "Slack": lambda s: f"POST https://hooks.slack.com/services/T0/B0/{s}: 404",
    "Discord": lambda s: f"https://discord.com/api/webhooks/1/{s}",
    "Teams": lambda s: f"https://a.webhook.office.com/webhookb2/{s}/IncomingWebhook/x",
    "ntfy": lambda s: f"<https://ntfy.sh/{s}>",
    "Telegram": lambda s: f"https://api.telegram.org/bot1:{s}/sendMessage",
    "Apprise's": lambda s: f"cannot send to slack://{s}/B0/C0/#general",
    "mail": lambda s: f"mailto://ann:{s}@mail.example?to=bert",
    "an encoded address": lambda s: f"postgresql://ann:{s}@db/app?password={s}",
}


@pytest.mark.parametrize("form", ANYHOW)
@given(SECRETS)
@example(f"a@{WORD}/ %:é")
@example(f"' {WORD} \" '")
def test_no_secret_is_left(form: str, secret: str) -> None:
    assert WORD not in masked(ANYHOW[form](secret))


@pytest.mark.parametrize("form", UNBROKEN)
@given(SECRETS)
@example(f'"a"{WORD}')
@example(f"a&b;c,{WORD}")
def test_no_secret_without_blanks_is_left(form: str, secret: str) -> None:
    assert WORD not in masked(UNBROKEN[form]("".join(secret.split())))


@pytest.mark.parametrize("form", ENCODED)
@given(SECRETS)
def test_no_encoded_secret_is_left(form: str, secret: str) -> None:
    assert WORD not in masked(ENCODED[form](quote(secret, safe="")))


@given(SECRETS)
def test_no_user_and_password_of_a_header_are_left(secret: str) -> None:
    sent = base64.b64encode(f"ann:{secret}".encode()).decode()
    assert sent not in masked(f"sent Basic {sent} to the server")


@pytest.mark.parametrize(
    "line",
    [
        "media.daily_contributions: gave up after 6 attempts in 120 s; locks on media.media_files",
        'password authentication failed for user "ann"',
        "duplicate key value violates unique constraint: Key (path)=(a/b) already exists",
        "expected a PostgreSQL database at ann@db:5432/app, but connecting failed",
        "basic types only",
        "see http://127.0.0.1:3000",
    ],
)
def test_what_holds_no_secret_is_left_as_it_is(line: str) -> None:
    assert masked(line) == line
