-- The history of a tenant: changes with the state before and after them, and how they are taken back.

-- name: faces_before
SELECT face_id, cluster_id, is_auto_matched, distance
FROM face WHERE tenant_id = $1 AND face_id = ANY ($2::uuid[])

-- name: faces_of_cluster_before
SELECT face_id, cluster_id, is_auto_matched, distance FROM face WHERE tenant_id = $1 AND cluster_id = $2

-- name: cluster_states
-- Of each cluster its facts; where it was merged into; or null where there is none.
SELECT wanted.cluster_id,
       CASE WHEN cluster.cluster_id IS NOT NULL THEN jsonb_build_object(
           'label', label, 'label_key', label_key, 'external_id', external_id, 'metadata', metadata,
           'hidden', hidden, 'created_at', created_at,
           'cover_face_id', CASE WHEN cover_quality IS NULL THEN cover_face_id END
       ) WHEN merged_into IS NOT NULL THEN jsonb_build_object('merged_into', merged_into) END AS state
FROM unnest($2::uuid[]) AS wanted (cluster_id)
LEFT JOIN cluster ON cluster.tenant_id = $1 AND cluster.cluster_id = wanted.cluster_id
LEFT JOIN merged_cluster AS merged ON merged.tenant_id = $1 AND merged.cluster_id = wanted.cluster_id

-- name: clusters_merged_into
SELECT cluster_id FROM merged_cluster WHERE tenant_id = $1 AND merged_into = ANY ($2::uuid[])

-- name: open_reviews_of
-- The questions about one of these clusters, or one of these faces, or of these numbers.
SELECT review_id, kind, cluster_id, face_id, other_cluster_id, created_at, distance, other_distance,
       similarity, faces, chance, put_off
FROM review
WHERE tenant_id = $1 AND review_id IN (
    SELECT review_id FROM review WHERE tenant_id = $1 AND cluster_id = ANY ($2::uuid[])
    UNION SELECT review_id FROM review WHERE tenant_id = $1 AND other_cluster_id = ANY ($2::uuid[])
    UNION SELECT review_id FROM review WHERE tenant_id = $1 AND face_id = ANY ($3::uuid[])
    UNION SELECT review_id FROM review WHERE tenant_id = $1 AND review_id = ANY ($4::bigint[])
)

-- name: note_change
INSERT INTO change (tenant_id, change, kind, key_id, subject, by_machine, has_inverse, undoes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: note_faces
-- Faces as they were before the change $2 ($3 to $6), and as they are now. Also those that stay as they were:
-- what a change says of a face goes with the face.
INSERT INTO change_face
SELECT $1, $2, face_id, before.cluster_id, before.is_auto_matched, before.distance,
       face.cluster_id, face.is_auto_matched, face.distance
FROM unnest($3::uuid[], $4::uuid[], $5::boolean[], $6::real[])
    AS before (face_id, cluster_id, is_auto_matched, distance)
JOIN face USING (face_id)
WHERE face.tenant_id = $1

-- name: note_clusters
INSERT INTO change_cluster
SELECT $1, $2, cluster_id, before, after
FROM unnest($3::uuid[], $4::jsonb[], $5::jsonb[]) AS state (cluster_id, before, after)

-- name: note_decisions
INSERT INTO change_decision SELECT $1, $2, decision_id, was_active
FROM unnest($3::uuid[], $4::boolean[]) AS item (decision_id, was_active)

-- name: note_review
INSERT INTO change_review VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)

-- name: change
SELECT change, changed_at, kind, key_id, by_machine, subject, has_inverse, undoes, undone_by
FROM change WHERE tenant_id = $1 AND change = $2

-- name: changed_faces
-- The faces that a change changed: as they were, as they became, as they are.
SELECT change_face.*, face.cluster_id, face.is_auto_matched, face.distance
FROM change_face JOIN face USING (tenant_id, face_id)
WHERE tenant_id = $1 AND change = $2
  AND (before_cluster_id, before_is_auto_matched, before_distance)
      IS DISTINCT FROM (after_cluster_id, after_is_auto_matched, after_distance)

-- name: changed_clusters
SELECT cluster_id, before, after FROM change_cluster WHERE tenant_id = $1 AND change = $2

-- name: changed_decisions
SELECT decision_id, was_active, is_active
FROM change_decision JOIN decision USING (tenant_id, decision_id)
WHERE tenant_id = $1 AND change = $2

-- name: changed_reviews
SELECT * FROM change_review WHERE tenant_id = $1 AND change = $2

