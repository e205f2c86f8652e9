-- Vectors in a table of their own, so that a face can have one of each model, and searched by
-- indexes of their own tenant: an index over all tenants misses neighbours once it is filtered.
--
-- A new vector is not in any HNSW index; searches compare it exactly. The indexer makes a partial
-- index for a tenant that has grown large, WHERE tenant_id = ... AND model_space = ... AND indexed,
-- and moves vectors there by setting `indexed`. Partitions bound how many such indexes an insert
-- and the planner have to look at.

CREATE TABLE face_vector (
    tenant_id       text         NOT NULL,
    face_id         uuid         NOT NULL,
    model_space     text         NOT NULL,
    embedding       halfvec(512) NOT NULL,
    indexed         boolean      NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, face_id, model_space)
) PARTITION BY HASH (tenant_id);

DO $$
BEGIN
    FOR part IN 0 .. 15 LOOP
        EXECUTE format(
            'CREATE TABLE face_vector_%s PARTITION OF face_vector'
            ' FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
            lpad(part::text, 2, '0'), part
        );
        -- No policy: the service reaches a partition through its parent alone.
        EXECUTE format(
            'ALTER TABLE face_vector_%s ENABLE ROW LEVEL SECURITY', lpad(part::text, 2, '0')
        );
    END LOOP;
END
$$;

ALTER TABLE face_vector ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON face_vector
    USING (tenant_id = (SELECT current_setting('facette.tenant_id', true)));

INSERT INTO face_vector (tenant_id, face_id, model_space, embedding)
SELECT tenant_id, face_id, model_space, embedding FROM face ORDER BY tenant_id, seq;

CREATE INDEX face_vector_tenant ON face_vector (tenant_id, model_space, indexed);
ALTER TABLE face_vector
    ADD FOREIGN KEY (tenant_id, face_id) REFERENCES face ON DELETE CASCADE;

ALTER TABLE face DROP COLUMN embedding, DROP COLUMN model_space;
-- Writes the table anew, without the space that the vectors took.
CLUSTER face USING face_image;
ALTER TABLE face SET WITHOUT CLUSTER;

-- Counts the changes of a tenant, one after the other, and finds the faces that came last: what was
-- looked up without the tenant's lock is brought up to date by them once it is held. Counting begins
-- anywhere, so that a tenant that was deleted and made again is not taken for the former.
ALTER TABLE tenant
    ADD COLUMN changes bigint NOT NULL DEFAULT (random() * 4611686018427387904)::bigint;
CREATE INDEX face_seq ON face (tenant_id, seq);
