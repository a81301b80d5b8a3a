"""What docs/analytics.md shows: the segments' columns for DuckDB, Trino, Athena and Spark, and queries for the rows."""

from __future__ import annotations

from collections.abc import Mapping

from cloud_archive.catalog.bucket.fields import DEL, FIELDS, PUT, SET

_DUCKDB: Mapping[str, str] = {
    "string": "VARCHAR",
    "long": "BIGINT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "strings": "VARCHAR[]",
    "loras": "STRUCT(name VARCHAR, strength DOUBLE)[]",
}
_TRINO: Mapping[str, str] = {
    "string": "varchar",
    "long": "bigint",
    "double": "double",
    "boolean": "boolean",
    "strings": "array(varchar)",
    "loras": "array(row(name varchar, strength double))",
}
_HIVE: Mapping[str, str] = {
    "string": "string",
    "long": "bigint",
    "double": "double",
    "boolean": "boolean",
    "strings": "array<string>",
    "loras": "array<struct<name:string,strength:double>>",
}
COLUMNS = tuple(one for one in FIELDS if {PUT, SET, DEL} & set(one.rows))


def duckdb_columns() -> str:
    """Return the value of `columns` with which DuckDB's `read_json` reads segments."""
    return "{" + ", ".join(f"{one.name}: '{_DUCKDB[one.kind]}'" for one in COLUMNS) + "}"


def duckdb_assets(files: str) -> str:
    """Return a DuckDB query for the assets that segments hold, by the rules of docs/catalog-format.md; without tags.

    Args:
        files: a pattern such as `segments/*/*.jsonl.gz`, without quotes in it.
    """
    return f"""\
WITH lines AS (
    SELECT * FROM read_json('{files}', format = 'newline_delimited', columns = {duckdb_columns()})
), puts AS (
    SELECT * FROM lines WHERE op = 'put'
    QUALIFY row_number() OVER (
        PARTITION BY key ORDER BY machine IS NULL, clock DESC, reader DESC, job_id IS NULL, machine DESC
    ) = 1
), gone AS (
    SELECT key, max(clock) AS clock FROM lines WHERE op = 'del' GROUP BY key
), edits AS (
    SELECT key, arg_max(rating, (clock, machine)) FILTER (rating IS NOT NULL) AS rating,
        arg_max(favorite, (clock, machine)) FILTER (favorite IS NOT NULL) AS favorite,
        arg_max(hidden, (clock, machine)) FILTER (hidden IS NOT NULL) AS hidden,
        arg_max(note, (clock, machine)) FILTER (note IS NOT NULL) AS note
    FROM lines WHERE op = 'set' GROUP BY key
)
SELECT puts.* EXCLUDE (op, rating, favorite, hidden, note, tags_added, tags_removed),
    coalesce(edits.rating, 0) AS rating, coalesce(edits.favorite, false) AS favorite,
    coalesce(edits.hidden, false) AS hidden, coalesce(edits.note, '') AS note
FROM puts LEFT JOIN gone USING (key) LEFT JOIN edits USING (key)
WHERE gone.clock IS NULL OR (puts.machine IS NOT NULL AND puts.clock > gone.clock)"""


def trino_table(bucket: str, base: str) -> str:
    """Return the statement that makes Trino's table of the segments in a bucket; `base` ends in `/`."""
    columns = ",\n".join(f"    {one.name} {_TRINO[one.kind]}" for one in COLUMNS)
    return (
        f"CREATE TABLE hive.archive.segments (\n{columns}\n)\n"
        f"WITH (format = 'JSON', external_location = 's3a://{bucket}/{base}segments/')"
    )


def athena_table(bucket: str, base: str) -> str:
    """Return the statement that makes Athena's table of the segments in a bucket; `base` ends in `/`."""
    columns = ",\n".join(f"    `{one.name}` {_HIVE[one.kind]}" for one in COLUMNS)
    return (
        f"CREATE EXTERNAL TABLE segments (\n{columns}\n)\n"
        "ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'\n"
        "WITH SERDEPROPERTIES ('ignore.malformed.json' = 'true')\n"
        f"LOCATION 's3://{bucket}/{base}segments/'"
    )


def latest_query(table: str = "segments") -> str:
    """Return a query in plain SQL for the latest put of each key, without deleted keys; edits are not applied."""
    return f"""\
SELECT * FROM (
    SELECT *, row_number() OVER (
        PARTITION BY key ORDER BY machine IS NULL, clock DESC, reader DESC, job_id IS NULL, machine DESC
    ) AS place
    FROM (
        SELECT *, max(CASE WHEN op = 'del' THEN clock END) OVER (PARTITION BY key) AS deleted_at
        FROM {table} WHERE op IN ('put', 'del')
    )
    WHERE op = 'put'
)
WHERE place = 1 AND (deleted_at IS NULL OR (machine IS NOT NULL AND clock > deleted_at))"""


def spark_view(bucket: str, base: str) -> str:
    """Return Python code that makes Spark's view of the segments in a bucket; `base` ends in `/`.

    The code gives the schema, because without it Spark reads all files twice.
    """
    lines: list[str] = []
    for one in COLUMNS:
        declared = f"{one.name} {_HIVE[one.kind]}"
        if lines and len(lines[-1]) + len(declared) < 100:
            lines[-1] += f", {declared}"
        else:
            lines.append(declared)
    schema = ",\n".join(f"    {line}" for line in lines)
    return (
        f'SCHEMA = """\n{schema}\n"""\n'
        f'FILES = "s3a://{bucket}/{base}segments/*/*.jsonl.gz"\n'
        "segments = spark.read.schema(SCHEMA).json(FILES)\n"
        'segments.createOrReplaceTempView("segments")'
    )
