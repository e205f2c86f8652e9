-- Statements of the doctor, on a connection of the tables' owner, which sees all tenants. Where a
-- statement takes a tenant, null stands for all of them.

-- name: server_versions
SELECT current_setting('server_version') AS postgresql,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector

-- name: migration_table_exists
-- In the schema of the tables: another schema of the search_path may have one of another program.
SELECT to_regclass(quote_ident(current_schema()) || '.migration') IS NOT NULL

-- name: applied_migrations
SELECT number, sha256 FROM migration ORDER BY number

-- name: login_can_become_service_role
SELECT pg_has_role(session_user, 'facette_service', 'MEMBER')

-- name: tables_without_row_level_security
SELECT relname AS name
FROM pg_class
WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relkind IN ('r', 'p') AND NOT relrowsecurity
  AND EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid = pg_class.oid AND attname = 'tenant_id' AND NOT attisdropped
  )
ORDER BY relname

-- name: tables_with_other_policies
-- A table has exactly one policy; a partition, reached through its parent, has none.
SELECT relname AS name
FROM pg_class
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(polname::text), '{}') AS policies
    FROM pg_policy WHERE polrelid = pg_class.oid
) AS found
WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relkind IN ('r', 'p') AND relrowsecurity
  AND policies <> CASE WHEN relispartition THEN '{}'::text[] ELSE '{own_tenant}' END
  AND EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid = pg_class.oid AND attname = 'tenant_id' AND NOT attisdropped
  )
ORDER BY relname

-- name: tables_that_show_rows
-- Run as the service's role for a tenant that does not exist: there must be none.
SELECT 'tenant' AS name WHERE EXISTS (SELECT FROM tenant)
UNION ALL SELECT 'image' WHERE EXISTS (SELECT FROM image)
UNION ALL SELECT 'cluster' WHERE EXISTS (SELECT FROM cluster)
UNION ALL SELECT 'cluster_sum' WHERE EXISTS (SELECT FROM cluster_sum)
UNION ALL SELECT 'face' WHERE EXISTS (SELECT FROM face)
UNION ALL SELECT 'face_vector' WHERE EXISTS (SELECT FROM face_vector)
UNION ALL SELECT 'review' WHERE EXISTS (SELECT FROM review)

-- name: indexes_being_built
SELECT relname AS name
FROM pg_stat_progress_create_index JOIN pg_class ON pg_class.oid = index_relid

