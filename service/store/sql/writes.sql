-- Statements that write. Each runs in a transaction that holds its tenant's lock.

-- name: lock_tenant
-- Locks the tenant until the transaction ends, so that it has one writer at a time. Returns the active
-- space, which stays true until then since a change of the model locks the whole table, the number of this
-- change, the tenant's counts and limits, whether somebody watches its changes, and whether people decided
-- anything in it.
INSERT INTO tenant (tenant_id) VALUES ($1)
ON CONFLICT (tenant_id) DO UPDATE SET changes = tenant.changes + 1
RETURNING changes, images, faces, max_images, max_faces, watched_until > now() AS is_watched,
          EXISTS (SELECT FROM decision WHERE tenant_id = $1) AS has_decisions,
          (SELECT model_space FROM embedding_model WHERE is_active) AS active_space

-- name: lock_known_tenant
-- The same for an existing tenant; no row when there is none.
UPDATE tenant SET changes = changes + 1 WHERE tenant_id = $1
RETURNING changes, images, faces, max_images, max_faces, watched_until > now() AS is_watched,
          EXISTS (SELECT FROM decision WHERE tenant_id = $1) AS has_decisions,
          (SELECT model_space FROM embedding_model WHERE is_active) AS active_space

-- name: insert_cluster
INSERT INTO cluster (tenant_id, cluster_id) VALUES ($1, $2)

-- name: insert_photo
-- An image, its faces in their order with their vectors, which wait to be indexed, and the new clusters
-- for them ($11), each with a review; questions about them ($31 to $39); and the change ($25) that it is, by
-- the key $26. Boxes, landmarks and areas are flat arrays over all faces.
WITH photo AS (
    INSERT INTO image (
        tenant_id, image_id, blob_key, format, width, height, size_bytes, sha256, phash, turned, taken_at,
        orientation, latitude, longitude, change
    ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $27, $28, $29, $30, $25)
),
noted AS (
    INSERT INTO change (tenant_id, change, kind, key_id, subject)
    VALUES ($1, $25, 'image.inserted', $26, jsonb_build_object('image_id', $2))
),
opened AS (
    INSERT INTO cluster (tenant_id, cluster_id) SELECT $1, unnest($11::uuid[])
    RETURNING cluster_id
),
asked AS (
    INSERT INTO review (
        tenant_id, kind, cluster_id, face_id, other_cluster_id, distance, other_distance, similarity, faces,
        chance
    )
    SELECT $1, 'new_person', cluster_id, NULL, NULL, NULL, NULL, NULL, 1, 0.001 FROM opened
    UNION ALL
    SELECT $1, kind, cluster_id, face_id, other_cluster_id, distance, other_distance, similarity, settled,
           chance
    FROM unnest(
        $31::text[], $32::uuid[], $33::uuid[], $34::uuid[], $35::real[], $36::real[], $37::real[],
        $38::integer[], $39::real[]
    ) AS doubted (
        kind, cluster_id, face_id, other_cluster_id, distance, other_distance, similarity, settled, chance
    )
),
placed AS (
    INSERT INTO face (
        tenant_id, face_id, image_id, cluster_id, box, landmarks, area, confidence,
        is_auto_matched, distance, quality, quality_facts, is_matchable
    )
    SELECT $1, face_id, $2, cluster_id,
           ($12::real[])[4 * nth - 3 : 4 * nth], ($13::real[])[10 * nth - 9 : 10 * nth],
           ($14::integer[])[4 * nth - 3 : 4 * nth],
           confidence, is_auto_matched, distance, quality, quality_facts, is_matchable
    FROM unnest(
        $15::uuid[], $16::uuid[], $17::real[], $18::boolean[], $19::real[], $20::real[],
        $21::jsonb[], $22::boolean[]
    ) WITH ORDINALITY AS found (
        face_id, cluster_id, confidence, is_auto_matched, distance, quality, quality_facts,
        is_matchable, nth
    )
    ORDER BY nth
)
INSERT INTO face_vector (tenant_id, face_id, model_space, embedding, is_matchable)
SELECT $1, face_id, $23, embedding, is_matchable
FROM unnest($15::uuid[], $24::halfvec[], $22::boolean[]) AS found (face_id, embedding, is_matchable)

-- name: take_faces
-- Faces that a person moved are not auto-matched any more.
UPDATE face SET cluster_id = $3, is_auto_matched = false, distance = NULL
WHERE tenant_id = $1 AND face_id = ANY ($2::uuid[])

