"""Which user of the operating system the embedded PostgreSQL runs as, and what they must reach.

PostgreSQL refuses to run as root. An ordinary user runs it as themselves; for root it runs as the
owner of its data, or as a service user of its own. Only in that second case are permissions
touched: folders on the way are opened for passing through, never for listing.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallykeeper.database.connections import DatabaseUnavailable

SERVICE_USER = "pgserver"

_READ = stat.S_IRGRP | stat.S_IROTH
_PASS = stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True)
class Account:
    """A user to run the server as; `other` where that is not the user of this process."""

    uid: int
    gid: int
    other: bool

    def subprocess_options(self) -> dict[str, Any]:
        """What `subprocess` needs to run a program as this user, without root's groups."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.other else {}

    def own(self, path: Path) -> None:
        """Give a file or folder to the user, with a way there."""
        if self.other:
            os.chown(path, self.uid, self.gid)
            self._open_way(path)

    def reach_programs(self, programs: Path) -> None:
        """See to it that the user can run the programs and read what belongs to them."""
        if not self.other:
            return
        self._open_way(programs)
        command = [str(programs / "postgres"), "--version"]
        try:
            subprocess.run(command, check=True, capture_output=True, **self.subprocess_options())
        except (PermissionError, subprocess.CalledProcessError):
            # Installed under a strict umask: readable for nobody but root.
            for path in (programs.parent, *programs.parent.rglob("*")):
                if not path.is_symlink():
                    runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                    path.chmod(path.stat().st_mode | _READ | (_PASS if runs else 0))

    def _open_way(self, path: Path) -> None:
        """Let everybody pass through the folders above `path` that are not the user's own."""
        for folder in path.parents:
            found = folder.stat()
            if found.st_uid != self.uid and not found.st_mode & stat.S_IXOTH:
                folder.chmod(found.st_mode | _PASS)


def account_for(data: Path) -> Account:
    """The user for the server with its data in `data`, which need not exist.

    Raises DatabaseUnavailable where there is none.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), other=False)
    owner = data.stat() if data.exists() else None
    if owner is not None and owner.st_uid != 0:
        return Account(owner.st_uid, owner.st_gid, other=True)
    entry = _service_user()
    return Account(entry.pw_uid, entry.pw_gid, other=True)


def _service_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SERVICE_USER)
    except KeyError:
        pass
    try:
        subprocess.run(
            ["useradd", "--system", "--no-create-home", SERVICE_USER],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        # Another process may have made it at the same moment.
        if SERVICE_USER not in {entry.pw_name for entry in pwd.getpwall()}:
            raise DatabaseUnavailable(
                f"PostgreSQL does not run as root, and the user {SERVICE_USER!r} could not be made"
                " for it; run as an ordinary user, or set TALLY_DATABASE_URL to a database of yours"
            ) from error
    return pwd.getpwnam(SERVICE_USER)