-- name: put_faces_back
UPDATE face
SET cluster_id = wanted.cluster_id, is_auto_matched = wanted.is_auto_matched, distance = wanted.distance
FROM unnest($2::uuid[], $3::uuid[], $4::boolean[], $5::real[])
    AS wanted (face_id, cluster_id, is_auto_matched, distance)
WHERE face.tenant_id = $1 AND face.face_id = wanted.face_id

-- name: restore_cluster
INSERT INTO cluster (
    tenant_id, cluster_id, label, label_key, external_id, metadata, hidden, created_at, last_face_at
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)

-- name: has_faces
SELECT EXISTS (SELECT FROM face WHERE tenant_id = $1 AND cluster_id = $2)

-- name: forget_merge
DELETE FROM merged_cluster WHERE tenant_id = $1 AND cluster_id = $2

-- name: restore_merge
INSERT INTO merged_cluster (tenant_id, cluster_id, merged_into) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, cluster_id) DO UPDATE SET merged_into = excluded.merged_into

-- name: restore_review
-- Unless a question like it is open, or what it asks about is gone.
INSERT INTO review (
    tenant_id, review_id, kind, cluster_id, face_id, other_cluster_id, created_at, distance, other_distance,
    similarity, faces, chance, put_off
) OVERRIDING SYSTEM VALUE
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13
WHERE EXISTS (SELECT FROM cluster WHERE tenant_id = $1 AND cluster_id = $4)
  AND ($6::uuid IS NULL OR EXISTS (SELECT FROM cluster WHERE tenant_id = $1 AND cluster_id = $6))
ON CONFLICT DO NOTHING

-- name: ask_as_before
-- A question that is open asks what it did before, unless that is asked already or is gone.
UPDATE review SET cluster_id = $3, face_id = $4, other_cluster_id = $5, put_off = $6
WHERE tenant_id = $1 AND review_id = $2
  AND EXISTS (SELECT FROM cluster WHERE tenant_id = $1 AND cluster_id = $3)
  AND ($5::uuid IS NULL OR EXISTS (SELECT FROM cluster WHERE tenant_id = $1 AND cluster_id = $5))
  AND NOT (kind = 'same_person' AND EXISTS (
      SELECT FROM review AS alike
      WHERE alike.tenant_id = $1 AND alike.kind = 'same_person' AND alike.review_id <> $2
        AND least(alike.cluster_id, alike.other_cluster_id) = least($3::uuid, $5::uuid)
        AND greatest(alike.cluster_id, alike.other_cluster_id) = greatest($3::uuid, $5::uuid)
  ))

-- name: delete_reviews
DELETE FROM review WHERE tenant_id = $1 AND review_id = ANY ($2::bigint[])

-- name: mark_undone
UPDATE change SET undone_by = $3 WHERE tenant_id = $1 AND change = $2

-- name: history
-- A page of changes, newest first, before the number $2, of the kind $4 and about the cluster $5, if given.
SELECT change, changed_at, kind, key_id, by_machine, subject, has_inverse, undoes, undone_by
FROM change
WHERE tenant_id = $1 AND change < $2 AND ($4::text IS NULL OR kind = $4)
  AND ($5::uuid IS NULL OR change IN (
      SELECT change_cluster.change FROM change_cluster
      WHERE change_cluster.tenant_id = $1 AND change_cluster.cluster_id = $5
  ))
ORDER BY change DESC LIMIT $3

-- name: erase_history_of_clusters
-- Changes about people who are erased, whose names they hold, and about those merged into them; returns
-- how many. What other changes say of their faces goes with the faces.
WITH gone AS (
    SELECT unnest($2::uuid[]) AS cluster_id
    UNION SELECT cluster_id FROM merged_cluster WHERE tenant_id = $1 AND merged_into = ANY ($2::uuid[])
),
questions AS (
    DELETE FROM change_review
    WHERE tenant_id = $1 AND (
        cluster_id IN (SELECT cluster_id FROM gone) OR other_cluster_id IN (SELECT cluster_id FROM gone)
    )
),
changes AS (
    DELETE FROM change
    WHERE tenant_id = $1 AND change IN (
        SELECT change_cluster.change FROM change_cluster JOIN gone USING (cluster_id) WHERE tenant_id = $1
    )
    RETURNING change
)
SELECT count(*) FROM changes

