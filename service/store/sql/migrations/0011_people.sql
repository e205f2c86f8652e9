-- What the API of the product adds to the tables: people with names, limits and counts of tenants, facts of
-- photos, changes, and answers that are given again. Triggers keep the counts, in the transaction of what
-- they count.

ALTER TABLE tenant
    ADD COLUMN images bigint NOT NULL DEFAULT 0,
    ADD COLUMN faces bigint NOT NULL DEFAULT 0,
    ADD COLUMN max_images bigint CHECK (max_images >= 0),
    ADD COLUMN max_faces bigint CHECK (max_faces >= 0),
    ADD COLUMN requests_per_minute integer CHECK (requests_per_minute >= 1),
    ADD COLUMN watched_until timestamptz NOT NULL DEFAULT '-infinity';

-- Facts of the file; a time without an offset counts as UTC. Places are kept by a setting only.
ALTER TABLE image
    ADD COLUMN taken_at timestamptz CHECK (extract(epoch FROM taken_at) BETWEEN -2208988800 AND 7258118399),
    ADD COLUMN orientation smallint NOT NULL DEFAULT 1 CHECK (orientation BETWEEN 1 AND 8),
    ADD COLUMN latitude double precision CHECK (latitude BETWEEN -90 AND 90),
    ADD COLUMN longitude double precision CHECK (longitude BETWEEN -180 AND 180),
    ADD CONSTRAINT image_location_check CHECK ((latitude IS NULL) = (longitude IS NULL));
CREATE INDEX image_created ON image (tenant_id, created_at, image_id);
CREATE INDEX image_taken ON image (tenant_id, taken_at, image_id) WHERE taken_at IS NOT NULL;
CREATE INDEX image_sha256 ON image (tenant_id, sha256);
-- Near copies: two hashes of 64 bits that differ in few bits agree in most of their four parts. The
-- parts are columns, since row-level security keeps a condition on substr(phash, ...) out of an
-- index: only leakproof functions may run before the policy, and comparisons of integers are.
ALTER TABLE image
    ADD COLUMN phash_0 integer GENERATED ALWAYS AS ((('x' || substr(phash, 1, 4))::bit(16))::integer) STORED,
    ADD COLUMN phash_1 integer GENERATED ALWAYS AS ((('x' || substr(phash, 5, 4))::bit(16))::integer) STORED,
    ADD COLUMN phash_2 integer GENERATED ALWAYS AS ((('x' || substr(phash, 9, 4))::bit(16))::integer) STORED,
    ADD COLUMN phash_3 integer GENERATED ALWAYS AS ((('x' || substr(phash, 13, 4))::bit(16))::integer) STORED;
CREATE INDEX image_phash_0 ON image (tenant_id, phash_0);
CREATE INDEX image_phash_1 ON image (tenant_id, phash_1);
CREATE INDEX image_phash_2 ON image (tenant_id, phash_2);
CREATE INDEX image_phash_3 ON image (tenant_id, phash_3);

-- A cluster is a person. `label_key` orders labels and finds prefixes: service/domain/people.py computes
-- it. `version` counts what people changed. `cover_quality` is null for a cover that a person chose.
-- `last_face_at` is the time of the newest photo that showed the person.
ALTER TABLE cluster
    ADD COLUMN label text CHECK (char_length(label) BETWEEN 1 AND 256),
    ADD COLUMN label_key text COLLATE "C",
    ADD COLUMN external_id text CHECK (char_length(external_id) BETWEEN 1 AND 128),
    ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}'
        CHECK (jsonb_typeof(metadata) = 'object' AND pg_column_size(metadata) <= 65536),
    ADD COLUMN hidden boolean NOT NULL DEFAULT false,
    ADD COLUMN version bigint NOT NULL DEFAULT 1,
    ADD COLUMN faces integer NOT NULL DEFAULT 0 CHECK (faces >= 0),
    ADD COLUMN images integer NOT NULL DEFAULT 0 CHECK (images >= 0),
    ADD COLUMN last_face_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN cover_face_id uuid,
    ADD COLUMN cover_quality real,
    ADD COLUMN is_labelled boolean GENERATED ALWAYS AS (label IS NOT NULL) STORED,
    ADD CONSTRAINT cluster_label_key_check CHECK ((label IS NULL) = (label_key IS NULL));
