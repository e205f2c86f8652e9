-- A tenant's rows on their way into an archive and out of one, on a connection of the tables'
-- owner, who becomes the service's role to store them. What each part of an archive holds is
-- described in service/store/archive/format.py.

-- name: use_archive_settings
-- For this transaction: times and numbers are written exactly, and alike by every server.
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
-- An image has a suffix when its photo is in the archive: photos may be left out ($2) or unreadable
-- ($3).
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
-- The numbers as pgvector sends them, without their count: two bytes each, big-endian.
SELECT face_id, model_space,
       replace(encode(substr(halfvec_send(embedding), 5), 'base64'), E'\n', '')
FROM face_vector WHERE tenant_id = $1 ORDER BY face_id, model_space COLLATE "C"

-- name: reviews_for_archive
-- Numbered by their order, since the numbers of one database mean nothing in another.
SELECT row_number() OVER (ORDER BY review_id) AS nth, cluster_id, created_at
FROM review WHERE tenant_id = $1 ORDER BY review_id

-- name: images_that_are_there
SELECT count(*) FROM image WHERE tenant_id = $1 AND image_id = ANY ($2::uuid[])

-- name: hold_off_sweeps
-- Takes the lock of the sweeps ($1) until the transaction ends; waits for a running sweep.
SELECT pg_advisory_xact_lock_shared($1)

-- name: make_room_for_photos
-- The rows of an archive pass through temporary tables without a tenant. From there they are inserted
-- under row-level security, which forbids COPY.
CREATE TEMPORARY TABLE photo_of_archive (
    image_id uuid PRIMARY KEY, blob_key text NOT NULL, sha256 text NOT NULL,
    size_bytes bigint NOT NULL
) ON COMMIT DROP

-- name: make_room_for_images
CREATE TEMPORARY TABLE image_of_archive (
    image_id uuid, blob_key text, format text, width integer, height integer, size_bytes bigint,
    sha256 text, phash text, created_at timestamptz, turned smallint
) ON COMMIT DROP

-- name: make_room_for_clusters
CREATE TEMPORARY TABLE cluster_of_archive (cluster_id uuid, created_at timestamptz) ON COMMIT DROP

-- name: make_room_for_faces
CREATE TEMPORARY TABLE face_of_archive (
    nth integer, face_id uuid, image_id uuid, cluster_id uuid, box real[], landmarks real[],
    area integer[], confidence real, is_auto_matched boolean, distance real, quality real,
    quality_facts jsonb, is_matchable boolean
) ON COMMIT DROP

-- name: make_room_for_vectors
CREATE TEMPORARY TABLE face_vector_of_archive (
    face_id uuid, model_space text, embedding halfvec
) ON COMMIT DROP

-- name: make_room_for_reviews
CREATE TEMPORARY TABLE review_of_archive (
    nth integer, cluster_id uuid, created_at timestamptz
) ON COMMIT DROP

-- name: insert_tenant_of_archive
-- No row when the tenant exists; waits for a transaction that is creating it.
INSERT INTO tenant (tenant_id, created_at) VALUES ($1, $2)
ON CONFLICT (tenant_id) DO NOTHING
RETURNING tenant_id

-- name: store_images_of_archive
INSERT INTO image (
    tenant_id, image_id, blob_key, format, width, height, size_bytes, sha256, phash, created_at,
    turned
)
SELECT $1, image_id, blob_key, format, width, height, size_bytes, sha256, phash, created_at, turned
FROM image_of_archive

-- name: store_clusters_of_archive
INSERT INTO cluster (tenant_id, cluster_id, created_at)
SELECT $1, cluster_id, created_at FROM cluster_of_archive

-- name: store_faces_of_archive
-- In their order, which gives them new numbers.
INSERT INTO face (
    tenant_id, face_id, image_id, cluster_id, box, landmarks, area, confidence, is_auto_matched,
    distance, quality, quality_facts, is_matchable
)
SELECT $1, face_id, image_id, cluster_id, box, landmarks, area, confidence, is_auto_matched,
       distance, quality, quality_facts, is_matchable
FROM face_of_archive ORDER BY nth

-- name: store_vectors_of_archive
INSERT INTO face_vector (tenant_id, face_id, model_space, embedding)
SELECT $1, face_id, model_space, embedding FROM face_vector_of_archive

-- name: store_reviews_of_archive
-- In their order, which gives them new numbers.
INSERT INTO review (tenant_id, cluster_id, created_at)
SELECT $1, cluster_id, created_at FROM review_of_archive ORDER BY nth

-- name: empty_room_for_archive
TRUNCATE image_of_archive, cluster_of_archive, face_of_archive, face_vector_of_archive,
         review_of_archive

-- name: images_that_differ_from_photos
-- Images without their photo or with another, and photos without an image.
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
-- Vectors of faces that are not matchable; an archive does not repeat the mark.
UPDATE face_vector SET is_matchable = false
FROM face
WHERE face.tenant_id = $1 AND NOT face.is_matchable
  AND face_vector.tenant_id = $1 AND face_vector.face_id = face.face_id
