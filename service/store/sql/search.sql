-- The search for a tenant's nearest faces: exact, or through the tenant's own HNSW index.

-- name: search_state
-- The tenant's count of changes, its number of clusters, the factor of its limit and its newest face; the
-- active space; and whether its index ($2) exists and is complete: false when it is missing, being built or
-- broken. With $3 the rest of the transaction uses generic plans: it looks faces up by their keys.
SELECT (SELECT changes FROM tenant WHERE tenant_id = $1) AS changes,
       (SELECT people FROM tenant WHERE tenant_id = $1) AS people,
       (SELECT match_factor FROM tenant WHERE tenant_id = $1) AS match_factor,
       (SELECT seq FROM face WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1) AS last_seq,
       (SELECT model_space FROM embedding_model WHERE is_active) AS active_space,
       coalesce((
           SELECT indisvalid AND indisready FROM pg_index WHERE indexrelid = to_regclass($2)
       ), false) AS has_index,
       CASE WHEN $3::boolean
           THEN set_config('plan_cache_mode', 'force_generic_plan', true) END AS plans

-- name: begin_search
-- Prepares the transaction for a search through an index, until `end_search`.
--
-- $1 is the number of candidates; deleted faces among them make the scan go on until it has enough. The
-- tenant is a literal, since a partial index fits no unknown tenant. Sorts and other scans are off, so the
-- planner takes the index's order whatever the statistics say, and reads waiting vectors through their
-- own index: that scan marks dead entries, which later scans skip.
SELECT set_config(name, value, true)
FROM (VALUES
    ('hnsw.ef_search', $1::integer::text),
    ('hnsw.iterative_scan', 'strict_order'),
    ('hnsw.max_scan_tuples', '2147483647'),
    ('plan_cache_mode', 'force_custom_plan'),
    ('enable_sort', 'off'),
    ('enable_seqscan', 'off'),
    ('enable_bitmapscan', 'off')
) AS setting (name, value)

-- name: end_search
-- Restores the planner's settings.
SELECT set_config(name, value, true)
FROM (VALUES
    ('plan_cache_mode', 'auto'),
    ('enable_sort', 'on'),
    ('enable_seqscan', 'on'),
    ('enable_bitmapscan', 'on')
) AS setting (name, value)

-- name: nearest_faces_among
-- For each embedding the nearest faces, $7 at most, among the candidates ($4, with the position of their
-- embedding in $5) and the faces newer than $6: those within the distance $8, but at least one. Also the
-- number of compared faces. `|| ''` makes the planner look each vector up by its face. No face is beyond the upper
-- bound of `seq`: of a lower one alone the planner expects a third of the faces, and reads them all where they are
-- of one tenant.
SELECT wanted.nth, face.face_id, face.cluster_id, near.distance, face.is_auto_matched, near.compared
FROM unnest($3::halfvec[]) WITH ORDINALITY AS wanted (embedding, nth)
CROSS JOIN LATERAL (
    SELECT candidate.face_id,
           vector.embedding <=> wanted.embedding AS distance, count(*) OVER () AS compared,
           row_number() OVER (ORDER BY vector.embedding <=> wanted.embedding) AS place
    FROM (
        SELECT face_id FROM unnest($4::uuid[], $5::integer[]) AS asked (face_id, nth)
        WHERE asked.nth = wanted.nth
        UNION ALL
        SELECT face_id FROM face WHERE tenant_id = $1 AND seq > $6 AND seq <= $6 + 1000000000000 AND is_matchable
    ) AS candidate
    CROSS JOIN LATERAL (
        SELECT embedding FROM face_vector
        WHERE tenant_id = $1 AND face_vector.face_id = candidate.face_id AND model_space || '' = $2
          AND is_matchable
        LIMIT 1
    ) AS vector
    ORDER BY distance
    LIMIT $7
) AS near
CROSS JOIN LATERAL (
    SELECT face_id, cluster_id, is_auto_matched FROM face
    WHERE tenant_id = $1 AND face.face_id = near.face_id LIMIT 1
) AS face
WHERE near.place = 1 OR near.distance <= $8
ORDER BY wanted.nth, near.distance, face.face_id

