-- Reviews: questions in the order of their worth, handed out to reviewers, and what became of them.

-- name: questions
-- A page, from the question of most worth on, behind the position ($4, $5): of the kinds $3, put off or not.
-- Each kind is one range of the index, so that a page costs the same with any number of questions.
WITH page AS MATERIALIZED (
    SELECT found.review_id FROM unnest($3::text[]) AS wanted (kind)
    CROSS JOIN LATERAL (
        SELECT review_id, worth FROM review
        WHERE tenant_id = $1 AND put_off = $2 AND review.kind = wanted.kind
          AND (worth, review_id) < ($4::real, $5::bigint)
        ORDER BY worth DESC, review_id DESC LIMIT $6
    ) AS found
    ORDER BY worth DESC, review_id DESC LIMIT $6
)
{question_facts}

-- name: questions_of_person
-- The same of those about the person $7, which are few.
WITH page AS MATERIALIZED (
    SELECT review_id FROM (
        SELECT review_id, worth, put_off, kind FROM review WHERE tenant_id = $1 AND cluster_id = $7
        UNION ALL
        SELECT review_id, worth, put_off, kind FROM review
        WHERE tenant_id = $1 AND other_cluster_id = $7
    ) AS about
    WHERE put_off = $2 AND kind = ANY ($3::text[]) AND (worth, review_id) < ($4::real, $5::bigint)
    ORDER BY worth DESC, review_id DESC LIMIT $6
)
{question_facts}

-- name: questions_of_ids
-- The questions $2 that are open, with what is asked about.
WITH page AS MATERIALIZED (SELECT unnest($2::bigint[]) AS review_id)
{question_facts}

-- name: question_facts
-- The questions of `page`, with the people and the face that they are about.
SELECT review.review_id, review.kind, review.created_at, review.distance, review.other_distance,
       review.similarity, review.faces AS settles, review.chance, review.worth, review.put_off,
       person.cluster_id, person.label, person.faces, person.cover_face_id,
       other.cluster_id AS other_cluster_id, other.label AS other_label, other.faces AS other_faces,
       other.cover_face_id AS other_cover_face_id,
       asked.face_id, asked.image_id, asked.box
FROM page
CROSS JOIN LATERAL (
    SELECT * FROM review WHERE tenant_id = $1 AND review.review_id = page.review_id LIMIT 1
) AS review
CROSS JOIN LATERAL (
    SELECT cluster_id, label, faces, cover_face_id FROM cluster
    WHERE tenant_id = $1 AND cluster.cluster_id = review.cluster_id LIMIT 1
) AS person
LEFT JOIN LATERAL (
    SELECT cluster_id, label, faces, cover_face_id FROM cluster
    WHERE tenant_id = $1 AND cluster.cluster_id = review.other_cluster_id LIMIT 1
) AS other ON true
LEFT JOIN LATERAL (
    SELECT face_id, image_id, box FROM face
    WHERE tenant_id = $1 AND face.face_id = review.face_id LIMIT 1
) AS asked ON true
ORDER BY review.worth DESC, review.review_id DESC

-- name: lock_reviewing
-- One reviewer of a tenant at a time is given questions.
SELECT pg_advisory_xact_lock(hashtextextended('facette reviews of ' || $1, 0))

-- name: lease_questions
-- Hands out the $3 questions of most worth to the reviewer $2 for $4: those that nobody else holds. A question
-- that is being answered is passed over.
WITH best AS MATERIALIZED (
    SELECT found.review_id
    FROM unnest(ARRAY['new_person', 'same_person', 'weak_match', 'odd_face']) AS wanted (kind)
    CROSS JOIN LATERAL (
        SELECT review_id, worth FROM review
        WHERE tenant_id = $1 AND NOT put_off AND review.kind = wanted.kind
          AND (leased_until < now() OR leased_by = $2)
        ORDER BY worth DESC, review_id DESC LIMIT $3
    ) AS found
    ORDER BY worth DESC, review_id DESC LIMIT $3
),
free AS MATERIALIZED (
    SELECT held.review_id FROM best CROSS JOIN LATERAL (
        SELECT review_id FROM review
        WHERE tenant_id = $1 AND review.review_id = best.review_id
        LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) AS held
)
UPDATE review SET leased_by = $2, leased_until = now() + $4::interval
WHERE tenant_id = $1 AND review_id = ANY (ARRAY(SELECT review_id FROM free))
RETURNING review_id

