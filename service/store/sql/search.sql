-- The search for a tenant's nearest faces, exactly or through the tenant's own HNSW index.

-- name: begin_search
-- The count of the tenant's changes and which of its faces came last; and whether its index ($2) is
-- there, built and whole: one that is missing, still building or broken is not. Where it is, the
-- transaction is set up for it until `end_search`.
--
-- How far the index is searched is said in candidates ($3); where deleted faces lie in the way, it is
-- searched on until enough are found. The planner sees the tenant's name and not a parameter
-- (a partial index fits no unknown tenant). It takes the order that the index gives, whatever the last
-- statistics were, and reads what the index does not hold by another one, entry by entry: only such
-- a scan marks the entries of vectors that were taken in, so that the next one passes over them.
SELECT changes, last_seq, has_index, CASE WHEN has_index THEN (
    SELECT count(set_config(name, value, true))
    FROM (VALUES
        ('hnsw.ef_search', $3::integer::text),
        ('hnsw.iterative_scan', 'strict_order'),
        ('hnsw.max_scan_tuples', '2147483647'),
        ('plan_cache_mode', 'force_custom_plan'),
        ('enable_sort', 'off'),
        ('enable_seqscan', 'off'),
        ('enable_bitmapscan', 'off')
    ) AS setting (name, value)
) END
FROM (
    SELECT (SELECT changes FROM tenant WHERE tenant_id = $1) AS changes,
           (SELECT seq FROM face WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1) AS last_seq,
           coalesce((
               SELECT indisvalid AND indisready FROM pg_index WHERE indexrelid = to_regclass($2)
           ), false) AS has_index
) AS state

-- name: search_harder
SELECT set_config('hnsw.ef_search', $1::integer::text, true)

-- name: end_search
-- What comes next is planned as usual.
SELECT set_config(name, value, true)
FROM (VALUES
    ('plan_cache_mode', 'auto'),
    ('enable_sort', 'on'),
    ('enable_seqscan', 'on'),
    ('enable_bitmapscan', 'on')
) AS setting (name, value)

-- name: nearest_faces_exact
-- For each embedding. Every face of the tenant is compared: no index gives the order of this sum.
SELECT wanted.nth, face.face_id, face.cluster_id, near.distance
FROM unnest($3::halfvec[]) WITH ORDINALITY AS wanted (embedding, nth)
CROSS JOIN LATERAL (
    SELECT face_id, (embedding <=> wanted.embedding) + 0 AS distance
    FROM face_vector
    WHERE tenant_id = $1 AND model_space = $2
    ORDER BY distance
    LIMIT $4
) AS near
JOIN face ON face.tenant_id = $1 AND face.face_id = near.face_id
ORDER BY wanted.nth, near.distance, face.face_id

-- name: nearest_faces_by_index
-- For each embedding: the nearest that the index finds, and those that it does not hold yet.
SELECT wanted.nth, face.face_id, face.cluster_id, near.distance
FROM unnest($3::halfvec[]) WITH ORDINALITY AS wanted (embedding, nth)
CROSS JOIN LATERAL (
    (
        SELECT face_id, embedding <=> wanted.embedding AS distance
        FROM face_vector
        WHERE tenant_id = $1 AND model_space = $2 AND indexed
        ORDER BY embedding <=> wanted.embedding
        LIMIT $4
    )
    UNION ALL
    SELECT face_id, embedding <=> wanted.embedding AS distance
    FROM face_vector
    WHERE tenant_id = $1 AND model_space = $2 AND NOT indexed
    ORDER BY distance
    LIMIT $4
) AS near
JOIN face ON face.tenant_id = $1 AND face.face_id = near.face_id
ORDER BY wanted.nth, near.distance, face.face_id

-- name: nearest_faces_among_new
-- For each embedding: all faces that came after one ($4), as far as they are near ($5).
SELECT wanted.nth, near.face_id, near.cluster_id, near.distance
FROM unnest($3::halfvec[]) WITH ORDINALITY AS wanted (embedding, nth)
CROSS JOIN LATERAL (
    SELECT face.face_id, face.cluster_id, face_vector.embedding <=> wanted.embedding AS distance
    FROM face
    JOIN face_vector ON face_vector.tenant_id = $1 AND face_vector.face_id = face.face_id
    WHERE face.tenant_id = $1 AND face.seq > $4 AND model_space = $2
) AS near
WHERE near.distance <= $5

-- name: clusters_of_faces
SELECT face_id, cluster_id FROM face WHERE tenant_id = $1 AND face_id = ANY($2::uuid[])
