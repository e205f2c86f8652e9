-- Statements that only read.

-- name: ping
SELECT 1

-- name: face
SELECT face_id, cluster_id, image_id, area, is_auto_matched
FROM face WHERE tenant_id = $1 AND face_id = $2

-- name: faces_of_image
-- In the order they were found: largest first.
SELECT face_id, cluster_id, image_id, area, is_auto_matched
FROM face WHERE tenant_id = $1 AND image_id = $2
ORDER BY seq OFFSET $3 LIMIT $4

-- name: image
SELECT phash FROM image WHERE tenant_id = $1 AND image_id = $2

-- name: clusters_of_image
SELECT DISTINCT cluster_id FROM face WHERE tenant_id = $1 AND image_id = $2

-- name: cluster_exists
SELECT 1 FROM cluster WHERE tenant_id = $1 AND cluster_id = $2

-- name: cluster_size
SELECT count(*) AS number_of_faces, count(DISTINCT image_id) AS number_of_images
FROM face WHERE tenant_id = $1 AND cluster_id = $2
HAVING count(*) > 0

-- name: reviews
-- A review shows the image of its cluster's oldest face, whatever was deleted since.
SELECT review.review_id, review.cluster_id, oldest.image_id
FROM review
CROSS JOIN LATERAL (
    SELECT image_id FROM face
    WHERE face.tenant_id = review.tenant_id AND face.cluster_id = review.cluster_id
    ORDER BY seq LIMIT 1
) AS oldest
WHERE review.tenant_id = $1
ORDER BY review.review_id OFFSET $2 LIMIT $3

-- name: review
SELECT review.review_id, review.cluster_id, oldest.image_id
FROM review
CROSS JOIN LATERAL (
    SELECT image_id FROM face
    WHERE face.tenant_id = review.tenant_id AND face.cluster_id = review.cluster_id
    ORDER BY seq LIMIT 1
) AS oldest
WHERE review.tenant_id = $1 AND review.review_id = $2

-- name: blob_keys
SELECT blob_key FROM image WHERE tenant_id = $1

-- name: count_faces_up_to
-- How many faces a tenant has, counted no further than the limit.
SELECT count(*) FROM (SELECT FROM face WHERE tenant_id = $1 LIMIT $2) AS counted

-- name: nearest_clusters_exact
-- For each embedding. Every face of the tenant is compared: the aggregate keeps the planner from the
-- shared HNSW index, which does not know tenants and would miss neighbours.
SELECT wanted.nth, near.cluster_id, near.distance
FROM unnest($3::halfvec[]) WITH ORDINALITY AS wanted (embedding, nth)
CROSS JOIN LATERAL (
    SELECT cluster_id, min(face.embedding <=> wanted.embedding) AS distance
    FROM face
    WHERE tenant_id = $1 AND model_space = $2
    GROUP BY cluster_id
    ORDER BY distance, cluster_id
    LIMIT $4
) AS near
ORDER BY wanted.nth, near.distance, near.cluster_id

-- name: nearest_faces_by_index
SELECT wanted.nth, near.cluster_id, near.distance
FROM unnest($3::halfvec[]) WITH ORDINALITY AS wanted (embedding, nth)
CROSS JOIN LATERAL (
    SELECT cluster_id, face.embedding <=> wanted.embedding AS distance
    FROM face
    WHERE tenant_id = $1 AND model_space = $2
    ORDER BY face.embedding <=> wanted.embedding
    LIMIT $4
) AS near
ORDER BY wanted.nth, near.distance

-- name: use_index_settings
-- For this transaction: how far the HNSW index looks before and after the tenant filter.
SELECT set_config('hnsw.ef_search', $1::integer::text, true),
       set_config('hnsw.iterative_scan', 'strict_order', true)
