-- Decisions: what people said about faces. Each statement that writes runs under its tenant's lock.

-- name: add_decision
-- A decision of the kind $2 by the key $3. Of each side the faces that it is about ($4, $6), or the best
-- ones of a cluster ($5, $7), which stand for the person there. No row where one side would be empty.
WITH sides AS (
    SELECT face_id, cluster_id, 0 AS side, true AS is_claim
    FROM face WHERE tenant_id = $1 AND face_id = ANY ($4::uuid[])
    UNION ALL
    SELECT face_id, cluster_id, 1, true
    FROM face WHERE tenant_id = $1 AND face_id = ANY ($6::uuid[])
    UNION ALL
    (
        SELECT face_id, cluster_id, 0, false
        FROM face WHERE tenant_id = $1 AND cluster_id = $5
        ORDER BY is_matchable DESC, quality DESC NULLS LAST, seq LIMIT 8
    )
    UNION ALL
    (
        SELECT face_id, cluster_id, 1, false
        FROM face WHERE tenant_id = $1 AND cluster_id = $7 AND face_id <> ALL ($4::uuid[])
        ORDER BY is_matchable DESC, quality DESC NULLS LAST, seq LIMIT 8
    )
),
made AS (
    INSERT INTO decision (tenant_id, kind, key_id)
    SELECT $1, $2, $3 WHERE (SELECT count(DISTINCT side) FROM sides) = 2
    RETURNING decision_id
),
placed AS (
    INSERT INTO decision_face (tenant_id, decision_id, face_id, side, is_claim, cluster_id)
    SELECT $1, decision_id, face_id, side, is_claim, cluster_id FROM made CROSS JOIN sides
)
SELECT decision_id FROM made

-- name: add_differences
-- The faces $3 leave their clusters for the cluster $4, so none of them is one of the faces left there: a
-- decision for each cluster with such faces, of which the best ones stand for the person.
WITH leaving AS (
    SELECT face_id, cluster_id FROM face
    WHERE tenant_id = $1 AND face_id = ANY ($3::uuid[]) AND cluster_id <> $4
),
former AS (
    SELECT cluster_id, gen_random_uuid() AS decision_id
    FROM (SELECT DISTINCT cluster_id FROM leaving) AS each_one
),
staying AS (
    SELECT decision_id, former.cluster_id, face_id
    FROM former
    CROSS JOIN LATERAL (
        SELECT face_id FROM face
        WHERE tenant_id = $1 AND face.cluster_id = former.cluster_id AND face_id <> ALL ($3::uuid[])
        ORDER BY is_matchable DESC, quality DESC NULLS LAST, seq LIMIT 8
    ) AS best
),
made AS (
    INSERT INTO decision (tenant_id, decision_id, kind, key_id)
    SELECT DISTINCT $1, decision_id, 'different', $2 FROM staying
    RETURNING decision_id
),
placed AS (
    INSERT INTO decision_face (tenant_id, decision_id, face_id, side, is_claim, cluster_id)
    SELECT $1, decision_id, face_id, 1, false, cluster_id FROM staying
    UNION ALL
    SELECT $1, decision_id, leaving.face_id, 0, true, cluster_id
    FROM leaving JOIN former USING (cluster_id) JOIN made USING (decision_id)
)
SELECT decision_id FROM made

-- name: decisions_against_joining
-- Decisions by which one of the faces $2 is another person than the cluster $3. Here and below the rows of
-- one side are counted once, however many there are: a decision may be about thousands of faces.
WITH mine AS MATERIALIZED (
    SELECT DISTINCT decision_id, side FROM decision_face JOIN decision USING (tenant_id, decision_id)
    WHERE tenant_id = $1 AND kind = 'different' AND is_active
      AND face_id = ANY ($2::uuid[]) AND is_claim AND left_by IS NULL
)
SELECT DISTINCT decision_id FROM mine
WHERE EXISTS (
    SELECT FROM decision_face AS other
    WHERE other.tenant_id = $1 AND other.decision_id = mine.decision_id AND other.cluster_id = $3
      AND other.side <> mine.side AND other.left_by IS NULL
)

-- name: decisions_against_leaving
-- Decisions by which one of the faces $2 is the same person as another face, not among them, that is in
-- the same cluster and would be left there; the cluster $3 is where they go.
WITH mine AS MATERIALIZED (
    SELECT DISTINCT decision_id, cluster_id FROM decision_face JOIN decision USING (tenant_id, decision_id)
    WHERE tenant_id = $1 AND kind = 'same' AND is_active
      AND face_id = ANY ($2::uuid[]) AND is_claim AND left_by IS NULL AND cluster_id <> $3
)
SELECT DISTINCT decision_id FROM mine
WHERE EXISTS (
    SELECT FROM decision_face AS other
    WHERE other.tenant_id = $1 AND other.decision_id = mine.decision_id
      AND other.cluster_id = mine.cluster_id AND other.left_by IS NULL AND other.face_id <> ALL ($2::uuid[])
)

