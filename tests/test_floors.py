"""The house rules that no linter knows: who may import whom, what core may touch, how long is long.

A rule takes one module, parsed and never imported, and yields a sentence for every breach. Each is
applied to the whole package, then fed sources that break it: a rule that cannot fail holds nothing.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PACKAGE = "kademlia_node"
ROOT = Path(__file__).parent.parent

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 40

BOTTOM = ("errors", "rare", "settings")
HEIGHTS = dict.fromkeys(BOTTOM, 0) | {
    "core": 1,
    "secret": 2,
    "store": 2,
    "net": 3,
    "node": 4,
    "sim": 4,  # stands beside the house: builds on nodes, and only sim itself imports it
    "daemon": 5,
    "cli": 6,
}
ROOF = 7  # the package's own __init__ and __main__

# Of the standard library, core uses only what computes: no clock, chance, thread, file or socket.
PURE = frozenset(
    {"__future__", "base64", "binascii", "bisect", "collections", "contextlib", "copy"}
    | {
        "dataclasses",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "hmac",
        "ipaddress",
        "itertools",
        "json",
    }
    | {"math", "operator", "random", "re", "statistics", "string", "struct", "types", "typing"}
)
THIRD_PARTY_IN_CORE = frozenset({"cryptography", "msgpack"})
ACTING_BUILTINS = frozenset({"open", "print", "input", "breakpoint", "__import__", "exec", "eval"})

ONLY_IMPORTER = {
    "aioudp": f"{PACKAGE}.net.udp",
    "ifaddr": f"{PACKAGE}.net.lan",
    "rich": f"{PACKAGE}.cli.view",
    "zeroconf": f"{PACKAGE}.net.lan",
}


@dataclass(frozen=True)
class Module:
    """A dotted name and its source text; `tree` is the source, parsed."""

    name: str
    source: str
    tree: ast.Module = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tree", ast.parse(self.source, filename=self.name))


Rule = Callable[[Module], Iterator[str]]


def read_package() -> list[Module]:
    modules = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        modules.append(Module(name.removesuffix(".__init__"), path.read_text(encoding="utf-8")))
    return modules


def imports(tree: ast.AST) -> Iterator[str]:
    """All that is imported anywhere below, as `module`, `module.name` or, relatively, `.name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imports_for_types(tree: ast.AST) -> Iterator[str]:
    """Those of them that stand under `if TYPE_CHECKING:` and so never happen."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                yield from imports(statement)


def root(dotted: str) -> str:
    return dotted.partition(".")[0]


def floor(dotted: str) -> str:
    """`core` for `kademlia_node.core.ids`; empty for the package itself."""
    return dotted.partition(".")[2].partition(".")[0]


def imports_are_absolute(module: Module) -> Iterator[str]:
    for target in imports(module.tree):
        if target.startswith("."):
            yield f"{module.name} imports {target} relatively"


def imports_point_down(module: Module) -> Iterator[str]:
    own = floor(module.name)
    targets = Counter(imports(module.tree))
    if own in BOTTOM:  # errors name the types of what they carry
        targets -= Counter(imports_for_types(module.tree))
    for target in targets:
        if root(target) != PACKAGE:
            continue
        other = floor(target)
        if HEIGHTS.get(other, ROOF) > HEIGHTS.get(own, ROOF):
            yield f"{module.name} imports {target} from a floor above"
        if other == "sim" and own != "sim":
            yield f"{module.name} imports {target} from the simulator"


def core_imports_only_what_is_pure(module: Module) -> Iterator[str]:
    if floor(module.name) != "core":
        return
    for target in imports(module.tree):
        if root(target) == PACKAGE:
            pure = floor(target) in {*BOTTOM, "core"}
        else:
            pure = root(target) in PURE | THIRD_PARTY_IN_CORE
        if not pure:
            yield f"{module.name} imports {target}, which is not pure"


def core_leaves_chance_to_its_caller(module: Module) -> Iterator[str]:
    """`import random` for the type `random.Random`, and nothing else of that module."""
    if floor(module.name) != "core":
        return
    for node in ast.walk(module.tree):
        match node:
            case (
                ast.ImportFrom(module="random", lineno=line)
                | ast.alias(name="random", asname=str(), lineno=line)
            ):
                yield f"{module.name}:{line} imports from or renames random"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="random"))):
                yield f"{module.name}:{node.lineno} calls {ast.unparse(node.func)}"
            case ast.Attribute(value=ast.Name(id="random"), attr=attr) if attr != "Random":
                yield f"{module.name}:{node.lineno} uses random.{attr}"


def core_never_acts(module: Module) -> Iterator[str]:
    if floor(module.name) != "core":
        return
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in ACTING_BUILTINS:
                yield f"{module.name}:{node.lineno} calls {name}"
            case ast.AsyncFunctionDef() | ast.Await():
                yield f"{module.name}:{node.lineno} is asynchronous"


def libraries_have_one_importer(module: Module) -> Iterator[str]:
    for target in imports(module.tree):
        if ONLY_IMPORTER.get(root(target), module.name) != module.name:
            yield f"{module.name} imports {target}; only {ONLY_IMPORTER[root(target)]} may"


def modules_open_with_a_docstring(module: Module) -> Iterator[str]:
    if not ast.get_docstring(module.tree):
        yield f"{module.name} has no docstring"


def files_are_short(module: Module) -> Iterator[str]:
    lines = len(module.source.splitlines())
    if lines > FILE_LINES_MAX:
        yield f"{module.name} has {lines} lines"


def functions_are_short(module: Module) -> Iterator[str]:
    """From `def` to the last line, less the docstring."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = lines_of(node)
        if ast.get_docstring(node) is not None:
            lines -= lines_of(node.body[0])
        if lines > FUNCTION_LINES_MAX:
            yield f"{module.name}.{node.name} has {lines} lines"


def lines_of(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


RULES: list[Rule] = [
    imports_are_absolute,
    imports_point_down,
    core_imports_only_what_is_pure,
    core_leaves_chance_to_its_caller,
    core_never_acts,
    libraries_have_one_importer,
    modules_open_with_a_docstring,
    files_are_short,
    functions_are_short,
]

CLOCKS_AND_CHANCE = ["time", "datetime", "secrets", "uuid"]
DEEDS = ["asyncio", "os", "socket", "logging", "threading", "subprocess"]
ANNOTATION = "import random\ndef draw(rng: random.Random) -> int:\n    return rng.getrandbits(8)\n"
FOR_TYPES = (
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from kademlia_node.node import x\n"
)


def function_of(lines: int, docstring: str = "") -> str:
    """A function of so many lines, the docstring not among them."""
    return f"def f():\n{docstring}" + "    pass\n" * (lines - 1)


BREACHES: list[tuple[Rule, str, str]] = [
    (imports_are_absolute, "core.lookup", "from . import ids"),
    (imports_are_absolute, "core.lookup", "from .ids import point"),
    (imports_point_down, "errors", "import kademlia_node.core.ids"),
    (imports_point_down, "errors", FOR_TYPES + "from kademlia_node.node import x"),
    (imports_point_down, "core.ids", "from kademlia_node.store.base import Store"),
    (imports_point_down, "core.ids", "from kademlia_node import store"),
    (imports_point_down, "core.ids", "from kademlia_node import Node"),
    (imports_point_down, "core.ids", "import kademlia_node"),
    (imports_point_down, "core.ids", FOR_TYPES),
    (imports_point_down, "store.disk", "def f():\n    import kademlia_node.net.udp"),
    (imports_point_down, "net.udp", "import kademlia_node.node.walk"),
    (imports_point_down, "node.walk", "import kademlia_node.daemon"),
    (imports_point_down, "daemon.service", "import kademlia_node.cli.main"),
    (imports_point_down, "cli.main", "import kademlia_node.__main__"),
    (imports_point_down, "cli.demo", "from kademlia_node.sim import Swarm"),
    (imports_point_down, "__init__", "from kademlia_node import sim"),
    (imports_point_down, "sim.swarm", "import kademlia_node.daemon.service"),
    *(
        (core_imports_only_what_is_pure, "core.ids", f"import {name}")
        for name in CLOCKS_AND_CHANCE + DEEDS
    ),
    (core_imports_only_what_is_pure, "core.ids", "from os.path import join"),
    (core_imports_only_what_is_pure, "core.ids", "def f():\n    from time import time"),
    (core_imports_only_what_is_pure, "core.ids", "import click"),
    (core_imports_only_what_is_pure, "core.ids", "from kademlia_node.net import transport"),
    (core_leaves_chance_to_its_caller, "core.ids", "import random\nrandom.random()"),
    (core_leaves_chance_to_its_caller, "core.ids", "import random\nrng = random.Random(7)"),
    (core_leaves_chance_to_its_caller, "core.ids", "import random\npick = random.choice"),
    (core_leaves_chance_to_its_caller, "core.ids", "from random import choice"),
    (core_leaves_chance_to_its_caller, "core.ids", "import random as chance"),
    (core_never_acts, "core.ids", "open('/etc/passwd')"),
    (core_never_acts, "core.ids", "__import__('time')"),
    (core_never_acts, "core.ids", "async def f(): ..."),
    (libraries_have_one_importer, "net.exchange", "import aioudp"),
    (libraries_have_one_importer, "cli.main", "from rich.table import Table"),
    (libraries_have_one_importer, "node.nearby", "from zeroconf.asyncio import AsyncZeroconf"),
    (modules_open_with_a_docstring, "core.ids", "x = 1"),
    (modules_open_with_a_docstring, "core.ids", ""),
    (files_are_short, "core.ids", "\n" * (FILE_LINES_MAX + 1)),
    (functions_are_short, "core.ids", function_of(FUNCTION_LINES_MAX + 1)),
    (functions_are_short, "core.ids", "async " + function_of(FUNCTION_LINES_MAX + 1)),
    (functions_are_short, "core.ids", "class C:\n def g(self):\n  x = [\n" + "\n" * 40 + "]"),
]

ALLOWED: list[tuple[Rule, str, str]] = [
    (imports_point_down, "errors", FOR_TYPES),
    (imports_point_down, "core.codec", "from kademlia_node.errors import MalformedMessage"),
    (imports_point_down, "core.codec", "from kademlia_node.core import ids"),
    (imports_point_down, "cli.main", "from kademlia_node import daemon"),
    (imports_point_down, "__init__", "from kademlia_node.node.node import Node"),
    (imports_point_down, "sim.swarm", "from kademlia_node.node.node import Node"),
    (imports_point_down, "sim.swarm", "from kademlia_node.sim import clock"),
    (
        core_imports_only_what_is_pure,
        "core.ids",
        "import hashlib, msgpack, cryptography.exceptions",
    ),
    (core_imports_only_what_is_pure, "node.walk", "import asyncio"),
    (core_leaves_chance_to_its_caller, "core.ids", ANNOTATION),
    (core_never_acts, "core.session", "cipher.open(b'')"),
    (libraries_have_one_importer, "net.udp", "import aioudp"),
    (libraries_have_one_importer, "cli.view", "from rich.table import Table"),
    (files_are_short, "core.ids", "\n" * FILE_LINES_MAX),
    (functions_are_short, "core.ids", function_of(FUNCTION_LINES_MAX, '    """One.\n\nTwo."""\n')),
]


def test_the_whole_package_is_read() -> None:
    names = {module.name for module in read_package()}
    assert {PACKAGE + ".settings", PACKAGE + ".core", PACKAGE + ".net.transport"} <= names


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    breaches = [breach for module in read_package() for breach in rule(module)]
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize(("rule", "name", "source"), BREACHES)
def test_the_rule_notices_a_breach(rule: Rule, name: str, source: str) -> None:
    assert list(rule(Module(f"{PACKAGE}.{name}", source)))


@pytest.mark.parametrize(("rule", "name", "source"), ALLOWED)
def test_the_rule_lets_good_code_pass(rule: Rule, name: str, source: str) -> None:
    assert list(rule(Module(f"{PACKAGE}.{name}", source))) == []


def test_every_rule_is_shown_a_breach() -> None:
    assert {rule.__name__ for rule in RULES} == {rule.__name__ for rule, _, _ in BREACHES}
