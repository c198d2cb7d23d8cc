"""Calls of LLM functions, by the type that is wanted."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz.cases import BOOLEAN, DATE, DOUBLE, INTEGER, TEXTS, VARCHAR, Scope
from tests.fuzz.source import Source

PROMPTS = ("'p'", "'q'", "'r'")
LABELS = ("['x', 'y']", "['x', 'y', 'it''s']", "{'x': 'the first', 'z': 'the last'}")
SHARED_OPTIONS = ("max_tokens := 7", "temperature := 0.5", "model := 'other'", "cache := false")
EXTRACTED = "{'s': 'VARCHAR: a word', 'n': 'INTEGER', 'd': 'DOUBLE', 'flags': 'BOOLEAN[]'}"

Expression = Callable[[str], str]
"""Makes an expression of a type, for arguments that are more than a column."""

Writer = Callable[[Scope, Expression], str]


class Calls:
    """Writes calls over the columns of a scope."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def call(self, type_: str, scope: Scope, expression: Expression) -> str:
        """Write a call that gives the type."""
        source = self._source
        source.calls += 1
        writers: dict[str, tuple[Writer, ...]] = {
            BOOLEAN: (self._filter, self._filter, self._filter, self._typed(BOOLEAN)),
            VARCHAR: (
                self._llm,
                self._classify,
                self._thin,
                self._translate,
                self._extract("s"),
                self._reduce,
            ),
            INTEGER: (self._typed(INTEGER), self._extract("n"), self._position),
            DOUBLE: (
                self._score,
                self._score,
                self._typed(DOUBLE),
                self._extract("d"),
                self._similarity,
            ),
            DATE: (self._typed(DATE),),
            TEXTS: (self._classify_multi, self._typed(TEXTS)),
        }
        return source.pick(writers[type_])(scope, expression)

    def _filter(self, scope: Scope, expression: Expression) -> str:
        name = "AI_FILTER" if self._source.chance(8) else "LLM_FILTER"
        return self._written(name, self._prompted(scope, expression))

    def _llm(self, scope: Scope, expression: Expression) -> str:
        if self._source.chance(20):
            self._source.use("argument: none")
            return self._written("LLM", [self._source.pick(PROMPTS)])
        return self._written("LLM", self._prompted(scope, expression))

    def _typed(self, type_: str) -> Writer:
        def write(scope: Scope, expression: Expression) -> str:
            arguments = self._prompted(scope, expression)
            return self._written("LLM", [*arguments, f"return_type := '{type_}'"])

        return write

    def _score(self, scope: Scope, expression: Expression) -> str:
        bounds = ["min := 1", "max := 5"] if self._source.chance(3) else []
        return self._written("LLM_SCORE", [*self._prompted(scope, expression), *bounds])

    def _classify(self, scope: Scope, expression: Expression) -> str:
        labels = self._source.pick(LABELS)
        return self._written("LLM_CLASSIFY", [self._argument(scope, expression), labels])

    def _classify_multi(self, scope: Scope, expression: Expression) -> str:
        arguments = [self._argument(scope, expression), self._source.pick(LABELS)]
        return self._written("LLM_CLASSIFY", [*arguments, "output_mode := 'multi'"])

    def _thin(self, scope: Scope, expression: Expression) -> str:
        name = self._source.pick(("LLM_SENTIMENT", "LLM_SUMMARIZE", "llm_sentiment"))
        return self._written(name, [self._argument(scope, expression)])

    def _translate(self, scope: Scope, expression: Expression) -> str:
        texts = scope.of_type(VARCHAR)
        language = "'German'"
        if texts and self._source.chance(4):
            self._source.use("argument: prompt from a column")
            language = self._source.pick(texts).sql
        return self._written("LLM_TRANSLATE", [self._argument(scope, expression), language])

    def _extract(self, member: str) -> Writer:
        def write(scope: Scope, expression: Expression) -> str:
            arguments = [self._argument(scope, expression), EXTRACTED]
            return f"({self._written('LLM_EXTRACT', arguments)}).{member}"

        return write

    def _reduce(self, scope: Scope, expression: Expression) -> str:
        """A list as a whole; lists are rare columns, so that most are expressions."""
        lists = scope.of_type(TEXTS)
        values = self._source.pick(lists).sql if lists else expression(TEXTS)
        return self._written("LLM_REDUCE", [values, self._source.pick(PROMPTS)])

    def _position(self, scope: Scope, expression: Expression) -> str:
        """Where in a list the value is that fits most, or least, by comparisons of two."""
        lists = scope.of_type(TEXTS)
        values = self._source.pick(lists).sql if lists else expression(TEXTS)
        place = self._source.pick(("'first'", "'last'"))
        return self._written("LLM_POSITION", [values, self._source.pick(PROMPTS), place])

    def _similarity(self, scope: Scope, expression: Expression) -> str:
        """Two texts, or a number of the vector of one; such calls have no options."""
        first = self._argument(scope, expression)
        if self._source.chance(3):
            self._source.use("function: LLM_EMBED")
            return f"CAST((LLM_EMBED({first}))[1] AS DOUBLE)"
        self._source.use("function: LLM_SIMILARITY")
        return f"LLM_SIMILARITY({first}, {self._argument(scope, expression)})"

    def joint(self, type_: str, scope: Scope, expression: Expression) -> str:
        """Write a call about all rows of a block together; it stands where a window may."""
        self._source.calls += 1
        over = ""
        if scope.local and self._source.chance(3):
            self._source.use("rows together, by PARTITION BY")
            over = f" OVER (PARTITION BY {self._source.pick(scope.local).sql})"
        if type_ == INTEGER:
            both = ["both_orders := true"] if self._source.chance(4) else []
            return self._written("LLM_RANK", [*self._prompted(scope, expression), *both]) + over
        topics = ["k := 2"] if self._source.chance(2) else []
        return self._written("LLM_CLUSTER", [expression(VARCHAR), *topics]) + over

    def pairs(self, left: Scope, right: Scope) -> str:
        """Write a call about a column of either side of a join."""
        source = self._source
        source.calls += 1
        one, other = (source.pick(side.local).sql for side in (left, right))
        prompt = source.pick(PROMPTS)
        strategy = ["strategy := 'exact'"] if source.chance(6) else []
        return self._written("LLM_FILTER", [prompt, f"{{'l': {one}, 'r': {other}}}", *strategy])

    def aggregate(self, value: str) -> str:
        """Write a call that takes all values of a group, in whatever order they come."""
        source = self._source
        source.calls += 1
        distinct = "DISTINCT " if source.chance(3) else ""
        name = source.pick(("LLM_AGG", "LLM_SUMMARIZE_AGG", "LLM_FIRST", "LLM_LAST"))
        if name == "LLM_SUMMARIZE_AGG":
            return self._written(name, [distinct + value])
        return self._written(name, [distinct + value, source.pick(PROMPTS)])

    def _written(self, name: str, arguments: list[str]) -> str:
        source = self._source
        source.use(f"function: {name.upper()}")
        if source.chance(12):
            option = source.pick(SHARED_OPTIONS)
            source.use("option: " + option.split()[0])
            arguments = [*arguments, option]
        return f"{name}({', '.join(arguments)})"

    def _prompted(self, scope: Scope, expression: Expression) -> list[str]:
        """A prompt and its arguments."""
        source = self._source
        plain = [column for column in scope.columns if column.name.isidentifier()]
        if plain and source.chance(10):
            source.use("argument: named in the prompt")
            column = source.pick(plain)
            return [f"'Is {{{column.name}}} right?'", column.sql]
        prompt = source.pick(PROMPTS)
        if source.chance(15):
            star = self._star(scope)
            if star:
                return [prompt, star]
        first = self._argument(scope, expression)
        if not source.chance(2):
            return [prompt, first]
        # The names of arguments have to differ.
        second = self._argument(scope, expression)
        same = second.lower() == first.lower() or "{'k'" in first + second
        return [prompt, first] if same else [prompt, first, second]

    def _star(self, scope: Scope) -> str | None:
        aliases = self._aliases(scope)
        if not aliases:
            return None
        self._source.use("argument: t.*")
        return f"{self._source.pick(aliases)}.*"

    def _aliases(self, scope: Scope) -> list[str]:
        return sorted({column.sql.rpartition(".")[0] for column in scope.local} - {""})

    def _argument(self, scope: Scope, expression: Expression) -> str:
        """One value: mostly a column, sometimes an expression or a named member."""
        source = self._source
        kind = source.below(12)
        aliases = self._aliases(scope) if kind == 10 and source.chance(3) else []
        if aliases:
            source.use("argument: whole row")
            return source.pick(aliases)
        if kind == 11:
            source.use("argument: struct literal")
            named = source.pick(scope.columns).sql if scope.columns else "1"
            return f"{{'k': {named}, 'm': {expression(VARCHAR)}}}"
        if kind >= 8 or not scope.columns:
            source.use("argument: expression")
            return expression(source.pick((VARCHAR, INTEGER, BOOLEAN, TEXTS)))
        return source.pick(scope.columns).sql
