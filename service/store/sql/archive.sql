-- A tenant's rows on their way into an archive and out of one, on a connection of the tables'
-- owner. What each part of an archive holds is described in service/store/archive_format.py.

-- name: use_archive_settings
-- For this transaction: times and numbers are written alike by every server, and exactly.
SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true),
       set_config('extra_float_digits', '3', true)

-- name: tenant_for_archive
SELECT created_at::text AS created_at FROM tenant WHERE tenant_id = $1

-- name: photos_for_archive
SELECT image_id, blob_key, sha256, size_bytes, substring(blob_key FROM '\.([a-z0-9]+)$') AS suffix
FROM image
WHERE tenant_id = $1 AND blob_key ~ '\.[a-z0-9]+$'
ORDER BY created_at, image_id

-- name: images_for_archive
-- An image has a suffix where its photo is in the archive: none is where they are left out ($2),
-- or where it could not be read ($3).
SELECT image_id,
       CASE WHEN $2::boolean AND image_id <> ALL ($3::uuid[])
           THEN substring(blob_key FROM '\.([a-z0-9]+)$') END,
       format, width, height, size_bytes, sha256, phash, created_at, turned
FROM image WHERE tenant_id = $1 ORDER BY created_at, image_id

-- name: clusters_for_archive
SELECT cluster_id, created_at FROM cluster WHERE tenant_id = $1 ORDER BY created_at, cluster_id

-- name: faces_for_archive
SELECT face_id, image_id, cluster_id, box, landmarks, area, confidence, is_auto_matched, distance,
       quality, quality_facts, is_matchable
FROM face WHERE tenant_id = $1 ORDER BY seq

-- name: vectors_for_archive
-- The numbers as pgvector sends them, without their count: two bytes each, the high one first.
SELECT face_id, model_space,
       replace(encode(substr(halfvec_send(embedding), 5), 'base64'), E'\n', '')
FROM face_vector WHERE tenant_id = $1 ORDER BY face_id, model_space COLLATE "C"

-- name: reviews_for_archive
SELECT review_id, cluster_id, created_at FROM review WHERE tenant_id = $1 ORDER BY review_id

-- name: images_that_are_there
SELECT count(*) FROM image WHERE tenant_id = $1 AND image_id = ANY ($2::uuid[])

-- name: hold_off_sweeps
-- Until the transaction ends: it takes the lock of a sweep's turn ($1), and waits for one that runs.
SELECT pg_advisory_xact_lock_shared($1)

-- name: insert_tenant_of_archive
-- No row where there is such a tenant; whoever is about to make one is waited for.
INSERT INTO tenant (tenant_id, created_at) VALUES ($1, $2::text::timestamptz)
ON CONFLICT (tenant_id) DO NOTHING
RETURNING tenant_id

-- name: make_room_for_photos
CREATE TEMPORARY TABLE photo_of_archive (
    image_id uuid PRIMARY KEY, blob_key text NOT NULL, sha256 text NOT NULL,
    size_bytes bigint NOT NULL
) ON COMMIT DROP

-- name: images_that_differ_from_photos
-- Images whose photo is missing or another, and photos without an image.
SELECT image_id
FROM (SELECT * FROM image WHERE tenant_id = $1 AND blob_key IS NOT NULL) AS image
FULL JOIN photo_of_archive AS photo USING (image_id)
WHERE (image.blob_key, image.sha256, image.size_bytes)
    IS DISTINCT FROM (photo.blob_key, photo.sha256, photo.size_bytes)
LIMIT 1

-- name: forget_photos
UPDATE image SET blob_key = NULL WHERE tenant_id = $1 AND blob_key IS NOT NULL

-- name: dimension_of_space
SELECT vector_dims(embedding) FROM face_vector WHERE model_space = $1 LIMIT 1

-- name: mark_unmatchable_vectors
-- Those of faces that others are not matched against: they came without saying so.
UPDATE face_vector SET is_matchable = false
FROM face
WHERE face.tenant_id = $1 AND NOT face.is_matchable
  AND face_vector.tenant_id = $1 AND face_vector.face_id = face.face_id

-- name: take_review_numbers
-- One import at a time, until its transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('facette review numbers', 0))

-- name: number_reviews_beyond
-- Later reviews get higher numbers than $1. Others draw numbers all the while, and setting one must
-- not go back behind theirs: so it goes further than they can come between the two calls.
SELECT CASE WHEN drawn < $1
    THEN setval(pg_get_serial_sequence('review', 'review_id'), $1 + 100000)
END
FROM nextval(pg_get_serial_sequence('review', 'review_id')) AS drawn