-- name: change_that_closed
-- The newest change that closed a question, unless it was taken back.
SELECT change.change, change.kind, subject ->> 'answer' AS answer
FROM change_review JOIN change USING (tenant_id, change)
WHERE tenant_id = $1 AND review_id = $2 AND was_open AND undone_by IS NULL
ORDER BY change DESC LIMIT 1

-- name: put_off_question
UPDATE review SET put_off = true, leased_by = NULL, leased_until = '-infinity'
WHERE tenant_id = $1 AND review_id = $2

-- name: lock_asking
-- One process at a time looks for questions.
SELECT pg_try_advisory_lock(hashtextextended('facette questions', 0))

-- name: tenants_to_ask
-- The tenants in which something happened since questions were looked for, or that have faces behind it still.
SELECT tenant_id FROM tenant
WHERE changes > asked_change OR asked_seq < (
    SELECT seq FROM face WHERE face.tenant_id = tenant.tenant_id ORDER BY seq DESC LIMIT 1
)
ORDER BY tenant_id

-- name: asked_up_to
SELECT changes, asked_seq, asked_change, faces FROM tenant WHERE tenant_id = $1

-- name: clusters_of_new_faces
-- Each cluster at its newest face: the others of a backlog say nothing that is not looked at then.
SELECT seq AS position, cluster_id FROM face
WHERE tenant_id = $1 AND seq > $2
  AND seq = (
      SELECT seq FROM face AS newest
      WHERE newest.tenant_id = $1 AND newest.cluster_id = face.cluster_id
      ORDER BY seq DESC LIMIT 1
  )
ORDER BY seq LIMIT $3

-- name: clusters_of_changes
-- Of the last change all clusters.
SELECT change AS position, cluster_id FROM change_cluster
WHERE tenant_id = $1 AND change > $2 ORDER BY change FETCH FIRST $3 ROWS WITH TIES

-- name: doubtful_people
-- The clusters $2: what people said of them, and the sum of their vectors in the space $3, as `sums_of_people`
-- gives it. Where no face is matchable (`is_poor`), it is the vector of the newest one. `is_placed`: a person
-- put faces there.
SELECT cluster.cluster_id, label_key, external_id IS NOT NULL AS has_external_id, hidden, faces,
       vector_send(coalesce(sum.total, poor.total)) AS total, sum.total IS NULL AS is_poor,
       EXISTS (
           SELECT FROM decision_face AS placed JOIN decision USING (tenant_id, decision_id)
           WHERE tenant_id = $1 AND placed.cluster_id = cluster.cluster_id AND is_claim AND left_by IS NULL
             AND is_active AND kind = 'same'
       ) AS is_placed
FROM unnest($2::uuid[]) AS asked (cluster_id)
CROSS JOIN LATERAL (
    SELECT * FROM cluster WHERE tenant_id = $1 AND cluster.cluster_id = asked.cluster_id LIMIT 1
) AS cluster
LEFT JOIN LATERAL (
    SELECT total::vector AS total FROM cluster_sum
    WHERE tenant_id = $1 AND cluster_sum.cluster_id = asked.cluster_id AND model_space || '' = $3
    LIMIT 1
) AS sum ON true
LEFT JOIN LATERAL (
    SELECT '[1]'::vector || vector.embedding::vector AS total
    FROM (
        SELECT face_id FROM face
        WHERE tenant_id = $1 AND face.cluster_id = asked.cluster_id AND sum.total IS NULL
        ORDER BY seq DESC LIMIT 1
    ) AS newest
    CROSS JOIN LATERAL (
        SELECT embedding FROM face_vector
        WHERE tenant_id = $1 AND face_vector.face_id = newest.face_id AND model_space || '' = $3 LIMIT 1
    ) AS vector
) AS poor ON true
WHERE sum.total IS NOT NULL OR poor.total IS NOT NULL

