-- What people decide lasts, and what happened can be undone.

-- The change that inserted an image: its entry goes with the image. The entry names the image alone; its
-- faces and people are looked up when it is read.
ALTER TABLE image ADD COLUMN change bigint;
UPDATE image SET change = change.change
FROM change
WHERE change.tenant_id = image.tenant_id AND change.kind = 'image.inserted'
  AND change.subject ->> 'image_id' = image.image_id::text;
UPDATE change SET subject = jsonb_build_object('image_id', subject -> 'image_id') WHERE kind = 'image.inserted';

-- `undoes`: the change that this one took back. `undone_by`: the change that took this one back.
-- `has_inverse`: whether the state before is known, in the tables below.
ALTER TABLE change
    ADD COLUMN by_machine boolean NOT NULL DEFAULT false,
    ADD COLUMN has_inverse boolean NOT NULL DEFAULT false,
    ADD COLUMN undoes bigint,
    ADD COLUMN undone_by bigint;
CREATE INDEX change_age ON change (tenant_id, changed_at);

-- What a person said about faces: those of both sides are one human being ('same'), or each of one side
-- is another one than each of the other side ('different').
CREATE TABLE decision (
    tenant_id text NOT NULL REFERENCES tenant ON DELETE CASCADE,
    decision_id uuid NOT NULL DEFAULT gen_random_uuid(),
    kind text NOT NULL CHECK (kind IN ('same', 'different')),
    decided_at timestamptz NOT NULL DEFAULT now(),
    key_id text,
    is_active boolean NOT NULL DEFAULT true,
    PRIMARY KEY (tenant_id, decision_id)
);
CREATE INDEX decision_age ON decision (tenant_id, decided_at, decision_id);

-- `is_claim`: the decision was about this face; else the face stands for its person. `left_by`: the change
-- by which a person took the face away, since when it does not count. `returned_by`: the undoing of that
-- change. A trigger keeps `cluster_id`.
CREATE TABLE decision_face (
    tenant_id text NOT NULL,
    decision_id uuid NOT NULL,
    face_id uuid NOT NULL,
    side smallint NOT NULL CHECK (side IN (0, 1)),
    is_claim boolean NOT NULL,
    cluster_id uuid NOT NULL,
    left_by bigint,
    returned_by bigint,
    PRIMARY KEY (tenant_id, decision_id, face_id),
    FOREIGN KEY (tenant_id, decision_id) REFERENCES decision ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, face_id) REFERENCES face (tenant_id, face_id) ON DELETE CASCADE
);
CREATE INDEX decision_face_of_face ON decision_face (tenant_id, face_id);
CREATE INDEX decision_face_of_cluster ON decision_face (tenant_id, cluster_id, decision_id);
CREATE INDEX decision_face_that_left ON decision_face (tenant_id, left_by) WHERE left_by IS NOT NULL;

-- The inverse of a change, item by item: each as it was before and after.
CREATE TABLE change_face (
    tenant_id text NOT NULL,
    change bigint NOT NULL,
    face_id uuid NOT NULL,
    before_cluster_id uuid NOT NULL,
    before_is_auto_matched boolean NOT NULL,
    before_distance real,
    after_cluster_id uuid NOT NULL,
    after_is_auto_matched boolean NOT NULL,
    after_distance real,
    PRIMARY KEY (tenant_id, change, face_id),
    FOREIGN KEY (tenant_id, change) REFERENCES change ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, face_id) REFERENCES face (tenant_id, face_id) ON DELETE CASCADE
);
CREATE INDEX change_face_of_face ON change_face (tenant_id, face_id);

-- `before` and `after`: the facts of a person, where it was merged into, or null where there was none.
CREATE TABLE change_cluster (
    tenant_id text NOT NULL,
    change bigint NOT NULL,
    cluster_id uuid NOT NULL,
    before jsonb,
    after jsonb,
    PRIMARY KEY (tenant_id, change, cluster_id),
    FOREIGN KEY (tenant_id, change) REFERENCES change ON DELETE CASCADE
);
CREATE INDEX change_cluster_of_cluster ON change_cluster (tenant_id, cluster_id);

CREATE TABLE change_decision (
    tenant_id text NOT NULL,
    change bigint NOT NULL,
    decision_id uuid NOT NULL,
    was_active boolean NOT NULL,
    PRIMARY KEY (tenant_id, change, decision_id),
    FOREIGN KEY (tenant_id, change) REFERENCES change ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, decision_id) REFERENCES decision ON DELETE CASCADE
);
CREATE INDEX change_decision_of_decision ON change_decision (tenant_id, decision_id);

