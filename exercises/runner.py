"""Runs a reader's code in another process and reads what it returned: nothing that it does reaches this one."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from exercises import wire
from exercises.calling import SECONDS, Attempt, cases
from exercises.manifest import Exercise, exercises

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 1 << 26  # characters of one line


class Runner:
    """The files of one reader or student, {name: text}, loaded in a process of their own. Use it in a `with`.

    `guarded` is for grading: limits of the system, no other programs, no network, no files but a folder that is deleted
    afterwards. Without it (your own work) prints are seen, and only time is limited.
    """

    def __init__(
        self, files: dict[str, str], *, guarded: bool = False, tasks: tuple[str, ...] = (), seconds: float = 60.0,
        megabytes: int = 2048,
    ):  # fmt: skip
        self.begin = {
            "extra": sorted({task.home for task in exercises().values() if task.home}),
            "files": files, "guarded": guarded, "tasks": list(tasks), "seconds": seconds, "megabytes": megabytes,
        }  # fmt: skip
        self.guarded = guarded
        self.process: subprocess.Popen | None = None
        self.folder: tempfile.TemporaryDirectory | None = None

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def ask(self, task: Exercise, seed: int = 0, file: str = "") -> list[Attempt] | str:
        """What the function did with each of the exercise's inputs; a sentence where there is no such function."""
        wanted = len(cases(task, seed))
        made: list[Attempt] = []
        if self.process is None and not self._start():
            return "the file could not be loaded: Python ended, or was still running after its time"
        self._send({"task": task.id, "seed": seed, "file": file})
        while len(made) < wanted:
            line = self._line(SECONDS + 2)
            told = _object(line)
            if told is not None and isinstance(told.get("missing"), str):
                return told["missing"]
            attempt = wire.read(line) if line else None
            if attempt is None:  # it hung, it ended, or it wrote something else
                error = "it ended Python" if line == "" else "it was still running when its time was over"
                error = "it sent something that is no result" if line else error
                self.stop()
                return made + [Attempt("stopped", error=error)] * (wanted - len(made))
            made.append(attempt)
        if (_object(self._line(SECONDS)) or {}).get("end") is not True:
            self.stop()  # what else it has to say belongs to no question
        return made

    def stop(self) -> None:
        """End the process and whatever it started."""
        if self.process is None:
            return
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process = None
        if self.folder is not None:
            self.folder.cleanup()
            self.folder = None

    def _start(self) -> bool:
        self.folder = tempfile.TemporaryDirectory(prefix="exercises-")
        environment = {k: v for k, v in os.environ.items() if not self.guarded or k in _NEEDED}
        environment |= {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8"}
        if self.guarded:
            environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HOME": self.folder.name}
            environment |= {"PYTHONDONTWRITEBYTECODE": "1", "MPLCONFIGDIR": self.folder.name}
        try:
            self.process = self._process(environment)
        except OSError:
            self.folder.cleanup()
            return False
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_listen, args=(self.process.stdout, self.lines), daemon=True).start()
        self._send(self.begin)
        if (_object(self._line(30.0)) or {}).get("loaded") is None:
            self.stop()
            return False
        return True

    def _process(self, environment: dict[str, str]) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "exercises.child"], cwd=self.folder.name if self.guarded else ROOT, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if self.guarded else None,
            text=True, encoding="utf-8", errors="replace", start_new_session=os.name == "posix",
        )  # fmt: skip

    def _send(self, question: dict[str, Any]) -> None:
        with contextlib.suppress(OSError, ValueError):  # it has ended; the answer will say so
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()

    def _line(self, seconds: float) -> str | None:
        """The next line; "" when the process has ended, None when time is over."""
        try:
            return self.lines.get(timeout=seconds)
        except queue.Empty:
            return None


_NEEDED = {"PATH", "LANG", "LC_ALL", "SYSTEMROOT", "TEMP", "TMP", "LD_LIBRARY_PATH", "VIRTUAL_ENV"}


def _listen(stream: Any, lines: "queue.Queue[str]") -> None:
    try:
        while line := stream.readline(LONGEST):
            lines.put(line)
    except ValueError:  # closed meanwhile
        pass
    lines.put("")


def _object(line: str | None) -> dict[str, Any] | None:
    try:
        found = json.loads(line or "")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
