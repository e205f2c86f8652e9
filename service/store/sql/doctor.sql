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
UNION ALL SELECT 'merged_cluster' WHERE EXISTS (SELECT FROM merged_cluster)
UNION ALL SELECT 'face' WHERE EXISTS (SELECT FROM face)
UNION ALL SELECT 'face_vector' WHERE EXISTS (SELECT FROM face_vector)
UNION ALL SELECT 'review' WHERE EXISTS (SELECT FROM review)
UNION ALL SELECT 'change' WHERE EXISTS (SELECT FROM change)
UNION ALL SELECT 'kept_answer' WHERE EXISTS (SELECT FROM kept_answer)
UNION ALL SELECT 'decision' WHERE EXISTS (SELECT FROM decision)
UNION ALL SELECT 'decision_face' WHERE EXISTS (SELECT FROM decision_face)
UNION ALL SELECT 'change_face' WHERE EXISTS (SELECT FROM change_face)
UNION ALL SELECT 'change_cluster' WHERE EXISTS (SELECT FROM change_cluster)
UNION ALL SELECT 'change_decision' WHERE EXISTS (SELECT FROM change_decision)
UNION ALL SELECT 'change_review' WHERE EXISTS (SELECT FROM change_review)

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
-- Rows of a tenant ($1) without their parent. Foreign keys forbid most of them. A caller may name a person
-- that has no face yet.
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
        WHERE ($1::text IS NULL OR tenant_id = $1) AND label IS NULL AND external_id IS NULL
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
    ) AS sums_without_cluster,
    (
        SELECT count(*) FROM merged_cluster
        WHERE ($1::text IS NULL OR tenant_id = $1)
          AND NOT EXISTS (
            SELECT FROM cluster
            WHERE cluster.tenant_id = merged_cluster.tenant_id
              AND cluster.cluster_id = merged_cluster.merged_into
          )
    ) AS merges_without_cluster,
    (
        SELECT count(*) FROM change
        WHERE ($1::text IS NULL OR tenant_id = $1)
          AND NOT EXISTS (SELECT FROM tenant WHERE tenant.tenant_id = change.tenant_id)
    ) AS changes_without_tenant,
    (
        SELECT count(*) FROM kept_answer
        WHERE ($1::text IS NULL OR tenant_id = $1)
          AND NOT EXISTS (SELECT FROM tenant WHERE tenant.tenant_id = kept_answer.tenant_id)
    ) AS answers_without_tenant

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
-- The number of tenants ($1) whose count of clusters, images or faces is wrong.
SELECT count(*) FROM tenant
LEFT JOIN (SELECT tenant_id, count(*) AS clusters FROM cluster GROUP BY tenant_id) AS of_clusters
    USING (tenant_id)
LEFT JOIN (SELECT tenant_id, count(*) AS shown FROM image GROUP BY tenant_id) AS of_images
    USING (tenant_id)
LEFT JOIN (SELECT tenant_id, count(*) AS found FROM face GROUP BY tenant_id) AS of_faces
    USING (tenant_id)
WHERE (people, images, faces) <> (coalesce(clusters, 0), coalesce(shown, 0), coalesce(found, 0))
  AND ($1::text IS NULL OR tenant_id = $1)

-- name: clusters_counted_wrongly
-- The number of clusters of a tenant ($1) whose count of faces or images, or whose cover, is wrong.
SELECT count(*) FROM cluster
CROSS JOIN LATERAL (
    SELECT count(*) AS found, count(DISTINCT image_id) AS shown,
           count(*) FILTER (WHERE face_id = cover_face_id) AS covers
    FROM face WHERE face.tenant_id = cluster.tenant_id AND face.cluster_id = cluster.cluster_id
) AS counted
WHERE ((faces, images) <> (found, shown) OR (covers = 0 AND (found > 0 OR cover_face_id IS NOT NULL)))
  AND ($1::text IS NULL OR tenant_id = $1)

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
       (SELECT count(*) FROM review WHERE tenant_id = $1) AS reviews,
       (SELECT count(*) FROM merged_cluster WHERE tenant_id = $1) AS merges,
       (SELECT count(*) FROM decision WHERE tenant_id = $1) AS decisions,
       (SELECT count(*) FROM decision_face WHERE tenant_id = $1) AS decision_faces,
       (SELECT count(*) FROM change WHERE tenant_id = $1) AS changes,
       (SELECT count(*) FROM kept_answer WHERE tenant_id = $1) AS kept_answers

-- name: quoted
SELECT quote_nullable($1::text)

-- name: time_of_database
SELECT clock_timestamp()

