"""What the process that runs a stranger's code forbids itself. It makes cheating work, not impossible: see the teacher's page.

Marks do not depend on it: they are made in another process, from values that this one sends.
"""

import contextlib
import os
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# what a solution never needs: other programs, the network, memory by address, files of others
FORBIDDEN = (
    "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "os.forkpty", "os.startfile", "pty.spawn",
    "subprocess.Popen", "os.kill", "os.killpg", "signal.pthread_kill", "socket.", "ctypes.", "os.remove", "os.rename", "os.rmdir",
    "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate", "shutil.", "gc.get_objects", "gc.get_referrers", "sys.addaudithook",
    "webbrowser.open", "sys.settrace", "sys.setprofile", "code.__new__", "mmap.__new__",
)  # fmt: skip


def limit(seconds: float, megabytes: int) -> None:
    """Limits of the system: processor time, memory, processes, size and number of files. Nothing on Windows."""
    try:
        import resource
    except ImportError:
        return
    wanted = {
        "RLIMIT_CPU": int(seconds) + 1, "RLIMIT_AS": megabytes << 20, "RLIMIT_NPROC": 0, "RLIMIT_FSIZE": 1 << 20,
        "RLIMIT_NOFILE": 64, "RLIMIT_CORE": 0,
    }  # fmt: skip
    for name, value in wanted.items():
        with contextlib.suppress(ValueError, OSError, AttributeError):  # a system may refuse some (macOS: memory)
            resource.setrlimit(getattr(resource, name), (value, value))


def watch(folder: str) -> None:
    """From here on, for as long as the process lives: no other programs, no network, no files but Python's and `folder`."""
    inside = os.path.realpath(folder) + os.sep
    ours = tuple(
        str(p.resolve()) + os.sep for p in (Path(__file__).parent, Path(sys.modules["minivit"].__file__).parent)
    )
    python = tuple({os.path.realpath(p) + os.sep for k, p in sysconfig.get_paths().items() if k.endswith("lib")})
    realpath, fspath, startswith, forbidden = os.path.realpath, os.fspath, str.startswith, FORBIDDEN
    devnull, fsdecode, isinstance_ = os.devnull, os.fsdecode, isinstance

    def refuse(what: str) -> None:
        raise PermissionError(f"{what} is not allowed while homework is graded")

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = given
            if isinstance_(path, int):
                return
            where = realpath(fsdecode(fspath(path)))
            writing = (flags or 0) & (os_write) if isinstance_(flags, int) else False
            if startswith(where, inside) or where == devnull:
                return
            if writing or startswith(where, ours) or not startswith(where, python):
                refuse(f"opening {where}")
        elif startswith(event, forbidden):
            refuse(event)
        elif event in ("os.listdir", "os.scandir") and given[0] is not None and not isinstance_(given[0], int):
            where = realpath(fsdecode(fspath(given[0]))) + "/"
            if startswith(where, ours) or not startswith(where, (inside, *python)):
                refuse(f"listing {where}")

    os_write = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    sys.addaudithook(hook)


@contextlib.contextmanager
def without(names: tuple[str, ...]) -> Iterator[None]:
    """Inside, functions of the library that are the exercise's answer say so instead of answering."""
    kept: list[tuple[types.ModuleType, str, Any]] = []
    for module in [m for key, m in sys.modules.items() if key == "minivit" or key.startswith("minivit.")]:
        for name in names:
            if name in vars(module):
                kept.append((module, name, vars(module)[name]))
                setattr(module, name, _refusal(name))
    try:
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)


def _refusal(name: str) -> Any:
    def answer(*_: Any, **__: Any) -> None:
        raise PermissionError(f"minivit's own {name} is what this exercise asks for")

    return answer