-- name: faces_in_doubt
-- Of each cluster $2 the $4 newest matchable faces, with their vectors of the space $3. `is_placed`: a person
-- put it there, or said that it alone is one with somebody; `is_asked`: there is a question about it.
SELECT face.face_id, asked.cluster_id, vector.embedding,
       EXISTS (SELECT FROM review WHERE tenant_id = $1 AND review.face_id = face.face_id) AS is_asked,
       EXISTS (
           SELECT FROM (
               SELECT decision_id, side, is_claim FROM decision_face
               WHERE tenant_id = $1 AND decision_face.face_id = face.face_id AND left_by IS NULL
               OFFSET 0
           ) AS placed
           CROSS JOIN LATERAL (
               SELECT FROM decision
               WHERE tenant_id = $1 AND decision.decision_id = placed.decision_id AND is_active AND kind = 'same'
               LIMIT 1
           ) AS held
           WHERE is_claim OR 1 = (
               SELECT count(*) FROM (
                   SELECT FROM decision_face AS beside
                   WHERE beside.tenant_id = $1 AND beside.decision_id = placed.decision_id
                     AND beside.side = placed.side
                   ORDER BY beside.face_id LIMIT 2
               ) AS of_side
           )
       ) AS is_placed
FROM unnest($2::uuid[]) AS asked (cluster_id)
CROSS JOIN LATERAL (
    SELECT face_id FROM face
    WHERE tenant_id = $1 AND face.cluster_id = asked.cluster_id AND is_matchable
    ORDER BY seq DESC LIMIT $4
) AS face
CROSS JOIN LATERAL (
    SELECT embedding FROM face_vector
    WHERE tenant_id = $1 AND face_vector.face_id = face.face_id AND model_space || '' = $3 LIMIT 1
) AS vector

-- name: asked_about
-- The questions about the clusters $2, of each the $4 of most worth, with the vectors of the space $3 of the faces
-- that they are about.
WITH best AS MATERIALIZED (
    SELECT DISTINCT found.review_id FROM unnest($2::uuid[]) AS wanted (cluster_id)
    CROSS JOIN LATERAL (
        SELECT review_id FROM (
            SELECT review_id, worth FROM review WHERE tenant_id = $1 AND review.cluster_id = wanted.cluster_id
            UNION ALL
            SELECT review_id, worth FROM review WHERE tenant_id = $1 AND other_cluster_id = wanted.cluster_id
        ) AS about
        ORDER BY worth DESC, review_id DESC LIMIT $4
    ) AS found
)
SELECT review.review_id, kind, cluster_id, other_cluster_id, distance, other_distance, similarity, faces, chance,
       vector.face_id, vector.embedding
FROM best
CROSS JOIN LATERAL (
    SELECT * FROM review WHERE tenant_id = $1 AND review.review_id = best.review_id LIMIT 1
) AS review
LEFT JOIN LATERAL (
    SELECT face_vector.face_id, embedding FROM face_vector
    WHERE tenant_id = $1 AND face_vector.face_id = review.face_id AND model_space || '' = $3
      AND is_matchable LIMIT 1
) AS vector ON true

-- name: photographed_together
-- Those of the pairs ($2, $3) of clusters that one image shows beside each other: the faces of the smaller one
-- are looked through. Without the OFFSET the planner may walk all faces of the tenant for the first such image.
SELECT one, other FROM unnest($2::uuid[], $3::uuid[]) AS pair (one, other)
CROSS JOIN LATERAL (
    SELECT array_agg(cluster_id ORDER BY faces) AS by_size FROM cluster
    WHERE tenant_id = $1 AND cluster_id IN (one, other)
) AS clusters
CROSS JOIN LATERAL (
    SELECT FROM (
        SELECT image_id FROM face WHERE tenant_id = $1 AND cluster_id = by_size[1] OFFSET 0
    ) AS few
    CROSS JOIN LATERAL (
        SELECT FROM face WHERE tenant_id = $1 AND image_id = few.image_id AND cluster_id = by_size[2] LIMIT 1
    ) AS beside
    LIMIT 1
) AS image

-- name: move_asking_on
-- Takes the lock of the tenant, as all do who write, and counts no change. Faces that were looked at by another
-- factor $4 of the limit than the one of now are looked at anew, as `set_match_factor` says.
UPDATE tenant
SET asked_seq = CASE match_factor WHEN $4 THEN greatest(asked_seq, $2) ELSE asked_seq END,
    asked_change = greatest(asked_change, $3)
WHERE tenant_id = $1
RETURNING tenant_id

-- name: ask_about_pairs
-- Whether two clusters are one, unless a decision says so or that is asked; of those that are still there.
INSERT INTO review (
    tenant_id, kind, cluster_id, other_cluster_id, distance, other_distance, similarity, faces, chance
)
SELECT $1, 'same_person', one, other, distance, other_distance, similarity, settled, chance
FROM unnest($2::uuid[], $3::uuid[], $4::real[], $5::real[], $6::real[], $7::integer[], $8::real[])
    AS pair (one, other, distance, other_distance, similarity, settled, chance)
