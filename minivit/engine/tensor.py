"""Tensor: an array that remembers how it was made; `@op`, which writes the memory; `backward()`, which reads it."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from minivit.engine import backend as backends
from minivit.engine.backend import Array, Backend
from minivit.engine.errors import DeviceError, DTypeError, GraphError, ShapeError, did_you_mean, misuse

recording: ContextVar[bool] = ContextVar("recording", default=True)
watchers: ContextVar[tuple] = ContextVar("watchers", default=())  # anomaly mode, profiler, ONNX export
module_path: ContextVar[tuple[str, ...]] = ContextVar(
    "module_path", default=()
)  # ("blocks", "0", "attn") while it runs

registry: dict[str, Callable] = {}  # every operation by name; the tests check the gradient of each


class Node:
    """One recorded operation: what it was, what it was made from, and how its gradient flows back.

    It holds no array but those that its vjp captured, and not its output, so a dropped graph is freed at once.
    """

    __slots__ = ("name", "parents", "vjp", "shape", "dtype", "origin", "__weakref__")

    def __init__(self, name: str, parents: tuple, vjp: Callable, shape: tuple[int, ...], dtype: Any):
        self.name = name
        self.parents = parents  # for each operand: its Node, or the leaf Tensor itself, or None (no gradient)
        self.vjp = vjp
        self.shape = shape
        self.dtype = dtype
        self.origin = None  # where it was called; filled in by anomaly mode


class Tensor:
    """An array that remembers how it was made.

    Lists and numbers become float32 on the default backend; arrays keep their dtype and place. With
    `requires_grad=True`, `backward()` on a result fills `grad`, an array of the same shape.
    Raises `DTypeError` for a gradient of integers, `ShapeError` for a ragged list.
    """

    __slots__ = ("data", "grad", "requires_grad", "node", "name", "__weakref__")
    __array_ufunc__ = None  # so that `ndarray + tensor` calls our __radd__

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None):
        self.data = as_array(data, dtype)
        if requires_grad and self.data.dtype.kind != "f":
            raise DTypeError(f"requires_grad=True needs floating-point numbers, got {self.data.dtype}")
        self.grad: Array | None = None
        self.requires_grad = requires_grad
        self.node: Node | None = None
        self.name: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def backend(self) -> str:
        """`"numpy"` or `"cupy"`."""
        return backends.backend_of(self.data).name

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array (shared with this tensor where it lives in ordinary memory)."""
        return backends.to_numpy(self.data)

    def item(self) -> float:
        """The only value, as a Python number. Raises `ShapeError` if there are several."""
        if self.size != 1:
            raise ShapeError(f"item(): needs a tensor with one value, this one has shape {self.shape}")
        return self.data.item()

    def detach(self) -> "Tensor":
        """The same values without their history."""
        return Tensor(self.data)

    def to(self, backend: str) -> "Tensor":
        """This tensor if it is on `"numpy"` or `"cupy"` already, else a new leaf there. Raises `GraphError` inside a graph."""
        target = backends.get_backend(backend)
        if backends.backend_of(self.data) is target:
            return self
        if self.node is not None:
            raise GraphError(f"to({backend!r}) would cut the graph here: move its leaves instead, or detach() first")
        return Tensor(target.from_host(self.numpy()), requires_grad=self.requires_grad)

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def backward(self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add d self / d leaf to `.grad` of every leaf that requires it (times `gradient`, of this tensor's shape).

        The graph is freed unless `retain_graph`. Raises `GraphError` where there is no graph, where it was already
        used, or for a second derivative (`create_graph`), which this engine does not have.
        """
        if create_graph:
            raise GraphError(
                "backward(create_graph=True): this engine has first derivatives only (no gradient of a gradient)"
            )
        for leaf, g in gradients(self, gradient, retain_graph).values():
            leaf.grad = g.copy() if leaf.grad is None else backends.backend_of(g).asarray(leaf.grad + g)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise ShapeError("len(): a tensor of shape () has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"a tensor of shape {self.shape} is neither true nor false: reduce it to one value first, "
                "as in (a == b).min() for all or .max() for any"
            )
        return bool(self.data.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __array__(self, *args, **kwargs):
        raise DeviceError("a Tensor is not converted to NumPy silently: write tensor.numpy() (or .detach().numpy())")

    def __array_function__(self, function, types, args, kwargs):
        name = function.__name__
        ours = f"tensor.{name}(…)" if hasattr(Tensor, name) else f"mv.{name}(…)" if name in registry else ""
        raise DeviceError(f"np.{name} does not take Tensors: use {ours + ', or pass ' if ours else ''}tensor.numpy()")

    def __repr__(self) -> str:
        made = f", from {self.node.name}" if self.node else ""
        grad = ", requires_grad" if self.requires_grad and not self.node else ""
        name = f"{self.name}: " if self.name else ""
        values = np.array2string(self.numpy(), precision=4, threshold=60, edgeitems=3, prefix="  ")
        return f"Tensor({name}{self.shape} {self.dtype} on {self.backend}{made}{grad}\n  {values})"

    def __getattr__(self, name: str):  # only called when nothing was found
        home = {"minivit.engine.ops": "mv.ops", "minivit.engine.fused": "mv.fused"}.get(
            getattr(registry.get(name), "__module__", "")
        )
        hint = f"; it is a function: {home}.{name}(tensor)" if home else did_you_mean(name, dir(Tensor))
        raise AttributeError(f"a Tensor has no attribute {name!r}{hint}")


def as_array(data: Any, dtype: Any = None) -> Array:
    """The array behind a Tensor, an array as it is, or numbers and lists as float32 on the default backend."""
    if isinstance(data, Tensor):
        data = data.data
    if isinstance(data, np.generic):
        data = np.asarray(data)
    if not backends.is_array(data):
        return backends.default_backend().from_host(host_numbers(data).astype(np.float32 if dtype is None else dtype))
    if data.dtype.kind not in "fiub":
        raise DTypeError(f"cannot make a tensor of {data.dtype} values: real numbers are needed")
    return data if dtype is None else data.astype(dtype, copy=False)


def host_numbers(data: Any) -> np.ndarray:
    """Numbers or lists of them as a NumPy array. Raises `ShapeError` for ragged lists, `DTypeError` for other things."""
    kind = type(data).__name__
    if isinstance(data, (list, tuple)) and any(isinstance(x, Tensor) for x in data):
        raise DTypeError(f"cannot make a tensor of a {kind} of Tensors: join them with mv.stack or mv.concatenate")
    try:
        host = np.asarray(data)
    except ValueError as error:
        raise ShapeError(f"cannot make a tensor of this {kind}: its rows have different lengths") from error
    if host.dtype.kind not in "fiub":
        raise DTypeError(f"cannot make a tensor of {data!r:.40}: real numbers are needed")
    return host


def raw(x: Any) -> Any:
    """The array behind a Tensor; anything else unchanged."""
    return x.data if isinstance(x, Tensor) else x


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Record nothing inside: for evaluation, and for updating parameters."""
    token = recording.set(False)
    try:
        yield
    finally:
        recording.reset(token)


def op(function: Callable) -> Callable:
    """Turn `f(xp, *arrays, **static) -> (value, vjp)` over plain arrays into an operation over Tensors.

    `vjp(g)` gets the gradient of the output and returns a tuple with the gradient of each array, `None` where there is
    none. A function that takes `needs` is told which operands require a gradient. A list of tensors as the only operand
    (`concatenate`) is flattened. Python numbers are passed as they are, and so adopt the arrays' dtype.
    """
    name = function.__name__.lstrip("_")
    parameters = inspect.signature(function).parameters
    wants_needs = "needs" in parameters
    takes_list = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())

    @functools.wraps(function)
    def call(*operands: Any, **static: Any) -> Tensor:
        if takes_list and len(operands) == 1 and isinstance(operands[0], (list, tuple)):
            operands = tuple(operands[0])
        # A NumPy float64 scalar would turn float32 arrays into float64.
        static = {k: v.item() if isinstance(v, np.generic) else v for k, v in static.items()}
        arrays = [_operand(x) for x in operands]
        xp = _common_backend(name, operands, arrays)
        _check_dtypes(name, operands, arrays)
        record = recording.get()
        needs = tuple(record and isinstance(x, Tensor) and x.requires_grad for x in operands)
        if wants_needs:
            static["needs"] = needs

        def compute():
            try:
                value, vjp = _run(function, xp, arrays, static)
            except (ValueError, IndexError, TypeError, AttributeError) as error:
                clearer = misuse(error, name, parameters, operands, static, module_path.get())
                if clearer is None:
                    raise
                raise clearer from error
            return xp.asarray(value), vjp  # NumPy's arithmetic turns 0-d arrays into scalars

        for watcher in watchers.get():
            compute = functools.partial(watcher.forward, name, operands, static, compute)
        value, vjp = compute()
        kinds = {a.dtype.kind for a in arrays if backends.is_array(a)}
        if value.dtype.kind == "f" and kinds and "f" not in kinds and name != "astype":
            raise DTypeError(f"{name}: whole numbers would become {value.dtype}; convert with .astype('float32') first")
        result = Tensor(value)
        if any(needs) and value.dtype.kind == "f":  # whole numbers have no gradient
            parents = tuple((x.node or x) if needed else None for x, needed in zip(operands, needs, strict=True))
            result.node = Node(name, parents, vjp, value.shape, value.dtype)
            result.requires_grad = True
            for watcher in watchers.get():
                watcher.recorded(result.node)
        return result

    call.__signature__ = inspect.Signature([p for p in parameters.values() if p.name not in ("xp", "needs")])
    registry[name] = call
    return call


def _run(function: Callable, xp: Backend, arrays: list, static: dict) -> tuple:
    """The operation as it is written, or its CUDA twin where the backend has one that takes these operands."""
    twin = xp.kernels.TWINS.get(function) if xp.kernels else None
    found = NotImplemented if twin is None else twin(xp, *arrays, **static)
    return function(xp, *arrays, **static) if found is NotImplemented else found


def _operand(x: Any) -> Any:
    """What an operation computes with: an array, or a Python number, which adopts the other operands' dtype."""
    if isinstance(x, Tensor):
        return x.data
    if isinstance(x, np.generic):
        return x.item()  # a NumPy float64 scalar would turn float32 into float64
    if isinstance(x, (int, float)) or backends.is_array(x):
        return x
    return as_array(x)


def _common_backend(name: str, operands: tuple, arrays: list) -> Backend:
    """The one backend of all operands. Raises `DeviceError` where they live in different places."""
    found = [(i, backends.backend_of(a)) for i, a in enumerate(arrays) if backends.is_array(a)]
    if not found:
        xp = backends.default_backend()
        arrays[:] = [xp.from_host(a, np.float32) for a in arrays]
        return xp
    xp = found[0][1]
    if any(other is not xp for _, other in found):
        places = ", ".join(f"operand {i} {arrays[i].shape} is on {place.name}" for i, place in found)
        raise DeviceError(f"{name}: {places}; move one with .to(...), or the whole model with model.to(...)")
    return xp


def _check_dtypes(name: str, operands: tuple, arrays: list) -> None:
    """Arrays that compute together have one dtype: raises `DTypeError` rather than converting silently."""
    dtypes = [a.dtype for a in arrays if hasattr(a, "dtype")]
    if any(d != dtypes[0] for d in dtypes[1:]):
        kinds = ", ".join(f"operand {i} {a.shape} is {a.dtype}" for i, a in enumerate(arrays) if hasattr(a, "dtype"))
        raise DTypeError(f"{name}: {kinds}; convert one with .astype(...): minivit never changes a dtype silently")


def gradients(root: Tensor, gradient: Any = None, retain_graph: bool = False) -> dict[int, tuple[Tensor, Array]]:
    """d root / d leaf for every leaf that requires it: `{id(leaf): (leaf, array)}`, touching no `.grad`.

    `gradient` is the gradient of `root` itself, of its shape; without one, `root` must have a single value.
    """
    if not root.requires_grad:
        raise GraphError(
            "backward(): nothing here requires a gradient; was it computed under no_grad(), detached, "
            "or from plain arrays?"
        )
    xp = backends.backend_of(root.data)
    if gradient is None:
        if root.size != 1:
            raise GraphError(
                f"backward(): the result has shape {root.shape}, not one value; reduce it (.sum(), .mean()), "
                "or pass gradient=... of that shape"
            )
        seed = xp.ones(root.shape, root.dtype)
    else:
        seed = raw(gradient)
        seed = seed if backends.is_array(seed) else xp.from_host(seed, root.dtype)
        if backends.backend_of(seed) is not xp:
            place = backends.backend_of(seed).name
            raise DeviceError(f"backward(gradient=…): the gradient is on {place}, the result on {xp.name}")
        if seed.shape != root.shape:
            raise ShapeError(f"backward(gradient=…): the gradient has shape {seed.shape}, the result {root.shape}")
        if seed.dtype != root.dtype:
            raise DTypeError(f"backward(gradient=…): the gradient is {seed.dtype}, the result {root.dtype}")
    start = root.node or root
    pending = {id(start): seed}  # gradients of nodes whose consumers are all done; nothing interior outlives its turn
    found: dict[int, tuple[Tensor, Array]] = {}
    watching = watchers.get()
    for node in reversed(topological_order(start)):
        g = pending.pop(id(node), None)
        if g is None:
            continue
        if isinstance(node, Tensor):
            found[id(node)] = (node, g)
            continue
        if node.vjp is None:
            raise GraphError(
                f"backward(): this graph was already used (at {node.name}); run the forward pass again, "
                "or call backward(retain_graph=True) the first time"
            )
        vjp = functools.partial(_contributions, xp, node, g)
        for watcher in watching:
            vjp = functools.partial(watcher.backward, node, vjp)
        for parent, contribution in zip(node.parents, vjp(), strict=True):
            if parent is None or contribution is None:
                continue
            if contribution.shape != parent.shape:
                raise ShapeError(
                    f"the vjp of {node.name} returned a gradient of shape {contribution.shape} for an operand of shape "
                    f"{parent.shape}; was a broadcast axis summed back (unbroadcast)?"
                )
            earlier = pending.get(id(parent))
            pending[id(parent)] = contribution if earlier is None else xp.asarray(earlier + contribution)
        if not retain_graph:
            node.vjp = None  # frees what it captured, here and now
    return found


def _contributions(xp: Backend, node: Node, g: Array) -> tuple:
    """What the vjp of a node gives each operand, as arrays (NumPy's arithmetic turns 0-d arrays into scalars)."""
    found = node.vjp(g)
    if not isinstance(found, tuple) or len(found) != len(node.parents):
        got = f"a tuple of {len(found)}" if isinstance(found, tuple) else type(found).__name__
        n = len(node.parents)
        raise GraphError(f"the vjp of {node.name} must return a tuple of {n}, one gradient for each operand; got {got}")
    return tuple(None if c is None else xp.asarray(c) for c in found)


def topological_order(start: Any) -> list:
    """Every node and leaf that `start` depends on, operands before results; a loop, so that no graph is too deep."""
    order, seen, stack = [], {id(start)}, [(start, _parents(start))]
    while stack:
        node, parents = stack[-1]
        for parent in parents:
            if parent is not None and id(parent) not in seen:
                seen.add(id(parent))
                stack.append((parent, _parents(parent)))
                break
        else:
            order.append(node)
            stack.pop()
    return order


def _parents(node: Any) -> Iterator:
    return iter(node.parents if isinstance(node, Node) else ())


def unbroadcast(g: Array, shape: tuple[int, ...] | None) -> Array | None:
    """Sum a gradient back to the shape that was broadcast: a value used n times receives the sum of n gradients.

    `None` stands for a Python number, which has no gradient.
    """
    if shape is None or g.shape == shape:
        return None if shape is None else g
    lead = g.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(lead + i for i, n in enumerate(shape) if n == 1 and g.shape[lead + i] != 1)
    return g.sum(axis=axes).reshape(shape)


def shape_of(x: Any) -> tuple[int, ...] | None:
    """The shape of an array, or `None` for a Python number."""
    return getattr(x, "shape", None)
