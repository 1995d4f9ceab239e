"""Attempts to forge a mark, each a submission: {name: (text, what becomes of it)}.

`softmax` is what most of them want to be paid for. "no marks": it earns nothing. "honest": it earns nothing it does not
deserve, because the values that come back are compared elsewhere. What none of this can stop is told on the teacher's page.
"""

HEAD = "import numpy as np\nimport minivit as mv\n"

ATTACKS = {
    "prints a result": 'def softmax(x):\n    print(\'{"status": "returned", "result": 1, "error": "", "changed": null}\')\n',
    "writes lines to every open file": """
import os
line = b'{"status": "returned", "result": 1.0, "error": "", "changed": null, "shares": false}\\n{"end": true}\\n'
def softmax(x):
    for number in range(3, 20):
        try:
            os.write(number, line * 8)
        except OSError:
            pass
    return 0
""",
    "writes results files": """
def softmax(x):
    for path in ("results.json", "../results.json", "/autograder/results/results.json", "grades.json"):
        try:
            open(path, "w").write('{"score": 100}')
        except OSError:
            pass
    return 0
""",
    "leaves with success": "import os\ndef softmax(x):\n    os._exit(0)\n",
    "leaves with sys.exit": "import sys\ndef softmax(x):\n    sys.exit(0)\n",
    "leaves while loading": "import os\nos._exit(0)\ndef softmax(x):\n    return x\n",
    "patches numpy's comparison": """
import numpy as np
np.isclose = lambda *a, **k: np.True_
np.allclose = np.array_equal = lambda *a, **k: True
def softmax(x):
    return np.zeros(x.shape)
""",
    "patches time": "import time\ntime.sleep = time.perf_counter = lambda *a: 0\ndef softmax(x):\n    return 0\n",
    "patches the checker": """
import sys
for name, module in list(sys.modules.items()):
    if "check" in name or "exercises" in name or "pytest" in name:
        for key in list(vars(module)):
            if callable(getattr(module, key)):
                setattr(module, key, lambda *a, **k: True)
def softmax(x):
    return 0
""",
    "an object that equals everything": """
class Right:
    def __eq__(self, other): return True
    def __array__(self, *a, **k): raise TypeError
def softmax(x):
    return Right()
""",
    "an array that lies about itself": """
import numpy as np
class Right(np.ndarray):
    def __array_function__(self, *a, **k): return True
    def __eq__(self, other): return np.True_
def softmax(x):
    return np.zeros(x.shape).view(Right)
""",
    "walks the frames": """
import sys
def softmax(x):
    frame = sys._getframe()
    while frame:
        for value in frame.f_locals.values():
            answer = getattr(value, "answer", None)
            if answer:
                return answer(x)
        frame = frame.f_back
""",
    "walks the frames of an exception": """
def softmax(x):
    try:
        raise ValueError
    except ValueError as error:
        frame = error.__traceback__.tb_frame
        while frame:
            for value in frame.f_locals.values():
                answer = getattr(value, "answer", None)
                if answer:
                    return answer(x)
            frame = frame.f_back
""",
    "searches all objects": """
import gc
def softmax(x):
    for thing in gc.get_objects():
        if getattr(thing, "__name__", "") == "softmax" and "composed" in getattr(thing, "__module__", ""):
            return thing(x)
""",
    "calls the library's answer": HEAD + "def softmax(x):\n    return mv.softmax(x)\n",
    "imports the library's answer": "def softmax(x):\n    from minivit.engine.composed import softmax as s\n    return s(x)\n",
    "imports it by importlib": """
import importlib
def softmax(x):
    return importlib.import_module("minivit.engine.composed").softmax(x)
""",
    "imports the workshop": """
def cross_entropy(logits, labels):
    from exercises.workshop.ch04 import cross_entropy as answer
    return answer(logits, labels)
""",
    "reads the answer's file": """
import minivit.engine.composed as c
def softmax(x):
    text = open(c.__file__).read()
    scope = {}
    exec(text, scope)
    return scope["softmax"](x)
""",
    "asks inspect for the source": """
import inspect, minivit as mv
def softmax(x):
    return eval(inspect.getsource(mv.composed.softmax))
""",
    "starts another Python": """
import subprocess, sys
def softmax(x):
    out = subprocess.run([sys.executable, "-c", "import minivit; print(1)"], capture_output=True, text=True).stdout
    return float(out)
""",
    "asks the shell": "import os\ndef softmax(x):\n    os.system('echo 1 > stolen')\n    return 0\n",
    "forks without end": "import os\ndef softmax(x):\n    while True:\n        os.fork()\n",
    "starts threads without end": """
import threading, time
def softmax(x):
    for _ in range(100000):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return 0
""",
    "eats memory": "import numpy as np\ndef softmax(x):\n    return np.ones((10**6, 10**5))\n",
    "eats memory in a list": "def softmax(x):\n    a = [0]\n    while True:\n        a = a + a\n",
    "never ends": "def softmax(x):\n    while True:\n        pass\n",
    "never ends and catches everything": """
import signal
def softmax(x):
    while True:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            while True:
                pass
        except BaseException:
            pass
""",
    "sleeps": "import time\ndef softmax(x):\n    time.sleep(1000)\n",
    "opens a connection": "import socket\ndef softmax(x):\n    socket.create_connection(('127.0.0.1', 80), 1)\n",
    "reads its neighbour": """
import pathlib
def softmax(x):
    for path in pathlib.Path("..").rglob("ch04.py"):
        scope = {}
        exec(path.read_text(), scope)
        return scope["softmax"](x)
""",
    "deletes files": """
import os, shutil
def softmax(x):
    shutil.rmtree(os.path.expanduser("~"), ignore_errors=True)
    os.remove(__file__)
""",
    "kills its parent": "import os, signal\ndef softmax(x):\n    os.kill(os.getppid(), signal.SIGKILL)\n",
    "calls memory by its address": "import ctypes\ndef softmax(x):\n    return ctypes.string_at(0)\n",
    "sends a pickle": """
import numpy as np, os
class Bomb:
    def __reduce__(self): return os.system, ("echo 1 > stolen",)
def softmax(x):
    return np.array([Bomb()], dtype=object)
""",
    "answers with a flood": "def softmax(x):\n    return ['a' * 10000] * 100000\n",
    "nests without end": "def softmax(x):\n    a = []\n    for _ in range(100000):\n        a = [a]\n    return a\n",
}  # fmt: skip
