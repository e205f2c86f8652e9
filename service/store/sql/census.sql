-- A tenant in numbers, and samples of its faces: for a report, on a connection of the tables' owner.

-- name: census_counts
-- $2 is the space of the model whose vectors are counted.
SELECT created_at, people, faces, images, match_factor,
       (SELECT count(*) FROM cluster WHERE tenant_id = $1 AND is_labelled) AS labelled,
       (SELECT count(*) FROM cluster WHERE tenant_id = $1 AND hidden) AS hidden,
       (SELECT count(*) FROM face WHERE tenant_id = $1 AND NOT is_matchable) AS unmatchable,
       (SELECT count(*) FROM face_vector WHERE tenant_id = $1 AND model_space = $2) AS embedded,
       (SELECT count(*) FROM image WHERE tenant_id = $1 AND blob_key IS NULL) AS without_file,
       (SELECT count(*) FROM image WHERE tenant_id = $1 AND taken_at IS NOT NULL) AS dated
FROM tenant WHERE tenant_id = $1

-- name: census_sizes
-- How many people have how many faces.
SELECT faces AS size, count(*) AS people FROM cluster WHERE tenant_id = $1
GROUP BY faces ORDER BY faces

-- name: census_quality
-- How many faces have a quality within each of $2 equal steps from 0 to 1, numbered from 0; null where an
-- earlier release stored none.
SELECT least(width_bucket(quality, 0, 1, $2), $2) - 1 AS step, is_matchable, count(*) AS faces
FROM face WHERE tenant_id = $1
GROUP BY step, is_matchable

-- name: census_reasons
-- For how many faces each reason of low quality holds.
SELECT reason, count(*) AS faces
FROM face CROSS JOIN LATERAL jsonb_array_elements_text(quality_facts -> 'reasons') AS reason
WHERE tenant_id = $1 AND quality_facts IS NOT NULL
GROUP BY reason ORDER BY faces DESC, reason

-- name: census_span
-- The first and the last time: with $2 those when photos were taken, else those when they were stored.
SELECT min(seen) AS first, max(seen) AS last FROM (
    SELECT CASE WHEN $2::boolean THEN taken_at ELSE created_at END AS seen
    FROM image WHERE tenant_id = $1
) AS time

-- name: census_periods
-- How many photos each period has that has any; $3 is its length, as date_trunc names it.
SELECT date_trunc($3, seen AT TIME ZONE 'UTC')::date AS period, count(*) AS photos FROM (
    SELECT CASE WHEN $2::boolean THEN taken_at ELSE created_at END AS seen
    FROM image WHERE tenant_id = $1
) AS time
WHERE seen IS NOT NULL
GROUP BY period ORDER BY period

-- name: largest_people
SELECT cluster_id, label, faces, images, last_face_at, cover_face_id FROM cluster
WHERE tenant_id = $1 AND NOT hidden AND faces > 0
ORDER BY faces DESC, cluster_id LIMIT $2

-- name: people_of_ids
SELECT cluster_id, label, faces, images, last_face_at, cover_face_id FROM cluster
WHERE tenant_id = $1 AND cluster_id = ANY ($2::uuid[])

-- name: sums_of_largest_people
-- The number of matchable faces of each of the $3 largest people, and the sum of their vectors; see
-- `sums_of_people`.
SELECT person.cluster_id, vector_send(sum.total) AS total
FROM (
    SELECT cluster_id FROM cluster WHERE tenant_id = $1 AND NOT hidden AND faces > 0
    ORDER BY faces DESC, cluster_id LIMIT $3
) AS person
CROSS JOIN LATERAL (
    SELECT total::vector AS total FROM cluster_sum
    WHERE tenant_id = $1 AND cluster_sum.cluster_id = person.cluster_id AND model_space || '' = $2
    LIMIT 1
) AS sum

-- name: sampled_faces
-- Of $3 people, of whom those with several faces come first, $4 matchable faces at most. Which they are
-- follows from their ids, so that the same data give the same sample.
SELECT person.cluster_id, face.face_id, face.quality, vector_send(vector.embedding) AS embedding
FROM (
    SELECT cluster_id FROM cluster WHERE tenant_id = $1 AND NOT hidden AND faces > 0
    ORDER BY faces < 2, uuid_hash_extended(cluster_id, 0), cluster_id LIMIT $3
) AS person
CROSS JOIN LATERAL (
    SELECT face_id, quality FROM face
    WHERE tenant_id = $1 AND face.cluster_id = person.cluster_id AND is_matchable
    ORDER BY uuid_hash_extended(face_id, 0), face_id LIMIT $4
) AS face
CROSS JOIN LATERAL (
    SELECT embedding::vector AS embedding FROM face_vector
    WHERE tenant_id = $1 AND face_vector.face_id = face.face_id AND model_space || '' = $2
    LIMIT 1
) AS vector
ORDER BY person.cluster_id, face.face_id

-- name: places_of_faces
-- Where the given faces are: box, and file of the image.
SELECT face_id, image_id, box, blob_key, format
FROM face JOIN image USING (tenant_id, image_id)
WHERE tenant_id = $1 AND face_id = ANY ($2::uuid[])
