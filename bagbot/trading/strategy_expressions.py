"""The expressions of a strategy's code, written anew with everything that Python leaves implicit.

A `Piece` is a translated expression: its code, its kind, and when it is None. Whatever machine
code does differently from Python becomes a call of a function of `checked_arithmetic`; whatever
has no certain translation is refused, with the user's file and line.
"""

import ast
import builtins
import inspect
import math
import operator as operators
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Final

from bagbot.domain.errors import StrategyError
from bagbot.trading.strategy import Array, Strategy, did_you_mean

NONE, BOOL, INT, FLOAT = 0, 1, 2, 3
"""What a value can be; a later one holds every earlier one. NONE: nothing but None so far."""

ZEROS: Final = {NONE: "0", BOOL: "False", INT: "0", FLOAT: "0.0"}
WIDE: Final = 64

ACCOUNT: Final = {
    "position": FLOAT,
    "cash": FLOAT,
    "equity": FLOAT,
    "entry_price": FLOAT,
    "open_orders": INT,
}
_ARITHMETIC: Final = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Mod: "%"}
_CHECKED: Final = {
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "//": "floor_divide",
    "%": "modulo",
}
_FOLDED: Final[Mapping[type[ast.operator], Callable[..., object]]] = {
    ast.Add: operators.add,
    ast.Sub: operators.sub,
    ast.Mult: operators.mul,
    ast.Div: operators.truediv,
    ast.FloorDiv: operators.floordiv,
    ast.Mod: operators.mod,
    ast.Pow: operators.pow,
}
_BITS: Final = {ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^"}
_COMPARISONS: Final = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


class CannotCompileError(StrategyError):
    """A strategy cannot be compiled: file, line and reason; it can still be interpreted."""


@dataclass(slots=True)
class Kind:
    """What a variable has been seen to hold."""

    rank: int = NONE
    may_be_none: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A translated expression: code, rank, when it is None, and how many bits an int has."""

    code: str
    rank: int
    none: str = ""
    bits: int = WIDE
    constant: int | float | bool | None = None


@dataclass(slots=True)
class Function:
    """A function that is translated: on_bar, a method it calls, or a function of the module."""

    name: str
    source: FunctionType
    tree: ast.FunctionDef
    path: str
    owner: type | None
    parameters: list[str]
    variables: dict[str, Kind] = field(default_factory=dict)
    result: Kind = field(default_factory=Kind)
    returns_value: bool = False
    code: str = ""
    # How many places call it, and whether a loop of its own returns from it.
    sites: int = 0
    returns_in_loop: bool = False


class Program:
    """What is known of `self` and of every function that `on_bar` reaches."""

    def __init__(self, strategy: Strategy, series: Mapping[str, Array]) -> None:
        self.strategy = strategy
        self.series = series
        self.functions: dict[tuple[object, type | None], Function] = {}
        self.in_progress: list[Function] = []
        self.order: list[Function] = []
        self.scalars: dict[str, Kind] = {}
        self.tables: dict[str, Kind] = {}
        self.has_changed = True
        self.used_series: dict[str, None] = {}
        self.helpers: dict[str, None] = {}
        self.math: dict[str, None] = {}
        self.orders = 0
        self.has_brackets = False

    def call(
        self,
        source: object,
        owner: type | None,
        arguments: list[Piece],
        caller: tuple["Expressions", ast.AST] | None,
    ) -> Function:
        """Translate a function as it is called with these arguments, `self` left out."""
        raise NotImplementedError

    def widen(self, kind: Kind, piece: Piece) -> None:
        """Let a variable hold what is assigned to it, too."""
        rank = max(kind.rank, piece.rank)
        may_be_none = kind.may_be_none or bool(piece.none) or piece.rank == NONE
        if (rank, may_be_none) != (kind.rank, kind.may_be_none):
            kind.rank, kind.may_be_none = rank, may_be_none
            self.has_changed = True

    def scalar(self, name: str) -> Kind | None:
        """Return the kind of an attribute of `self` that is one number, or None."""
        if name not in self.scalars:
            value = getattr(self.strategy, name, self)
            if value is not None and not isinstance(value, bool | int | float):
                return None
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                return None
            self.scalars[name] = _kind_of(value)
        return self.scalars[name]

    def table(self, name: str) -> Kind | None:
        """Return the kind of the entries of an attribute that is a list of numbers, or None."""
        if name not in self.tables:
            values = getattr(self.strategy, name, None)
            if not isinstance(values, list) or not values:
                return None
            if not all(isinstance(value, bool | int | float) for value in values):
                return None
            self.tables[name] = Kind(max(_kind_of(value).rank for value in values))
        return self.tables[name]


def _kind_of(value: object) -> Kind:
    if value is None:
        return Kind(NONE, may_be_none=True)
    if isinstance(value, bool):
        return Kind(BOOL)
    return Kind(INT) if isinstance(value, int) else Kind(FLOAT)


class Expressions:
    """The expressions of one function."""

    def __init__(self, program: Program, function: Function) -> None:
        self.program = program
        self.function = function
        self.lines: list[str] = []
        self.depth = 1
        self.temporaries = 0
        self.loops = 0
        self.assigned: set[str] = set(function.parameters)

    def refusal(self, node: ast.AST, reason: str) -> CannotCompileError:
        """Return the error that refuses a place in the user's code."""
        line = getattr(node, "lineno", self.function.tree.lineno)
        return CannotCompileError(f"{self.function.path}:{line}: {reason}")

    def piece(self, node: ast.expr) -> Piece:
        """Return an expression translated; it may be None."""
        name = type(node).__name__.lower()
        translate: Callable[[ast.expr], Piece] | None = getattr(self, f"_{name}", None)
        if translate is None:
            raise self.refusal(node, f"{words(node)} cannot be compiled")
        return translate(node)

    def value(self, node: ast.expr) -> Piece:
        """Return an expression translated that is a number."""
        return self.plain(self.piece(node))

    def whole(self, node: ast.expr) -> Piece:
        """Return an expression translated that is a whole number."""
        piece = self.value(node)
        if piece.rank == FLOAT:
            raise self.refusal(node, f"{ast.unparse(node)} is a float; a whole number is needed")
        return Piece(self.to(piece, INT), INT, bits=piece.bits, constant=piece.constant)

    def plain(self, piece: Piece) -> Piece:
        """Return a piece that is not None any more: compiled code looks when it gets there."""
        if piece.rank == NONE:
            return Piece(self.helper("given", "0", piece.none or "True"), INT)
        if not piece.none:
            return piece
        return Piece(self.helper("given", piece.code, piece.none), piece.rank, bits=piece.bits)

    def helper(self, name: str, *arguments: str) -> str:
        """Return a call of a function of `checked_arithmetic`."""
        self.program.helpers[name] = None
        return f"{name}({', '.join(arguments)})"

    def to(self, piece: Piece, rank: int) -> str:
        """Return the code of a piece as a wider kind."""
        if piece.rank == rank:
            return piece.code
        if rank == FLOAT and piece.constant is not None and abs(piece.constant) <= 2**53:
            return repr(float(piece.constant))
        if rank == INT:
            return f"int({piece.code})"
        if piece.rank == BOOL:
            return f"float(int({piece.code}))"
        if piece.bits <= 53:
            return f"float({piece.code})"
        return self.helper("real", piece.code)

    def truth(self, node: ast.expr) -> str:
        """Return the code of a condition."""
        if isinstance(node, ast.BoolOp):
            word = " and " if isinstance(node.op, ast.And) else " or "
            return f"({word.join(self.truth(each) for each in node.values)})"
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return f"(not {self.truth(node.operand)})"
        piece = self.piece(node)
        if piece.rank == NONE:
            return f"(not {piece.none or 'True'})"
        code = piece.code if piece.rank == BOOL else f"({piece.code} != 0)"
        return f"(not {piece.none} and {code})" if piece.none else code

    def is_self(self, node: ast.expr) -> bool:
        """Return whether an expression is the strategy itself."""
        arguments = self.function.tree.args.args
        return (
            self.function.owner is not None
            and isinstance(node, ast.Name)
            and bool(arguments)
            and node.id == arguments[0].arg
        )

    def own_name(self, node: ast.expr) -> str:
        """Return the name of the attribute of the strategy that an expression is, or ""."""
        is_own = isinstance(node, ast.Attribute) and self.is_self(node.value)
        return node.attr if isinstance(node, ast.Attribute) and is_own else ""

    def series_of(self, node: ast.expr) -> str:
        """Return the name of the series that an expression is, or ""."""
        name = self.own_name(node)
        if name not in self.program.series:
            return ""
        self.program.used_series[name] = None
        return name

    def table_of(self, node: ast.expr) -> str:
        """Return the name of the list of numbers that an expression is, or ""."""
        name = self.own_name(node)
        return name if self.program.table(name) is not None else ""

    def _constant(self, node: ast.Constant) -> Piece:
        return self.of_constant(node, node.value)

    def of_constant(self, node: ast.expr, value: object) -> Piece:
        """Return a number, or None, that does not change."""
        if value is None:
            return Piece("0", NONE, "True")
        if isinstance(value, bool):
            return Piece(repr(value), BOOL, constant=value)
        if isinstance(value, int) and -(2**63) < value < 2**63:
            return Piece(
                f"({value})" if value < 0 else str(value), INT, "", value.bit_length(), value
            )
        if isinstance(value, float):
            code = repr(value) if math.isfinite(value) else f"math.{repr(value).strip('-')}"
            return Piece(
                f"(-{code.strip('-')})" if repr(value)[0] == "-" else code, FLOAT, constant=value
            )
        raise self.refusal(node, f"{value!r} is no number")

    def _name(self, node: ast.Name) -> Piece:
        variables = self.function.variables
        if node.id in stored_names(self.function) or node.id in self.function.parameters:
            if node.id not in self.assigned:
                raise self.refusal(node, f"{node.id} may be read before it is set")
            kind = variables[node.id]
            none = f"n_{node.id}" if kind.may_be_none else ""
            return Piece(f"v_{node.id}", kind.rank, none or ("True" if kind.rank == NONE else ""))
        if self.is_self(node):
            raise self.refusal(node, "self can only be used as self.something")
        return self.of_constant(node, self.global_value(node))

    def global_value(self, node: ast.Name) -> object:
        """Return what a name of the function's module, or around it, stands for."""
        source = self.function.source
        around = dict(zip(source.__code__.co_freevars, source.__closure__ or (), strict=True))
        if node.id in around:
            with suppress(ValueError):
                found: object = around[node.id].cell_contents
                return found
        for names in (source.__globals__, vars(builtins)):
            if node.id in names:
                return names[node.id]
        hint = did_you_mean(node.id, [*stored_names(self.function), *source.__globals__])
        raise self.refusal(node, f"{node.id} is not defined{hint}")

    def _attribute(self, node: ast.Attribute) -> Piece:
        if not self.is_self(node.value):
            return self.of_constant(node, self.object_of(node))
        name = node.attr
        if name == "index":
            return Piece("index", INT, bits=40)
        if name in ACCOUNT:
            return Piece(f"kernel.{name}(desk)", ACCOUNT[name], bits=40)
        if name in self.program.series:
            raise self.refusal(
                node, f"self.{name} is a series: take one value, as in self.{name}[-1]"
            )
        attribute = inspect.getattr_static(type(self.program.strategy), name, None)
        if isinstance(attribute, property):
            owner = self.owner_of(name)
            return self.of_call(node, attribute.fget, owner, [])
        kind = self.program.scalar(name)
        if kind is None:
            if hasattr(self.program.strategy, name):
                raise self.refusal(
                    node, f"self.{name} is no number, and no series of one value per bar"
                )
            known = {*dir(self.program.strategy), *self.program.series}
            hint = did_you_mean(name, known, before="self.")
            raise self.refusal(node, f"self.{name} is not set in prepare(){hint}")
        none = f"state.n_{name}" if kind.may_be_none else ""
        return Piece(f"state.s_{name}" if kind.rank else "0", kind.rank, none)

    def object_of(self, node: ast.expr) -> object:
        """Return what a name or a dotted name of the user's module stands for."""
        if isinstance(node, ast.Name):
            return self.global_value(node)
        if isinstance(node, ast.Attribute) and not self.is_self(node.value):
            around = self.object_of(node.value)
            if isinstance(around, ModuleType | type):
                with suppress(AttributeError):
                    found: object = getattr(around, node.attr)
                    return found
        raise self.refusal(node, f"{ast.unparse(node)} cannot be compiled")

    def owner_of(self, name: str, after: type | None = None) -> type:
        """Return the class that a method or property of the strategy comes from."""
        mro = list(type(self.program.strategy).__mro__)
        if after is not None:
            mro = mro[mro.index(after) + 1 :]
        return next(cls for cls in mro if name in vars(cls))

    def _subscript(self, node: ast.Subscript) -> Piece:
        if isinstance(node.slice, ast.Slice | ast.Tuple):
            raise self.refusal(
                node, "slices cannot be compiled; take single values, or use prepare()"
            )
        if name := self.series_of(node.value):
            at = self.whole(node.slice)
            rank = {"f": FLOAT, "i": INT, "b": BOOL}[self.program.series[name].dtype.kind]
            if at.constant is not None and at.constant < 0:
                return Piece(self.helper("back", f"a_{name}", "index", str(-at.constant - 1)), rank)
            return Piece(self.helper("seen", f"a_{name}", "index", at.code), rank)
        if name := self.table_of(node.value):
            at = self.whole(node.slice)
            return Piece(self.helper("entry", f"t_{name}", at.code), self.program.tables[name].rank)
        if isinstance(node.value, ast.Attribute) and self.is_self(node.value.value):
            self._attribute(node.value)
        raise self.refusal(
            node, f"{ast.unparse(node.value)} is neither a series nor a list of numbers"
        )

    def _unaryop(self, node: ast.UnaryOp) -> Piece:
        if isinstance(node.op, ast.Not):
            return Piece(self.truth(node), BOOL)
        piece = self.value(node.operand)
        if isinstance(node.op, ast.Invert):
            return Piece(f"(~{self.whole(node.operand).code})", INT)
        sign = -1 if isinstance(node.op, ast.USub) else 1
        if piece.constant is not None:
            return self.of_constant(node, sign * piece.constant)
        if piece.rank == FLOAT:
            return Piece(f"(-{piece.code})" if sign < 0 else piece.code, FLOAT)
        code = self.to(piece, INT)
        if sign > 0:
            return Piece(code, INT, bits=piece.bits)
        if piece.bits < WIDE:
            return Piece(f"(-{code})", INT, bits=piece.bits)
        return Piece(self.helper("subtract", "0", code), INT)

    def _binop(self, node: ast.BinOp) -> Piece:
        left, right = self.value(node.left), self.value(node.right)
        operator = type(node.op)
        if left.constant is not None and right.constant is not None:
            compute = _FOLDED.get(operator)
            if compute is not None:
                with suppress(ArithmeticError, TypeError):
                    return self.of_constant(node, compute(left.constant, right.constant))
        if operator is ast.Div:
            return Piece(f"({self.to(left, FLOAT)} / {self.to(right, FLOAT)})", FLOAT)
        if operator is ast.Pow:
            return self.power(node, left, right)
        if operator in _BITS:
            if FLOAT in (left.rank, right.rank):
                raise self.refusal(node, f"{_BITS[operator]} is for whole numbers")
            rank = max(left.rank, right.rank)
            code = f"({self.to(left, rank)} {_BITS[operator]} {self.to(right, rank)})"
            return Piece(code, rank, bits=max(left.bits, right.bits))
        if operator not in _ARITHMETIC:
            raise self.refusal(node, f"{words(node.op)} cannot be compiled")
        sign = _ARITHMETIC[operator]
        if FLOAT in (left.rank, right.rank):
            return Piece(f"({self.to(left, FLOAT)} {sign} {self.to(right, FLOAT)})", FLOAT)
        return self.whole_numbers(sign, left, right)

    def whole_numbers(self, sign: str, left: Piece, right: Piece) -> Piece:
        """Return an operation on whole numbers, checked unless it cannot leave 64 bits."""
        if sign in {"+", "-"}:
            bits, is_safe = max(left.bits, right.bits) + 1, True
        elif sign == "*":
            bits, is_safe = left.bits + right.bits, True
        else:
            is_safe = right.constant is not None and right.constant > 0
            bits = left.bits if sign == "//" else right.bits
        one, other = self.to(left, INT), self.to(right, INT)
        if is_safe and bits < WIDE:
            return Piece(f"({one} {sign} {other})", INT, bits=bits)
        if is_safe and sign in {"//", "%"}:
            return Piece(f"({one} {sign} {other})", INT, bits=bits)
        return Piece(self.helper(_CHECKED[sign], one, other), INT)

    def power(self, node: ast.expr, base: Piece, exponent: Piece) -> Piece:
        """Return a power as the C library computes it, which is not always what x * x gives."""
        if FLOAT not in (base.rank, exponent.rank):
            raise self.refusal(node, "a power of whole numbers; make one a float, or multiply")
        # Times one, read from memory: the optimiser must not see a constant and multiply instead.
        one = f"{self.to(base, FLOAT)} * state.one"
        return Piece(self.helper("power", one, f"{self.to(exponent, FLOAT)} * state.one"), FLOAT)

    def _boolop(self, node: ast.BoolOp) -> Piece:
        word = " and " if isinstance(node.op, ast.And) else " or "
        pieces = [self.value(each) for each in node.values]
        rank = max(piece.rank for piece in pieces)
        return Piece(f"({word.join(self.to(piece, rank) for piece in pieces)})", rank)

    def _compare(self, node: ast.Compare) -> Piece:
        first = node.ops[0]
        if isinstance(first, ast.Is | ast.IsNot):
            other = node.comparators[0]
            if len(node.ops) > 1 or not (isinstance(other, ast.Constant) and other.value is None):
                raise self.refusal(node, "`is` can only be asked of None")
            none = self.piece(node.left).none or "False"
            return Piece(none if isinstance(first, ast.Is) else f"(not {none})", BOOL)
        if isinstance(first, ast.In | ast.NotIn):
            return self.membership(node)
        pieces = [self.value(each) for each in (node.left, *node.comparators)]
        rank = max(piece.rank for piece in pieces)
        codes = [self.to(piece, rank) for piece in pieces]
        code = codes[0]
        for operator, right in zip(node.ops, codes[1:], strict=True):
            if type(operator) not in _COMPARISONS:
                raise self.refusal(node, f"{ast.unparse(node)} cannot be compiled")
            code += f" {_COMPARISONS[type(operator)]} {right}"
        return Piece(f"({code})", BOOL)

    def membership(self, node: ast.Compare) -> Piece:
        """Return whether a number is one of a few."""
        others = node.comparators[0]
        if len(node.ops) > 1 or not isinstance(others, ast.Tuple) or calls_something(node.left):
            raise self.refusal(node, "`in` can only be asked of a tuple of numbers")
        equal = [
            self._compare(ast.copy_location(ast.Compare(node.left, [ast.Eq()], [each]), node)).code
            for each in others.elts
        ]
        code = f"({' or '.join(equal) or 'False'})"
        return Piece(code if isinstance(node.ops[0], ast.In) else f"(not {code})", BOOL)

    def _ifexp(self, node: ast.IfExp) -> Piece:
        test, body, other = self.truth(node.test), self.piece(node.body), self.piece(node.orelse)
        rank = max(body.rank, other.rank)
        none = ""
        if body.none or other.none:
            if calls_something(node.test):
                raise self.refusal(node, "a choice that may be None; write it as if and else")
            none = f"({body.none or 'False'} if {test} else {other.none or 'False'})"
        chosen = [
            self.to(piece, rank) if piece.rank != NONE else ZEROS[rank] for piece in (body, other)
        ]
        return Piece(f"({chosen[0]} if {test} else {chosen[1]})", rank, none)

    def of_call(
        self,
        node: ast.expr,
        source: object,
        owner: type | None,
        positional: list[ast.expr],
        keywords: Iterable[ast.keyword] = (),
    ) -> Piece:
        """Return a call of a function that is translated, too."""
        raise NotImplementedError


def words(node: ast.AST) -> str:
    """Return what a piece of syntax is called, in words."""
    names = {
        "Try": "try", "With": "with", "Import": "import", "ImportFrom": "import",
        "Lambda": "lambda",
        "ListComp": "a comprehension", "DictComp": "a comprehension", "List": "a list",
        "SetComp": "a comprehension", "GeneratorExp": "a comprehension", "Dict": "a dictionary",
        "JoinedStr": "text", "NamedExpr": ":=", "Global": "global", "Nonlocal": "nonlocal",
        "Match": "match", "FunctionDef": "a function inside a function", "Tuple": "a tuple",
        "Delete": "del", "Slice": "slices", "LShift": "<<", "RShift": ">>",
        "MatMult": "@", "Starred": "*",
    }  # fmt: skip
    return names.get(type(node).__name__, type(node).__name__)


def calls_something(node: ast.AST) -> bool:
    """Return whether an expression may do something when it is computed."""
    return any(isinstance(each, ast.Call) for each in ast.walk(node))


def stored_names(function: Function) -> frozenset[str]:
    """Return the names of the variables that a function sets."""
    return frozenset(
        each.id
        for each in ast.walk(function.tree)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    )