-- name: has_other_faces
SELECT EXISTS (
    SELECT FROM face WHERE tenant_id = $1 AND cluster_id = $2 AND face_id <> ALL ($3::uuid[])
)

-- name: close_reviews_of_faces
-- The questions whether these faces belong to their person.
DELETE FROM review WHERE tenant_id = $1 AND face_id = ANY ($2::uuid[])

-- name: close_settled
-- The questions about the clusters $2 that are answered by what people said: whether a cluster is another one
-- that a decision keeps apart from it, or that has no face left; who somebody is who has a name or is hidden;
-- and whether a face belongs to its person that a person put there, or that is somewhere else by now.
DELETE FROM review
WHERE tenant_id = $1 AND review_id IN (
    SELECT review_id FROM review WHERE tenant_id = $1 AND cluster_id = ANY ($2::uuid[])
    UNION SELECT review_id FROM review WHERE tenant_id = $1 AND other_cluster_id = ANY ($2::uuid[])
) AND CASE kind
    WHEN 'same_person' THEN EXISTS (
        SELECT FROM (
            SELECT DISTINCT decision_id, side FROM decision_face JOIN decision USING (tenant_id, decision_id)
            WHERE tenant_id = $1 AND decision.kind = 'different' AND is_active
              AND decision_face.cluster_id = review.cluster_id AND left_by IS NULL
        ) AS mine
        WHERE EXISTS (
            SELECT FROM decision_face AS other
            WHERE other.tenant_id = $1 AND other.decision_id = mine.decision_id
              AND other.cluster_id = review.other_cluster_id AND other.side <> mine.side
              AND other.left_by IS NULL
        )
    ) OR EXISTS (
        SELECT FROM cluster
        WHERE tenant_id = $1 AND cluster.cluster_id IN (review.cluster_id, review.other_cluster_id)
          AND cluster.faces = 0
    )
    WHEN 'new_person' THEN EXISTS (
        SELECT FROM cluster
        WHERE tenant_id = $1 AND cluster.cluster_id = review.cluster_id AND (label IS NOT NULL OR hidden)
    )
    ELSE NOT EXISTS (
        SELECT FROM face
        WHERE tenant_id = $1 AND face.face_id = review.face_id AND face.cluster_id = review.cluster_id
    ) OR EXISTS (
        SELECT FROM decision_face AS mine
        JOIN decision_face AS other USING (tenant_id, decision_id)
        JOIN decision USING (tenant_id, decision_id)
        WHERE tenant_id = $1 AND decision.kind = 'same' AND is_active
          AND mine.face_id = review.face_id AND mine.is_claim AND mine.left_by IS NULL
          AND other.face_id <> mine.face_id AND other.cluster_id = mine.cluster_id AND other.left_by IS NULL
    ) END

-- name: move_reviews
-- The questions about a cluster that is merged ($2) are about the other one ($3) from now on; those about two
-- people under new numbers, but not whether it is that one, or one that there is such a question about already.
WITH moved AS (
    UPDATE review
    SET cluster_id = CASE cluster_id WHEN $2 THEN $3 ELSE cluster_id END,
        other_cluster_id = nullif(
            CASE other_cluster_id WHEN $2 THEN $3 ELSE other_cluster_id END,
            CASE cluster_id WHEN $2 THEN $3 ELSE cluster_id END
        )
    WHERE tenant_id = $1 AND kind IN ('weak_match', 'odd_face') AND review_id IN (
        SELECT review_id FROM review WHERE tenant_id = $1 AND cluster_id = $2
        UNION SELECT review_id FROM review WHERE tenant_id = $1 AND other_cluster_id = $2
    )
)
INSERT INTO review (
    tenant_id, kind, cluster_id, face_id, other_cluster_id, created_at, distance, other_distance,
    similarity, faces, chance, put_off
)
SELECT tenant_id, kind, CASE cluster_id WHEN $2 THEN $3 ELSE cluster_id END, face_id,
       CASE other_cluster_id WHEN $2 THEN $3 ELSE other_cluster_id END, created_at, distance,
       other_distance, similarity, faces, chance, put_off
FROM (
    SELECT review.* FROM review WHERE tenant_id = $1 AND cluster_id = $2
    UNION SELECT review.* FROM review WHERE tenant_id = $1 AND other_cluster_id = $2
) AS asked
WHERE kind = 'same_person' AND cluster_id <> $3 AND other_cluster_id <> $3
ON CONFLICT DO NOTHING

