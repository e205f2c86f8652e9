-- Statements that write. Each runs in a transaction that holds its tenant's lock.

-- name: lock_tenant
-- Locks the tenant until the transaction ends, so that it has one writer at a time. Returns the active
-- space, which stays true until then since a change of the model locks the whole table, and the number
-- of the tenant's clusters.
INSERT INTO tenant (tenant_id) VALUES ($1)
ON CONFLICT (tenant_id) DO UPDATE SET changes = tenant.changes + 1
RETURNING changes, people, (SELECT model_space FROM embedding_model WHERE is_active) AS active_space

-- name: lock_known_tenant
-- Locks an existing tenant; no row when there is none.
UPDATE tenant SET changes = changes + 1 WHERE tenant_id = $1 RETURNING changes, people

-- name: insert_cluster
INSERT INTO cluster (tenant_id, cluster_id) VALUES ($1, $2)

-- name: insert_photo
-- An image, its faces in their order with their vectors, which wait to be indexed, and the new clusters
-- for them ($11), each with a review. Boxes, landmarks and areas are flat arrays over all faces.
WITH photo AS (
    INSERT INTO image (
        tenant_id, image_id, blob_key, format, width, height, size_bytes, sha256, phash, turned
    ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
),
opened AS (
    INSERT INTO cluster (tenant_id, cluster_id) SELECT $1, unnest($11::uuid[])
    RETURNING cluster_id
),
asked AS (
    INSERT INTO review (tenant_id, cluster_id) SELECT $1, cluster_id FROM opened
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

-- name: move_face
-- A face that a person moved is not auto-matched any more.
UPDATE face SET cluster_id = $3, is_auto_matched = false, distance = NULL
WHERE tenant_id = $1 AND face_id = $2

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
-- Deletes those of the given clusters that have no face, with their reviews.
WITH gone AS (
    DELETE FROM cluster
    WHERE tenant_id = $1 AND cluster_id = ANY($2::uuid[])
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
       (SELECT count(*) FROM review WHERE tenant_id = $1) AS reviews

-- name: delete_tenant
DELETE FROM tenant WHERE tenant_id = $1

-- name: delete_review
DELETE FROM review WHERE tenant_id = $1 AND review_id = $2 RETURNING review_id

-- name: move_all_faces
-- Moves the faces of one cluster to another, on behalf of a person: none is auto-matched any more.
UPDATE face SET cluster_id = $3, is_auto_matched = false, distance = NULL
WHERE tenant_id = $1 AND cluster_id = $2
