-- A tenant's rows on their way into an archive and out of one, on a connection of the tables'
-- owner, who becomes the service's role to store them. What each part of an archive holds is
-- described in service/store/archive/format.py.

-- name: use_archive_settings
-- For this transaction: times and numbers are written exactly, and alike by every server.
SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true),
       set_config('extra_float_digits', '3', true)

-- name: tenant_for_archive
SELECT created_at::text AS created_at, match_factor FROM tenant WHERE tenant_id = $1

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
       format, width, height, size_bytes, sha256, phash, created_at, turned, taken_at, orientation,
       latitude, longitude
FROM image WHERE tenant_id = $1 ORDER BY created_at, image_id

-- name: clusters_for_archive
-- A cover without a quality is one that a person chose.
SELECT cluster_id, created_at, label, external_id, metadata, hidden, version, last_face_at,
       CASE WHEN cover_quality IS NULL THEN cover_face_id END
FROM cluster WHERE tenant_id = $1 ORDER BY created_at, cluster_id

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
SELECT row_number() OVER (ORDER BY review_id) AS nth, cluster_id, created_at, kind, face_id,
       other_cluster_id, distance, other_distance, similarity, faces, chance, put_off
FROM review WHERE tenant_id = $1 ORDER BY review_id

-- name: merges_for_archive
SELECT cluster_id, merged_into, merged_at
FROM merged_cluster WHERE tenant_id = $1 ORDER BY merged_at, cluster_id

-- name: decisions_for_archive
-- Those that hold, and that faces are left of.
WITH held AS (
    SELECT decision_id, kind, decided_at
    FROM decision JOIN decision_face USING (tenant_id, decision_id)
    WHERE tenant_id = $1 AND is_active AND left_by IS NULL
    GROUP BY decision_id, kind, decided_at
    HAVING CASE kind WHEN 'same' THEN count(*) > 1 ELSE count(DISTINCT side) = 2 END
)
SELECT decision_id, kind, decided_at FROM held ORDER BY decided_at, decision_id

-- name: decision_faces_for_archive
-- Of the same decisions.
WITH held AS (
    SELECT decision_id, kind, decided_at
    FROM decision JOIN decision_face USING (tenant_id, decision_id)
    WHERE tenant_id = $1 AND is_active AND left_by IS NULL
    GROUP BY decision_id, kind, decided_at
    HAVING CASE kind WHEN 'same' THEN count(*) > 1 ELSE count(DISTINCT side) = 2 END
)
SELECT decision_id, face_id, side, is_claim
FROM held JOIN decision_face USING (decision_id)
WHERE tenant_id = $1 AND left_by IS NULL
ORDER BY decided_at, decision_id, face_id

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
    sha256 text, phash text, created_at timestamptz, turned smallint, taken_at timestamptz,
    orientation smallint, latitude double precision, longitude double precision
) ON COMMIT DROP

-- name: make_room_for_clusters
CREATE TEMPORARY TABLE cluster_of_archive (
    cluster_id uuid, created_at timestamptz, label text, label_key text, external_id text,
    metadata jsonb, hidden boolean, version bigint, last_face_at timestamptz, cover_face_id uuid
) ON COMMIT DROP

-- name: make_room_for_times
-- The times of newest photos, until all faces are stored, which set the time of the import.
CREATE TEMPORARY TABLE time_of_archive (cluster_id uuid, last_face_at timestamptz) ON COMMIT DROP

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
    nth integer, cluster_id uuid, created_at timestamptz, kind text, face_id uuid,
    other_cluster_id uuid, distance real, other_distance real, similarity real, faces integer,
    chance real, put_off boolean
) ON COMMIT DROP

-- name: make_room_for_merges
CREATE TEMPORARY TABLE merge_of_archive (
    cluster_id uuid, merged_into uuid, merged_at timestamptz
) ON COMMIT DROP

-- name: make_room_for_decisions
CREATE TEMPORARY TABLE decision_of_archive (
    decision_id uuid, kind text, decided_at timestamptz
) ON COMMIT DROP

-- name: make_room_for_decision_faces
CREATE TEMPORARY TABLE decision_face_of_archive (
    decision_id uuid, face_id uuid, side smallint, is_claim boolean
) ON COMMIT DROP

-- name: insert_tenant_of_archive
-- No row when the tenant exists; waits for a transaction that is creating it.
INSERT INTO tenant (tenant_id, created_at, match_factor) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id) DO NOTHING
RETURNING tenant_id