CREATE UNIQUE INDEX cluster_external_id ON cluster (tenant_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX cluster_by_faces ON cluster (tenant_id, hidden, is_labelled, faces, cluster_id);
CREATE INDEX cluster_by_recency ON cluster (tenant_id, hidden, is_labelled, last_face_at, cluster_id);
CREATE INDEX cluster_by_label ON cluster (tenant_id, hidden, label_key, cluster_id) WHERE label IS NOT NULL;

-- Where the people went that were merged away.
CREATE TABLE merged_cluster (
    tenant_id text NOT NULL,
    cluster_id uuid NOT NULL,
    merged_into uuid NOT NULL,
    merged_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, cluster_id),
    FOREIGN KEY (tenant_id, merged_into) REFERENCES cluster (tenant_id, cluster_id) ON DELETE CASCADE
);
CREATE INDEX merged_cluster_into ON merged_cluster (tenant_id, merged_into);

-- What happened in a tenant, numbered by its count of changes. `key_id` is null for the configured token.
CREATE TABLE change (
    tenant_id text NOT NULL REFERENCES tenant ON DELETE CASCADE,
    change bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    kind text NOT NULL,
    key_id text,
    subject jsonb NOT NULL,
    PRIMARY KEY (tenant_id, change)
);

-- Answers to requests with an Idempotency-Key, for a day.
CREATE TABLE kept_answer (
    tenant_id text NOT NULL REFERENCES tenant ON DELETE CASCADE,
    idempotency_key text NOT NULL,
    fingerprint bytea NOT NULL,
    status smallint NOT NULL,
    body bytea NOT NULL,
    kept_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, idempotency_key)
);
CREATE INDEX kept_answer_age ON kept_answer (tenant_id, kept_at);

ALTER TABLE merged_cluster ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON merged_cluster
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));
ALTER TABLE change ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON change
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));
ALTER TABLE kept_answer ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON kept_answer
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));

CREATE FUNCTION count_images() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
BEGIN
    PERFORM FROM changed LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE tenant
    SET images = images + CASE tg_op WHEN 'INSERT' THEN counted.rows ELSE -counted.rows END
    FROM (SELECT tenant_id, count(*) AS rows FROM changed GROUP BY tenant_id) AS counted
    WHERE tenant.tenant_id = counted.tenant_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_inserted_images AFTER INSERT ON image
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_images();
CREATE TRIGGER count_deleted_images AFTER DELETE ON image
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_images();

-- Faces came to a cluster, each with its image. An image counts where all of its faces in the cluster came.
CREATE FUNCTION count_inserted_faces() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
BEGIN
    PERFORM FROM added LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE cluster
    SET faces = cluster.faces + came.faces,
        images = cluster.images + came.images,
        last_face_at = greatest(last_face_at, now()),
        cover_face_id = CASE WHEN better THEN came.best ELSE cover_face_id END,
        cover_quality = CASE WHEN better THEN came.quality ELSE cover_quality END
    FROM (
        SELECT tenant_id, cluster_id, sum(faces) AS faces,
               count(*) FILTER (WHERE faces = (
                   SELECT count(*) FROM face
                   WHERE face.tenant_id = pair.tenant_id AND face.image_id = pair.image_id
                     AND face.cluster_id = pair.cluster_id
               )) AS images,
               (array_agg(best ORDER BY quality DESC))[1] AS best, max(quality) AS quality
        FROM (
            SELECT tenant_id, cluster_id, image_id, count(*) AS faces,
                   (array_agg(face_id ORDER BY quality DESC NULLS LAST, seq))[1] AS best,
                   coalesce(max(quality), 0) AS quality
            FROM added GROUP BY tenant_id, cluster_id, image_id
        ) AS pair
        GROUP BY tenant_id, cluster_id
    ) AS came
    CROSS JOIN LATERAL (
        SELECT cover_face_id IS NULL OR came.quality > cover_quality AS better
        FROM cluster AS kept
        WHERE kept.tenant_id = came.tenant_id AND kept.cluster_id = came.cluster_id
    ) AS compared
    WHERE cluster.tenant_id = came.tenant_id AND cluster.cluster_id = came.cluster_id;
    UPDATE tenant SET faces = tenant.faces + came.faces
    FROM (SELECT tenant_id, count(*) AS faces FROM added GROUP BY tenant_id) AS came
    WHERE tenant.tenant_id = came.tenant_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_inserted_faces AFTER INSERT ON face
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_inserted_faces();

