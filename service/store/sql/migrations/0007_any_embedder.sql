-- Vectors of any dimension, so that a database may go from one embedder to another; and what an
-- embedder and a person want to know of a face beside its vector.

-- An index over vectors of any dimension casts them to the one of their space. The former ones are of
-- no use any more: the indexer builds the new ones, and until then searches compare every face.
DO $$
DECLARE
    found oid;
BEGIN
    FOR found IN
        SELECT indexrelid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE starts_with(relname, 'face_vector_hnsw_')
    LOOP
        EXECUTE format('DROP INDEX %s', found::regclass);
    END LOOP;
END
$$;

-- This drops a check; no vector is written anew.
ALTER TABLE face_vector ALTER COLUMN embedding TYPE halfvec;

-- How many degrees, clockwise, the upright photo has to be turned so that its faces are upright.
ALTER TABLE image
    ADD COLUMN turned smallint NOT NULL DEFAULT 0 CHECK (turned IN (0, 90, 180, 270));

-- quality: 0 to 1, null for a face of before it was measured; quality_facts: what it was made of.
-- is_matchable: whether other faces may be matched against this one.
ALTER TABLE face
    ADD COLUMN quality real CHECK (quality BETWEEN 0 AND 1),
    ADD COLUMN quality_facts jsonb,
    ADD COLUMN is_matchable boolean NOT NULL DEFAULT true;

-- A copy, so that a search need not look at the face: triggers of 0008 keep it. It stands in the index
-- by which searches find what no HNSW index holds: vectors that are not matched are passed over there.
ALTER TABLE face_vector ADD COLUMN is_matchable boolean NOT NULL DEFAULT true;
DROP INDEX face_vector_tenant;
CREATE INDEX face_vector_tenant
    ON face_vector (tenant_id, model_space, is_matchable, indexed);
