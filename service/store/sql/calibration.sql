-- What people said about doubtful pairs, from which the limit of a match is learned, and the limit's factor: on
-- a connection of the tables' owner.

-- name: match_factor
SELECT match_factor, people FROM tenant WHERE tenant_id = $1

-- name: set_match_factor
-- All people are looked at anew, since the limit decides which questions are worth asking. The change is in
-- the history, without an inverse.
WITH calibrated AS (
    UPDATE tenant SET match_factor = $2, changes = changes + 1, asked_seq = 0
    WHERE tenant_id = $1 AND match_factor <> $2
    RETURNING tenant_id, changes
)
INSERT INTO change (tenant_id, change, kind, subject)
SELECT tenant_id, changes, 'tenant.calibrated',
       jsonb_build_object('tenant_id', tenant_id, 'match_factor', $2::double precision)
FROM calibrated

-- name: answered_pairs
-- The sums of both sides of the $3 newest decisions, that hold, which answered a question: each of them was
-- asked because of its distance, whatever the answer. `other` names a person by its truth, so only that it
-- is not the person asked about counts of it. $2 is the space of the vectors.
WITH answered AS MATERIALIZED (
    SELECT decision_id, decision.kind = 'same' AS is_same
    FROM change
    JOIN change_decision USING (tenant_id, change)
    JOIN decision USING (tenant_id, decision_id)
    WHERE tenant_id = $1 AND change.kind = 'review.answered' AND NOT was_active AND is_active
      AND subject ->> 'question' IN ('same_person', 'weak_match', 'odd_face')
      AND (subject ->> 'answer' <> 'other' OR decision.kind = 'different')
    ORDER BY decided_at DESC, decision_id LIMIT $3
),
side AS (
    SELECT decision_id, is_same, placed.side, min(placed.cluster_id::text)::uuid AS cluster_id,
           count(*)::integer AS faces, sum(vector.embedding) AS total
    FROM answered
    CROSS JOIN LATERAL (
        SELECT face_id, side, cluster_id FROM decision_face
        WHERE tenant_id = $1 AND decision_face.decision_id = answered.decision_id AND left_by IS NULL
        ORDER BY is_claim DESC, face_id LIMIT 100
    ) AS placed
    CROSS JOIN LATERAL (
        SELECT embedding::vector AS embedding FROM face_vector
        WHERE tenant_id = $1 AND face_vector.face_id = placed.face_id AND model_space || '' = $2
          AND is_matchable
        LIMIT 1
    ) AS vector
    GROUP BY decision_id, is_same, placed.side
)
SELECT one.is_same, other.cluster_id AS person, one.faces, other.faces AS other_faces,
       vector_send(one.total) AS total, vector_send(other.total) AS other_total
FROM side AS one JOIN side AS other USING (decision_id)
WHERE one.side = 0 AND other.side = 1
ORDER BY decision_id

-- name: looked_through
-- Faces that the machine put to people whom somebody confirmed as a whole, so that no face of before is
-- left unconfirmed: those that were confirmed, and those that were taken away. Of each person $3 of both
-- kinds at most, and $4 in all, of as many people as there are. The sum is that of the person; $2 is the space of
-- the vectors.
WITH confirmed AS MATERIALIZED (
    SELECT change, (subject ->> 'person_id')::uuid AS cluster_id FROM change
    WHERE tenant_id = $1 AND kind = 'person.confirmed' AND undone_by IS NULL
      AND NOT EXISTS (
          SELECT FROM face JOIN image USING (tenant_id, image_id)
          WHERE face.tenant_id = $1 AND face.cluster_id = (subject ->> 'person_id')::uuid
            AND is_auto_matched AND coalesce(image.change, 0) < change.change
      )
),
placed AS (
    SELECT DISTINCT face_id, cluster_id, true AS is_same
    FROM confirmed JOIN change_face USING (change)
    WHERE tenant_id = $1 AND before_is_auto_matched AND before_distance IS NOT NULL
    UNION
    SELECT face_id, before_cluster_id, false
    FROM change JOIN change_face USING (tenant_id, change)
    WHERE tenant_id = $1 AND kind IN ('face.moved', 'person.split') AND undone_by IS NULL
      AND before_is_auto_matched AND before_distance IS NOT NULL
      AND before_cluster_id IN (SELECT cluster_id FROM confirmed)
      AND after_cluster_id <> before_cluster_id
),
chosen AS MATERIALIZED (
    SELECT * FROM (
        SELECT placed.face_id, placed.cluster_id, is_same,
               row_number() OVER (
                   PARTITION BY placed.cluster_id, is_same ORDER BY uuid_hash_extended(face_id, 0)
               ) AS nth
        FROM placed JOIN face USING (face_id)
        WHERE tenant_id = $1 AND is_matchable AND (face.cluster_id = placed.cluster_id) = is_same
    ) AS found
    WHERE nth <= $3
    ORDER BY nth, cluster_id, face_id LIMIT $4
)
SELECT is_same, chosen.cluster_id AS person, vector_send(vector.embedding) AS embedding,
       vector_send(sum.total) AS total
FROM chosen
CROSS JOIN LATERAL (
    SELECT embedding::vector AS embedding FROM face_vector
    WHERE tenant_id = $1 AND face_vector.face_id = chosen.face_id AND model_space || '' = $2 LIMIT 1
) AS vector
CROSS JOIN LATERAL (
    SELECT total::vector AS total FROM cluster_sum
    WHERE tenant_id = $1 AND cluster_sum.cluster_id = chosen.cluster_id AND model_space || '' = $2
    LIMIT 1
) AS sum
ORDER BY nth, chosen.cluster_id, chosen.face_id

-- name: decisions_that_hold
SELECT count(*) FROM decision WHERE tenant_id = $1 AND is_active
