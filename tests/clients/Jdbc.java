import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.util.concurrent.Callable;

/**
 * Runs each line of standard input as a query and prints its first value; then the rest below.
 *
 * Arguments: the server's URL, and that of one whose model takes a minute.
 */
public class Jdbc {
  static void show(String name, Callable<Object> work) {
    String said;
    try {
      said = String.valueOf(work.call());
    } catch (Exception error) {
      String state = error instanceof SQLException ? ((SQLException) error).getSQLState() : "";
      said = "ERROR " + state + " " + String.valueOf(error.getMessage()).split("\n")[0];
    }
    System.out.println(name + "\t" + said.replace("\n", "\\n"));
  }

  static String column(ResultSet rows, String name) throws SQLException {
    StringBuilder all = new StringBuilder();
    while (rows.next()) all.append(all.length() == 0 ? "" : ",").append(rows.getString(name));
    return all.toString();
  }

  static Object first(ResultSet rows) throws SQLException {
    rows.next();
    return rows.getObject(1);
  }

  /** The class and the value of the first column, asked for often enough to come in binary. */
  static String typed(Connection c, String sql) throws SQLException {
    PreparedStatement p = c.prepareStatement("SELECT " + sql);
    Object value = null;
    for (int round = 0; round < 7; round++) value = first(p.executeQuery());
    if (value instanceof Array) value = java.util.Arrays.toString((Object[]) ((Array) value).getArray());
    if (value instanceof byte[]) value = java.util.Arrays.toString((byte[]) value);
    return value.getClass().getSimpleName() + " " + value;
  }

  static String state(Callable<Object> work) throws Exception {
    try {
      return "none: " + work.call();
    } catch (SQLException error) {
      return error.getSQLState();
    }
  }

  /** Cancel a question after a second; then the connection has to go on. */
  static String cancelled(String url) throws Exception {
    Connection slow = DriverManager.getConnection(url);
    Statement s = slow.createStatement();
    Thread other = new Thread(() -> {
      try {
        Thread.sleep(1000);
        s.cancel();
      } catch (Exception error) {
        error.printStackTrace();
      }
    });
    other.start();
    String ended = state(() -> s.executeQuery("SELECT LLM_FILTER('Is it odd?', title) FROM movies"));
    other.join();
    return ended + " " + first(slow.createStatement().executeQuery("SELECT 42"));
  }

