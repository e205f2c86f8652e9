-- Statements that only read.

-- name: ping
SELECT 1

-- name: face
SELECT face_id, cluster_id, image_id, area, is_auto_matched, quality, quality_facts, is_matchable
FROM face WHERE tenant_id = $1 AND face_id = $2

-- name: faces_of_image
-- In the order they were found: largest first.
SELECT face_id, cluster_id, image_id, area, is_auto_matched, quality, quality_facts, is_matchable
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
