-- The search for the people of a tenant that are nearest to a face. All of it only reads.

-- name: search_state_and_face
-- What `search_state` tells; and the face $4 with its vector of the space $5, null where it has none. All of
-- the face is null where there is no such face.
WITH state AS MATERIALIZED ({search_state})
SELECT state.*, face.face_id, face.cluster_id, face.image_id, face.area, face.is_auto_matched,
       face.quality, face.quality_facts, face.is_matchable, vector.embedding
FROM state
LEFT JOIN face ON face.tenant_id = $1 AND face.face_id = $4
LEFT JOIN LATERAL (
    SELECT embedding FROM face_vector
    WHERE tenant_id = $1 AND face_vector.face_id = $4 AND model_space || '' = $5
    LIMIT 1
) AS vector ON true

-- name: some_people
-- The people of a tenant, $3 at most, with $2 those who have a label.
SELECT cluster_id FROM cluster
WHERE tenant_id = $1 AND (NOT $2::boolean OR label IS NOT NULL)
LIMIT $3

-- name: people_of_faces
-- For each embedding the people of the candidates ($4, with the position of their embedding in $5), and of
-- the $7 nearest of the faces newer than $6. With the nearest of these faces, other than $8, and its distance,
-- the distance of the nearest one that the machine did not match, and the sum of the person's faces, as
-- `sums_of_people` gives it; with $9 only of those who have a label. The upper bound of `seq` is that of
-- `nearest_faces_among`.
WITH near AS MATERIALIZED (
    SELECT wanted.nth, face.cluster_id,
           (array_agg(candidate.face_id ORDER BY vector.distance))[1] AS face_id,
           min(vector.distance) AS distance,
           min(vector.distance) FILTER (WHERE NOT face.is_auto_matched) AS placed
    FROM unnest($3::halfvec[]) WITH ORDINALITY AS wanted (embedding, nth)
    CROSS JOIN LATERAL (
        SELECT face_id FROM unnest($4::uuid[], $5::integer[]) AS asked (face_id, nth)
        WHERE asked.nth = wanted.nth
        UNION ALL
        (
            SELECT new.face_id
            FROM face AS new
            CROSS JOIN LATERAL (
                SELECT embedding <=> wanted.embedding AS distance FROM face_vector
                WHERE tenant_id = $1 AND face_vector.face_id = new.face_id AND model_space || '' = $2
                LIMIT 1
            ) AS vector
            WHERE new.tenant_id = $1 AND new.seq > $6 AND new.seq <= $6 + 1000000000000 AND new.is_matchable
            ORDER BY vector.distance
            LIMIT $7
        )
    ) AS candidate
    CROSS JOIN LATERAL (
        SELECT cluster_id, is_auto_matched FROM face
        WHERE tenant_id = $1 AND face.face_id = candidate.face_id AND is_matchable
        LIMIT 1
    ) AS face
    LEFT JOIN LATERAL (
        SELECT embedding <=> wanted.embedding AS distance FROM face_vector
        WHERE tenant_id = $1 AND face_vector.face_id = candidate.face_id AND model_space || '' = $2
          AND candidate.face_id IS DISTINCT FROM $8::uuid
        LIMIT 1
    ) AS vector ON true
    GROUP BY wanted.nth, face.cluster_id
)
SELECT near.nth, near.cluster_id, near.face_id, near.distance, near.placed,
       vector_send(sum.total) AS total
FROM near
CROSS JOIN LATERAL (
    SELECT total::vector AS total FROM cluster_sum
    WHERE tenant_id = $1 AND cluster_sum.cluster_id = near.cluster_id AND model_space || '' = $2
    LIMIT 1
) AS sum
WHERE NOT $9::boolean OR EXISTS (
    SELECT FROM cluster
    WHERE tenant_id = $1 AND cluster.cluster_id = near.cluster_id AND label IS NOT NULL
)

-- name: nearest_people_exact
-- For each embedding the $4 people with the nearest faces, by comparison with every matchable face but $6;
-- with $5 of those who have a label. With the distance to the nearest face that the machine did not match; to
-- find each one's nearest face as well would take sorting all faces.
SELECT wanted.nth, near.cluster_id, NULL::uuid AS face_id, NULL::double precision AS distance, near.placed
FROM unnest($3::halfvec[]) WITH ORDINALITY AS wanted (embedding, nth)
CROSS JOIN LATERAL (
    SELECT face.cluster_id, min(vector.embedding <=> wanted.embedding) AS distance,
           min(vector.embedding <=> wanted.embedding)
               FILTER (WHERE NOT face.is_auto_matched) AS placed
    FROM face_vector AS vector
    JOIN face ON face.tenant_id = $1 AND face.face_id = vector.face_id
    WHERE vector.tenant_id = $1 AND vector.model_space = $2 AND vector.is_matchable
      AND vector.face_id IS DISTINCT FROM $6::uuid
      AND (NOT $5::boolean OR face.cluster_id IN (
          SELECT cluster_id FROM cluster WHERE tenant_id = $1 AND label IS NOT NULL
      ))
    GROUP BY face.cluster_id
    ORDER BY distance, face.cluster_id
    LIMIT $4
) AS near

-- name: sums_of_people
-- The number of matchable faces of each of the people $3, and the sum of their vectors in single precision,
-- in the binary form of a vector, which is made much faster than that of an array. With $4 only of those
-- who have a label.
SELECT asked.cluster_id, vector_send(sum.total) AS total
FROM unnest($3::uuid[]) AS asked (cluster_id)
CROSS JOIN LATERAL (
    SELECT total::vector AS total FROM cluster_sum
    WHERE tenant_id = $1 AND cluster_sum.cluster_id = asked.cluster_id AND model_space || '' = $2
    LIMIT 1
) AS sum
WHERE NOT $4::boolean OR EXISTS (
    SELECT FROM cluster
    WHERE tenant_id = $1 AND cluster.cluster_id = asked.cluster_id AND label IS NOT NULL
)

-- name: nearest_faces_of_people
-- For each of the people $4, with the position of an embedding in $5, the face nearest to it of the $7 that
-- came last, other than $6. With $8 of those that the machine did not match.
SELECT DISTINCT ON (asked.nth, asked.cluster_id) asked.nth, asked.cluster_id, face.face_id,
       vector.embedding <=> wanted.embedding AS distance
FROM unnest($4::uuid[], $5::integer[]) AS asked (cluster_id, nth)
JOIN unnest($3::halfvec[]) WITH ORDINALITY AS wanted (embedding, nth) ON wanted.nth = asked.nth
CROSS JOIN LATERAL (
    SELECT face_id FROM face
    WHERE tenant_id = $1 AND face.cluster_id = asked.cluster_id AND is_matchable
      AND face_id IS DISTINCT FROM $6::uuid AND (NOT $8::boolean OR NOT is_auto_matched)
    ORDER BY seq DESC
    LIMIT $7
) AS face
CROSS JOIN LATERAL (
    SELECT embedding FROM face_vector
    WHERE tenant_id = $1 AND face_vector.face_id = face.face_id AND model_space || '' = $2
    LIMIT 1
) AS vector
ORDER BY asked.nth, asked.cluster_id, distance, face.face_id