-- name: store_images_of_archive
INSERT INTO image (
    tenant_id, image_id, blob_key, format, width, height, size_bytes, sha256, phash, created_at,
    turned, taken_at, orientation, latitude, longitude
)
SELECT $1, image_id, blob_key, format, width, height, size_bytes, sha256, phash, created_at, turned,
       taken_at, orientation, latitude, longitude
FROM image_of_archive

-- name: store_clusters_of_archive
-- A cover that a person chose stays while faces are stored.
WITH kept AS (
    INSERT INTO time_of_archive SELECT cluster_id, last_face_at FROM cluster_of_archive
)
INSERT INTO cluster (
    tenant_id, cluster_id, created_at, label, label_key, external_id, metadata, hidden, version,
    cover_face_id
)
SELECT $1, cluster_id, created_at, label, label_key, external_id, metadata, hidden, version,
       cover_face_id
FROM cluster_of_archive

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
INSERT INTO review (
    tenant_id, cluster_id, created_at, kind, face_id, other_cluster_id, distance, other_distance,
    similarity, faces, chance, put_off
)
SELECT $1, cluster_id, created_at, kind, face_id, other_cluster_id, distance, other_distance,
       similarity, faces, chance, put_off
FROM review_of_archive ORDER BY nth

-- name: store_merges_of_archive
INSERT INTO merged_cluster (tenant_id, cluster_id, merged_into, merged_at)
SELECT $1, cluster_id, merged_into, merged_at FROM merge_of_archive

-- name: store_decisions_of_archive
INSERT INTO decision (tenant_id, decision_id, kind, decided_at)
SELECT $1, decision_id, kind, decided_at FROM decision_of_archive

-- name: store_decision_faces_of_archive
-- Where a face is, its own row says.
INSERT INTO decision_face (tenant_id, decision_id, face_id, side, is_claim, cluster_id)
SELECT $1, decision_id, face_id, side, is_claim, cluster_id
FROM decision_face_of_archive AS stored
JOIN face USING (face_id)
WHERE tenant_id = $1

-- name: empty_room_for_archive
TRUNCATE image_of_archive, cluster_of_archive, face_of_archive, face_vector_of_archive,
         review_of_archive, merge_of_archive, decision_of_archive, decision_face_of_archive

-- name: clusters_with_strange_covers
SELECT cluster_id FROM cluster
WHERE tenant_id = $1 AND cover_face_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM face
    WHERE face.tenant_id = $1 AND face_id = cover_face_id AND face.cluster_id = cluster.cluster_id
)
LIMIT 1

-- name: clusters_merged_away
-- Clusters that exist, and by the archive do not. Since those that others were merged into exist, there
-- are no circles of merges.
SELECT cluster_id FROM cluster JOIN merged_cluster USING (tenant_id, cluster_id)
WHERE tenant_id = $1 LIMIT 1

-- name: decisions_that_say_nothing
SELECT decision_id FROM decision
LEFT JOIN decision_face USING (tenant_id, decision_id)
WHERE tenant_id = $1
GROUP BY decision_id, kind
HAVING CASE kind WHEN 'same' THEN count(side) < 2 ELSE count(DISTINCT side) < 2 END
LIMIT 1

-- name: complete_clusters_of_archive
-- Times of newest photos, and the best faces as covers where no person chose one. The triggers choose
-- among faces of one quality by their order in a statement, and set the time of the import.
UPDATE cluster
SET last_face_at = coalesce(kept.last_face_at, greatest(cluster.created_at, newest)),
    cover_face_id = CASE WHEN is_chosen THEN cover_face_id ELSE best END,
    cover_quality = CASE WHEN is_chosen THEN cover_quality ELSE quality END
FROM (
    SELECT found.cluster_id, max(image.created_at) AS newest,
           max(coalesce(quality, 0)) FILTER (WHERE face_id IS NOT NULL) AS quality,
           (array_agg(face_id ORDER BY quality DESC NULLS LAST, seq))[1] AS best,
           coalesce(bool_or(cover_quality IS NULL AND face_id = cover_face_id), false) AS is_chosen
    FROM cluster AS found
    LEFT JOIN face ON face.tenant_id = $1 AND face.cluster_id = found.cluster_id
    LEFT JOIN image ON image.tenant_id = $1 AND image.image_id = face.image_id
    WHERE found.tenant_id = $1
    GROUP BY found.cluster_id
) AS counted
JOIN time_of_archive AS kept USING (cluster_id)
WHERE cluster.tenant_id = $1 AND cluster.cluster_id = counted.cluster_id

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
