"""Read a pickle without running it: its opcodes build plain values, and the few names it may mention are only looked up.

A pickle is a program for a small stack machine, and two of its opcodes, GLOBAL and REDUCE, import and call whatever the
file says. Here the machine is our own. GLOBAL gives a name and imports nothing; REDUCE, NEWOBJ and BUILD know what to
make of the names in a table, and refuse all others. The opcodes are those of Python's `pickletools`.
"""

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_BYTES, MAX_OPCODES = 1 << 25, 400_000  # 40 opcodes and 150 bytes describe a tensor
MAX_ARGUMENTS = 8
VALUES = {
    "INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
NEW = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": set}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle mentions; it stays a name."""

    name: str


class Table(dict):
    """An OrderedDict of the pickle: a dict, whose further attributes (`_metadata`) are dropped."""


class Namespace(dict):
    """An argparse.Namespace of the pickle: its attributes as a dict."""


SETS = ("builtins.set", "builtins.frozenset")
OBJECTS = {"collections.OrderedDict": Table, "argparse.Namespace": Namespace}


class Refused(Exception):
    """Why a pickle is not read; the caller adds the file's name."""


def unpickle(
    data: bytes, calls: Mapping[str, Callable], known: frozenset[str], persistent: Callable[[Any], Any]
) -> Any:
    """The value of a pickle: dicts, lists, tuples, sets, texts and numbers, and what `calls` and `persistent` make.

    `calls` are our own functions by the names that the pickle uses; names in `known` may be mentioned and are not called.
    Raises `Refused` for every other name or opcode, and for a damaged pickle; time and memory stay in proportion to its
    length, because nothing in it can ask for more than its own bytes hold.
    """
    if len(data) > MAX_BYTES:
        raise Refused(f"its pickle has {len(data)} bytes; 150 describe a tensor")
    machine = _Machine(calls, persistent, {*calls, *known, *OBJECTS, *SETS})
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count >= MAX_OPCODES:
                raise Refused(f"its pickle has more than {MAX_OPCODES} opcodes; 40 describe a tensor")
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, argument)
    except (ValueError, OverflowError, struct.error) as error:
        raise Refused(f"damaged pickle: {error}") from error
    except (IndexError, KeyError, TypeError) as error:  # an empty stack, an unset memo, a wrong kind of value
        raise Refused(f"damaged pickle: an opcode finds no value that suits it ({error})") from error
    raise Refused("damaged pickle: it has no end")


