"""What one sees while the demo runs: steps with their time, the SQL of the extension, small tables."""

import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

WIDTH = 120


def say(text: str = "") -> None:
    """A line, or a paragraph if it is long; lines of tables must not be."""
    print(
        textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ") if len(text) > WIDTH else f"  {text}",
        flush=True,
    )


def coloured(text: str, code: int) -> str:
    return f"\033[{code}m{text}\033[0m" if sys.stdout.isatty() else text


@contextmanager
def step(title: str) -> Iterator[None]:
    print(f"\n{coloured(title, 1)}", flush=True)
    started = time.monotonic()
    yield
    say(f"({time.monotonic() - started:.1f} s)")


class Table:
    """Prints rows as they come: the first column to the left, the others to the right."""

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[object]] = ()):
        self.widths = [max(len(str(cell)) for cell in column) for column in zip(header, *rows)]
        for row in [header, ["-" * width for width in self.widths], *rows]:
            self.row(row)

    def row(self, cells: Sequence[object]) -> None:
        first, *rest = zip(map(str, cells), self.widths)
        print("  " + "  ".join([first[0].ljust(first[1])] + [cell.rjust(width) for cell, width in rest]), flush=True)


def percent(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}%}"


def points(value: float | None) -> str:
    """A difference of rates, in percentage points."""
    return "" if value is None else f"{100 * value:+.2f}"


class Session:
    """A connection that shows the SQL it runs, as a user would type it, unless told to be quiet."""

    def __init__(self, dsn: str):
        # Parameters are put in by the client: what is shown is what runs, and regclass, CALL and SET take them as well.
        self.connection = psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.ClientCursor)
        self.connection.add_notice_handler(self.notice)
        self.quiet = False

    def notice(self, notice: psycopg.errors.Diagnostic) -> None:
        if not self.quiet:
            say(f"· {notice.message_primary}")

    def run(self, statement: str, parameters: dict | None = None, quiet: bool = False) -> list[tuple]:
        cursor = self.connection.cursor()
        statement = cursor.mogrify(statement, parameters) if parameters else statement
        if not quiet:
            for number, line in enumerate(statement.splitlines()):
                print("  " + coloured(("sql> " if number == 0 else "     ") + line, 36), flush=True)
        self.quiet = quiet
        started = time.monotonic()
        cursor.execute(statement)
        if not quiet and (seconds := time.monotonic() - started) >= 1:
            say(f"     {seconds:.1f} s")
        return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, parameters: dict | None = None, quiet: bool = False):
        return self.run(statement, parameters, quiet)[0][0]

    def close(self) -> None:
        self.connection.close()
