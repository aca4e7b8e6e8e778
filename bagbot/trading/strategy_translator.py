"""A strategy's `on_bar` written anew, so that a plain compiler can turn it into machine code.

`self` becomes what it consists of: a record of scalars, arrays that are read up to the bar that
just closed, and the desk. Every value has a kind (bool, int, float, and whether it may be None),
found by translating again and again until nothing changes any more.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType

from bagbot.trading.strategy import Array, Strategy
from bagbot.trading.strategy_calls import Calls
from bagbot.trading.strategy_expressions import (
    ACCOUNT,
    INT,
    NONE,
    ZEROS,
    CannotCompileError,
    Expressions,
    Function,
    Kind,
    Piece,
    Program,
    calls_something,
    words,
)


@dataclass(slots=True)
class Translation:
    """What the compiler needs: functions in the order in which they call each other, and data."""

    functions: list[Function]
    scalars: dict[str, Kind]
    tables: dict[str, Kind]
    series: list[str]
    helpers: list[str]
    math: list[str]
    # How many calls of buy and sell there are, and whether any brings its exits.
    orders: int
    has_brackets: bool


def translated(strategy: Strategy, series: Mapping[str, Array]) -> Translation:
    """Return `on_bar` of a strategy that has prepared `series`, translated.

    Raises CannotCompileError for what has no certain translation.
    """
    return _Translator(strategy, series).run()


class _Translator(Program):
    """The whole program: every function reached from on_bar, translated as it is called."""

    def run(self) -> Translation:
        """Translate until no kind changes any more."""
        while self.has_changed:
            self.has_changed = False
            self.order, self.orders = [], 0
            for function in self.functions.values():
                function.sites = 0
            self.used_series, self.helpers, self.math = {}, {}, {}
            owner = next(cls for cls in type(self.strategy).__mro__ if "on_bar" in vars(cls))
            self.call(vars(owner)["on_bar"], owner, [], None)
        return Translation(
            functions=self.order,
            scalars=self.scalars,
            tables=self.tables,
            series=list(self.used_series),
            helpers=list(self.helpers),
            math=list(self.math),
            orders=self.orders,
            has_brackets=self.has_brackets,
        )

    def call(
        self,
        source: object,
        owner: type | None,
        arguments: list[Piece],
        caller: tuple[Expressions, ast.AST] | None,
    ) -> Function:
        """Translate a function as it is called with these arguments, `self` left out."""
        function = self.functions.get((source, owner))
        if function is None:
            function = self._new(source, owner, caller)
        if function in self.in_progress:
            assert caller is not None
            raise caller[0].refusal(caller[1], f"{function.source.__name__} calls itself")
        for name, argument in zip(function.parameters, arguments, strict=True):
            self.widen(function.variables.setdefault(name, Kind()), argument)
        function.sites += 1
        if function not in self.order:
            self.in_progress.append(function)
            function.code = _Statements(self, function).written()
            self.in_progress.pop()
            self.order.append(function)
        return function

    def _new(
        self, source: object, owner: type | None, caller: tuple[Expressions, ast.AST] | None
    ) -> Function:
        if not isinstance(source, FunctionType):
            if caller is not None:
                raise caller[0].refusal(
                    caller[1], "only functions written in Python can be compiled"
                )
            raise CannotCompileError(f"{type(self.strategy).__name__}.on_bar is no plain method")
        tree, path = _parsed(source)
        arguments = tree.args
        names = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
        names += [each.arg for each in arguments.kwonlyargs]
        function = Function(
            name=f"{source.__name__.strip('_') or 'f'}_{len(self.functions)}",
            source=source,
            tree=tree,
            path=path,
            owner=owner,
            parameters=names[1:] if owner is not None else names,
        )
        if arguments.vararg or arguments.kwarg:
            raise CannotCompileError(
                f"{path}:{tree.lineno}: {source.__name__} has * or ** arguments; name them"
            )
        self.functions[source, owner] = function
        return function


class _Statements(Calls):
    """One function, statement by statement."""

    def written(self) -> str:
        """Return the function's code; `__context__` stands for the desk, `self` and the arrays."""
        function = self.function
        ends = self.block(function.tree.body)
        if function.returns_value and not ends:
            raise self.refusal(function.tree, "returns a value on some paths and none on others")
        arguments = ["__context__"]
        for name in function.parameters:
            arguments.append(f"v_{name}")
            if function.variables[name].may_be_none:
                arguments.append(f"n_{name}")
        header = f"def {function.name}({', '.join(arguments)}):"
        return "\n".join([header, *(self.lines or ["    pass"])])

    def emit(self, line: str) -> None:
        """Write one line."""
        self.lines.append("    " * self.depth + line)

    def block(self, statements: list[ast.stmt]) -> bool:
        """Write statements, and return whether what follows them is never reached."""
        ends = False
        for statement in statements:
            name = type(statement).__name__.lower()
            write: Callable[[ast.stmt], bool | None] | None = getattr(self, f"_{name}", None)
            if write is None:
                raise self.refusal(statement, f"{words(statement)} cannot be compiled")
            ends = bool(write(statement)) or ends
        return ends

    def nested(self, statements: list[ast.stmt]) -> tuple[bool, set[str]]:
        """Write an indented block; return whether it ends the path, and what it assigned."""
        before = set(self.assigned)
        start = len(self.lines)
        self.depth += 1
        ends = self.block(statements)
        if len(self.lines) == start:
            self.emit("pass")
        self.depth -= 1
        after, self.assigned = self.assigned, before
        return ends, after

    def _pass(self, _: ast.Pass) -> None:
        return

    def _break(self, _: ast.Break) -> bool:
        self.emit("break")
        return True

    def _continue(self, _: ast.Continue) -> bool:
        self.emit("continue")
        return True

    def _raise(self, _: ast.Raise) -> bool:
        # Which error it is, the same run in Python will say.
        self.emit('raise RuntimeError("raised")')
        return True

    def _assert(self, node: ast.Assert) -> None:
        self.emit(f"if not {self.truth(node.test)}:")
        self.emit('    raise AssertionError("failed")')

    def _expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return
        if not isinstance(node.value, ast.Call):
            raise self.refusal(node, "an expression without effect")
        self.emit(self.piece(node.value).code)

    def _return(self, node: ast.Return) -> bool:
        if node.value is None or (
            isinstance(node.value, ast.Constant) and node.value.value is None
        ):
            if self.function.returns_value:
                raise self.refusal(node, "returns a value on some paths and none on others")
            self.function.returns_in_loop |= self.loops > 0
            self.emit("return")
            return True
        self.function.returns_value = True
        piece = self.value(node.value)
        self.program.widen(self.function.result, piece)
        self.emit(f"return {self.to(piece, self.function.result.rank)}")
        return True

    def _if(self, node: ast.If) -> bool:
        return self.branch("if", node)

    def branch(self, word: str, node: ast.If) -> bool:
        """Write an if, or an elif: a long row of them must not become a deep one."""
        self.emit(f"{word} {self.truth(node.test)}:")
        body_ends, after_body = self.nested(node.body)
        if not node.orelse:
            if not body_ends:
                self.assigned &= after_body
            return False
        if len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
            before = set(self.assigned)
            else_ends = self.branch("elif", node.orelse[0])
            after_else, self.assigned = self.assigned, before
        else:
            self.emit("else:")
            else_ends, after_else = self.nested(node.orelse)
        if body_ends and else_ends:
            return True
        if body_ends:
            self.assigned = after_else
        elif else_ends:
            self.assigned = after_body
        else:
            self.assigned = after_body & after_else
        return False

    def _while(self, node: ast.While) -> None:
        if node.orelse:
            raise self.refusal(node, "while with else cannot be compiled")
        self.emit(f"while {self.truth(node.test)}:")
        self.loops += 1
        self.nested(node.body)
        self.loops -= 1

    def _for(self, node: ast.For) -> None:
        call = node.iter
        is_range = (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "range"
            and not call.keywords
        )
        if not is_range or not isinstance(node.target, ast.Name) or node.orelse:
            raise self.refusal(node, "a loop goes over range(...), into one variable, without else")
        assert isinstance(call, ast.Call)
        bounds = [self.whole(each) for each in call.args]
        if len(bounds) == 3 and not bounds[2].constant:
            raise self.refusal(node, "the step of a range must be a number")
        counter = self.temporary()
        self.emit(f"for {counter} in range({', '.join(bound.code for bound in bounds)}):")
        self.depth += 1
        before = set(self.assigned)
        self.assign(node.target, Piece(counter, INT))
        self.depth -= 1
        self.loops += 1
        self.nested(node.body)
        self.loops -= 1
        self.assigned = before

    def _assign(self, node: ast.Assign) -> None:
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            if len(node.targets) > 1 or len(target.elts) != len(value.elts):
                raise self.refusal(node, "assigns tuples of different lengths")
            held = [self.held(self.piece(each)) for each in value.elts]
            for each, piece in zip(target.elts, held, strict=True):
                self.assign(each, piece)
            return
        piece = self.piece(value)
        if len(node.targets) > 1:
            piece = self.held(piece)
        for each in node.targets:
            self.assign(each, piece)

    def _annassign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.assign(node.target, self.piece(node.value))

    def _augassign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Subscript) and calls_something(node.target.slice):
            raise self.refusal(node, "the index would be computed twice; give it a name")
        now = ast.copy_location(_loaded(node.target), node)
        self.assign(
            node.target,
            self.piece(ast.copy_location(ast.BinOp(now, node.op, node.value), node)),
        )

    def temporary(self) -> str:
        """Return a name that is not in use."""
        self.temporaries += 1
        return f"held_{self.temporaries}"

    def held(self, piece: Piece) -> Piece:
        """Write a piece into a variable of its own, so that it is computed once, and now."""
        if piece.constant is not None or piece.rank == NONE:
            return piece
        name = self.temporary()
        self.emit(f"{name} = {piece.code}")
        if not piece.none:
            return Piece(name, piece.rank, bits=piece.bits)
        self.emit(f"{name}_none = {piece.none}")
        return Piece(name, piece.rank, f"{name}_none", piece.bits)

    def assign(self, target: ast.expr, piece: Piece) -> None:
        """Write the assignment of a piece to a variable, an attribute or an entry of a list."""
        if isinstance(target, ast.Name):
            kind = self.function.variables.setdefault(target.id, Kind())
            self.program.widen(kind, piece)
            self.store(f"v_{target.id}", f"n_{target.id}", kind, piece)
            self.assigned.add(target.id)
        elif isinstance(target, ast.Attribute) and self.is_self(target.value):
            kind = self.scalar_to_set(target)
            self.program.widen(kind, piece)
            self.store(f"state.s_{target.attr}", f"state.n_{target.attr}", kind, piece)
        elif isinstance(target, ast.Subscript) and (name := self.table_of(target.value)):
            kind = self.program.tables[name]
            plain = self.plain(piece)
            self.program.widen(kind, plain)
            at = self.helper("place_in", f"len(t_{name})", self.whole(target.slice).code)
            self.emit(f"t_{name}[numpy.uintp({at})] = {self.to(plain, kind.rank)}")
        else:
            raise self.refusal(target, f"cannot assign to {ast.unparse(target)} in compiled code")

    def store(self, name: str, none: str, kind: Kind, piece: Piece) -> None:
        """Write an assignment: the value, and whether it is None where that can be."""
        if kind.rank != NONE:
            code = self.to(piece, kind.rank) if piece.rank != NONE else ZEROS[kind.rank]
            self.emit(f"{name} = {code}")
        if kind.may_be_none:
            self.emit(f"{none} = {piece.none or 'False'}")

    def scalar_to_set(self, node: ast.Attribute) -> Kind:
        """Return the kind of an attribute of `self` that may be assigned to."""
        name = node.attr
        if name in self.program.series:
            raise self.refusal(node, f"self.{name} is a series, and is set in prepare() only")
        if name in ACCOUNT or name in {"index", "parameters", "declared"}:
            raise self.refusal(node, f"self.{name} cannot be set")
        kind = self.program.scalar(name)
        if kind is None:
            if hasattr(self.program.strategy, name):
                raise self.refusal(node, f"self.{name} is no number: only numbers can be state")
            raise self.refusal(
                node, f"self.{name} is first set in on_bar; set it in prepare(), too"
            )
        return kind


@lru_cache(256)
def _parsed(source: FunctionType) -> tuple[ast.FunctionDef, str]:
    path = source.__code__.co_filename
    try:
        text = textwrap.dedent(inspect.getsource(source))
    except OSError as error:
        raise CannotCompileError(f"{path}: the source of {source.__name__} is not known") from error
    with suppress(SyntaxError):
        tree = ast.parse(text)
        ast.increment_lineno(tree, source.__code__.co_firstlineno - 1)
        if tree.body and isinstance(tree.body[0], ast.FunctionDef):
            return tree.body[0], path
    line = source.__code__.co_firstlineno
    raise CannotCompileError(f"{path}:{line}: only functions made by def can be compiled")


def _loaded(target: ast.expr) -> ast.expr:
    """Return the expression that reads what an assignment's target writes."""
    copied = ast.parse(ast.unparse(target), mode="eval").body
    for each in ast.walk(copied):
        ast.copy_location(each, target)
    return copied