  public static void main(String[] arguments) throws Exception {
    System.setOut(new java.io.PrintStream(System.out, true, "UTF-8"));
    Connection c = DriverManager.getConnection(arguments[0]);
    BufferedReader lines =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = lines.readLine()) != null; ) {
      final String sql = line;
      show(sql, () -> {
        ResultSet rows = c.createStatement().executeQuery("SELECT " + sql);
        rows.next();
        return rows.getString(1);
      });
    }
    DatabaseMetaData m = c.getMetaData();
    show("tables", () -> column(m.getTables(null, "main", "%", new String[] {"TABLE"}), "TABLE_NAME"));
    show("views", () -> column(m.getTables(null, "main", "%", new String[] {"VIEW"}), "TABLE_NAME"));
    show("columns", () -> column(m.getColumns(null, "main", "movies", "%"), "COLUMN_NAME"));
    show("types", () -> column(m.getColumns(null, "main", "movies", "%"), "TYPE_NAME"));
    show("schemas", () -> column(m.getSchemas(), "TABLE_SCHEM"));
    show("primary key", () -> column(m.getPrimaryKeys(null, "main", "movies"), "COLUMN_NAME"));
    show("imported", () -> column(m.getImportedKeys(null, "main", "reviews"), "PKTABLE_NAME"));
    show("exported", () -> column(m.getExportedKeys(null, "main", "movies"), "FKTABLE_NAME"));
    show("indexes", () -> column(m.getIndexInfo(null, "main", "reviews", false, false), "INDEX_NAME"));
    show("type info", () -> column(m.getTypeInfo(), "TYPE_NAME").contains("timestamptz"));
    show("nullable", () -> column(m.getColumns(null, "main", "movies", "%"), "IS_NULLABLE"));
    show("default", () -> column(m.getColumns(null, "main", "movies", "price"), "COLUMN_DEF"));
    show("sizes", () -> column(m.getColumns(null, "main", "movies", "price"), "COLUMN_SIZE"));
    show("remarks", () -> column(m.getTables(null, "main", "movies", null), "REMARKS"));
    show("product", () -> m.getDatabaseProductName() + " " + m.getDatabaseMajorVersion());
    show("best row", () -> column(m.getBestRowIdentifier(null, "main", "movies", 0, true), "COLUMN_NAME"));
    show("isolation", () -> c.getTransactionIsolation() == Connection.TRANSACTION_REPEATABLE_READ);
    show("schema", () -> c.getSchema());
    PreparedStatement p = c.prepareStatement("SELECT ?::INT + 1, ?, ?::DECIMAL(5, 2)");
    for (int round = 0; round < 7; round++) { // the sixth is a named statement, in binary
      p.setInt(1, round);
      p.setString(2, "é");
      p.setBigDecimal(3, new BigDecimal("1.50"));
      show("prepared " + round, () -> {
        ResultSet rows = p.executeQuery();
        rows.next();
        return rows.getInt(1) + rows.getString(2) + rows.getBigDecimal(3);
      });
    }
    show("described", () -> {
      PreparedStatement q = c.prepareStatement("SELECT id, title FROM movies WHERE id = ?");
      return q.getMetaData().getColumnTypeName(1) + q.getParameterMetaData().getParameterTypeName(1);
    });
    show("array", () -> {
      PreparedStatement q = c.prepareStatement("SELECT count(*) FROM movies WHERE id = ANY (?)");
      q.setArray(1, c.createArrayOf("int4", new Integer[] {1, 2}));
      return column(q.executeQuery(), "count_star()");
    });
    show("batch", () -> {
      c.createStatement().execute("CREATE TEMP TABLE kept (id INTEGER, name VARCHAR)");
      PreparedStatement b = c.prepareStatement("INSERT INTO kept VALUES (?,?)");
      for (int i = 0; i < 5; i++) {
        b.setInt(1, i);
        b.setString(2, "n" + i);
        b.addBatch();
      }
      return b.executeBatch().length;
    });
    show("copy", () -> {
      org.postgresql.copy.CopyManager copies = ((org.postgresql.PGConnection) c).getCopyAPI();
      copies.copyIn("COPY kept FROM STDIN CSV", new StringReader("90,a\n91,b\n"));
      StringWriter out = new StringWriter();
      return copies.copyOut("COPY kept TO STDOUT CSV", out);
    });
    for (String sql : new String[] {
        "true", "1::SMALLINT", "5", "5::BIGINT", "1.5::FLOAT", "0.1::DOUBLE", "1.50::DECIMAL(5, 2)",
        "'é'", "DATE '2024-02-29'", "TIMESTAMP '2024-01-02 03:04:05.678'", "TIME '01:02:03'",
        "'\\x00\\xFF'::BLOB", "'12345678-1234-1234-1234-123456789012'::UUID", "[1, NULL, 3]",
        "['a', 'b c']", "{'a': 1}"}) {
      show("typed " + sql, () -> typed(c, sql));
    }
    show("result described", () -> {
      ResultSetMetaData r =
          c.createStatement().executeQuery("SELECT price, title AS t FROM movies").getMetaData();
      return r.getPrecision(1) + "," + r.getScale(1) + "," + r.getColumnLabel(2) + ","
          + r.getColumnClassName(1);
    });
    show("generated keys", () -> {
      PreparedStatement q = c.prepareStatement("INSERT INTO kept VALUES (7, 'k')", new String[] {"id"});
      q.executeUpdate();
      return first(q.getGeneratedKeys());
    });
    show("several results", () -> {
      Statement q = c.createStatement();
      q.execute("SELECT 1; UPDATE kept SET name = 'u' WHERE id = 7; SELECT 'x'");
      Object one = first(q.getResultSet());
      q.getMoreResults();
      int count = q.getUpdateCount();
      q.getMoreResults();
      return one + "," + count + "," + first(q.getResultSet());
    });
    show("batch that fails", () -> {
      Statement q = c.createStatement();
      q.addBatch("INSERT INTO kept VALUES (50, 'x')");
      q.addBatch("INSERT INTO movies (id, title) VALUES (1, 'again')");
      return state(() -> q.executeBatch().length)
          + " " + first(c.createStatement().executeQuery("SELECT count(*) FROM kept WHERE id = 50"));
    });
    show("parameter of wrong type", () -> {
      PreparedStatement q = c.prepareStatement("SELECT ?::INTEGER");
      q.setString(1, "x");
      return state(() -> q.executeQuery());
    });
    show("date that is none", () -> {
      PreparedStatement q = c.prepareStatement("SELECT id FROM movies WHERE released = ?");
      q.setObject(1, "2024-13-01", Types.OTHER);
      return state(() -> q.executeQuery());
    });
    show("NUL", () -> {
      PreparedStatement q = c.prepareStatement("SELECT ?");
      q.setString(1, "a\0b");
      return state(() -> q.executeQuery());
    });
    show("after NUL", () -> first(c.createStatement().executeQuery("SELECT 42")));
    show("large statement", () -> {
      String text = "x".repeat(3_000_000);
      return first(c.createStatement().executeQuery("SELECT length('" + text + "')"));
    });
    show("unknown database", () ->
        state(() -> DriverManager.getConnection(arguments[0].replace("/shop", "/nope"))));
    show("position", () -> {
      try {
        return c.createStatement().executeQuery("SELECT id,\n nope, LLM_FILTER('x', title) FROM movies");
      } catch (org.postgresql.util.PSQLException error) {
        return error.getServerErrorMessage().getPosition();
      }
    });
    show("time limit", () -> {
      Statement q = c.createStatement();
      q.setQueryTimeout(1);
      String slow = "SELECT sum(hash(a.i * b.i)) FROM range(1000000) a(i), range(1000000) b(i)";
      return state(() -> q.executeQuery(slow)) + " " + first(c.createStatement().executeQuery("SELECT 42"));
    });
    show("cancel", () -> cancelled(arguments[1]));
    show("state", () -> c.createStatement().executeQuery("SELECT nope"));
    show("notice", () -> {
      Statement s = c.createStatement();
      s.executeQuery("SELECT LLM_FILTER('by JDBC?', title) FROM movies WHERE id < 3");
      return s.getWarnings().getMessage();
    });
    c.setAutoCommit(false);
    show("fetch size", () -> {
      Statement s = c.createStatement();
      s.setFetchSize(10);
      ResultSet rows = s.executeQuery("SELECT i FROM range(105) r(i)");
      int count = 0;
      while (rows.next()) count++;
      return count;
    });
    show("savepoint", () -> {
      Savepoint s = c.setSavepoint();
      c.rollback(s);
      return "kept";
    });
    c.rollback();
    c.close();
  }
}