-- name: decisions_between
-- Decisions that keep two clusters apart.
WITH mine AS MATERIALIZED (
    SELECT DISTINCT decision_id, side FROM decision_face JOIN decision USING (tenant_id, decision_id)
    WHERE tenant_id = $1 AND kind = 'different' AND is_active AND cluster_id = $2 AND left_by IS NULL
)
SELECT DISTINCT decision_id FROM mine
WHERE EXISTS (
    SELECT FROM decision_face AS other
    WHERE other.tenant_id = $1 AND other.decision_id = mine.decision_id AND other.cluster_id = $3
      AND other.side <> mine.side AND other.left_by IS NULL
)

-- name: kept_apart
-- Those of the given clusters that a decision keeps apart, in pairs.
WITH sides AS MATERIALIZED (
    SELECT DISTINCT decision_id, side, cluster_id
    FROM decision_face JOIN decision USING (tenant_id, decision_id)
    WHERE tenant_id = $1 AND kind = 'different' AND is_active
      AND cluster_id = ANY ($2::uuid[]) AND left_by IS NULL
)
SELECT DISTINCT mine.cluster_id AS one, other.cluster_id AS other
FROM sides AS mine JOIN sides AS other USING (decision_id)
WHERE other.side <> mine.side AND other.cluster_id <> mine.cluster_id

-- name: denied_to_clusters
-- For each of the faces $2 those of the clusters $3 that it is not, by a decision.
SELECT DISTINCT mine.face_id, wanted.cluster_id
FROM decision_face AS mine
JOIN decision USING (tenant_id, decision_id)
CROSS JOIN unnest($3::uuid[]) AS wanted (cluster_id)
WHERE tenant_id = $1 AND kind = 'different' AND is_active
  AND mine.face_id = ANY ($2::uuid[]) AND mine.left_by IS NULL AND wanted.cluster_id <> mine.cluster_id
  AND EXISTS (
    SELECT FROM decision_face AS other
    WHERE other.tenant_id = $1 AND other.decision_id = mine.decision_id
      AND other.cluster_id = wanted.cluster_id AND other.side <> mine.side AND other.left_by IS NULL
  )

-- name: faces_leave_decisions
-- A person takes faces elsewhere by the change $3: those that only stood for their person do so no more, and
-- with $4 nor do those that the decisions were about.
UPDATE decision_face SET left_by = $3
WHERE tenant_id = $1 AND face_id = ANY ($2::uuid[]) AND left_by IS NULL
  AND (NOT is_claim OR decision_id = ANY ($4::uuid[]))

-- name: faces_return_to_decisions
-- The change $3 is taken back by the change $4: faces are in those decisions again which they left by it, and
-- leave again those to which it returned them.
UPDATE decision_face
SET left_by = CASE WHEN left_by = $3 THEN NULL ELSE $4::bigint END,
    returned_by = CASE WHEN left_by = $3 THEN $4::bigint END
WHERE tenant_id = $1 AND face_id = ANY ($2::uuid[]) AND (left_by = $3 OR returned_by = $3)

-- name: contradicted_decision
-- A decision that holds, one of $3 or one about the faces $2, whose faces are together or apart against it.
SELECT decision_id
FROM decision JOIN decision_face USING (tenant_id, decision_id)
WHERE tenant_id = $1 AND is_active AND left_by IS NULL
  AND decision_id IN (
    SELECT unnest($3::uuid[])
    UNION SELECT decision_id FROM decision_face WHERE tenant_id = $1 AND face_id = ANY ($2::uuid[])
  )
GROUP BY decision_id, kind
HAVING CASE kind
    WHEN 'same' THEN count(DISTINCT cluster_id) > 1
    ELSE count(DISTINCT (cluster_id, side)) > count(DISTINCT cluster_id) END
LIMIT 1

-- name: activate_decisions
UPDATE decision SET is_active = $3 WHERE tenant_id = $1 AND decision_id = ANY ($2::uuid[]) AND is_active <> $3
RETURNING decision_id

-- name: decisions
-- A page, newest first, before the position ($2, $3).
SELECT decision_id, kind, decided_at, key_id,
       ARRAY(
           SELECT face_id FROM decision_face AS named
           WHERE named.tenant_id = $1 AND named.decision_id = decision.decision_id AND side = 0
             AND left_by IS NULL ORDER BY face_id LIMIT 100
       ) AS faces,
       ARRAY(
           SELECT face_id FROM decision_face AS named
           WHERE named.tenant_id = $1 AND named.decision_id = decision.decision_id AND side = 1
             AND left_by IS NULL ORDER BY face_id LIMIT 100
       ) AS others,
       ARRAY(
           SELECT DISTINCT cluster_id FROM decision_face AS named
           WHERE named.tenant_id = $1 AND named.decision_id = decision.decision_id AND left_by IS NULL
           ORDER BY cluster_id
       ) AS people
FROM decision
WHERE tenant_id = $1 AND is_active AND (decided_at, decision_id) < ($2::timestamptz, $3::uuid)
ORDER BY decided_at DESC, decision_id DESC LIMIT $4

-- name: decision_exists
SELECT 1 FROM decision WHERE tenant_id = $1 AND decision_id = $2 AND is_active
