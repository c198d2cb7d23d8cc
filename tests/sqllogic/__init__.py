"""Replays tests in DuckDB's sqllogictest format through quackllm and through plain DuckDB.

records.py reads a file; values.py compares results with what the file expects; sides.py
are the two connections; replay.py runs a file; `python -m tests.sqllogic.run FILE...`
replays any files.

Read: statement ok / error / maybe (expected messages, also `<REGEX>:` and `<!REGEX>:`),
query with sort modes, labels and hashes, `<REGEX>:` values, loop, foreach, endloop,
require, require-env, mode skip / unskip, skipif, onlyif, halt, load, restart, reconnect,
connections by name, set seed, sleep, hash-threshold, tags, __TEST_DIR__.
Loops that ask for concurrency run one after the other. A file that needs anything else
(include, template, unzip, test-env, continue, <FILE>: results) is skipped, with the reason.
"""
