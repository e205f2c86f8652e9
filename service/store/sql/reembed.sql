-- Vectors of another model for faces that are stored, on a connection of the tables' owner, which
-- sees all tenants.

-- name: lock_reembedding
-- Held by the one command that works, until its connection closes.
SELECT pg_try_advisory_lock(hashtextextended('facette reembedding', 0))

-- name: count_faces_and_vectors
SELECT (SELECT count(*) FROM face) AS faces,
       (SELECT count(*) FROM face_vector WHERE model_space = $1) AS vectors

-- name: count_faces_without_bytes
-- Faces without a vector of a space, on images whose bytes were not kept.
SELECT count(*) FROM face
JOIN image ON image.tenant_id = face.tenant_id AND image.image_id = face.image_id
WHERE blob_key IS NULL
  AND NOT EXISTS (
    SELECT FROM face_vector
    WHERE face_vector.tenant_id = face.tenant_id AND face_vector.face_id = face.face_id
      AND model_space = $1
  )

-- name: last_face_number
SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM face_seq_seq

-- name: faces_to_embed
-- Faces without a vector of a space, ordered by tenant and insertion, after the face ($2, $3), newer than
-- $4 and, unless $6 is null, not newer than $6. Scalar subqueries and `|| ''` force index look-ups by
-- face: the statistics do not know the new model's vectors yet and would suggest scanning the table.
SELECT tenant.tenant_id, lacking.seq, face_id, lacking.image_id, box, landmarks, turned, blob_key
FROM tenant
CROSS JOIN LATERAL (
    SELECT face.tenant_id, face.seq, face.face_id, face.image_id, face.box, face.landmarks
    FROM face
    WHERE face.tenant_id = tenant.tenant_id
      AND face.seq > CASE WHEN tenant.tenant_id = $2 THEN greatest($3::bigint, $4::bigint) ELSE $4 END
      AND face.seq <= coalesce($6::bigint, 9223372036854775807)
      AND (
        SELECT true FROM face_vector
        WHERE face_vector.tenant_id = face.tenant_id AND face_vector.face_id = face.face_id
          AND model_space || '' = $1
      ) IS NULL
    ORDER BY face.seq
    LIMIT $5
) AS lacking
CROSS JOIN LATERAL (
    SELECT turned, blob_key FROM image
    WHERE image.tenant_id = lacking.tenant_id AND image.image_id = lacking.image_id
    LIMIT 1
) AS image
WHERE tenant.tenant_id >= $2
ORDER BY tenant.tenant_id, lacking.seq
LIMIT $5

-- name: lock_tenants
-- Excludes the tenants' writers until the transaction ends.
SELECT FROM tenant WHERE tenant_id = ANY($1) ORDER BY tenant_id FOR NO KEY UPDATE

-- name: add_vectors
-- Only for faces that still exist.
INSERT INTO face_vector (tenant_id, face_id, model_space, embedding, is_matchable)
SELECT face.tenant_id, face.face_id, $1, added.embedding, is_matchable
FROM unnest($2::text[], $3::uuid[], $4::halfvec[]) AS added (tenant_id, face_id, embedding)
JOIN face ON face.tenant_id = added.tenant_id AND face.face_id = added.face_id
ON CONFLICT DO NOTHING

-- name: analyze_vectors
ANALYZE face_vector

-- name: count_faces_there
SELECT count(*)
FROM unnest($1::text[], $2::uuid[]) AS wanted (tenant_id, face_id)
JOIN face ON face.tenant_id = wanted.tenant_id AND face.face_id = wanted.face_id

-- name: tenants_after
SELECT tenant_id FROM tenant WHERE tenant_id > $1 ORDER BY tenant_id LIMIT 1000

-- name: delete_replaced_vectors
-- Some of a tenant's vectors after ($3, $4), of faces that have a vector of the space $2.
WITH replaced AS (
    SELECT face_id, model_space FROM face_vector AS old
    WHERE tenant_id = $1 AND model_space <> $2 AND (face_id, model_space) > ($3, $4)
      AND (
        SELECT true FROM face_vector AS new
        WHERE new.tenant_id = $1 AND new.face_id = old.face_id AND new.model_space || '' = $2
      )
    ORDER BY face_id, model_space
    LIMIT $5
),
gone AS (
    DELETE FROM face_vector USING replaced
    WHERE face_vector.tenant_id = $1 AND face_vector.face_id = replaced.face_id
      AND face_vector.model_space = replaced.model_space
)
SELECT face_id, model_space FROM replaced ORDER BY face_id, model_space
