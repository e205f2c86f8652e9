-- People: clusters with what callers say about them, page by page.

-- name: people_by_faces
-- A page, from the largest person on, behind the position ($5, $6). Each combination of hidden and
-- labelled is one range of the index, so that a page costs the same in a tenant of any size.
SELECT page.* FROM unnest($2::boolean[]) AS is_hidden CROSS JOIN unnest($3::boolean[]) AS has_label
CROSS JOIN LATERAL (
    SELECT cluster_id, label, label_key, external_id, metadata, hidden, version, faces, images,
           created_at, last_face_at, cover_face_id, cover_quality IS NULL AND cover_face_id IS NOT NULL AS cover_is_chosen
    FROM cluster
    WHERE tenant_id = $1 AND hidden = is_hidden AND is_labelled = has_label
      AND (faces, cluster_id) < ($5::integer, $6::uuid)
    ORDER BY faces DESC, cluster_id DESC LIMIT $4
) AS page
ORDER BY faces DESC, cluster_id DESC LIMIT $4

-- name: people_by_recency
-- The same, from the person of the newest photo on.
SELECT page.* FROM unnest($2::boolean[]) AS is_hidden CROSS JOIN unnest($3::boolean[]) AS has_label
CROSS JOIN LATERAL (
    SELECT cluster_id, label, label_key, external_id, metadata, hidden, version, faces, images,
           created_at, last_face_at, cover_face_id, cover_quality IS NULL AND cover_face_id IS NOT NULL AS cover_is_chosen
    FROM cluster
    WHERE tenant_id = $1 AND hidden = is_hidden AND is_labelled = has_label
      AND (last_face_at, cluster_id) < ($5::timestamptz, $6::uuid)
    ORDER BY last_face_at DESC, cluster_id DESC LIMIT $4
) AS page
ORDER BY last_face_at DESC, cluster_id DESC LIMIT $4

-- name: people_by_label
-- The labelled people whose key begins like $3 and is less than $7, in the order of their labels.
SELECT page.* FROM unnest($2::boolean[]) AS is_hidden
CROSS JOIN LATERAL (
    SELECT cluster_id, label, label_key, external_id, metadata, hidden, version, faces, images,
           created_at, last_face_at, cover_face_id, cover_quality IS NULL AND cover_face_id IS NOT NULL AS cover_is_chosen
    FROM cluster
    WHERE tenant_id = $1 AND hidden = is_hidden AND label IS NOT NULL
      AND label_key >= $3 AND ($7::text IS NULL OR label_key < $7)
      AND (label_key, cluster_id) > ($5::text, $6::uuid)
    ORDER BY label_key, cluster_id LIMIT $4
) AS page
ORDER BY label_key, cluster_id LIMIT $4

-- name: person
SELECT cluster_id, label, label_key, external_id, metadata, hidden, version, faces, images,
       created_at, last_face_at, cover_face_id, cover_quality IS NULL AND cover_face_id IS NOT NULL AS cover_is_chosen
FROM cluster WHERE tenant_id = $1 AND cluster_id = $2

-- name: person_by_external_id
SELECT cluster_id, label, label_key, external_id, metadata, hidden, version, faces, images,
       created_at, last_face_at, cover_face_id, cover_quality IS NULL AND cover_face_id IS NOT NULL AS cover_is_chosen
FROM cluster WHERE tenant_id = $1 AND external_id = $2

-- name: merged_into
SELECT merged_into FROM merged_cluster WHERE tenant_id = $1 AND cluster_id = $2

-- name: faces_of_person
-- A page of faces, newest first, before the number $3.
SELECT face_id, cluster_id, image_id, box, landmarks, confidence, is_auto_matched, distance, quality,
       quality_facts, is_matchable, seq
FROM face WHERE tenant_id = $1 AND cluster_id = $2 AND seq < $3
ORDER BY seq DESC LIMIT $4

-- name: listed_faces_of_image
-- Largest first, which is the order of their numbers, behind the number $3.
SELECT face_id, cluster_id, image_id, box, landmarks, confidence, is_auto_matched, distance, quality,
       quality_facts, is_matchable, seq
