import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.util.concurrent.Callable;

/** Runs each line of standard input as a query and prints its first value; then the rest below. */
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
    show("type info", () -> m.getTypeInfo().next());
    show("functions", () -> m.getFunctions(null, null, "%") != null);
    show("keywords", () -> m.getSQLKeywords().length() > 0);
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