-- name: make_room_for_listing
-- The contents of the blob store, for the lifetime of the connection: joined in the database, a listing
-- of any size takes no memory of the command.
-- `thumbnail_of` is the image of a thumbnail, and null for other blobs.
CREATE TEMPORARY TABLE listed_blob (
    key text NOT NULL,
    modified_at timestamptz NOT NULL,
    size_bytes bigint NOT NULL,
    thumbnail_of uuid
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

-- name: people_out_of_bounds
-- Rows about a tenant's people ($1) that the service never stores, and that no import takes.
SELECT
    (
        SELECT count(*) FROM cluster
        WHERE ($1::text IS NULL OR tenant_id = $1)
          AND (label <> btrim(label) OR label ~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]')
    ) AS labels,
    (
        SELECT count(*) FROM cluster
        WHERE ($1::text IS NULL OR tenant_id = $1) AND (
            btrim(external_id) = ''
            OR external_id ~ '[\u0001-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]'
        )
    ) AS external_ids,
    (
        SELECT count(*) FROM cluster
        WHERE ($1::text IS NULL OR tenant_id = $1)
          AND NOT (extract(epoch FROM last_face_at) BETWEEN 0 AND 7258118399 AND version >= 1)
    ) AS times,
    (
        SELECT count(*) FROM merged_cluster
        WHERE ($1::text IS NULL OR tenant_id = $1) AND (
            NOT extract(epoch FROM merged_at) BETWEEN 0 AND 7258118399
            OR EXISTS (
                SELECT FROM cluster
                WHERE cluster.tenant_id = merged_cluster.tenant_id
                  AND cluster.cluster_id = merged_cluster.cluster_id
            )
        )
    ) AS merges

-- name: faces_of_decisions_elsewhere
-- How many faces of a tenant's decisions ($1) are not where their rows say.
SELECT count(*) FROM decision_face JOIN face USING (tenant_id, face_id)
WHERE ($1::text IS NULL OR tenant_id = $1) AND decision_face.cluster_id <> face.cluster_id

-- name: decisions_without_a_side
-- A tenant's decisions ($1) that say nothing, since they lack faces.
SELECT decision_id FROM decision LEFT JOIN decision_face USING (tenant_id, decision_id)
WHERE $1::text IS NULL OR tenant_id = $1
GROUP BY tenant_id, decision_id, kind
HAVING CASE kind WHEN 'same' THEN count(side) < 2 ELSE count(DISTINCT side) < 2 END

-- name: contradicted_decisions
-- A tenant's decisions ($1) that hold, and whose faces are together or apart against them.
SELECT decision_id FROM decision JOIN decision_face USING (tenant_id, decision_id)
WHERE ($1::text IS NULL OR tenant_id = $1) AND is_active AND left_by IS NULL
GROUP BY tenant_id, decision_id, kind
HAVING CASE kind
    WHEN 'same' THEN count(DISTINCT cluster_id) > 1
    ELSE count(DISTINCT (cluster_id, side)) > count(DISTINCT cluster_id) END

-- name: changes_about_what_is_gone
-- A tenant's changes ($1) that speak of a face, an image, a decision or a person that was erased. An erasure
-- names what it erased. Of a person who went without an erasure the history has the state before, or faces
-- that are left.
WITH told AS (
    SELECT * FROM change
    WHERE ($1::text IS NULL OR tenant_id = $1)
      AND kind NOT IN ('image.deleted', 'face.deleted', 'person.deleted')
),
people AS (
    SELECT tenant_id, change, id::uuid AS cluster_id
    FROM told
    CROSS JOIN LATERAL unnest(ARRAY[
        subject ->> 'person_id', subject ->> 'from_person_id', subject ->> 'merged_person_id',
        subject ->> 'new_person_id'
    ]) AS id
    WHERE id IS NOT NULL
    UNION SELECT tenant_id, change, cluster_id FROM told JOIN change_cluster USING (tenant_id, change)
    UNION SELECT tenant_id, change, cluster_id FROM told JOIN change_review USING (tenant_id, change)
    UNION SELECT tenant_id, change, other_cluster_id FROM told JOIN change_review USING (tenant_id, change)
    WHERE other_cluster_id IS NOT NULL
),
faces AS (
    SELECT tenant_id, change, id::uuid AS face_id
    FROM told
    CROSS JOIN LATERAL (
        SELECT subject ->> 'face_id' AS id
        UNION ALL SELECT jsonb_array_elements_text(
            CASE jsonb_typeof(subject -> 'face_ids') WHEN 'array' THEN subject -> 'face_ids' ELSE '[]' END
        )
    ) AS named
    WHERE id IS NOT NULL
)
SELECT tenant_id, change FROM faces
WHERE NOT EXISTS (
    SELECT FROM face WHERE face.tenant_id = faces.tenant_id AND face.face_id = faces.face_id
)
UNION
SELECT tenant_id, change FROM told
WHERE subject ? 'image_id' AND NOT EXISTS (
    SELECT FROM image
    WHERE image.tenant_id = told.tenant_id AND image.image_id = (subject ->> 'image_id')::uuid
)
UNION
SELECT tenant_id, change FROM told
WHERE subject ? 'decision_id' AND NOT EXISTS (
    SELECT FROM decision
    WHERE decision.tenant_id = told.tenant_id AND decision.decision_id = (subject ->> 'decision_id')::uuid
)
UNION
SELECT tenant_id, change FROM people
WHERE NOT EXISTS (
    SELECT FROM cluster
    WHERE cluster.tenant_id = people.tenant_id AND cluster.cluster_id = people.cluster_id
) AND NOT EXISTS (
    SELECT FROM merged_cluster
    WHERE merged_cluster.tenant_id = people.tenant_id AND merged_cluster.cluster_id = people.cluster_id
) AND NOT EXISTS (
    SELECT FROM change_cluster AS last
    WHERE last.tenant_id = people.tenant_id AND last.cluster_id = people.cluster_id AND last.after IS NULL
) AND NOT EXISTS (
    SELECT FROM change_face AS went
    WHERE went.tenant_id = people.tenant_id AND went.before_cluster_id = people.cluster_id
) AND NOT EXISTS (
    SELECT FROM change_face AS came
    WHERE came.tenant_id = people.tenant_id AND came.after_cluster_id = people.cluster_id
)
ORDER BY tenant_id, change

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
-- Blobs last written before $1: bytes that no image names, and thumbnails of no image.
SELECT key FROM listed_blob
WHERE modified_at < $1 AND thumbnail_of IS NULL AND NOT EXISTS (SELECT FROM image WHERE blob_key = key)
UNION ALL
SELECT key FROM listed_blob
WHERE modified_at < $1 AND thumbnail_of IS NOT NULL AND NOT EXISTS (
    SELECT FROM image
    WHERE image_id = thumbnail_of
      AND left(key, 32) = left(encode(sha256(convert_to(tenant_id, 'UTF8')), 'hex'), 32)
)

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
