"""One `tally up` of a home at a time, and `tally stop` ends it and nothing else."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest

from tallykeeper.cli import instance_lock
from tallykeeper.cli.instance_lock import end, only_one


def test_who_is_up_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    up = threading.Event()
    stopping = threading.Event()

    def stay_up() -> bool:
        with only_one(tmp_path, stopping):
            up.set()
            return stopping.wait(30)

    with ThreadPoolExecutor(1) as other:
        stayed = other.submit(stay_up)
        assert up.wait(30)
        assert end(tmp_path, 30)
        assert stayed.result()
    assert not end(tmp_path, 30), "nobody is up any more"


def test_nobody_is_up_where_nothing_ever_was(tmp_path: Path) -> None:
    assert not end(tmp_path / "never made", 30)
    assert list(tmp_path.iterdir()) == []


def test_another_one_of_the_same_home_is_refused_and_of_another_is_not(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with (
        only_one(one, threading.Event()),
        only_one(other, threading.Event()),
        pytest.raises(click.ClickException, match=f"another `tally up` keeps what is in {one}"),
        only_one(one, threading.Event()),
    ):
        pytest.fail("there are two")
    with only_one(one, threading.Event()):
        pass


def test_who_does_not_end_is_named_and_goes_on(tmp_path: Path) -> None:
    stopping = threading.Event()
    with only_one(tmp_path, stopping):
        with pytest.raises(click.ClickException, match="asked to end, and has not within 0 s"):
            end(tmp_path, 0)
        assert stopping.wait(30), "it was asked"


def test_a_request_to_the_one_before_does_not_end_the_next(tmp_path: Path) -> None:
    with only_one(tmp_path, threading.Event()), pytest.raises(click.ClickException):
        end(tmp_path, 0)
    stopping = threading.Event()
    with only_one(tmp_path, stopping):
        assert not stopping.wait(5 * instance_lock.LOOK_EVERY_SECONDS)


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(click.ClickException, match=r"expected to write in .*file/home, but cannot"),
        only_one(tmp_path / "file" / "home", threading.Event()),
    ):
        pytest.fail("it was written")
