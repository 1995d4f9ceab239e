"""Another process, which runs somebody's code: it gets names of exercises and sends back what their functions returned.

Started by runner.py. Lines of JSON come in on stdin, lines of JSON go out on what was stdout; prints go to stderr. It holds no
marks and no expected values, and its word on being right is neither asked for nor heard.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve until stdin ends. The first line says what to load and under which limits."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    begin = json.loads(sys.stdin.readline())
    requests = sys.stdin
    sys.stdin = io.StringIO()  # nobody is there to answer input()

    from exercises import calling, guard, sources, wire
    from exercises.manifest import add, exercise

    for folder in begin["extra"]:
        add(Path(folder))
    if begin["guarded"]:
        guard.limit(begin["seconds"], begin["megabytes"])
        for name in begin["tasks"]:
            _ = exercise(name).workshop, exercise(name).answer  # loaded now; nobody can read them later
        guard.hide()
        guard.watch(os.getcwd(), tuple(map(Path, begin["extra"])))

    loaded = {file: sources.load(text, file) for file, text in begin["files"].items()}

    def send(line: str) -> None:
        answers.write(line + "\n")
        answers.flush()

    send(json.dumps({"loaded": {file: sorted(found.functions) for file, found in loaded.items()}}))
    for line in requests:
        asked: dict[str, Any] = json.loads(line)
        task = exercise(asked["task"])
        holders = [(f, found) for f, found in loaded.items() if task.id in found.functions]
        if not holders:
            told = [found.why_not(task.id, file) for file, found in loaded.items() if asked["file"] in ("", file)]
            send(json.dumps({"missing": next((t for t in told if "has no" not in t), told[0] if told else "")}))
            continue
        chosen = next((found for file, found in holders if file == asked["file"]), holders[-1][1])
        function = chosen.functions[task.id]
        given = calling.cases(task, asked["seed"])
        with guard.without(task) if begin["guarded"] else contextlib.nullcontext():
            for attempt in calling.calls(task, function, given):
                send(wire.write(attempt))
        send(json.dumps({"end": True}))


if __name__ == "__main__":
    main()