-- name: ask_who
INSERT INTO review (tenant_id, cluster_id) VALUES ($1, $2)

-- name: close_who
-- The question who a cluster is.
DELETE FROM review WHERE tenant_id = $1 AND cluster_id = $2 AND kind = 'new_person'

-- name: decisions_of_faces
SELECT DISTINCT decision_id FROM decision_face WHERE tenant_id = $1 AND face_id = ANY ($2::uuid[])

-- name: count_decisions
SELECT count(*) FROM decision WHERE tenant_id = $1 AND decision_id = ANY ($2::uuid[])

-- name: unnamed_and_empty
-- Those of the given clusters that `delete_empty_clusters` deletes.
SELECT cluster_id FROM cluster
WHERE tenant_id = $1 AND cluster_id = ANY($2::uuid[]) AND label IS NULL AND external_id IS NULL
  AND NOT EXISTS (
    SELECT FROM face
    WHERE face.tenant_id = cluster.tenant_id AND face.cluster_id = cluster.cluster_id
  )

-- name: delete_face
DELETE FROM face WHERE tenant_id = $1 AND face_id = $2 RETURNING cluster_id

-- name: delete_image
-- Its faces are deleted with it; they are counted as they were before the statement.
WITH gone AS (
    DELETE FROM image WHERE tenant_id = $1 AND image_id = $2 RETURNING blob_key
)
SELECT gone.blob_key,
       (SELECT count(*) FROM face WHERE tenant_id = $1 AND image_id = $2) AS faces
FROM gone

-- name: delete_empty_clusters
-- Deletes those of the given clusters that have no face, with their reviews, unless a caller named them.
WITH gone AS (
    DELETE FROM cluster
    WHERE tenant_id = $1 AND cluster_id = ANY($2::uuid[]) AND label IS NULL AND external_id IS NULL
      AND NOT EXISTS (
        SELECT FROM face
        WHERE face.tenant_id = cluster.tenant_id AND face.cluster_id = cluster.cluster_id
      )
    RETURNING cluster_id
)
SELECT (SELECT count(*) FROM gone) AS clusters,
       (
           SELECT count(*) FROM review
           WHERE tenant_id = $1 AND cluster_id IN (SELECT cluster_id FROM gone)
       ) AS reviews

-- name: images_showing_only
-- Images on which every face belongs to one cluster.
SELECT image_id FROM image
WHERE tenant_id = $1
  AND image_id IN (SELECT image_id FROM face WHERE tenant_id = $1 AND cluster_id = $2)
  AND NOT EXISTS (
    SELECT FROM face
    WHERE face.tenant_id = $1 AND face.image_id = image.image_id AND face.cluster_id <> $2
  )

-- name: delete_images
DELETE FROM image WHERE tenant_id = $1 AND image_id = ANY ($2::uuid[]) RETURNING blob_key

-- name: rows_of_cluster
-- The rows that are deleted with a cluster.
SELECT (SELECT count(*) FROM face WHERE tenant_id = $1 AND cluster_id = $2) AS faces,
       (SELECT count(*) FROM review WHERE tenant_id = $1 AND cluster_id = $2) AS reviews

-- name: delete_cluster
-- Deletes a cluster with its faces and reviews. It runs before `delete_images`: without the cluster no
-- sum is kept up to date, and its faces go at once instead of one by one.
DELETE FROM cluster WHERE tenant_id = $1 AND cluster_id = $2

-- name: rows_of_tenant
-- The rows that are deleted with a tenant.
SELECT (SELECT count(*) FROM face WHERE tenant_id = $1) AS faces,
       (SELECT count(*) FROM cluster WHERE tenant_id = $1) AS clusters,
       (SELECT count(*) FROM review WHERE tenant_id = $1) AS reviews,
       (SELECT count(*) FROM decision WHERE tenant_id = $1) AS decisions,
       (SELECT count(*) FROM change WHERE tenant_id = $1) AS changes

-- name: delete_tenant
DELETE FROM tenant WHERE tenant_id = $1

-- name: delete_review
DELETE FROM review WHERE tenant_id = $1 AND review_id = $2 AND kind = 'new_person'

-- name: move_all_faces
-- Moves the faces of one cluster to another: auto-matched are those that the machine moves ($4).
UPDATE face SET cluster_id = $3, is_auto_matched = $4, distance = NULL
WHERE tenant_id = $1 AND cluster_id = $2

