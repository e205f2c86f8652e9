-- The search for a tenant's nearest faces, exactly or through the tenant's own HNSW index.

-- name: vector_index_is_valid
-- Whether the index is there, built and whole. One that is missing, still building or broken is not.
SELECT coalesce((
    SELECT indisvalid AND indisready FROM pg_index WHERE indexrelid = to_regclass($1)
), false)

-- name: begin_index_search
-- How far the index is searched, in candidates ($1); where deleted faces lie in the way, it is
-- searched on until enough are found. The planner sees the tenant's name and not a parameter
-- (a partial index fits no unknown tenant), and takes the order that the index gives.
SELECT set_config('hnsw.ef_search', $1::integer::text, true),
       set_config('hnsw.iterative_scan', 'strict_order', true),
       set_config('hnsw.max_scan_tuples', '2147483647', true),
       set_config('plan_cache_mode', 'force_custom_plan', true),
       set_config('enable_sort', 'off', true)

-- name: end_index_search
SELECT set_config('plan_cache_mode', 'auto', true), set_config('enable_sort', 'on', true)

-- name: nearest_faces_exact
-- For each embedding. Every face of the tenant is compared.
SELECT wanted.nth, face.face_id, face.cluster_id, near.distance
FROM unnest($3::halfvec[]) WITH ORDINALITY AS wanted (embedding, nth)
CROSS JOIN LATERAL (
    SELECT face_id, embedding <=> wanted.embedding AS distance
    FROM face_vector
    WHERE tenant_id = $1 AND model_space = $2
    ORDER BY distance
    LIMIT $4
) AS near
JOIN face ON face.tenant_id = $1 AND face.face_id = near.face_id
ORDER BY wanted.nth, near.distance, face.face_id

-- name: nearest_faces_by_index
-- For each embedding: the nearest among the candidates ($5) that the index gives by the signs of
-- the vectors' numbers, and among those that it does not hold yet.
SELECT wanted.nth, face.face_id, face.cluster_id, near.distance
FROM unnest($3::halfvec[]) WITH ORDINALITY AS wanted (embedding, nth)
CROSS JOIN LATERAL (
    SELECT face_id, distance FROM (
        SELECT face_id, embedding <=> wanted.embedding AS distance
        FROM (
            SELECT face_id, embedding
            FROM face_vector
            WHERE tenant_id = $1 AND model_space = $2 AND indexed
            ORDER BY binary_quantize(embedding)::bit(512)
                <~> binary_quantize(wanted.embedding)::bit(512)
            LIMIT $5
        ) AS candidate
        UNION ALL
        SELECT face_id, embedding <=> wanted.embedding AS distance
        FROM face_vector
        WHERE tenant_id = $1 AND model_space = $2 AND NOT indexed
    ) AS compared
    ORDER BY distance
    LIMIT $4
) AS near
JOIN face ON face.tenant_id = $1 AND face.face_id = near.face_id
ORDER BY wanted.nth, near.distance, face.face_id
