-- Statements that change something; each runs in a transaction that holds its tenant's lock.

-- name: lock_tenant
-- One writer a tenant at a time, until the transaction ends; waits for the one before. With it, the
-- space that the database is searched by: a change of the model locks the whole table, so what is
-- read here stays true until the transaction ends.
INSERT INTO tenant (tenant_id) VALUES ($1)
ON CONFLICT (tenant_id) DO UPDATE SET changes = tenant.changes + 1
RETURNING changes, (SELECT model_space FROM embedding_model WHERE is_active) AS active_space

-- name: lock_known_tenant
-- The same for what needs an existing tenant: no row means there is none.
UPDATE tenant SET changes = changes + 1 WHERE tenant_id = $1 RETURNING changes

-- name: insert_image
INSERT INTO image (
    tenant_id, image_id, blob_key, format, width, height, size_bytes, sha256, phash
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: insert_cluster
INSERT INTO cluster (tenant_id, cluster_id) VALUES ($1, $2)

-- name: insert_clusters_with_reviews
WITH opened AS (
    INSERT INTO cluster (tenant_id, cluster_id) SELECT $1, unnest($2::uuid[])
    RETURNING tenant_id, cluster_id
)
INSERT INTO review (tenant_id, cluster_id) SELECT tenant_id, cluster_id FROM opened

-- name: insert_face
-- With its vector, which no HNSW index holds yet.
WITH inserted AS (
    INSERT INTO face (
        tenant_id, face_id, image_id, cluster_id, box, landmarks, area, confidence,
        is_auto_matched, distance
    ) VALUES ($1, $2, $3, $4, $7, $8, $9, $10, $11, $12)
    RETURNING tenant_id, face_id
)
INSERT INTO face_vector (tenant_id, face_id, model_space, embedding)
SELECT tenant_id, face_id, $5, $6 FROM inserted

-- name: move_face
-- A face moved by a person is no longer matched by the machine.
UPDATE face SET cluster_id = $3, is_auto_matched = false, distance = NULL
WHERE tenant_id = $1 AND face_id = $2

-- name: delete_face
DELETE FROM face WHERE tenant_id = $1 AND face_id = $2 RETURNING cluster_id

-- name: delete_image
-- Its faces go with it: they are counted as they were before the statement.
WITH gone AS (
    DELETE FROM image WHERE tenant_id = $1 AND image_id = $2 RETURNING blob_key
)
SELECT gone.blob_key,
       (SELECT count(*) FROM face WHERE tenant_id = $1 AND image_id = $2) AS faces
FROM gone

-- name: delete_empty_clusters
-- Those of the given clusters that have no face left; their reviews go with them.
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

-- name: delete_images_showing_only
-- Images on which every face belongs to one cluster; their faces go with them.
DELETE FROM image
WHERE tenant_id = $1
  AND image_id IN (SELECT image_id FROM face WHERE tenant_id = $1 AND cluster_id = $2)
  AND NOT EXISTS (
    SELECT FROM face
    WHERE face.tenant_id = $1 AND face.image_id = image.image_id AND face.cluster_id <> $2
  )
RETURNING blob_key

-- name: rows_of_cluster
-- What goes with a cluster.
SELECT (SELECT count(*) FROM face WHERE tenant_id = $1 AND cluster_id = $2) AS faces,
       (SELECT count(*) FROM review WHERE tenant_id = $1 AND cluster_id = $2) AS reviews

-- name: delete_cluster
-- The cluster, with what is left of its faces and its reviews.
DELETE FROM cluster WHERE tenant_id = $1 AND cluster_id = $2

-- name: rows_of_tenant
-- What goes with a tenant.
SELECT (SELECT count(*) FROM face WHERE tenant_id = $1) AS faces,
       (SELECT count(*) FROM cluster WHERE tenant_id = $1) AS clusters,
       (SELECT count(*) FROM review WHERE tenant_id = $1) AS reviews

-- name: delete_tenant
DELETE FROM tenant WHERE tenant_id = $1

-- name: delete_review
DELETE FROM review WHERE tenant_id = $1 AND review_id = $2 RETURNING review_id

-- name: move_all_faces
-- Of one cluster into another, by a person: the machine no longer answers for where they are.
UPDATE face SET cluster_id = $3, is_auto_matched = false, distance = NULL
WHERE tenant_id = $1 AND cluster_id = $2