FROM face WHERE tenant_id = $1 AND image_id = $2 AND seq > $3
ORDER BY seq LIMIT $4

-- name: listed_face
SELECT face_id, cluster_id, image_id, box, landmarks, confidence, is_auto_matched, distance, quality,
       quality_facts, is_matchable, seq
FROM face WHERE tenant_id = $1 AND face_id = $2

-- name: newest_images_of_person
-- The images of the person's next $4 faces, newest first, before the number $3; and the lowest number of a
-- face of the person on each, which all follow each other.
SELECT image_id, (
    SELECT min(face.seq) FROM face
    WHERE tenant_id = $1 AND face.image_id = newest.image_id AND cluster_id = $2
) AS seq
FROM (
    SELECT image_id, max(seq) AS seq FROM (
        SELECT image_id, seq FROM face
        WHERE tenant_id = $1 AND cluster_id = $2 AND seq < $3
        ORDER BY seq DESC LIMIT $4
    ) AS next_faces
    GROUP BY image_id
) AS newest
ORDER BY newest.seq DESC

-- name: image_facts
SELECT image_id, format, width, height, size_bytes, sha256, phash, turned, created_at, taken_at,
       orientation, latitude, longitude, blob_key,
       (SELECT count(*) FROM face WHERE face.tenant_id = $1 AND face.image_id = image.image_id) AS faces
FROM image WHERE tenant_id = $1 AND image_id = ANY ($2::uuid[])

-- name: images_by_creation
-- A page, newest first, before the position ($3, $4), with times between $5 and $6.
SELECT image_id, format, width, height, size_bytes, sha256, phash, turned, created_at, taken_at,
       orientation, latitude, longitude, blob_key,
       (SELECT count(*) FROM face WHERE face.tenant_id = $1 AND face.image_id = image.image_id) AS faces
FROM image
WHERE tenant_id = $1 AND (created_at, image_id) < ($3::timestamptz, $4::uuid)
  AND created_at > $5 AND created_at < $6
ORDER BY created_at DESC, image_id DESC LIMIT $2

-- name: images_by_taking
-- The same by the time when the photo was taken.
SELECT image_id, format, width, height, size_bytes, sha256, phash, turned, created_at, taken_at,
       orientation, latitude, longitude, blob_key,
       (SELECT count(*) FROM face WHERE face.tenant_id = $1 AND face.image_id = image.image_id) AS faces
FROM image
WHERE tenant_id = $1 AND taken_at IS NOT NULL AND (taken_at, image_id) < ($3::timestamptz, $4::uuid)
  AND taken_at > $5 AND taken_at < $6
ORDER BY taken_at DESC, image_id DESC LIMIT $2

-- name: images_by_sha256
-- A page of the images of files with the hashes $7, as `images_by_creation`. The hashes are found first,
-- through their index: for a page of the newest images, the planner would read all of them.
WITH found AS MATERIALIZED (
    SELECT * FROM image WHERE tenant_id = $1 AND sha256 = ANY ($7::text[])
)
SELECT image_id, format, width, height, size_bytes, sha256, phash, turned, created_at, taken_at,
       orientation, latitude, longitude, blob_key,
       (SELECT count(*) FROM face WHERE face.tenant_id = $1 AND face.image_id = found.image_id) AS faces
FROM found
WHERE (created_at, image_id) < ($3::timestamptz, $4::uuid) AND created_at > $5 AND created_at < $6
ORDER BY created_at DESC, image_id DESC LIMIT $2

-- name: insert_person
INSERT INTO cluster (tenant_id, cluster_id, label, label_key, external_id, metadata, hidden)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: change_person
UPDATE cluster
SET label = $3, label_key = $4, external_id = $5, metadata = $6, hidden = $7, version = version + 1
WHERE tenant_id = $1 AND cluster_id = $2

-- name: choose_cover
-- No row unless the face is one of the person.
UPDATE cluster SET cover_face_id = $3, cover_quality = NULL
WHERE tenant_id = $1 AND cluster_id = $2
  AND EXISTS (SELECT FROM face WHERE tenant_id = $1 AND face_id = $3 AND face.cluster_id = $2)
