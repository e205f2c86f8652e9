-- Statements of the indexer, on a connection of the tables' owner, which sees all tenants.

-- name: lock_indexing
-- Held by the one indexer that works, of whichever process, until its connection closes.
SELECT pg_try_advisory_lock(hashtextextended('facette indexing', 0))

-- name: vector_sets
-- The number of vectors of each tenant and model, where there are at least $1; of the tenant $2, or of
-- all when it is null. Vectors that are not matchable are in no index and not counted.
SELECT tenant_id, model_space,
       count(*) FILTER (WHERE indexed) AS indexed, count(*) FILTER (WHERE NOT indexed) AS waiting
FROM face_vector
WHERE is_matchable AND ($2::text IS NULL OR tenant_id = $2)
GROUP BY tenant_id, model_space
HAVING count(*) >= $1
ORDER BY tenant_id, model_space

-- name: vector_indexes
-- The indexes that the indexer built.
SELECT relname AS name, indisvalid AND indisready AS is_valid, pg_relation_size(oid) AS size_bytes
FROM pg_class JOIN pg_index ON indexrelid = oid
WHERE relkind = 'i' AND starts_with(relname, $1)
  AND relnamespace = quote_ident(current_schema())::regnamespace
ORDER BY relname

-- name: statement_to_build_index
-- A statement that builds a tenant's index concurrently with reads and writes, and the dimension to
-- which the index casts the vectors.
SELECT format(
    'CREATE INDEX CONCURRENTLY %I ON %s'
    ' USING hnsw ((embedding::halfvec(%s)) halfvec_cosine_ops)'
    ' WITH (m = %s, ef_construction = %s) WHERE tenant_id = %L AND model_space = %L AND indexed',
    $1::text, tableoid::regclass, vector_dims(embedding), $4::integer, $5::integer,
    tenant_id, model_space
) AS statement, vector_dims(embedding) AS dimension
FROM face_vector WHERE tenant_id = $2 AND model_space = $3
LIMIT 1

-- name: statement_to_clean_up
-- A statement that removes the dead rows left by marking a tenant's vectors as indexed.
SELECT format('VACUUM %s', tableoid::regclass) FROM face_vector
WHERE tenant_id = $1 LIMIT 1

-- name: statement_to_drop_index
SELECT format('DROP INDEX CONCURRENTLY IF EXISTS %I', $1::text)

-- name: use_build_settings
-- For this connection: memory for an index build in kilobytes, and the number of parallel workers.
SELECT set_config('maintenance_work_mem', $1::integer::text, false),
       set_config('max_parallel_maintenance_workers', $2::integer::text, false)

-- name: take_into_index
-- Marks some of a tenant's waiting vectors as indexed; rows locked by a deletion are skipped.
-- MATERIALIZED chooses them once instead of once per row.
WITH chosen AS MATERIALIZED (
    SELECT face_id FROM face_vector
    WHERE tenant_id = $1 AND model_space = $2 AND is_matchable AND NOT indexed
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
UPDATE face_vector SET indexed = true FROM chosen
WHERE tenant_id = $1 AND model_space = $2 AND face_vector.face_id = chosen.face_id
