-- The search for a tenant's nearest faces, exactly or through the tenant's own HNSW index.

-- name: search_state
-- The count of the tenant's changes, how many clusters it has, and which of its faces came last; and
-- whether its index ($2) is there, built and whole: one that is missing, still building or broken is
-- not. With $3 the rest of the transaction is not planned anew: it asks for faces by their keys.
SELECT (SELECT changes FROM tenant WHERE tenant_id = $1) AS changes,
       (SELECT people FROM tenant WHERE tenant_id = $1) AS people,
       (SELECT seq FROM face WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1) AS last_seq,
       coalesce((
           SELECT indisvalid AND indisready FROM pg_index WHERE indexrelid = to_regclass($2)
       ), false) AS has_index,
       CASE WHEN $3::boolean
           THEN set_config('plan_cache_mode', 'force_generic_plan', true) END AS plans

-- name: begin_search
-- Sets the transaction up for a search through an index, until `end_search`.
--
-- How far the index is searched is said in candidates ($1); where deleted faces lie in the way, it is
-- searched on until enough are found. The planner sees the tenant's name and not a parameter
-- (a partial index fits no unknown tenant). It takes the order that the index gives, whatever the last
-- statistics were, and reads what the index does not hold by another one, entry by entry: only such
-- a scan marks the entries of vectors that were taken in, so that the next one passes over them.
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
-- What comes next is planned as usual.
SELECT set_config(name, value, true)
FROM (VALUES
    ('plan_cache_mode', 'auto'),
    ('enable_sort', 'on'),
    ('enable_seqscan', 'on'),
    ('enable_bitmapscan', 'on')
) AS setting (name, value)

-- name: nearest_faces_among
-- For each embedding: the nearest ($7) of the faces that are worth comparing ($4, each with the number
-- of its embedding in $5) and of those that came after one ($6), as far as they are near ($8), but at
-- least one; and how many were compared. With || '' a vector is looked for by its face, whatever the
-- last statistics say.
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
        SELECT face_id FROM face WHERE tenant_id = $1 AND seq > $6 AND is_matchable
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
-- For each embedding: the nearest ($4), as far as they are near ($5), but at least one. Every face that
-- others may be matched against is compared: no index gives the order of this sum.
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
-- For each embedding: the nearest that the index finds, those that it does not hold yet, and those that
-- are worth comparing for another reason ($6, each with the number of its embedding in $7); as far as
-- they are near ($5), but at least one.
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
        UNION
        SELECT asked.face_id, vector.embedding <=> wanted.embedding
        FROM unnest($6::uuid[], $7::integer[]) AS asked (face_id, nth)
        CROSS JOIN LATERAL (
            SELECT embedding FROM face_vector
            WHERE tenant_id = $1 AND face_vector.face_id = asked.face_id AND model_space || '' = $2
              AND is_matchable
            LIMIT 1
        ) AS vector
        WHERE asked.nth = wanted.nth
    ) AS compared
    ORDER BY distance
    LIMIT $4
) AS near
JOIN face ON face.tenant_id = $1 AND face.face_id = near.face_id
WHERE near.place = 1 OR near.distance <= $5
ORDER BY wanted.nth, near.distance, face.face_id

-- name: nearest_faces_among_new
-- For each embedding: all faces that came after one ($4), as far as they are near ($5).
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
    WHERE face.tenant_id = $1 AND face.seq > $4 AND face.is_matchable
) AS near
WHERE near.distance <= $5

-- name: clusters_of_faces
SELECT face_id, cluster_id, is_auto_matched FROM face WHERE tenant_id = $1 AND face_id = ANY($2::uuid[])

-- name: sums_of_clusters
-- How many faces of each cluster others may be matched against, and the sum of their vectors, as the
-- server sends an array: a driver takes far longer to make numbers of it one by one.
SELECT cluster_id, array_send(total) AS total FROM cluster_sum
WHERE tenant_id = $1 AND model_space = $2 AND cluster_id = ANY($3::uuid[])

-- name: clusters_put_together
-- Those of the given clusters that a person had a hand in: more than one of their faces was not matched.
SELECT cluster_id FROM face
WHERE tenant_id = $1 AND cluster_id = ANY($2::uuid[]) AND NOT is_auto_matched
GROUP BY cluster_id HAVING count(*) > 1
