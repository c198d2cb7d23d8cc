"""SQLAlchemy in this process: reflection, ORM, pandas, several threads, one set of answers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from quackllm.server.sqlalchemy_dialect import QuackLLMDialect

URL = "quackllm:///:memory:?llm_provider=fake"

SCHEMA = """
CREATE TABLE films (id INTEGER PRIMARY KEY, title VARCHAR NOT NULL, price DECIMAL(9, 2),
    tags VARCHAR[], info STRUCT(a INTEGER), seen TIMESTAMP, kind ENUM('long', 'short'));
CREATE TABLE reviews (film INTEGER REFERENCES films (id), body VARCHAR DEFAULT 'none',
    stars UTINYINT, UNIQUE (film, body), CHECK (stars < 6));
COMMENT ON TABLE films IS 'Films of this year';
COMMENT ON COLUMN films.title IS 'As in the cinema';
INSERT INTO films (id, title) VALUES (1, 'Ducks'), (2, 'Trains'), (3, 'Ducks');
CREATE VIEW odd AS SELECT id, LLM_FILTER('Is it odd?', title) AS is_odd FROM films;
"""


@pytest.fixture
def engine() -> Iterator[sa.Engine]:
    made = sa.create_engine(URL)
    with made.begin() as con:
        for statement in SCHEMA.split(";\n"):
            if statement.strip():
                con.exec_driver_sql(statement)
    yield made
    close(made)


def close(engine: sa.Engine) -> None:
    engine.dispose()
    assert isinstance(engine.dialect, QuackLLMDialect)
    engine.dialect.dispose_databases()


def calls(con: sa.Connection) -> int:
    """Return how many calls have been made since connect."""
    made = con.exec_driver_sql("SELECT coalesce(sum(calls), 0) FROM llm_queries()").scalar_one()
    return int(made)


def test_tables_and_views_are_reflected_without_a_call(engine: sa.Engine) -> None:
    found = sa.MetaData()
    with engine.connect() as con, warnings.catch_warnings():
        warnings.simplefilter("error")
        found.reflect(con, views=True)
        assert calls(con) == 0
    assert set(found.tables) == {"films", "reviews", "odd"}
    films = found.tables["films"]
    types = {
        "id": sa.INTEGER, "title": sa.String, "price": sa.Numeric, "tags": sa.ARRAY,
        "info": sa.types.NullType, "seen": sa.TIMESTAMP, "kind": sa.String,
    }  # fmt: skip
    assert {name: isinstance(films.c[name].type, type_) for name, type_ in types.items()} == (
        dict.fromkeys(films.c.keys(), True)
    )
    assert films.comment == "Films of this year"
    assert films.c.title.comment == "As in the cinema"
    assert not films.c.title.nullable
    assert films.c.price.nullable
    assert [column.name for column in films.primary_key] == ["id"]
    assert [key.target_fullname for key in found.tables["reviews"].foreign_keys] == ["films.id"]
    assert type(found.tables["odd"].c.is_odd.type) is sa.BOOLEAN


def test_the_inspector_answers(engine: sa.Engine) -> None:
    inspector = sa.inspect(engine)
    assert inspector.get_table_names() == ["films", "reviews"]
    assert inspector.get_view_names() == ["odd"]
    assert "memory.main" in inspector.get_schema_names()
    assert inspector.has_table("films")
    assert not inspector.has_table("nothing")
    assert inspector.get_pk_constraint("films")["constrained_columns"] == ["id"]
    assert inspector.get_pk_constraint("reviews")["constrained_columns"] == []
    unique = inspector.get_unique_constraints("reviews")
    assert [constraint["column_names"] for constraint in unique] == [["film", "body"]]
    assert "stars < 6" in inspector.get_check_constraints("reviews")[0]["sqltext"]
    assert inspector.get_indexes("films") == []
    assert [column["name"] for column in inspector.get_columns("films", schema="memory.main")][
        :2
    ] == ["id", "title"]
    with pytest.raises(sa.exc.NoSuchTableError):
        inspector.get_columns("nothing")


def test_functions_take_columns_and_parameters(engine: sa.Engine) -> None:
    films = sa.table("films", sa.column("id"), sa.column("title"))
    asked = sa.select(films.c.id).where(sa.func.llm_filter("Is it odd?", films.c.title))
    with engine.connect() as con:
        by_core = con.execute(asked).scalars().all()
        by_text = con.execute(
            sa.text("SELECT id FROM films WHERE LLM_FILTER(:prompt, title)"),
            {"prompt": "Is it odd?"},
        )
        assert by_core == by_text.scalars().all()
        assert calls(con) == 2, "two titles, asked once for all"


def test_a_wrong_call_is_an_error_of_sqlalchemy(engine: sa.Engine) -> None:
    with engine.connect() as con, pytest.raises(sa.exc.DBAPIError, match="LLM_FILTER"):
        con.exec_driver_sql("SELECT LLM_FILTER() FROM films")


def test_pandas_reads_a_view_with_calls(engine: sa.Engine) -> None:
    with engine.connect() as con:
        frame = pd.read_sql(sa.text("SELECT * FROM odd ORDER BY id"), con)
    assert list(frame.columns) == ["id", "is_odd"]
    assert frame.is_odd[0] == frame.is_odd[2]


def test_pandas_writes_a_table(engine: sa.Engine) -> None:
    with engine.begin() as con:
        pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}).to_sql("written", con, index=False)
    with engine.connect() as con:
        assert con.exec_driver_sql("SELECT count(*) FROM written").scalar_one() == 2


class Base(DeclarativeBase):
    pass


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    title: Mapped[str]


def test_the_orm_creates_writes_and_asks(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Book(id=1, title="one"), Book(id=2, title="two")])
        session.commit()
        labels: sa.ColumnElement[Any] = sa.literal_column("['a', 'b']")
        rows = session.execute(
            sa.select(Book.title, sa.func.llm_classify(Book.title, labels)).order_by(Book.id)
        ).all()
        assert [title for title, _ in rows] == ["one", "two"]
        assert {label for _, label in rows} <= {"a", "b"}
        kept = session.scalars(sa.select(Book).where(sa.func.llm_filter("Good?", Book.title)))
        assert all(isinstance(book, Book) for book in kept)


def test_a_rollback_takes_rows_back_and_keeps_answers(engine: sa.Engine) -> None:
    with engine.connect() as con:
        con.exec_driver_sql("INSERT INTO films (id, title) VALUES (4, 'Boats')")
        con.exec_driver_sql("SELECT LLM_FILTER('Is it odd?', title) FROM films").all()
        con.rollback()
        assert con.exec_driver_sql("SELECT count(*) FROM films").scalar_one() == 3
        before = calls(con)
        con.exec_driver_sql("SELECT LLM_FILTER('Is it odd?', title) FROM films").all()
        assert calls(con) == before


def test_threads_share_the_database_and_its_answers(tmp_path: Path) -> None:
    engine = sa.create_engine(f"quackllm:///{tmp_path}/films.duckdb?llm_provider=fake&threads=2")
    with engine.begin() as con:
        con.exec_driver_sql("CREATE TABLE t AS SELECT range AS i FROM range(20)")

    def ask(_: int) -> list[Any]:
        with engine.connect() as con:
            found = con.exec_driver_sql("SELECT LLM_FILTER('Is it odd?', i) FROM t ORDER BY i")
            return [row[0] for row in found]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(8)))
    assert all(each == answers[0] for each in answers)
    with engine.connect() as con:
        assert con.exec_driver_sql("SELECT current_setting('threads')").scalar_one() == 2
    close(engine)


def test_an_unknown_setting_in_the_url_is_named() -> None:
    engine = sa.create_engine("quackllm:///:memory:?llm_modle=x")
    with pytest.raises(sa.exc.DBAPIError, match="llm_model"), engine.connect():
        pass
