"""The calls of a strategy's code: orders, its own methods and functions, builtins and `math`."""

import ast
import inspect
import math
from collections.abc import Iterable
from types import FunctionType
from typing import Final

from bagbot.domain.errors import InvalidOrderError
from bagbot.trading.strategy import TIMES_IN_FORCE, Strategy, did_you_mean, order_shape
from bagbot.trading.strategy_expressions import (
    BOOL,
    FLOAT,
    INT,
    NONE,
    ZEROS,
    Expressions,
    Piece,
    stored_names,
)

_MATH: Final = frozenset(
    {
        "sqrt", "exp", "expm1", "log", "log10", "log2", "log1p", "sin", "cos", "tan", "asin",
        "acos", "atan", "sinh", "cosh", "tanh",
    }
)  # fmt: skip
_WHOLE: Final = {"floor": "floored", "ceil": "raised", "trunc": "truncated"}
_TESTS: Final = frozenset({"isnan", "isinf", "isfinite"})
_BUILTINS: Final[tuple[object, ...]] = (abs, min, max, int, float, bool, len, round)
_ARRAYS: Final = frozenset({"numpy", "polars", "pandas", "talib", "scipy", "numba"})
_ORDER_WORDS: Final = (
    "limit", "stop", "target", "trail", "tif", "post_only", "reduce_only", "pair", "parent",
    "stop_loss", "take_profit",
)  # fmt: skip
_COMMANDS: Final = {
    "close_position": INT,
    "cancel": NONE,
    "cancel_all": NONE,
    "amend": INT,
    "is_open": BOOL,
    "filled": FLOAT,
}


