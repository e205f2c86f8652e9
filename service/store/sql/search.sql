-- The search for a tenant's nearest faces, exactly or through the tenant's own HNSW index.

-- name: begin_search
-- The count of the tenant's changes and which of its faces came last; and whether its index ($2) is
-- there, built and whole. One that is missing, still building or broken is not.
SELECT (SELECT changes FROM tenant WHERE tenant_id = $1) AS changes,
       (SELECT seq FROM face WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1) AS last_seq,
       coalesce((
           SELECT indisvalid AND indisready FROM pg_index WHERE indexrelid = to_regclass($2)
       ), false) AS has_index

-- name: begin_index_search
-- How far the index is searched, in candidates ($1); where deleted faces lie in the way, it is
-- searched on until enough are found. The planner sees the tenant's name and not a parameter
-- (a partial index fits no unknown tenant). It takes the order that the index gives, and reads what
-- the index does not hold by another one, whatever the last statistics were.
SELECT set_config('hnsw.ef_search', $1::integer::text, true),
       set_config('hnsw.iterative_scan', 'strict_order', true),
       set_config('hnsw.max_scan_tuples', '2147483647', true),
       set_config('plan_cache_mode', 'force_custom_plan', true),
       set_config('enable_sort', 'off', true),
       set_config('enable_seqscan', 'off', true)

-- name: end_index_search
SELECT set_config('plan_cache_mode', 'auto', true),
       set_config('enable_sort', 'on', true),
       set_config('enable_seqscan', 'on', true)

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