-- A question is about a person and, by its kind, about a face of that person (weak_match, odd_face) and
-- another person (the second of same_person, the one that a face may belong to instead). `faces`: how many
-- faces the answer settles. `chance`: of the answer that changes something. `leased_by` holds it back from
-- other reviewers until `leased_until`. `put_off`: somebody was not sure; the evidence of then.
ALTER TABLE review
    ADD COLUMN kind text NOT NULL DEFAULT 'new_person'
        CHECK (kind IN ('new_person', 'same_person', 'weak_match', 'odd_face')),
    ADD COLUMN face_id uuid,
    ADD COLUMN other_cluster_id uuid,
    ADD COLUMN distance real,
    ADD COLUMN other_distance real,
    ADD COLUMN similarity real CHECK (similarity BETWEEN 0 AND 1),
    ADD COLUMN faces integer NOT NULL DEFAULT 1 CHECK (faces >= 0),
    ADD COLUMN chance real NOT NULL DEFAULT 0.001 CHECK (chance BETWEEN 0 AND 1),
    ADD COLUMN worth real GENERATED ALWAYS AS (faces * chance) STORED,
    ADD COLUMN leased_by text,
    ADD COLUMN leased_until timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN put_off boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT review_subject_check CHECK (
        (face_id IS NULL) = (kind IN ('new_person', 'same_person'))
        AND (kind <> 'same_person' OR other_cluster_id IS NOT NULL)
        AND (kind <> 'new_person' OR other_cluster_id IS NULL)
    ),
    ADD CONSTRAINT review_face_fkey
        FOREIGN KEY (tenant_id, face_id) REFERENCES face (tenant_id, face_id) ON DELETE CASCADE,
    ADD CONSTRAINT review_other_cluster_fkey
        FOREIGN KEY (tenant_id, other_cluster_id) REFERENCES cluster (tenant_id, cluster_id) ON DELETE CASCADE;
CREATE INDEX review_by_worth ON review (tenant_id, put_off, kind, worth DESC, review_id DESC);
CREATE UNIQUE INDEX review_of_pair ON review (
    tenant_id, least(cluster_id, other_cluster_id), greatest(cluster_id, other_cluster_id)
) WHERE kind = 'same_person';
CREATE UNIQUE INDEX review_of_face ON review (tenant_id, face_id, kind) WHERE face_id IS NOT NULL;
CREATE INDEX review_of_other_cluster ON review (tenant_id, other_cluster_id) WHERE other_cluster_id IS NOT NULL;

-- Up to here the pass that asks questions has looked at new faces, and at changes by people.
ALTER TABLE tenant
    ADD COLUMN asked_seq bigint NOT NULL DEFAULT 0,
    ADD COLUMN asked_change bigint NOT NULL DEFAULT 0;

-- Questions that a change closed, or changed (`was_open`, with what they were before), or opened.
CREATE TABLE change_review (
    tenant_id text NOT NULL,
    change bigint NOT NULL,
    review_id bigint NOT NULL,
    was_open boolean NOT NULL,
    kind text NOT NULL,
    cluster_id uuid NOT NULL,
    face_id uuid,
    other_cluster_id uuid,
    created_at timestamptz NOT NULL,
    distance real,
    other_distance real,
    similarity real,
    faces integer NOT NULL,
    chance real NOT NULL,
    put_off boolean NOT NULL,
    PRIMARY KEY (tenant_id, change, review_id),
    FOREIGN KEY (tenant_id, change) REFERENCES change ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, face_id) REFERENCES face (tenant_id, face_id) ON DELETE CASCADE
);
CREATE INDEX change_review_of_review ON change_review (tenant_id, review_id);
CREATE INDEX change_review_of_face ON change_review (tenant_id, face_id) WHERE face_id IS NOT NULL;
CREATE INDEX change_review_of_cluster ON change_review (tenant_id, cluster_id);
CREATE INDEX change_review_of_other_cluster ON change_review (tenant_id, other_cluster_id)
    WHERE other_cluster_id IS NOT NULL;

ALTER TABLE decision ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON decision
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));
ALTER TABLE decision_face ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON decision_face
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));
ALTER TABLE change_face ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON change_face
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));
ALTER TABLE change_cluster ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON change_cluster
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));
ALTER TABLE change_decision ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON change_decision
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));
ALTER TABLE change_review ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON change_review
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));

-- The faces of decisions are where their rows say.
CREATE FUNCTION follow_moved_faces() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
BEGIN
    UPDATE decision_face SET cluster_id = after.cluster_id
    FROM after
    WHERE decision_face.tenant_id = after.tenant_id AND decision_face.face_id = after.face_id
      AND decision_face.cluster_id <> after.cluster_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER follow_moved_faces AFTER UPDATE ON face
    REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION follow_moved_faces();

-- A decision that says nothing any more, since faces of it were erased, goes with them.
CREATE FUNCTION drop_empty_decisions() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
BEGIN
    DELETE FROM decision
    USING (SELECT DISTINCT tenant_id, decision_id FROM gone) AS lost
    WHERE decision.tenant_id = lost.tenant_id AND decision.decision_id = lost.decision_id
      AND (
        SELECT CASE decision.kind
            WHEN 'same' THEN count(*) < 2
            ELSE count(*) FILTER (WHERE side = 0) = 0 OR count(*) FILTER (WHERE side = 1) = 0 END
        FROM decision_face AS kept
        WHERE kept.tenant_id = lost.tenant_id AND kept.decision_id = lost.decision_id
      );
    RETURN NULL;
END
$$;
CREATE TRIGGER drop_empty_decisions AFTER DELETE ON decision_face
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION drop_empty_decisions();