-- name: indexes_of_tenant
-- The HNSW indexes (named with the prefix $1) over vectors of the tenant, which may outlive the tenant.
-- The tenant's id is a literal without escapes in the index's condition.
SELECT relname AS name
FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid
WHERE relkind = 'i' AND starts_with(relname, $1)
  AND relnamespace = quote_ident(current_schema())::regnamespace
  AND strpos(
    pg_get_expr(indpred, indrelid),
    'tenant_id = ''' || replace($2::text, '''', '''''') || '''::'
  ) > 0
ORDER BY relname

-- name: dangling_rows
-- Rows of a tenant ($1) without their parent. Foreign keys forbid most of them.
SELECT
    (
        SELECT count(*) FROM image
        WHERE ($1::text IS NULL OR tenant_id = $1)
          AND NOT EXISTS (SELECT FROM tenant WHERE tenant.tenant_id = image.tenant_id)
    ) AS images_without_tenant,
    (
        SELECT count(*) FROM cluster
        WHERE ($1::text IS NULL OR tenant_id = $1)
          AND NOT EXISTS (SELECT FROM tenant WHERE tenant.tenant_id = cluster.tenant_id)
    ) AS clusters_without_tenant,
    (
        SELECT count(*) FROM cluster
        WHERE ($1::text IS NULL OR tenant_id = $1)
          AND NOT EXISTS (
            SELECT FROM face
            WHERE face.tenant_id = cluster.tenant_id AND face.cluster_id = cluster.cluster_id
          )
    ) AS clusters_without_face,
    (
        SELECT count(*) FROM face
        WHERE ($1::text IS NULL OR tenant_id = $1)
          AND NOT EXISTS (
            SELECT FROM image
            WHERE image.tenant_id = face.tenant_id AND image.image_id = face.image_id
          )
    ) AS faces_without_image,
    (
        SELECT count(*) FROM face
        WHERE ($1::text IS NULL OR tenant_id = $1)
          AND NOT EXISTS (
            SELECT FROM cluster
            WHERE cluster.tenant_id = face.tenant_id AND cluster.cluster_id = face.cluster_id
          )
    ) AS faces_without_cluster,
    (
        SELECT count(*) FROM review
        WHERE ($1::text IS NULL OR tenant_id = $1)
          AND NOT EXISTS (
            SELECT FROM cluster
            WHERE cluster.tenant_id = review.tenant_id AND cluster.cluster_id = review.cluster_id
          )
    ) AS reviews_without_cluster,
    (
        SELECT count(*) FROM face_vector
        WHERE ($1::text IS NULL OR tenant_id = $1)
          AND NOT EXISTS (
            SELECT FROM face
            WHERE face.tenant_id = face_vector.tenant_id AND face.face_id = face_vector.face_id
          )
    ) AS vectors_without_face,
    (
        SELECT count(*) FROM cluster_sum
        WHERE ($1::text IS NULL OR tenant_id = $1)
          AND NOT EXISTS (
            SELECT FROM cluster
            WHERE cluster.tenant_id = cluster_sum.tenant_id
              AND cluster.cluster_id = cluster_sum.cluster_id
          )
    ) AS sums_without_cluster

-- name: sums_that_differ
-- Sums of a tenant's clusters ($1) that are missing, that belong to no vectors, and that differ from the
-- sum of their vectors. The comparison is exact: the sums do not depend on the order of addition.
SELECT count(*) FILTER (WHERE kept.total IS NULL) AS missing,
       count(*) FILTER (WHERE summed.total IS NULL) AS of_nothing,
       count(*) FILTER (WHERE kept.total <> summed.total) AS wrong
FROM (
    SELECT face.tenant_id, cluster_id, model_space, halfvec_total(embedding) AS total
    FROM face JOIN face_vector USING (tenant_id, face_id)
    WHERE face.is_matchable AND ($1::text IS NULL OR face.tenant_id = $1)
    GROUP BY face.tenant_id, cluster_id, model_space
) AS summed
FULL JOIN (
    SELECT tenant_id, cluster_id, model_space, total FROM cluster_sum
    WHERE $1::text IS NULL OR tenant_id = $1
) AS kept USING (tenant_id, cluster_id, model_space)
WHERE kept.total IS DISTINCT FROM summed.total

-- name: tenants_counted_wrongly
-- The number of tenants ($1) whose count of clusters is wrong.
SELECT count(*) FROM tenant
LEFT JOIN (SELECT tenant_id, count(*) AS clusters FROM cluster GROUP BY tenant_id) AS counted
    USING (tenant_id)
WHERE people <> coalesce(clusters, 0) AND ($1::text IS NULL OR tenant_id = $1)

-- name: vectors_matched_otherwise
-- Vectors of a tenant ($1) whose `is_matchable` differs from their face's, and indexed vectors that are
-- not matchable.
SELECT count(*) FROM face JOIN face_vector USING (tenant_id, face_id)
WHERE ($1::text IS NULL OR tenant_id = $1)
  AND (face.is_matchable <> face_vector.is_matchable OR (indexed AND NOT face.is_matchable))

-- name: faces_without_vector
-- Faces of a tenant ($1) without any vector, and without one of the space $2.
SELECT count(*) FILTER (WHERE NOT has_any) AS of_any_model, count(*) AS of_this_model
FROM face
CROSS JOIN LATERAL (
    SELECT EXISTS (
        SELECT FROM face_vector
        WHERE face_vector.tenant_id = face.tenant_id AND face_vector.face_id = face.face_id
    ) AS has_any
) AS found
WHERE ($1::text IS NULL OR tenant_id = $1)
  AND NOT EXISTS (
    SELECT FROM face_vector
    WHERE face_vector.tenant_id = face.tenant_id AND face_vector.face_id = face.face_id
      AND face_vector.model_space = $2
  )

-- name: rows_by_kind
SELECT (SELECT count(*) FROM tenant WHERE tenant_id = $1) AS tenants,
       (SELECT count(*) FROM image WHERE tenant_id = $1) AS images,
       (SELECT count(*) FROM face WHERE tenant_id = $1) AS faces,
       (SELECT count(*) FROM face_vector WHERE tenant_id = $1) AS vectors,
       (SELECT count(*) FROM cluster WHERE tenant_id = $1) AS clusters,
       (SELECT count(*) FROM review WHERE tenant_id = $1) AS reviews

-- name: quoted
SELECT quote_nullable($1::text)

-- name: time_of_database
SELECT clock_timestamp()

-- name: make_room_for_listing
-- The contents of the blob store, for the lifetime of the connection: joined in the database, a listing
-- of any size takes no memory of the command.
CREATE TEMPORARY TABLE listed_blob (
    key text NOT NULL, modified_at timestamptz NOT NULL, size_bytes bigint NOT NULL
)

-- name: know_listing
ANALYZE listed_blob

-- name: images_with_stray_keys
-- Images of a tenant ($1) whose key is not one of service/store/blob/names.py.
SELECT blob_key AS key FROM image
WHERE ($1::text IS NULL OR tenant_id = $1)
  AND NOT (
    left(blob_key, 70)
        = left(encode(sha256(convert_to(tenant_id, 'UTF8')), 'hex'), 32) || '/' || image_id || '.'
    AND substr(blob_key, 71) ~ '^[a-z0-9]{1,16}$'
  )

-- name: tenants_with_strange_ids
-- Ids that the API refuses: migration 9 lets none in, and leaves those that existed.
SELECT left(tenant_id, 80) AS name FROM tenant
WHERE NOT (
    char_length(tenant_id) BETWEEN 1 AND 128 AND btrim(tenant_id) <> ''
    AND tenant_id !~ '[\u0001-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]'
) AND ($1::text IS NULL OR tenant_id = $1)

-- name: images_without_blob
-- Images stored before the listing began ($1), whose blob it should contain.
SELECT blob_key AS key FROM image
WHERE blob_key IS NOT NULL AND created_at < $1 AND ($2::text IS NULL OR tenant_id = $2)
  AND NOT EXISTS (SELECT FROM listed_blob WHERE key = image.blob_key)

-- name: images_of_another_size
SELECT blob_key AS key, image.size_bytes AS stored_bytes, listed_blob.size_bytes AS found_bytes
FROM image JOIN listed_blob ON key = blob_key
WHERE image.size_bytes <> listed_blob.size_bytes AND ($1::text IS NULL OR tenant_id = $1)

-- name: blobs_without_image
-- Blobs last written before $1.
SELECT key FROM listed_blob
WHERE modified_at < $1 AND NOT EXISTS (SELECT FROM image WHERE blob_key = key)

-- name: is_importing
-- Whether a transaction holds the lock of the sweeps ($1), as an import does.
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted AND objsubid = 1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid::bigint << 32 | objid::bigint = $1::bigint
)

-- name: size_of_listing
SELECT count(*) AS blobs, coalesce(sum(size_bytes), 0)::bigint AS size_bytes FROM listed_blob
