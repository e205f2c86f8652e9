-- The sum of the vectors of each cluster's faces and their number, which give the mean distance of a
-- new face to all of them; and how many clusters a tenant has. Triggers keep both, so that there is no
-- way of writing that forgets them.

CREATE TABLE cluster_sum (
    tenant_id   text                NOT NULL,
    cluster_id  uuid                NOT NULL,
    model_space text                NOT NULL,
    -- The state of pgvector's own accumulators: how many vectors, then their sum, in double precision.
    -- Vectors are of half precision, so each number is a multiple of 2^-24, and the sum of less than
    -- 2^29 of them is exact: in whatever order vectors come and go, it is the same.
    total       double precision[]  NOT NULL,
    PRIMARY KEY (tenant_id, cluster_id, model_space),
    FOREIGN KEY (tenant_id, cluster_id) REFERENCES cluster ON DELETE CASCADE
);
-- To compress it takes five times as long as the rest of an update. What is left in the row is small,
-- so that its next version finds room beside it.
ALTER TABLE cluster_sum ALTER COLUMN total SET STORAGE EXTERNAL;

ALTER TABLE cluster_sum ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON cluster_sum
    USING (tenant_id = (SELECT current_setting('facette.tenant_id', true)));

ALTER TABLE tenant ADD COLUMN people bigint NOT NULL DEFAULT 0;

-- Of vectors: the state that adds them to a sum.
CREATE AGGREGATE halfvec_total (halfvec) (
    SFUNC = halfvec_accum, STYPE = double precision[], INITCOND = '{0}',
    COMBINEFUNC = halfvec_combine, PARALLEL = SAFE
);

-- The functions below act for whoever writes, under the policies that bind that role. A connection
-- keeps their plans, which may have been made for one row or for many, before statistics were taken or
-- after: so they find rows by their keys and in no other way.
--
-- vector_combine takes a state that counts 0 for an empty one, whatever its sum is. So what comes and
-- what goes are never put together before they are stored, and a sum of no vectors has no row.

