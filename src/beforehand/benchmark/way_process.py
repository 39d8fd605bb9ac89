"""The parent's side of a way's process: starts it, asks it, and knows why it is gone."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import secrets
import socket
import threading
from typing import Any

from beforehand.build_engines.bound_log import bound_log
from beforehand.build_engines.settings import BuildSettings
from beforehand.build_engines.supervise import Outcome, Watch, run_child

_MODULE = "beforehand.benchmark.child"
_WAIT_S = 0.2


@dataclasses.dataclass(frozen=True)
class Job:
    """What a way's process is to open; see `child.py`."""

    way: str
    folder: str
    converted: str
    signature: str
    shapes: Any
    samples: str | None


class WayProcess:
    """A way in a process of its own. Once it failed, `error` says why, and nothing is asked any more.

    Args:
        job: What it opens.
        folder: Where its log and job go.
        timeout_s: Longest that one answer may take.
    """

    def __init__(self, job: Job, folder: pathlib.Path, timeout_s: float) -> None:
        self.way, self.error, self.load_s = job.way, "", 0.0
        self._timeout_s, self._name, self._folder = timeout_s, f"{job.way}-{job.signature}".replace("/", "_"), folder
        self._cancel = threading.Event()
        self._outcome: Outcome | None = None
        self._file: Any = None
        token = secrets.token_hex(16)
        with socket.create_server(("127.0.0.1", 0)) as server:
            job_file = folder / f"{self._name}.json"
            port = server.getsockname()[1]
            job_file.write_text(json.dumps({**dataclasses.asdict(job), "port": port, "token": token}))
            self._thread = threading.Thread(target=self._run, args=(job_file,), daemon=True)
            self._thread.start()
            self._accept(server, token)
        told: dict[str, Any] = self._read() if self._file is not None else {}
        self.load_s = float(told.get("load_s", 0.0))
        self.error = self.error or str(told.get("error") or "")  # that it could not be opened

    def _run(self, job_file: pathlib.Path) -> None:
        watch = Watch(cancel=self._cancel)
        self._outcome = run_child(_MODULE, [str(job_file)], self._folder, self._name, BuildSettings(), watch)

    def _accept(self, server: socket.socket, token: str) -> None:
        server.settimeout(_WAIT_S)
        waited = 0.0
        while self._thread.is_alive() and waited < self._timeout_s:
            try:
                line, _ = server.accept()
            except TimeoutError:
                waited += _WAIT_S
                continue
            line.settimeout(self._timeout_s)
            file = line.makefile("rw", encoding="utf-8")
            line.close()  # the file holds it
            if json.loads(file.readline() or "{}").get("token") == token:
                self._file = file
                return
            file.close()  # somebody else of this machine
        self._fail("it did not start")

    def ask(self, data: dict[str, Any]) -> dict[str, Any]:
        """Its answer; {"error": why} where it has none. What it failed at may be asked of it otherwise."""
        if self.error:
            return {"error": self.error}
        try:
            self._file.write(json.dumps(data) + "\n")
            self._file.flush()
        except OSError:
            return self._fail("its process ended")
        return self._read()

    def _read(self) -> dict[str, Any]:
        try:
            text = self._file.readline()
            told: dict[str, Any] = json.loads(text) if text else {}
        except TimeoutError:
            return self._fail(f"it did not answer within {self._timeout_s:g} s")
        except (OSError, ValueError):
            told = {}
        return told or self._fail("its process ended")

    def _fail(self, what: str) -> dict[str, Any]:
        self.close()
        outcome = self._outcome
        ended = f", exit code {outcome.code}" if outcome is not None and "ended" in what else ""
        stopped = f", stopped: {outcome.stopped}" if outcome is not None and outcome.stopped and "ended" in what else ""
        last = _read_last(outcome.log) if outcome is not None else ""
        self.error = f"{what}{ended}{stopped}{': ' + last if last else ''}"
        return {"error": self.error}

    def close(self) -> None:
        """End it."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._thread.join(2.0)
        self._cancel.set()
        self._thread.join()


def _read_last(log: pathlib.Path) -> str:
    bound_log(log)
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
