"""SQLAlchemy in this process (`quackllm://`): values, reflection, Core, ORM, transactions, errors."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from tests.server.pgwire.running import TABLES
from tests.server.pgwire.test_types import CASES

pytestmark = pytest.mark.clients

sa = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed (make clients)")
orm = pytest.importorskip("sqlalchemy.orm")
pytest.importorskip("duckdb_engine")


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    made = sa.create_engine("quackllm:///:memory:?llm_provider=fake")
    with made.begin() as con:
        for statement in TABLES.split(";\n"):
            if statement.strip():
                con.exec_driver_sql(statement)
    yield made
    made.dispose()
    made.dialect.dispose_databases()


@pytest.fixture
def con(engine: Any) -> Iterator[Any]:
    with engine.connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def inspector(engine: Any) -> Any:
    return sa.inspect(engine)


# DuckDB wants pytz for a time with zone, and duckdb-engine reads JSON.
NATIVE = [sql for sql, _ in CASES if "TIMESTAMPTZ" not in sql and "JSON" not in sql]


@pytest.mark.parametrize("sql", NATIVE, ids=[sql[:40] for sql in NATIVE])
def test_a_value_is_the_one_that_duckdb_gives(con: Any, sql: str) -> None:
    with duckdb.connect() as plain:
        wanted = plain.execute(f"SELECT {sql}").fetchall()[0][0]
    found = con.exec_driver_sql(f"SELECT {sql}").scalar()
    assert (type(found), found) == (type(wanted), wanted)


SENT: list[Any] = [
    True, 5, 2**62, 0.5, Decimal("-1.50"), "it's é 😀 :x %s ?", "", b"\x00\xff", None,
    dt.date(1969, 12, 31), dt.time(1, 2, 3), dt.datetime(2024, 1, 2, 3, 4, 5, 6),
]  # fmt: skip


@pytest.mark.parametrize("value", SENT, ids=[repr(value)[:30] for value in SENT])
def test_a_parameter_goes_there_and_back(con: Any, value: Any) -> None:
    assert con.execute(sa.text("SELECT :value"), {"value": value}).scalar() == value


REFLECTED = [
    ("default_schema_name", (), "main"),
    ("get_table_names", (), ["movies", "reviews"]),
    ("get_view_names", (), ["cheap"]),
    ("has_table", ("movies",), True),
    ("has_table", ("nowhere",), False),
    ("get_table_comment", ("movies",), {"text": "films"}),
    ("get_table_comment", ("reviews",), {"text": None}),
    ("get_unique_constraints", ("movies",), []),
    ("get_foreign_keys", ("movies",), []),
]


@pytest.mark.parametrize(
    ("name", "arguments", "found"), REFLECTED, ids=[f"{n}{a}" for n, a, _ in REFLECTED]
)
def test_the_inspector_finds(
    inspector: Any, name: str, arguments: tuple[str, ...], found: Any
) -> None:
    attribute = getattr(inspector, name)
    assert (attribute(*arguments) if callable(attribute) else attribute) == found


COLUMNS = [
    ("movies", "id", "INTEGER", False),
    ("movies", "title", "VARCHAR", False),
    ("movies", "synopsis", "VARCHAR", True),
    ("movies", "price", "NUMERIC(10, 2)", True),
    ("movies", "released", "DATE", True),
    ("reviews", "stars", "INTEGER", True),
    ("cheap", "title", "VARCHAR", True),
]


@pytest.mark.parametrize(("table", "name", "kind", "nullable"), COLUMNS)
def test_a_column_is_reflected(
    inspector: Any, engine: Any, table: str, name: str, kind: str, nullable: bool
) -> None:
    column = next(c for c in inspector.get_columns(table) if c["name"] == name)
    assert (column["type"].compile(engine.dialect), column["nullable"]) == (kind, nullable)


def test_metadata_is_reflected_and_joined_by_its_keys(con: Any, engine: Any) -> None:
    metadata = sa.MetaData()
    metadata.reflect(engine)
    movies, reviews = metadata.tables["movies"], metadata.tables["reviews"]
    assert con.scalar(sa.select(sa.func.count()).select_from(movies.join(reviews))) == 60
    per_movie = sa.select(reviews.c.movie_id, sa.func.avg(reviews.c.stars).label("stars"))
    best = per_movie.group_by(reviews.c.movie_id).order_by(sa.desc("stars"), "movie_id").limit(2)
    assert len(con.execute(best).all()) == 2


ERRORS = [
    ("SELECT nope FROM movies", "nope"),
    ("SELECT * FROM nowhere", "nowhere"),
    ("SELEC 1", "SELEC"),
    ("SELECT 'x'::INTEGER", "INT32"),
    ("INSERT INTO movies (id, title) VALUES (1, 'x')", "primary key"),
    ("INSERT INTO reviews VALUES (99, 1, 'x', 9)", "CHECK"),
    ("SELECT LLM_FILTER('x', nope) FROM movies", "nope"),
]


@pytest.mark.parametrize(("sql", "says"), ERRORS, ids=[sql[:40] for sql, _ in ERRORS])
def test_an_error_is_sqlalchemys_and_the_connection_goes_on(
    engine: Any, sql: str, says: str
) -> None:
    with engine.connect() as con:
        with pytest.raises(sa.exc.DBAPIError, match=says):
            con.exec_driver_sql(sql).all()
        con.rollback()
        assert con.exec_driver_sql("SELECT 42").scalar() == 42


class Base(orm.DeclarativeBase):  # type: ignore[misc, name-defined]
    pass


class Studio(Base):
    __tablename__ = "studios"
    id = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
    name = sa.Column(sa.String, nullable=False)
    films = orm.relationship("Film", back_populates="studio")


class Film(Base):
    __tablename__ = "films"
    id = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
    title = sa.Column(sa.String)
    paid = sa.Column(sa.Numeric(10, 2))
    studio_id = sa.Column(sa.ForeignKey("studios.id"))
    studio = orm.relationship("Studio", back_populates="films")


@pytest.fixture
def session(engine: Any) -> Iterator[Any]:
    Base.metadata.create_all(engine)
    with orm.Session(engine) as opened:
        opened.add_all([Studio(id=i, name=f"s{i}") for i in (1, 2)])
        opened.flush()
        opened.add_all(
            [Film(id=i, title=f"f{i}", paid=Decimal(i), studio_id=i % 2 + 1) for i in range(6)]
        )
        opened.commit()
        yield opened
        opened.rollback()
    Base.metadata.drop_all(engine)


def test_objects_are_loaded_with_those_they_belong_to(session: Any) -> None:
    found = session.scalars(sa.select(Studio).options(orm.selectinload(Studio.films)))
    assert {studio.name: len(studio.films) for studio in found} == {"s1": 3, "s2": 3}
    joined = sa.select(Film.title).join(Film.studio).where(Studio.name == "s2").order_by(Film.id)
    assert session.scalars(joined).all() == ["f1", "f3", "f5"]


def test_objects_are_changed_deleted_and_rolled_back(session: Any) -> None:
    film = session.get(Film, 3)
    film.title, film.paid = "changed", Decimal("9.99")
    session.commit()
    assert session.execute(sa.select(Film.title, Film.paid).where(Film.id == 3)).one() == (
        "changed",
        Decimal("9.99"),
    )
    session.delete(session.get(Film, 4))
    session.flush()
    assert session.scalar(sa.select(sa.func.count()).select_from(Film)) == 5
    session.rollback()
    assert session.scalar(sa.select(sa.func.count()).select_from(Film)) == 6


def test_a_model_decides_which_objects_are_loaded(session: Any) -> None:
    asked = sa.select(Film).where(sa.func.llm_filter("Is it odd?", Film.title))
    by_orm = {film.id for film in session.scalars(asked)}
    by_sql = session.execute(sa.text("SELECT id FROM films WHERE LLM_FILTER('Is it odd?', title)"))
    assert by_orm == {row.id for row in by_sql}


def test_many_rows_are_inserted_updated_and_returned(con: Any) -> None:
    rows = sa.Table("many", sa.MetaData(), sa.Column("a", sa.Integer), sa.Column("b", sa.String))
    con.execute(sa.schema.CreateTable(rows))
    con.execute(rows.insert(), [{"a": i, "b": f"n{i}"} for i in range(50)])
    changed = sa.update(rows).where(rows.c.a < 5).values(b="x").returning(rows.c.a)
    assert sorted(con.scalars(changed)) == [0, 1, 2, 3, 4]
    assert con.scalar(sa.select(sa.func.count()).where(rows.c.b == "x")) == 5
    con.rollback()
    assert not sa.inspect(con).has_table("many")