-- name: erase_history_of_faces
-- Takes faces that are erased out of what changes say, and removes changes about no other face; returns
-- how many.
WITH gone AS (
    SELECT change, array_agg(face_id::text) AS faces FROM change_face
    WHERE tenant_id = $1 AND face_id = ANY ($2::uuid[])
    GROUP BY change
),
empty AS (
    DELETE FROM change
    WHERE tenant_id = $1 AND change IN (
        SELECT gone.change FROM gone
        WHERE NOT EXISTS (
            SELECT FROM change_face AS kept
            WHERE kept.tenant_id = $1 AND kept.change = gone.change AND kept.face_id <> ALL ($2::uuid[])
        )
    )
    RETURNING change
),
scrubbed AS (
    UPDATE change
    SET subject = CASE WHEN jsonb_typeof(subject -> 'face_ids') = 'array'
        THEN jsonb_set(subject - 'face_id', '{face_ids}', (subject -> 'face_ids') - gone.faces)
        ELSE subject - 'face_id' END
    FROM gone
    WHERE tenant_id = $1 AND change.change = gone.change AND change.change NOT IN (SELECT change FROM empty)
)
SELECT count(*) FROM empty

-- name: erase_history_of_images
-- What says that these images were inserted; returns how many changes.
WITH gone AS (
    DELETE FROM change
    WHERE tenant_id = $1 AND change IN (
        SELECT image.change FROM image WHERE image.tenant_id = $1 AND image_id = ANY ($2::uuid[])
    )
    RETURNING change
)
SELECT count(*) FROM gone

-- name: changes_of_decisions
SELECT DISTINCT change FROM change_decision WHERE tenant_id = $1 AND decision_id = ANY ($2::uuid[])

-- name: erase_history_of_nothing
-- Those of the given changes of which no item is left, such as the retraction of a decision that is gone;
-- returns how many.
WITH gone AS (
    DELETE FROM change
    WHERE tenant_id = $1 AND change = ANY ($2::bigint[]) AND change NOT IN (
        SELECT change_decision.change FROM change_decision
        WHERE change_decision.tenant_id = $1 AND change_decision.change = ANY ($2::bigint[])
        UNION ALL SELECT change_face.change FROM change_face
        WHERE change_face.tenant_id = $1 AND change_face.change = ANY ($2::bigint[])
        UNION ALL SELECT change_cluster.change FROM change_cluster
        WHERE change_cluster.tenant_id = $1 AND change_cluster.change = ANY ($2::bigint[])
    )
    RETURNING change
)
SELECT count(*) FROM gone

-- name: tenants_to_prune
-- Tenants after $1 with changes older than $2 (none where it is null), or answers that were kept for a day.
SELECT tenant_id FROM tenant
WHERE tenant_id > $1 AND (
    EXISTS (
        SELECT FROM change
        WHERE change.tenant_id = tenant.tenant_id AND changed_at < now() - $2::interval
    ) OR EXISTS (
        SELECT FROM kept_answer
        WHERE kept_answer.tenant_id = tenant.tenant_id AND kept_at < now() - interval '1 day'
    )
)
ORDER BY tenant_id LIMIT 100

-- name: prune_history
-- Removes changes that are older than $2, the oldest $3 of them; returns their numbers, and the decisions
-- that they made, retracted or restored.
WITH old AS (
    DELETE FROM change WHERE tenant_id = $1 AND change IN (
        SELECT change FROM change WHERE tenant_id = $1 AND changed_at < now() - $2::interval
        ORDER BY changed_at LIMIT $3
    )
    RETURNING change
)
SELECT ARRAY(SELECT change FROM old) AS changes,
       ARRAY(
           SELECT DISTINCT decision_id FROM change_decision
           WHERE tenant_id = $1 AND change IN (SELECT change FROM old)
       ) AS decisions

-- name: forget_faces_that_left
-- Faces that left their decisions by changes ($2) that cannot be undone any more.
DELETE FROM decision_face WHERE tenant_id = $1 AND left_by = ANY ($2::bigint[])

-- name: forget_retracted_decisions
-- Those of the given decisions that do not hold, and that no change can restore.
DELETE FROM decision
WHERE tenant_id = $1 AND decision_id = ANY ($2::uuid[]) AND NOT is_active
  AND NOT EXISTS (
    SELECT FROM change_decision AS kept
    WHERE kept.tenant_id = $1 AND kept.decision_id = decision.decision_id
  )

-- name: prune_answers
-- Answers that were kept for a day, the oldest $2 of them; returns how many there were.
WITH old AS (
    DELETE FROM kept_answer WHERE tenant_id = $1 AND idempotency_key IN (
        SELECT idempotency_key FROM kept_answer
        WHERE tenant_id = $1 AND kept_at < now() - interval '1 day'
        ORDER BY kept_at LIMIT $2
    )
    RETURNING idempotency_key
)
SELECT count(*) FROM old