WHERE EXISTS (SELECT FROM cluster WHERE tenant_id = $1 AND cluster_id = one AND NOT hidden AND cluster.faces > 0)
  AND EXISTS (SELECT FROM cluster WHERE tenant_id = $1 AND cluster_id = other AND NOT hidden AND cluster.faces > 0)
  AND NOT EXISTS (
      SELECT FROM decision_face AS mine
      JOIN decision_face AS his USING (tenant_id, decision_id)
      JOIN decision USING (tenant_id, decision_id)
      WHERE tenant_id = $1 AND decision.kind = 'different' AND is_active
        AND mine.cluster_id = one AND mine.left_by IS NULL
        AND his.cluster_id = other AND his.side <> mine.side AND his.left_by IS NULL
  )
ON CONFLICT DO NOTHING

-- name: ask_about_faces
-- Whether faces still belong to their clusters; of those that are still there, and that no person put there.
INSERT INTO review (
    tenant_id, kind, cluster_id, face_id, other_cluster_id, distance, other_distance, similarity, faces, chance
)
SELECT $1, 'odd_face', owner, face_id, other, odd.distance, other_distance, similarity, settled, chance
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::real[], $6::real[], $7::real[], $8::integer[], $9::real[])
    AS odd (owner, face_id, other, distance, other_distance, similarity, settled, chance)
JOIN face USING (face_id)
WHERE face.tenant_id = $1 AND face.cluster_id = owner
  AND (other IS NULL OR EXISTS (SELECT FROM cluster WHERE tenant_id = $1 AND cluster_id = other))
  AND NOT EXISTS (SELECT FROM review AS open WHERE open.tenant_id = $1 AND open.face_id = odd.face_id)
  AND NOT EXISTS (
      SELECT FROM decision_face AS placed JOIN decision USING (tenant_id, decision_id)
      WHERE tenant_id = $1 AND placed.face_id = odd.face_id AND is_claim AND left_by IS NULL
        AND is_active AND decision.kind = 'same'
  )
ON CONFLICT DO NOTHING

-- name: measure_anew
-- The evidence of questions as it is now. One that was put off, be it since it was measured, is asked again
-- where the evidence is another one than then: by more than 0.02 of distance, or half of what it settles.
UPDATE review
SET distance = fresh.distance, other_distance = fresh.other_distance, similarity = fresh.similarity,
    faces = settled, chance = fresh.chance, put_off = false
FROM unnest($2::bigint[], $3::real[], $4::real[], $5::real[], $6::integer[], $7::real[])
    AS fresh (review_id, distance, other_distance, similarity, settled, chance)
WHERE review.tenant_id = $1 AND review.review_id = fresh.review_id
  AND (
      NOT review.put_off OR abs(settled - review.faces) > 0.5 * review.faces
      OR abs(fresh.distance - review.distance) > 0.02
      OR (fresh.distance IS NULL) <> (review.distance IS NULL)
  ) AND (
      review.distance, review.other_distance, review.similarity, review.faces, review.chance
  ) IS DISTINCT FROM (fresh.distance, fresh.other_distance, fresh.similarity, settled, fresh.chance)

-- name: may_be_rejoined
-- Whether the machine may let the cluster $2 become a part of $3: nobody said anything of the first, and no
-- decision keeps them apart.
SELECT EXISTS (
    SELECT FROM cluster
    WHERE tenant_id = $1 AND cluster_id = $2 AND label IS NULL AND external_id IS NULL AND NOT hidden
) AND EXISTS (
    SELECT FROM cluster WHERE tenant_id = $1 AND cluster_id = $3 AND NOT hidden
) AND NOT EXISTS (
    SELECT FROM decision_face AS placed JOIN decision USING (tenant_id, decision_id)
    WHERE tenant_id = $1 AND placed.cluster_id = $2 AND is_claim AND left_by IS NULL
      AND is_active AND kind = 'same'
) AND NOT EXISTS (
    SELECT FROM decision_face AS mine
    JOIN decision_face AS other USING (tenant_id, decision_id)
    JOIN decision USING (tenant_id, decision_id)
    WHERE tenant_id = $1 AND kind = 'different' AND is_active
      AND mine.cluster_id = $2 AND mine.left_by IS NULL
      AND other.cluster_id = $3 AND other.side <> mine.side AND other.left_by IS NULL
)
