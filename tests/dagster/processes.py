"""The processes of a deployment, started by the commands of its systemd units, to be killed.

Each leads a process group of its own. What a unit says is read, not repeated: only ports, folders
and, for the code location, the module are the test's. Only processes of this deployment are ever
signalled.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeVar

from tallykeeper.settings import project_root
from tests.environment import environment as clean

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
NAMES = ("code", "daemon", "webserver")
INSTALLED_IN = "/opt/tallykeeper"


def unit(name: str) -> Path:
    """The systemd unit of a process."""
    return project_root() / "deploy" / "systemd" / f"tally-{name}.service"


def command_of(name: str) -> list[str]:
    """The command that the unit starts, program and arguments."""
    lines = unit(name).read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("ExecStart=")]
    return shlex.split(line.removeprefix("ExecStart="))


def until(condition: Callable[[], T | None], seconds: float, what: str) -> T:
    """What the condition returns once it is something; fails where that takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"after {seconds:g} s there was still no {what}"
        time.sleep(0.1)
    return found


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@dataclass
class Processes:
    """Code location, daemon and webserver, over what the environment names; logs in `folder`."""

    folder: Path
    environment: dict[str, str]
    module: str
    ports: dict[str, int] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        listening = ("code", "webserver", "metrics", "serve")
        self.ports = dict(zip(listening, free_ports(len(listening)), strict=True))
        kept = clean()
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        theirs = {
            "TALLY_CODE_HOST": LOOPBACK,
            "TALLY_CODE_PORT": str(self.ports["code"]),
            "TALLY_UI_URL": self.address("webserver"),
        }
        self.environment = kept | {"PATH": path} | theirs | self.environment

    def address(self, name: str) -> str:
        """Where the process answers."""
        return f"http://{LOOPBACK}:{self.ports[name]}"

    def start(self, name: str) -> None:
        """Start one of them, in a process group of its own."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                self._command(name),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """SIGKILL the process and all it started, as a supervisor or a container does."""
        process = self.running[name]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)

    def stop(self) -> None:
        """End all of them, with what they started."""
        for process in self.running.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)

    def alive(self, name: str) -> bool:
        """Whether it runs, and has since it was started."""
        return self.running[name].poll() is None

    def listens(self, name: str) -> bool:
        """Whether it takes connections; it must not have ended."""
        assert self.alive(name), f"{name} ended:\n{self.said(name)[-2000:]}"
        with socket.socket() as probe:
            return probe.connect_ex((LOOPBACK, self.ports[name])) == 0

    def said(self, name: str) -> str:
        """What it wrote into its log."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def ask(self, query: str, **variables: Any) -> dict[str, Any] | None:
        """The webserver's answer to a GraphQL query; None where there is none."""
        body = json.dumps({"query": query, "variables": variables})
        connection = HTTPConnection(LOOPBACK, self.ports["webserver"], timeout=30)
        try:
            connection.request("POST", "/graphql", body, {"content-type": "application/json"})
            data: dict[str, Any] | None = json.load(connection.getresponse()).get("data")
            return data
        except (OSError, HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def get(self, name: str, path: str) -> str | None:
        """What the process answers to a GET; None where it does not, or not with 200."""
        connection = HTTPConnection(LOOPBACK, self.ports[name], timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.read().decode() if answer.status == HTTPStatus.OK else None
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()

    def _command(self, name: str) -> list[str]:
        words = []
        for word in command_of(name):
            option, is_option, _ = word.partition("=")
            if option == "--port":
                words.append(f"{option}{is_option}{self.ports[name]}")
            elif option == "--address":
                words.append(f"{option}{is_option}{LOOPBACK}:{self.ports[name]}")
            elif option == "--module-name":
                words.append(f"{option}{is_option}{self.module}")
            else:
                words.append(word.replace(INSTALLED_IN, str(project_root())))
        return words
