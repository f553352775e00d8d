"""Reading a text file, perhaps compressed by gzip, line by line and in constant memory.

What a line means is the caller's business (`csv_input.py`, `jsonl_input.py`). Invariants: bytes
that are no text spoil their own line, not the load, and a file that breaks off is an error.
"""

from __future__ import annotations

import gzip
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from io import BufferedReader, TextIOWrapper
from pathlib import Path

from tallykeeper.input.loading import LoadError
from tallykeeper.input.reader import Reader

_GZIP = b"\x1f\x8b"


class TextFile(Reader):
    """A file of lines in UTF-8, or in UTF-16 where a byte order mark says so.

    One that is compressed by gzip is uncompressed, whatever its name.

    `newline` is that of `open`; "" ends a line at any line break and keeps it. Raises LoadError
    where the file cannot be opened, or breaks off (a damaged gzip file).
    """

    def __init__(self, path: Path, newline: str = "") -> None:
        self.path = path
        try:
            self._raw = path.open("rb")
        except OSError as error:
            raise LoadError(f"{path} cannot be opened: {error.strerror}.") from error
        binary: BufferedReader | gzip.GzipFile = self._raw
        self._lines = 0
        if self._raw.peek(2)[:2] == _GZIP or path.name.lower().endswith(".gz"):
            binary = gzip.GzipFile(fileobj=self._raw, mode="rb")
        try:
            wide = binary.peek(2)[:2] in (BOM_UTF16_LE, BOM_UTF16_BE)
        except (EOFError, OSError, zlib.error):
            wide = False  # Reading the first line fails as well, and says why.
            self._raw.seek(0)
            binary = gzip.GzipFile(fileobj=self._raw, mode="rb")
        # What is no text reaches the list of rejects as it came, or as a half of a pair.
        self._text = TextIOWrapper(
            binary,
            encoding="utf-16" if wide else "utf-8-sig",
            errors="surrogatepass" if wide else "surrogateescape",
            newline=newline,
        )
        self.size = path.stat().st_size

    def close(self) -> None:
        self._text.close()
        self._raw.close()

    def consumed(self) -> int:
        """Bytes of the file that were read so far, as it is stored (compressed or not)."""
        return self._raw.tell()

    def read_line(self, limit: int = -1) -> str:
        """The next line with its line break, or at most `limit` characters of it; "" at the end."""
        try:
            line = self._text.readline(limit)
        except (EOFError, OSError, UnicodeError, zlib.error) as error:
            raise LoadError(
                f"{self.path} cannot be read beyond line {self._lines:,} ({error}); get a complete "
                "copy and load it again (rows before that may be loaded: that does no harm)."
            ) from error
        self._lines += 1
        return line
