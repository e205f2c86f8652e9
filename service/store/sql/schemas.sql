-- Where the tables are and where pgvector is, on a connection with the search_path of the login.

-- name: schemas
-- home: the first schema of the search_path that has tables of Facette, else the one in which a new table
-- is created; null where the search_path names no usable schema. elsewhere: another schema with such
-- tables, of a role that the login belongs to. A table `migration` of another program has other columns.
WITH found AS (
    SELECT nspname, array_position(current_schemas(false), nspname) AS place, relowner
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relname = 'migration' AND relkind = 'r' AND (
        SELECT count(*) FROM pg_attribute
        WHERE attrelid = pg_class.oid AND NOT attisdropped
          AND attname IN ('number', 'name', 'sha256', 'applied_at')
    ) = 4
), chosen AS (
    SELECT coalesce(
        (SELECT nspname FROM found WHERE place IS NOT NULL ORDER BY place LIMIT 1), current_schema()
    ) AS home
)
SELECT quote_ident(home) AS home,
       has_schema_privilege(home::text, 'CREATE') AS may_create,
       home IS NOT NULL AND to_regclass(quote_ident(home) || '.migration') IS NOT NULL
           AND home NOT IN (SELECT nspname FROM found) AS is_taken,
       (
           SELECT quote_ident(nspname) FROM found
           WHERE NOT EXISTS (SELECT FROM found WHERE place IS NOT NULL)
             AND pg_has_role(relowner, 'MEMBER')
           ORDER BY nspname LIMIT 1
       ) AS elsewhere,
       (
           SELECT quote_ident(nspname)
           FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
           WHERE extname = 'vector'
       ) AS vector,
       (
           SELECT has_schema_privilege(extnamespace, 'USAGE') FROM pg_extension WHERE extname = 'vector'
       ) AS may_use_vector,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS vector_version,
       current_setting('search_path') AS search_path,
       quote_ident(session_user) AS login,
       quote_ident(current_database()) AS database
FROM chosen

-- name: use_schemas
-- For this connection: where unqualified names are looked up ($1).
SELECT set_config('search_path', $1, false)

-- name: create_vector
-- In the schema in which new tables are created.
CREATE EXTENSION IF NOT EXISTS vector

-- name: statements_to_correct_functions
-- Functions keep the search_path with which they were created. A schema that was renamed, or a pgvector
-- that was moved, is in another one ($1).
SELECT format('ALTER FUNCTION %s SET search_path = %s', pg_proc.oid::regprocedure, $1::text) AS statement
FROM pg_proc CROSS JOIN LATERAL unnest(proconfig) AS setting
WHERE pronamespace = quote_ident(current_schema())::regnamespace
  AND proname IN (
    'sum_inserted_vectors', 'sum_deleted_vectors', 'sum_changed_vector', 'sum_changed_faces',
    'sum_deleted_face', 'count_people', 'recount_clusters', 'count_images', 'count_inserted_faces',
    'count_deleted_faces', 'count_moved_faces', 'recount_faces'
  )
  AND starts_with(setting, 'search_path=') AND setting <> 'search_path=' || $1
