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

-- name: image_of_bytes
-- The oldest image whose file has the SHA-256 $2. As `image_file`.
SELECT file.image_id
FROM (SELECT set_config('facette.tenant_id', $1, true) AS tenant_id OFFSET 0) AS acting
CROSS JOIN LATERAL (
    SELECT image_id FROM image
    WHERE tenant_id = acting.tenant_id AND sha256 = $2
    ORDER BY created_at, image_id LIMIT 1
) AS file

-- name: image_file
-- Names its tenant itself, so that it is a transaction in one round trip. What is LATERAL and has a LIMIT is
-- only read when the tenant is set.
SELECT file.*
FROM (SELECT set_config('facette.tenant_id', $1, true) AS tenant_id OFFSET 0) AS acting
CROSS JOIN LATERAL (
    SELECT image_id, blob_key, format, sha256, size_bytes FROM image
    WHERE tenant_id = acting.tenant_id AND image_id = $2 LIMIT 1
) AS file

-- name: face_on_file
-- As `image_file`.
SELECT file.*
FROM (SELECT set_config('facette.tenant_id', $1, true) AS tenant_id OFFSET 0) AS acting
CROSS JOIN LATERAL (
    SELECT box, image_id, blob_key, format, sha256, size_bytes
    FROM face JOIN image USING (tenant_id, image_id)
    WHERE tenant_id = acting.tenant_id AND face_id = $2 LIMIT 1
) AS file

-- name: image_by_sha256
-- The oldest one.
SELECT image_id FROM image WHERE tenant_id = $1 AND sha256 = $2
ORDER BY created_at, image_id LIMIT 1

-- name: near_duplicates
-- Images other than $2 whose hash differs in at most $4 bits from the hash of the parts $3, nearest first.
-- Such a hash has a part among the values that are near enough to the same part of the other
-- ($5 to $8): see service/store/face/near.py.
SELECT image_id, distance
FROM image
CROSS JOIN LATERAL (
    SELECT bit_count((phash_0 # ($3::integer[])[1])::bit(16))
         + bit_count((phash_1 # ($3::integer[])[2])::bit(16))
         + bit_count((phash_2 # ($3::integer[])[3])::bit(16))
         + bit_count((phash_3 # ($3::integer[])[4])::bit(16)) AS distance
) AS compared
WHERE tenant_id = $1 AND image_id <> $2 AND distance <= $4
  AND (
    phash_0 = ANY ($5::integer[]) OR phash_1 = ANY ($6::integer[])
    OR phash_2 = ANY ($7::integer[]) OR phash_3 = ANY ($8::integer[])
  )
ORDER BY distance, image_id LIMIT $9

-- name: faces_on_image
SELECT face_id, cluster_id FROM face WHERE tenant_id = $1 AND image_id = $2

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
WHERE review.tenant_id = $1 AND kind = 'new_person'
ORDER BY review.review_id OFFSET $2 LIMIT $3

-- name: review
SELECT review.review_id, review.cluster_id, oldest.image_id
FROM review
CROSS JOIN LATERAL (
    SELECT image_id FROM face
    WHERE face.tenant_id = review.tenant_id AND face.cluster_id = review.cluster_id
    ORDER BY seq LIMIT 1
) AS oldest
WHERE review.tenant_id = $1 AND review.review_id = $2 AND kind = 'new_person'

-- name: blob_keys
SELECT blob_key FROM image WHERE tenant_id = $1