RETURNING cluster_id

-- name: find_cover
-- The best face is the cover again.
UPDATE cluster SET (cover_face_id, cover_quality) = (
    SELECT face_id, coalesce(quality, 0) FROM face WHERE face.tenant_id = $1 AND face.cluster_id = $2
    ORDER BY quality DESC NULLS LAST, seq LIMIT 1
)
WHERE tenant_id = $1 AND cluster_id = $2

-- name: touch_people
-- People whose faces a person changed have another version, and the times of their newest photos are found
-- anew.
UPDATE cluster SET version = version + 1, last_face_at = coalesce((
    SELECT max(image.created_at)
    FROM face JOIN image USING (tenant_id, image_id)
    WHERE face.tenant_id = $1 AND face.cluster_id = cluster.cluster_id
), created_at)
WHERE tenant_id = $1 AND cluster_id = ANY ($2::uuid[])

-- name: note_merge
-- Also for those that were merged into the one that goes.
WITH further AS (
    UPDATE merged_cluster SET merged_into = $3 WHERE tenant_id = $1 AND merged_into = $2
)
INSERT INTO merged_cluster (tenant_id, cluster_id, merged_into) VALUES ($1, $2, $3)

-- name: tenant_facts
SELECT tenant_id, created_at, images, faces, people, max_images, max_faces, requests_per_minute
FROM tenant WHERE tenant_id = $1

-- name: tenants
-- A page of all tenants, in the order of their ids, behind $1; on a connection that sees all of them.
SELECT tenant_id, created_at, images, faces, people, max_images, max_faces, requests_per_minute
FROM tenant WHERE tenant_id COLLATE "C" > $1
ORDER BY tenant_id COLLATE "C" LIMIT $2

-- name: insert_tenant
INSERT INTO tenant (tenant_id, max_images, max_faces, requests_per_minute) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id) DO NOTHING
RETURNING changes

-- name: change_limits
UPDATE tenant SET max_images = $2, max_faces = $3, requests_per_minute = $4 WHERE tenant_id = $1

-- name: changes_after
-- The faces of an inserted image, and their people, are those of now.
SELECT change, changed_at, kind, key_id,
       CASE kind WHEN 'image.inserted' THEN subject || (
           SELECT jsonb_build_object(
               'face_ids', coalesce(jsonb_agg(face_id ORDER BY seq), '[]'),
               'person_ids', coalesce(jsonb_agg(cluster_id ORDER BY seq), '[]')
           )
           FROM face
           WHERE face.tenant_id = $1 AND face.image_id = (subject ->> 'image_id')::uuid
       ) ELSE subject END AS subject
FROM change
WHERE tenant_id = $1 AND change > $2 ORDER BY change LIMIT $3

-- name: newest_change
SELECT changes FROM tenant WHERE tenant_id = $1

-- name: watch_tenant
-- For the next minute, writers of the tenant notify of their changes. It waits for those at work, so that
-- every later change is notified of.
UPDATE tenant SET watched_until = now() + interval '1 minute' WHERE tenant_id = $1 RETURNING tenant_id

-- name: notify_of_change
SELECT pg_notify('facette_changes', encode(sha256(convert_to($1, 'UTF8')), 'hex'))

-- name: kept_answer
SELECT fingerprint, status, body FROM kept_answer
WHERE tenant_id = $1 AND idempotency_key = $2 AND kept_at > now() - interval '1 day'

-- name: keep_answer
-- Also removes some that are over their time.
WITH old AS (
    DELETE FROM kept_answer WHERE (tenant_id, idempotency_key) IN (
        SELECT tenant_id, idempotency_key FROM kept_answer
        WHERE tenant_id = $1 AND kept_at < now() - interval '1 day' AND idempotency_key <> $2
        ORDER BY kept_at LIMIT 10
    )
)
INSERT INTO kept_answer AS kept (tenant_id, idempotency_key, fingerprint, status, body)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, idempotency_key) DO UPDATE
SET fingerprint = excluded.fingerprint, status = excluded.status, body = excluded.body, kept_at = now()
WHERE kept.kept_at < now() - interval '1 day'