class _Machine:
    """A stack of values, the stacks below each MARK, and a memo of values that are mentioned again."""

    def __init__(self, calls: Mapping[str, Callable], persistent: Callable[[Any], Any], known: set[str]) -> None:
        self.stack: list = []
        self.below: list[list] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0
        self.calls, self.persistent, self.known = calls, persistent, known

    def step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        if opcode in ("PROTO", "FRAME"):
            pass
        elif opcode in VALUES:
            stack.append(argument)
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif opcode in CONSTANTS:
            stack.append(CONSTANTS[opcode])
        elif opcode in NEW:
            stack.append(NEW[opcode]())
        elif opcode == "MARK":
            self.below.append(stack)
            self.stack = []
        elif opcode == "TUPLE":
            items = self.since_mark()
            self.stack.append(tuple(items))
        elif opcode in TUPLES:
            stack[-TUPLES[opcode] :] = [tuple(self.last(TUPLES[opcode]))]
        elif opcode in ("LIST", "DICT", "FROZENSET"):
            items = self.since_mark()
            self.stack.append(
                items if opcode == "LIST" else self.set_of(items) if opcode == "FROZENSET" else _put({}, items)
            )
        elif opcode in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"):
            items = self.since_mark() if opcode.endswith("S") else self.drop(2 if opcode == "SETITEM" else 1)
            self.extend(self.stack[-1], items, opcode)
        elif opcode == "GLOBAL":
            stack.append(self.look_up(*argument.split(" ", 1)))
        elif opcode == "STACK_GLOBAL":
            stack.append(self.look_up(*self.drop(2)))
        elif opcode == "BINPERSID":
            stack.append(self.persistent(*self.drop(1)))
        elif opcode == "REDUCE":
            stack.append(self.call(*self.drop(2)))
        elif opcode == "NEWOBJ":
            kind, arguments = self.drop(2)
            if not isinstance(kind, Name) or kind.name not in OBJECTS or arguments != ():
                raise Refused(f"its pickle makes an object of {_shown(kind)}, which is not allowed")
            stack.append(OBJECTS[kind.name]())
        elif opcode == "BUILD":
            (state,) = self.drop(1)
            self.set_attributes(stack[-1], state)
        else:
            raise Refused(f"its pickle uses the opcode {opcode}, which no file of weights needs")

    def last(self, count: int) -> list:
        if count > len(self.stack):
            raise IndexError("the stack is empty")
        return self.stack[-count:]

    def drop(self, count: int) -> list:
        items = self.last(count)
        del self.stack[-count:]
        return items

    def since_mark(self) -> list:
        items, self.stack = self.stack, self.below.pop()
        return items

    def extend(self, target: Any, items: list, opcode: str) -> None:
        kind = {"A": list, "S": dict}[opcode[0]] if opcode != "ADDITEMS" else set
        if not isinstance(target, kind):
            raise TypeError(f"{opcode} meets {_shown(target)}")
        if kind is list:
            target.extend(items)
        elif kind is set:
            target |= self.set_of(items)
        else:
            _put(target, items)

    def look_up(self, module: Any, name: Any) -> Name:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name is not text")
        full = f"{module}.{name}".replace("__builtin__.", "builtins.")  # as Python 2 called it
        if full not in self.known:
            raise Refused(
                f"its pickle asks for {full[:200]!r}; only tensors, plain containers and argparse.Namespace are read, "
                "nothing is imported or called. If you trust the file, open it with PyTorch and save its state_dict alone"
            )
        return Name(full)

    def call(self, function: Any, arguments: Any) -> Any:
        name = function.name if isinstance(function, Name) else ""
        if not isinstance(arguments, tuple) or len(arguments) > MAX_ARGUMENTS:
            raise TypeError("arguments are not a short tuple")
        if name in self.calls:
            return self.calls[name](*arguments)
        if name in SETS:
            return self.set_of(*arguments)
        if name == "collections.OrderedDict" and arguments == ():
            return Table()
        raise Refused(f"its pickle calls {_shown(function)}, which is not allowed")

    def set_of(self, items: Any) -> set:
        if not isinstance(items, list | tuple) or not all(map(_plain_key, items)):
            raise Refused("a set in its pickle holds more than texts and numbers")
        self.copied += len(items)
        if self.copied > MAX_OPCODES:  # a long list is written once, and could be made a set many times
            raise Refused("the sets in its pickle are too many and too large")
        return set(items)

    def set_attributes(self, target: Any, state: Any) -> None:
        if not isinstance(target, Table | Namespace) or not isinstance(state, dict):
            raise Refused(f"its pickle sets attributes of {_shown(target)}, which is not allowed")
        if isinstance(target, Namespace):
            target.update(state)


def _put(table: dict, items: list) -> dict:
    """Add keys and values, which alternate in `items`; a key is a text or a number, and comes once."""
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not _plain_key(key):
            raise Refused(f"a dict in its pickle has {_shown(key)} as a key")
        if key in table:
            raise Refused(f"a dict in its pickle has the key {str(key)[:100]!r} twice")
        table[key] = value
    return table


def _plain_key(key: Any) -> bool:
    """Whether it may be hashed: a deep tuple would exhaust the C stack, and a huge number is not hashed once but always."""
    return type(key) in (str, float, bool) or (type(key) is int and abs(key) < 2**63)


def _shown(value: Any) -> str:
    return repr(value.name) if isinstance(value, Name) else f"a {type(value).__name__}"
