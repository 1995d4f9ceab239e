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

import minivit
from exercises.manifest import Exercise, exercises

# what a solution never needs: other programs, the network, memory by address, files of others
FORBIDDEN = (
    "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "os.forkpty", "os.startfile", "pty.spawn",
    "subprocess.Popen", "os.kill", "os.killpg", "signal.pthread_kill", "socket.", "ctypes.", "os.remove", "os.rename", "os.rmdir",
    "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate", "shutil.", "gc.get_objects", "gc.get_referrers",
    "gc.get_referents", "sys.addaudithook", "webbrowser.open", "sys.settrace", "sys.setprofile", "code.__new__", "mmap.__new__",
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


def watch(folder: str, extra: tuple[Path, ...] = ()) -> None:
    """From here on, for as long as the process lives: no other programs, no network, no files but Python's and `folder`."""
    inside = os.path.realpath(folder) + os.sep
    own = (Path(__file__).parent, Path(sys.modules["minivit"].__file__).parent, *extra)
    ours = tuple(str(p.resolve()) + os.sep for p in own)
    python = tuple({os.path.realpath(p) + os.sep for k, p in sysconfig.get_paths().items() if k.endswith("lib")})
    # held here, where nobody can put something else in their place
    realpath, fspath, fsdecode, devnull = os.path.realpath, os.fspath, os.fsdecode, os.devnull
    startswith, endswith, isinstance_, forbidden = str.startswith, str.endswith, isinstance, FORBIDDEN

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
        elif event == "sys._getframe" or (event == "object.__getattr__" and endswith(given[1], "_frame")):
            raise ValueError("frames are not looked into while homework is graded")
        elif startswith(event, forbidden):
            refuse(event)
        elif event in ("os.listdir", "os.scandir") and given[0] is not None and not isinstance_(given[0], int):
            where = realpath(fsdecode(fspath(given[0]))) + "/"
            if startswith(where, ours) or not startswith(where, (inside, *python)):
                refuse(f"listing {where}")

    os_write = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    sys.addaudithook(hook)


def hide() -> None:
    """Take the exercises out of what can be imported; their files cannot be read once `watch` is on.

    The library loads its parts when they are first asked for; that must have happened before, too.
    """
    for name in dir(minivit):
        getattr(minivit, name)
    for name in [name for name in sys.modules if name.split(".")[0] == "exercises"]:
        del sys.modules[name]
    sys.modules["__main__"] = types.ModuleType("__main__")


@contextlib.contextmanager
def without(task: Exercise) -> Iterator[None]:
    """Inside, the answers of the chapter are gone, and what in the library would be the answer refuses to be one."""
    kept = [(task.workshop, name, vars(task.workshop)[name]) for name in exercises() if name in vars(task.workshop)]
    for module, name, _ in kept:
        delattr(module, name)
    for module in [m for key, m in sys.modules.items() if key.split(".")[0] == "minivit"]:
        for name in task.forbidden:
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