CREATE FUNCTION add_to_cluster_sum(
    of_tenant text, of_cluster uuid, of_space text, vectors double precision[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO cluster_sum AS kept (tenant_id, cluster_id, model_space, total)
    VALUES (of_tenant, of_cluster, of_space, vectors)
    ON CONFLICT (tenant_id, cluster_id, model_space)
    DO UPDATE SET total = vector_combine(kept.total, excluded.total);
END
$$;

-- `opposite` is the state of the vectors that go, with the signs of their numbers changed.
CREATE FUNCTION take_from_cluster_sum(
    of_tenant text, of_cluster uuid, of_space text, opposite double precision[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM cluster_sum
    WHERE tenant_id = of_tenant AND cluster_id = of_cluster AND model_space = of_space
      AND total[1] <= opposite[1];
    IF NOT FOUND THEN
        UPDATE cluster_sum SET total = vector_combine(total, -opposite[1] || opposite[2:])
        WHERE tenant_id = of_tenant AND cluster_id = of_cluster AND model_space = of_space;
    END IF;
END
$$;

CREATE FUNCTION sum_inserted_vectors() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
    INSERT INTO cluster_sum AS kept (tenant_id, cluster_id, model_space, total)
    SELECT added.tenant_id, face.cluster_id, added.model_space, halfvec_total(added.embedding)
    FROM added
    CROSS JOIN LATERAL (
        SELECT cluster_id FROM face
        WHERE face.tenant_id = added.tenant_id AND face.face_id = added.face_id AND is_matchable
        LIMIT 1
    ) AS face
    GROUP BY added.tenant_id, face.cluster_id, added.model_space
    ON CONFLICT (tenant_id, cluster_id, model_space)
    DO UPDATE SET total = vector_combine(kept.total, excluded.total);
    RETURN NULL;
END
$$;
CREATE TRIGGER sum_inserted_vectors AFTER INSERT ON face_vector
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION sum_inserted_vectors();

-- Vectors of faces that stay, as where they were replaced by another model's. Those that go with their
-- faces were taken from the sums before.
CREATE FUNCTION sum_deleted_vectors() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
    PERFORM take_from_cluster_sum(
        gone.tenant_id, face.cluster_id, gone.model_space,
        halfvec_total(array_fill(0::real, ARRAY[vector_dims(embedding)])::halfvec - embedding)
    )
    FROM gone
    CROSS JOIN LATERAL (
        SELECT cluster_id FROM face
        WHERE face.tenant_id = gone.tenant_id AND face.face_id = gone.face_id AND is_matchable
        LIMIT 1
    ) AS face
    GROUP BY gone.tenant_id, face.cluster_id, gone.model_space;
    RETURN NULL;
END
$$;
CREATE TRIGGER sum_deleted_vectors AFTER DELETE ON face_vector
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION sum_deleted_vectors();

-- No way of the service: it never changes a vector. (To take one into an index changes `indexed` alone.)
CREATE FUNCTION sum_changed_vector() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
BEGIN
    PERFORM take_from_cluster_sum(
        tenant_id, cluster_id, old.model_space,
        halfvec_accum(
            '{0}', array_fill(0::real, ARRAY[vector_dims(old.embedding)])::halfvec - old.embedding
        )
    ) FROM face WHERE tenant_id = old.tenant_id AND face_id = old.face_id AND is_matchable;
    PERFORM add_to_cluster_sum(
        tenant_id, cluster_id, new.model_space, halfvec_accum('{0}', new.embedding)
    ) FROM face WHERE tenant_id = new.tenant_id AND face_id = new.face_id AND is_matchable;
    RETURN NULL;
END
$$;
CREATE TRIGGER sum_changed_vector AFTER UPDATE OF face_id, model_space, embedding ON face_vector
    FOR EACH ROW EXECUTE FUNCTION sum_changed_vector();

-- Faces that were put into another cluster, one or all of a large one; and those that may be matched no
-- longer, or again, whose vectors say the same then.
CREATE FUNCTION sum_changed_faces() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_nestloop = off
AS $$
DECLARE
    moved record;
    are_matched_otherwise boolean := false;
BEGIN
    FOR moved IN
        SELECT changed.tenant_id, out_of, into_cluster, counted, counts, model_space,
               halfvec_total(embedding) AS vectors,
               halfvec_total(
                   array_fill(0::real, ARRAY[vector_dims(embedding)])::halfvec - embedding
               ) AS opposite
        FROM (
            SELECT after.tenant_id, face_id,
                   before.cluster_id AS out_of, after.cluster_id AS into_cluster,
                   before.is_matchable AS counted, after.is_matchable AS counts
            FROM before JOIN after USING (face_id)
            WHERE before.tenant_id = after.tenant_id
              AND (before.cluster_id <> after.cluster_id OR before.is_matchable <> after.is_matchable)
            OFFSET 0
        ) AS changed
        CROSS JOIN LATERAL (
            SELECT model_space, embedding FROM face_vector
            WHERE tenant_id = changed.tenant_id AND face_vector.face_id = changed.face_id
            OFFSET 0
        ) AS vector
        GROUP BY changed.tenant_id, out_of, into_cluster, counted, counts, model_space
    LOOP
        IF moved.counted THEN
            PERFORM take_from_cluster_sum(
                moved.tenant_id, moved.out_of, moved.model_space, moved.opposite
            );
        END IF;
        IF moved.counts THEN
            PERFORM add_to_cluster_sum(
                moved.tenant_id, moved.into_cluster, moved.model_space, moved.vectors
            );
        END IF;
        are_matched_otherwise := are_matched_otherwise OR moved.counted <> moved.counts;
    END LOOP;
    IF are_matched_otherwise THEN
        FOR moved IN SELECT tenant_id, face_id, is_matchable FROM after LOOP
            UPDATE face_vector
            SET is_matchable = moved.is_matchable, indexed = indexed AND moved.is_matchable
            WHERE tenant_id = moved.tenant_id AND face_id = moved.face_id
              AND is_matchable <> moved.is_matchable;
        END LOOP;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER sum_changed_faces AFTER UPDATE ON face
    REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION sum_changed_faces();

-- A face that goes. Of a cluster that went before it, alone or with its tenant, there is no sum left.
CREATE FUNCTION sum_deleted_face() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
BEGIN
    PERFORM FROM cluster WHERE tenant_id = old.tenant_id AND cluster_id = old.cluster_id;
    IF FOUND THEN
        PERFORM take_from_cluster_sum(
            old.tenant_id, old.cluster_id, model_space,
            halfvec_accum(
                '{0}', array_fill(0::real, ARRAY[vector_dims(embedding)])::halfvec - embedding
            )
        ) FROM face_vector WHERE tenant_id = old.tenant_id AND face_id = old.face_id;
    END IF;
    RETURN old;
END
$$;
-- Before, for its vectors are still there.
CREATE TRIGGER sum_deleted_face BEFORE DELETE ON face
    FOR EACH ROW WHEN (old.is_matchable) EXECUTE FUNCTION sum_deleted_face();

CREATE FUNCTION count_people() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
BEGIN
    PERFORM FROM clusters LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE tenant
    SET people = people + CASE tg_op WHEN 'INSERT' THEN changed.clusters ELSE -changed.clusters END
    FROM (SELECT tenant_id, count(*) AS clusters FROM clusters GROUP BY tenant_id) AS changed
    WHERE tenant.tenant_id = changed.tenant_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_opened_people AFTER INSERT ON cluster
    REFERENCING NEW TABLE AS clusters FOR EACH STATEMENT EXECUTE FUNCTION count_people();
CREATE TRIGGER count_deleted_people AFTER DELETE ON cluster
    REFERENCING OLD TABLE AS clusters FOR EACH STATEMENT EXECUTE FUNCTION count_people();

-- Makes everything above anew from faces and vectors, of one tenant or with null of all, while writers
-- wait. For whoever finds by `facette doctor` that something is wrong.
CREATE FUNCTION recount_clusters(of_tenant text) RETURNS void LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM FROM tenant WHERE of_tenant IS NULL OR tenant_id = of_tenant
    ORDER BY tenant_id FOR NO KEY UPDATE;
    UPDATE face_vector
    SET is_matchable = face.is_matchable, indexed = indexed AND face.is_matchable
    FROM face
    WHERE (of_tenant IS NULL OR face.tenant_id = of_tenant) AND face_vector.tenant_id = face.tenant_id
      AND face_vector.face_id = face.face_id AND face_vector.is_matchable <> face.is_matchable;
    DELETE FROM cluster_sum WHERE of_tenant IS NULL OR tenant_id = of_tenant;
    INSERT INTO cluster_sum (tenant_id, cluster_id, model_space, total)
    SELECT face.tenant_id, cluster_id, model_space, halfvec_total(embedding)
    FROM face JOIN face_vector USING (tenant_id, face_id)
    WHERE (of_tenant IS NULL OR face.tenant_id = of_tenant) AND face.is_matchable
    GROUP BY face.tenant_id, cluster_id, model_space;
    UPDATE tenant SET people = found.clusters
    FROM (
        SELECT tenant_id, count(cluster_id) AS clusters
        FROM tenant LEFT JOIN cluster USING (tenant_id)
        WHERE of_tenant IS NULL OR tenant_id = of_tenant
        GROUP BY tenant_id
    ) AS found
    WHERE tenant.tenant_id = found.tenant_id AND people <> found.clusters;
END
$$;

SELECT recount_clusters(NULL);
