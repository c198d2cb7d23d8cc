"""SQLAlchemy over psycopg: reflection, ORM, Core, pandas."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.server.pgwire.running import Running
from tests.server.pgwire.test_types import CASES

pytestmark = pytest.mark.clients

sa = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed (make clients)")
orm = pytest.importorskip("sqlalchemy.orm")


@pytest.fixture(scope="module")
def engine(served: Running) -> Iterator[Any]:
    engine = sa.create_engine(served.dsn.replace("postgresql://", "postgresql+psycopg://"))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def inspector(engine: Any) -> Any:
    return sa.inspect(engine)


REFLECTED = [
    ("default_schema_name", (), "main"),
    ("get_schema_names", (), ["information_schema", "main", "public"]),
    ("get_table_names", (), ["movies", "reviews"]),
    ("get_table_names", ("public",), []),
    ("get_view_names", (), ["cheap"]),
    ("get_sequence_names", (), []),
    ("get_temp_table_names", (), []),
    ("get_materialized_view_names", (), []),
    ("has_table", ("movies",), True),
    ("has_table", ("nowhere",), False),
    ("get_table_comment", ("movies",), {"text": "films"}),
    ("get_table_comment", ("reviews",), {"text": None}),
    ("get_unique_constraints", ("movies",), []),
    ("get_foreign_keys", ("movies",), []),
    ("get_indexes", ("movies",), []),
]


@pytest.mark.parametrize(
    ("name", "arguments", "found"), REFLECTED, ids=[f"{n}{a}" for n, a, _ in REFLECTED]
)
def test_the_inspector_finds(
    inspector: Any, name: str, arguments: tuple[str, ...], found: Any
) -> None:
    attribute = getattr(inspector, name)
    value = attribute(*arguments) if callable(attribute) else attribute
    assert (sorted(value) if isinstance(value, list) else value) == found


COLUMNS = [
    ("movies", "id", "INTEGER", False, None),
    ("movies", "title", "TEXT", False, None),
    ("movies", "synopsis", "TEXT", True, None),
    ("movies", "price", "NUMERIC(10, 2)", True, "1.5"),
    ("movies", "released", "DATE", True, None),
    ("movies", "tags", "TEXT[]", True, None),
    ("reviews", "stars", "INTEGER", True, None),
    ("cheap", "title", "TEXT", True, None),
]


@pytest.mark.parametrize(("table", "name", "kind", "nullable", "default"), COLUMNS)
def test_a_column_is_reflected(
    inspector: Any, engine: Any, table: str, name: str, kind: str, nullable: bool, default: Any
) -> None:
    column = next(c for c in inspector.get_columns(table) if c["name"] == name)
    shown = column["type"].compile(engine.dialect)
    assert (shown, column["nullable"], column["default"]) == (kind, nullable, default)


def test_keys_checks_and_indexes_are_reflected(inspector: Any) -> None:
    assert inspector.get_pk_constraint("movies")["constrained_columns"] == ["id"]
    [key] = inspector.get_foreign_keys("reviews")
    assert (key["constrained_columns"], key["referred_table"], key["referred_columns"]) == (
        ["movie_id"],
        "movies",
        ["id"],
    )
    [check] = inspector.get_check_constraints("reviews")
    assert "stars" in check["sqltext"]
    assert [(i["name"], i["column_names"]) for i in inspector.get_indexes("reviews")] == [
        ("reviews_of_movie", ["movie_id"])
    ]
    assert "price" in inspector.get_view_definition("cheap")


def test_metadata_is_reflected_whole_and_joined(engine: Any) -> None:
    metadata = sa.MetaData()
    metadata.reflect(engine, views=True)
    assert sorted(metadata.tables) == ["cheap", "movies", "reviews"]
    movies, reviews = metadata.tables["movies"], metadata.tables["reviews"]
    query = sa.select(sa.func.count()).select_from(movies.join(reviews))
    with engine.connect() as connection:
        assert connection.scalar(query) == 60


@pytest.mark.parametrize(("sql", "value"), CASES[:40], ids=[sql[:40] for sql, _ in CASES[:40]])
def test_a_value_arrives(engine: Any, sql: str, value: Any) -> None:
    with engine.connect() as connection:
        assert connection.exec_driver_sql(f"SELECT {sql.replace('%', '%%')}").scalar() == value


def test_the_orm_stores_loads_changes_and_deletes(engine: Any) -> None:
    base = orm.declarative_base()

    class Author(base):  # type: ignore[misc, valid-type]
        __tablename__ = "authors"
        id = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
        name = sa.Column(sa.String)
        paid = sa.Column(sa.Numeric(10, 2))
        born = sa.Column(sa.Date)

    base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all(
            [
                Author(id=i, name=f"n{i}", paid=Decimal("1.50"), born=dt.date(2000, 1, i))
                for i in (1, 2, 3)
            ]
        )
        session.commit()
        found = session.get(Author, 2)
        assert (found.name, found.paid, found.born) == ("n2", Decimal("1.50"), dt.date(2000, 1, 2))
        found.name = "changed"
        session.commit()
        with session.begin_nested():
            assert session.scalar(sa.select(sa.func.count()).select_from(Author)) == 3
        session.delete(found)
        session.rollback()
        assert session.scalar(sa.select(Author.name).where(Author.id == 2)) == "changed"
    base.metadata.drop_all(engine)


def test_a_prompt_is_a_parameter_and_pandas_reads(engine: Any) -> None:
    import pandas as pd

    query = sa.text("SELECT id, LLM_FILTER(:prompt, title) AS f FROM movies ORDER BY id LIMIT 5")
    with engine.connect() as connection:
        frame = pd.read_sql(query, connection, params={"prompt": "Is it read by pandas?"})
    assert list(frame["id"]) == [0, 1, 2, 3, 4]
