-- Reads the vectors from which the binary codes of a tenant's faces are made, the sums of the clusters, and
-- the deleted faces.

-- name: codes_after
-- The faces newer than $3 in their order, $4 at most: their number, the `seq` of the last, and for those
-- that are matchable the dimension of their vectors and one value with the ids of face and cluster, the
-- `seq`, and the vector: as four bytes and its binary code at 512 dimensions, else in full.
SELECT count(*) AS faces, max(seq) AS last_seq,
       min(dimension) AS dimension, max(dimension) AS largest_dimension,
       string_agg(
           uuid_send(face_id) || uuid_send(cluster_id) || int8send(seq)
           || CASE dimension
               WHEN 512 THEN bit_send(binary_quantize(embedding)::bit(512))
               ELSE halfvec_send(embedding)
           END,
           '' ORDER BY seq
       ) FILTER (WHERE dimension IS NOT NULL) AS sent
FROM (
    SELECT face.face_id, cluster_id, seq, embedding, vector_dims(embedding) AS dimension
    FROM (
        SELECT face_id, cluster_id, seq, is_matchable FROM face
        WHERE tenant_id = $1 AND seq > $3 ORDER BY seq LIMIT $4
    ) AS face
    LEFT JOIN LATERAL (
        SELECT embedding FROM face_vector
        WHERE tenant_id = $1 AND face_vector.face_id = face.face_id AND model_space || '' = $2
        LIMIT 1
    ) AS vector ON face.is_matchable
) AS held

-- name: sums_after
-- The sums of the clusters behind $3 in the order of their ids, $4 at most: one value with the id of each,
-- the number of its faces and the sum in single precision; null without one. With the dimension.
SELECT max(cardinality(total)) - 1 AS dimension,
       string_agg(uuid_send(cluster_id) || vector_send(total::vector), '' ORDER BY cluster_id) AS sent
FROM (
    SELECT cluster_id, total FROM cluster_sum
    WHERE tenant_id = $1 AND cluster_id > $3 AND model_space = $2
    ORDER BY cluster_id LIMIT $4
) AS summed

-- name: notify_of_face
-- Tells every process, with the commit, that a face is deleted: the tenant's SHA-256, since any login may
-- listen, and the face.
SELECT pg_notify('facette_deletions', encode(sha256(convert_to($1, 'UTF8')), 'hex') || ' ' || $2::uuid)

-- name: notify_of_image
-- The same of the faces of an image, by hundreds: a notification has room for 8,000 bytes.
SELECT pg_notify('facette_deletions', encode(sha256(convert_to($1, 'UTF8')), 'hex') || ' ' || string_agg(face_id::text, ' '))
FROM (
    SELECT face_id, (row_number() OVER () - 1) / 200 AS part FROM face
    WHERE tenant_id = $1 AND image_id = $2
) AS gone
GROUP BY part

-- name: notify_of_cluster
-- The same of the faces of a cluster.
SELECT pg_notify('facette_deletions', encode(sha256(convert_to($1, 'UTF8')), 'hex') || ' ' || string_agg(face_id::text, ' '))
FROM (
    SELECT face_id, (row_number() OVER () - 1) / 200 AS part FROM face
    WHERE tenant_id = $1 AND cluster_id = $2
) AS gone
GROUP BY part

-- name: notify_of_tenant
-- The same of all faces of a tenant, which are not named.
SELECT pg_notify('facette_deletions', encode(sha256(convert_to($1, 'UTF8')), 'hex'))