-- name: nearest_faces_exact
-- For each embedding the $4 nearest faces within the distance $5, but at least one, by comparison with
-- every matchable face. The `+ 0` keeps an index from giving the order.
SELECT wanted.nth, face.face_id, face.cluster_id, near.distance, face.is_auto_matched
FROM unnest($3::halfvec[]) WITH ORDINALITY AS wanted (embedding, nth)
CROSS JOIN LATERAL (
    SELECT face_id, distance, row_number() OVER (ORDER BY distance) AS place FROM (
        SELECT face_id, (embedding <=> wanted.embedding) + 0 AS distance
        FROM face_vector
        WHERE tenant_id = $1 AND model_space = $2 AND is_matchable
        ORDER BY distance
        LIMIT $4
    ) AS found
) AS near
JOIN face ON face.tenant_id = $1 AND face.face_id = near.face_id
WHERE near.place = 1 OR near.distance <= $5
ORDER BY wanted.nth, near.distance, face.face_id

-- name: nearest_faces_by_index
-- For each embedding the nearest faces from two sources: the index, and the vectors that wait to be
-- indexed. Within the distance $5, but at least one.
SELECT wanted.nth, face.face_id, face.cluster_id, near.distance, face.is_auto_matched
FROM unnest($3::halfvec[]) WITH ORDINALITY AS wanted (embedding, nth)
CROSS JOIN LATERAL (
    SELECT face_id, distance, row_number() OVER (ORDER BY distance) AS place FROM (
        (
            SELECT face_id, embedding::halfvec({dimension}) <=> wanted.embedding AS distance
            FROM face_vector
            WHERE tenant_id = $1 AND model_space = $2 AND indexed
            ORDER BY embedding::halfvec({dimension}) <=> wanted.embedding
            LIMIT $4
        )
        UNION
        SELECT face_id, embedding <=> wanted.embedding
        FROM face_vector
        WHERE tenant_id = $1 AND model_space = $2 AND is_matchable AND NOT indexed
    ) AS compared
    ORDER BY distance
    LIMIT $4
) AS near
JOIN face ON face.tenant_id = $1 AND face.face_id = near.face_id
WHERE near.place = 1 OR near.distance <= $5
ORDER BY wanted.nth, near.distance, face.face_id

-- name: nearest_faces_among_new
-- For each embedding all faces newer than $4 within the distance $5. The upper bound of `seq` is that of
-- `nearest_faces_among`.
SELECT wanted.nth, near.face_id, near.cluster_id, near.distance, near.is_auto_matched
FROM unnest($3::halfvec[]) WITH ORDINALITY AS wanted (embedding, nth)
CROSS JOIN LATERAL (
    SELECT face.face_id, face.cluster_id, face.is_auto_matched,
           vector.embedding <=> wanted.embedding AS distance
    FROM face
    CROSS JOIN LATERAL (
        SELECT embedding FROM face_vector
        WHERE tenant_id = $1 AND face_vector.face_id = face.face_id AND model_space || '' = $2
        LIMIT 1
    ) AS vector
    WHERE face.tenant_id = $1 AND face.seq > $4 AND face.seq <= $4 + 1000000000000 AND face.is_matchable
) AS near
WHERE near.distance <= $5

-- name: clusters_of_faces
SELECT face_id, cluster_id, is_auto_matched FROM face WHERE tenant_id = $1 AND face_id = ANY($2::uuid[])

-- name: sums_of_clusters
-- The number of matchable faces of each cluster, and the sum of their vectors in the binary form of an
-- array: the driver would take far longer to convert the numbers one by one.
SELECT cluster_id, array_send(total) AS total FROM cluster_sum
WHERE tenant_id = $1 AND model_space = $2 AND cluster_id = ANY($3::uuid[])

-- name: clusters_put_together
-- Those of the given clusters that a person changed: more than one of their faces, other than $3, was not
-- auto-matched.
SELECT cluster_id FROM face
WHERE tenant_id = $1 AND cluster_id = ANY($2::uuid[]) AND NOT is_auto_matched
  AND face_id IS DISTINCT FROM $3::uuid
GROUP BY cluster_id HAVING count(*) > 1