-- Faces left clusters; those that went themselves have no row to update.
CREATE FUNCTION count_deleted_faces() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
BEGIN
    PERFORM FROM gone LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE cluster
    SET faces = cluster.faces - left_it.faces, images = cluster.images - left_it.images
    FROM (
        SELECT tenant_id, cluster_id, sum(faces) AS faces,
               count(*) FILTER (WHERE NOT EXISTS (
                   SELECT FROM face
                   WHERE face.tenant_id = pair.tenant_id AND face.image_id = pair.image_id
                     AND face.cluster_id = pair.cluster_id
               )) AS images
        FROM (
            SELECT tenant_id, cluster_id, image_id, count(*) AS faces
            FROM gone GROUP BY tenant_id, cluster_id, image_id
        ) AS pair
        GROUP BY tenant_id, cluster_id
    ) AS left_it
    WHERE cluster.tenant_id = left_it.tenant_id AND cluster.cluster_id = left_it.cluster_id;
    UPDATE cluster SET (cover_face_id, cover_quality) = (
        SELECT face_id, coalesce(quality, 0) FROM face
        WHERE face.tenant_id = cluster.tenant_id AND face.cluster_id = cluster.cluster_id
        ORDER BY quality DESC NULLS LAST, seq LIMIT 1
    )
    FROM gone
    WHERE cluster.tenant_id = gone.tenant_id AND cluster.cluster_id = gone.cluster_id
      AND cover_face_id = gone.face_id;
    UPDATE tenant SET faces = tenant.faces - went.faces
    FROM (SELECT tenant_id, count(*) AS faces FROM gone GROUP BY tenant_id) AS went
    WHERE tenant.tenant_id = went.tenant_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_deleted_faces AFTER DELETE ON face
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION count_deleted_faces();

-- Counts the faces and images of clusters anew, and finds a cover where there is none of theirs.
CREATE FUNCTION recount_faces(of_tenant text, of_clusters uuid[]) RETURNS void LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
BEGIN
    UPDATE cluster
    SET faces = counted.faces, images = counted.images,
        last_face_at = greatest(cluster.last_face_at, counted.last_face_at),
        cover_face_id = CASE WHEN stays THEN cover_face_id ELSE best END,
        cover_quality = CASE WHEN stays THEN cover_quality ELSE quality END
    FROM (
        SELECT kept.cluster_id, count(face_id) AS faces, count(DISTINCT face.image_id) AS images,
               max(image.created_at) AS last_face_at, max(coalesce(quality, 0)) AS quality,
               (array_agg(face_id ORDER BY quality DESC NULLS LAST, seq))[1] AS best,
               coalesce(bool_or(cover_quality IS NULL AND face_id = cover_face_id), false) AS stays
        FROM cluster AS kept
        LEFT JOIN face ON face.tenant_id = of_tenant AND face.cluster_id = kept.cluster_id
        LEFT JOIN image ON image.tenant_id = of_tenant AND image.image_id = face.image_id
        WHERE kept.tenant_id = of_tenant AND kept.cluster_id = ANY (of_clusters)
        GROUP BY kept.cluster_id
    ) AS counted
    WHERE tenant_id = of_tenant AND cluster.cluster_id = counted.cluster_id;
END
$$;

CREATE FUNCTION count_moved_faces() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM recount_faces(tenant_id, array_agg(DISTINCT cluster_id))
    FROM (
        SELECT before.tenant_id, unnest(ARRAY[before.cluster_id, after.cluster_id]) AS cluster_id
        FROM before JOIN after USING (face_id)
        WHERE before.tenant_id = after.tenant_id AND before.cluster_id <> after.cluster_id
    ) AS moved
    GROUP BY tenant_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_moved_faces AFTER UPDATE ON face
    REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION count_moved_faces();

-- As before, and the counts of faces and images.
CREATE OR REPLACE FUNCTION recount_clusters(of_tenant text) RETURNS void LANGUAGE plpgsql
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
    PERFORM recount_faces(cluster.tenant_id, array_agg(cluster.cluster_id))
    FROM cluster WHERE of_tenant IS NULL OR tenant_id = of_tenant
    GROUP BY cluster.tenant_id;
    UPDATE tenant SET people = found.clusters, images = found.images, faces = found.faces
    FROM (
        SELECT tenant_id,
               (SELECT count(*) FROM cluster WHERE cluster.tenant_id = tenant.tenant_id) AS clusters,
               (SELECT count(*) FROM image WHERE image.tenant_id = tenant.tenant_id) AS images,
               (SELECT count(*) FROM face WHERE face.tenant_id = tenant.tenant_id) AS faces
        FROM tenant WHERE of_tenant IS NULL OR tenant_id = of_tenant
    ) AS found
    WHERE tenant.tenant_id = found.tenant_id
      AND (people, tenant.images, tenant.faces) <> (found.clusters, found.images, found.faces);
END
$$;

-- The recency of people as it would have been kept: that of their newest photos.
UPDATE cluster SET last_face_at = created_at;
SELECT recount_clusters(NULL);
