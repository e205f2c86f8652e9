-- What the indexer asks and does, on a connection of the tables' owner, which sees all tenants.

-- name: lock_indexing
-- One indexer works at a time, in whichever process; the lock ends with the connection.
SELECT pg_try_advisory_lock(hashtextextended('facette indexing', 0))

-- name: vector_sets
-- How many vectors each tenant has of each model, where there are at least $1 of them; of one
-- tenant ($2), or with null of all. Those that nothing is matched against are in no index.
SELECT tenant_id, model_space,
       count(*) FILTER (WHERE indexed) AS indexed, count(*) FILTER (WHERE NOT indexed) AS waiting
FROM face_vector
WHERE is_matchable AND ($2::text IS NULL OR tenant_id = $2)
GROUP BY tenant_id, model_space
HAVING count(*) >= $1
ORDER BY tenant_id, model_space

-- name: vector_indexes
-- The indexes that the indexer made.
SELECT relname AS name, indisvalid AND indisready AS is_valid, pg_relation_size(oid) AS size_bytes
FROM pg_class JOIN pg_index ON indexrelid = oid
WHERE relkind = 'i' AND starts_with(relname, $1)
ORDER BY relname

-- name: statement_to_build_index
-- The statement that makes a tenant's index without keeping anybody from reading or writing, and the
-- dimension of the vectors, which the index casts them to.
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
-- The statement that removes what marking a tenant's vectors as indexed left behind.
SELECT format('VACUUM %s', tableoid::regclass) FROM face_vector
WHERE tenant_id = $1 LIMIT 1

-- name: statement_to_drop_index
SELECT format('DROP INDEX CONCURRENTLY IF EXISTS %I', $1::text)

-- name: use_build_settings
-- For this connection: kilobytes of memory for an index build, and processes beside its own.
SELECT set_config('maintenance_work_mem', $1::integer::text, false),
       set_config('max_parallel_maintenance_workers', $2::integer::text, false)

-- name: take_into_index
-- Some of a tenant's waiting vectors, without waiting for those that others are about to delete.
-- MATERIALIZED: they are chosen once, and not for each row anew.
WITH chosen AS MATERIALIZED (
    SELECT face_id FROM face_vector
    WHERE tenant_id = $1 AND model_space = $2 AND is_matchable AND NOT indexed
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
UPDATE face_vector SET indexed = true FROM chosen
WHERE tenant_id = $1 AND model_space = $2 AND face_vector.face_id = chosen.face_id
