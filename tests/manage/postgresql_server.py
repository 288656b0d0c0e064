"""A server of PostgreSQL that a session of the tests starts: a cluster of its own, a socket in a folder of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

USER, PASSWORD = "tester", "geheim:4711@/"
"""A password with all that has a meaning in a URL."""
NOBODY = "nobody"


class Server(NamedTuple):
    folder: Path
    numbers: Iterator[int]

    def url(self, schema: str = "public", password: str = PASSWORD) -> str:
        query = f"host={quote(str(self.folder), safe='')}&options={quote(f'-csearch_path={schema}', safe='')}"
        return f"postgresql://{USER}:{quote(password, safe='')}@/postgres?{query}"

    def new(self) -> str:
        """The URL of an empty schema: a database of its own takes fifty times as long to make."""
        schema = f"test{next(self.numbers)}"
        self.run(f"CREATE SCHEMA {schema}")
        return self.url(schema)

    def run(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(host=str(self.folder), user=USER, password=PASSWORD, dbname="postgres") as connection:
            connection.execute(statement)


def programs() -> Path | None:
    """The folder with initdb and pg_ctl: of Debian's packages it is not on PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return folders[-1].parent if folders else None


@contextmanager
def running(binaries: Path) -> Iterator[Server]:
    """The server while it runs; root cannot run one, so it is nobody's then.

    Its locale orders texts as people do, unlike SQLite: what depends on an order has to say which.
    """
    user = NOBODY if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="bertconv-pg-"))  # paths of sockets are short, and others may enter here
    if user:
        shutil.chown(folder, user)

    def run(program: str, *arguments: object) -> None:
        done = subprocess.run(
            [binaries / program, *map(str, arguments)], cwd=folder, user=user, group=None, capture_output=True,
            text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        log = folder / "log"
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{log.read_text() if log.exists() else ''}"

    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    data = folder / "data"
    try:
        run("initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", "--pwfile", secret, "-E", "UTF8", "--no-sync",
            "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US")  # fmt: skip
        settings = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off -c autovacuum=off"
        # without a log of its own it would hold this process's pipes open
        run("pg_ctl", "-D", data, "-w", "-s", "-l", folder / "log", "-o", settings, "start")
        try:
            yield Server(folder, itertools.count())
        finally:
            run("pg_ctl", "-D", data, "-w", "-s", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