class Calls(Expressions):
    """The calls of one function."""

    def _call(self, node: ast.Call) -> Piece:
        target = node.func
        if isinstance(target, ast.Attribute) and self.is_self(target.value):
            return self.method(node, target.attr)
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Call):
            inner = target.value.func
            if isinstance(inner, ast.Name) and inner.id == "super" and not target.value.args:
                owner = self.owner_of(target.attr, after=self.function.owner)
                return self.of_method(node, target.attr, owner)
        if isinstance(target, ast.Name) and target.id in stored_names(self.function):
            raise self.refusal(
                node, f"{target.id} is a variable; only named functions can be called"
            )
        found = self.object_of(target)
        if found in _BUILTINS:
            return self.builtin(node, ast.unparse(target))
        module = getattr(found, "__module__", "") or ""
        name = getattr(found, "__name__", ast.unparse(target))
        if module == "math":
            return self.of_math(node, name)
        if isinstance(found, FunctionType) and module.partition(".")[0] not in _ARRAYS:
            return self.of_call(node, found, None, node.args, node.keywords)
        if name in _TESTS and ast.unparse(target).startswith(("np.", "numpy.")):
            return self.of_math(node, name)
        raise self.refusal(
            node, f"{ast.unparse(target)}() cannot be compiled{_instead(found, name)}"
        )

    def method(self, node: ast.Call, name: str) -> Piece:
        """Return a call of self.something(...)."""
        if name in {"buy", "sell"}:
            return self.order(node, is_buy=name == "buy")
        if name in _COMMANDS:
            return self.command(node, name)
        if not callable(getattr(self.program.strategy, name, None)):
            known = [each for each in dir(self.program.strategy) if not each.startswith("_")]
            hint = did_you_mean(name, known, before="self.")
            raise self.refusal(node, f"self.{name}() is not there{hint}")
        return self.of_method(node, name, self.owner_of(name))

    def of_method(self, node: ast.Call, name: str, owner: type) -> Piece:
        """Return a call of a method that a class defines."""
        found = vars(owner).get(name)
        if isinstance(found, staticmethod):
            return self.of_call(node, found.__func__, None, node.args, node.keywords)
        if owner is Strategy and name in {"on_bar", "prepare"}:
            raise self.refusal(node, f"{name}() of Strategy cannot be called")
        return self.of_call(node, found, owner, node.args, node.keywords)

    def of_call(
        self,
        node: ast.expr,
        source: object,
        owner: type | None,
        positional: list[ast.expr],
        keywords: Iterable[ast.keyword] = (),
    ) -> Piece:
        """Return a call of a function that is translated, too."""
        given: dict[str, ast.expr] = {}
        if isinstance(source, FunctionType):
            names = [parameter.name for parameter in inspect.signature(source).parameters.values()][
                1 if owner is not None else 0 :
            ]
            if len(positional) > len(names):
                raise self.refusal(node, f"{source.__name__}() takes {len(names)} arguments")
            given.update(zip(names, positional, strict=False))
            for keyword in keywords:
                if keyword.arg not in names or keyword.arg in given:
                    raise self.refusal(node, f"{source.__name__}() has no argument {keyword.arg}")
                given[keyword.arg] = keyword.value
            pieces = []
            for name in names:
                if name in given:
                    pieces.append(self.piece(given[name]))
                    continue
                default = inspect.signature(source).parameters[name].default
                if default is inspect.Parameter.empty:
                    raise self.refusal(node, f"{source.__name__}() needs the argument {name}")
                pieces.append(self.of_constant(node, default))
        else:
            pieces = []
        function = self.program.call(source, owner, pieces, (self, node))
        arguments = ["__context__"]
        for name, piece in zip(function.parameters, pieces, strict=True):
            kind = function.variables[name]
            is_known = piece.rank != NONE
            arguments.append(self.to(piece, kind.rank) if is_known else ZEROS[kind.rank])
            if kind.may_be_none:
                arguments.append(piece.none or "False")
        rank = function.result.rank if function.returns_value else NONE
        none = "" if function.returns_value else "True"
        return Piece(f"{function.name}({', '.join(arguments)})", rank, none)

    def builtin(self, node: ast.Call, name: str) -> Piece:
        """Return a call of abs, min, max, int, float, bool, len or round."""
        if node.keywords:
            raise self.refusal(node, f"{name}() with keywords cannot be compiled")
        if name in {"min", "max"} and len(node.args) > 1:
            pieces = [self.value(each) for each in node.args]
            rank = max(piece.rank for piece in pieces)
            code = f"{name}({', '.join(self.to(piece, rank) for piece in pieces)})"
            return Piece(code, rank, bits=max(piece.bits for piece in pieces))
        if len(node.args) != 1 or name in {"min", "max"}:
            hint = "; round(x, 2) differs at ties" if name == "round" else ""
            raise self.refusal(node, f"{name}() of these arguments cannot be compiled{hint}")
        if name == "len":
            return self.length(node)
        if name == "bool":
            return Piece(self.truth(node.args[0]), BOOL)
        piece = self.value(node.args[0])
        if name == "float":
            return Piece(self.to(piece, FLOAT), FLOAT)
        return self.absolute(piece) if name == "abs" else self.as_whole(name, piece)

    def length(self, node: ast.Call) -> Piece:
        """Return how many values have been seen of a series, or are in a list."""
        if self.series_of(node.args[0]):
            return Piece("(index + 1)", INT, bits=41)
        if table := self.table_of(node.args[0]):
            return Piece(f"len(t_{table})", INT, bits=40)
        raise self.refusal(node, f"{ast.unparse(node.args[0])} has no length in compiled code")

    def absolute(self, piece: Piece) -> Piece:
        """Return the absolute value of a number."""
        if piece.rank == FLOAT:
            return Piece(f"abs({piece.code})", FLOAT)
        return Piece(self.helper("magnitude", self.to(piece, INT)), INT, bits=piece.bits)

    def as_whole(self, name: str, piece: Piece) -> Piece:
        """Return int(...) or round(...) of a number."""
        if piece.rank == FLOAT:
            return Piece(self.helper("truncated" if name == "int" else "rounded", piece.code), INT)
        return Piece(self.to(piece, INT), INT, bits=piece.bits)

    def of_math(self, node: ast.Call, name: str) -> Piece:
        """Return a call of a function of `math` that Python takes from the C library."""
        if node.keywords:
            raise self.refusal(node, f"math.{name}() with keywords cannot be compiled")
        pieces = [self.value(each) for each in node.args]
        codes = [self.to(piece, FLOAT) for piece in pieces]
        if name in _WHOLE and len(pieces) == 1:
            if pieces[0].rank != FLOAT:
                return Piece(self.to(pieces[0], INT), INT, bits=pieces[0].bits)
            return Piece(self.helper(_WHOLE[name], codes[0]), INT)
        if name in _TESTS and len(codes) == 1:
            return Piece(f"math.{name}({codes[0]})", BOOL)
        if name == "fabs" and len(codes) == 1:
            return Piece(f"abs({codes[0]})", FLOAT)
        if name == "pow" and len(codes) == 2:
            return Piece(
                self.helper("power", f"{codes[0]} * state.one", f"{codes[1]} * state.one"), FLOAT
            )
        if name in {"atan2", "copysign"} and len(codes) == 2:
            return Piece(f"math.{name}({', '.join(codes)})", FLOAT)
        if name in _MATH and len(codes) == 1:
            return Piece(self.sound(name, codes[0]), FLOAT)
        if name == "log" and len(codes) == 2:
            return Piece(f"({self.sound('log', codes[0])} / {self.sound('log', codes[1])})", FLOAT)
        raise self.refusal(
            node, f"math.{name}() of these arguments is not certain to give the same"
        )

    def sound(self, name: str, argument: str) -> str:
        """Return a call of a function of `math`, with its errors."""
        self.program.math[name] = None
        self.program.helpers["sound"] = None
        return f"math_{name}({argument})"

    # Orders.

    def order(self, node: ast.Call, *, is_buy: bool) -> Piece:
        """Return a call of self.buy(...) or self.sell(...)."""
        self.program.orders += 1
        given = self.arguments(node, "buy", {"amount", *_ORDER_WORDS})
        if "amount" not in given:
            raise self.refusal(node, "an order needs an amount")
        has = {name: name in given for name in _ORDER_WORDS}
        limit, stop, target = (1.0 if has[word] else None for word in ("limit", "stop", "target"))
        trail = 0.5 if has["trail"] else None
        tif = self.text(given["tif"]) if has["tif"] else "GTC"
        post_only = has["post_only"] and self.known_bool(given["post_only"], "post_only")
        try:
            kind, _, _, _, time_in_force = order_shape(
                limit, stop, target, trail, tif, post_only=post_only
            )
        except InvalidOrderError as error:
            raise self.refusal(node, str(error)) from error
        trigger = given.get("stop", given.get("target"))
        arguments = [
            "desk",
            repr(is_buy),
            self.positive(given["amount"]),
            str(kind),
            self.positive(given.get("limit")),
            self.positive(trigger),
            self.trailing(given.get("trail")),
            str(time_in_force),
            self.truth(given["reduce_only"]) if has["reduce_only"] else "False",
            self.whole(given["pair"]).code if has["pair"] else "0",
            self.whole(given["parent"]).code if has["parent"] else "0",
        ]
        if has["stop_loss"] or has["take_profit"]:
            arguments.append(self.positive(given.get("stop_loss")))
            arguments.append(self.positive(given.get("take_profit")))
            self.program.has_brackets = True
            self.program.helpers["accepted"] = None
            return Piece(f"bracket({', '.join(arguments)})", INT, bits=40)
        return Piece(self.helper("accepted", f"place({', '.join(arguments)})"), INT, bits=40)

    def arguments(self, node: ast.Call, method: str, names: set[str]) -> dict[str, ast.expr]:
        """Return the arguments of an order method by name, without those that are None."""
        given: dict[str, ast.expr] = {}
        first = "amount" if method == "buy" else "number"
        if len(node.args) > 1:
            raise self.refusal(node, f"only the {first} goes without a name")
        if node.args:
            given[first] = node.args[0]
        for keyword in node.keywords:
            if keyword.arg not in names or keyword.arg in given:
                hint = did_you_mean(keyword.arg or "**", names)
                raise self.refusal(node, f"an order has no {keyword.arg or '**'}{hint}")
            if not (isinstance(keyword.value, ast.Constant) and keyword.value.value is None):
                given[keyword.arg] = keyword.value
        return given

    def text(self, node: ast.expr) -> str:
        """Return a word that is known before the run."""
        value = node.value if isinstance(node, ast.Constant) else self.object_of(node)
        if not isinstance(value, str) or value not in TIMES_IN_FORCE:
            raise self.refusal(node, "tif must be GTC, IOC or FOK, in quotes")
        return value

    def known_bool(self, node: ast.expr, name: str) -> bool:
        """Return a bool that is known before the run."""
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            return node.value
        raise self.refusal(node, f"{name} must be True or False, not computed")

    def positive(self, node: ast.expr | None) -> str:
        """Return the code of an amount or price; NaN for none."""
        if node is None:
            return "math.nan"
        piece = self.piece(node)
        if piece.none:
            raise self.refusal(node, f"{ast.unparse(node)} may be None; write a call for each case")
        return self.helper("positive", self.to(piece, FLOAT))

    def trailing(self, node: ast.expr | None) -> str:
        """Return the code of a trailing distance in millionths."""
        if node is None:
            return "0"
        return self.helper("trailing_millionths", self.to(self.value(node), FLOAT))

    def command(self, node: ast.Call, name: str) -> Piece:
        """Return a call of one of the other methods that act or tell."""
        if name in {"close_position", "cancel_all"}:
            if node.args or node.keywords:
                raise self.refusal(node, f"self.{name}() has no arguments")
            code = self.helper("accepted", f"kernel.{name}(desk)")
            return Piece(code, _COMMANDS[name], "True" if name == "cancel_all" else "", bits=40)
        words = {"number", "amount", "limit", "stop", "target"} if name == "amend" else {"number"}
        given = self.arguments(node, name, words)
        if "number" not in given:
            raise self.refusal(node, f"self.{name}() needs an order's number")
        number = self.whole(given["number"]).code
        if name != "amend":
            code, rank = f"kernel.{name}(desk, {number})", _COMMANDS[name]
            is_command = rank == NONE
            code = self.helper("accepted", code) if is_command else code
            return Piece(code, rank, "True" * is_command)
        if "stop" in given and "target" in given:
            raise self.refusal(node, "an order has either a stop or a target, not both")
        values = [self.positive(given.get(word)) for word in ("amount", "limit")]
        values.append(self.positive(given.get("stop", given.get("target"))))
        code = f"kernel.amend(desk, {number}, {', '.join(values)})"
        return Piece(self.helper("accepted", code), INT, bits=40)


def _instead(found: object, name: str) -> str:
    if found is print:
        return "; printing needs Python, and runs interpreted"
    if "logg" in (getattr(found, "__module__", "") or ""):
        return "; logging needs Python, and runs interpreted"
    if callable(getattr(math, name, None)):
        return f"; use math.{name}()"
    return "; compute it for all bars in prepare()"
