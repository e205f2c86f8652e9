-- The schema, as the migrations in service/store/sql/migrations leave it (pg_dump 18).

CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;

COMMENT ON EXTENSION vector IS 'vector data type and ivfflat and hnsw access methods';

CREATE FUNCTION public.add_to_cluster_sum(of_tenant text, of_cluster uuid, of_space text, vectors double precision[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO cluster_sum AS kept (tenant_id, cluster_id, model_space, total)
    VALUES (of_tenant, of_cluster, of_space, vectors)
    ON CONFLICT (tenant_id, cluster_id, model_space)
    DO UPDATE SET total = vector_combine(kept.total, excluded.total);
END
$$;

CREATE FUNCTION public.are_quality_facts(facts jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT CASE WHEN jsonb_typeof(facts) = 'object' THEN
        facts - '{size,sharpness,brightness,contrast,yaw,roll,reasons}'::text[] = '{}'
        AND coalesce(jsonb_typeof(facts -> 'size') = 'number', false)
        AND coalesce(jsonb_typeof(facts -> 'sharpness') = 'number', false)
        AND coalesce(jsonb_typeof(facts -> 'brightness') = 'number', false)
        AND coalesce(jsonb_typeof(facts -> 'contrast') = 'number', false)
        AND coalesce(jsonb_typeof(facts -> 'yaw') = 'number', false)
        AND coalesce(jsonb_typeof(facts -> 'roll') = 'number', false)
        AND coalesce(jsonb_typeof(facts -> 'reasons') = 'array', false)
    ELSE false END
$$;

CREATE FUNCTION public.count_people() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public'
    SET enable_seqscan TO 'off'
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

CREATE FUNCTION public.recount_clusters(of_tenant text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public'
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

CREATE FUNCTION public.sum_changed_faces() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public'
    SET enable_seqscan TO 'off'
    SET enable_nestloop TO 'off'
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

CREATE FUNCTION public.sum_changed_vector() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public'
    SET enable_seqscan TO 'off'
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

CREATE FUNCTION public.sum_deleted_face() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public'
    SET enable_seqscan TO 'off'
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

CREATE FUNCTION public.sum_deleted_vectors() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
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

CREATE FUNCTION public.sum_inserted_vectors() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
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

CREATE FUNCTION public.take_from_cluster_sum(of_tenant text, of_cluster uuid, of_space text, opposite double precision[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
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

CREATE AGGREGATE public.halfvec_total(public.halfvec) (
    SFUNC = public.halfvec_accum,
    STYPE = double precision[],
    INITCOND = '{0}',
    COMBINEFUNC = public.halfvec_combine,
    PARALLEL = safe
);

CREATE TABLE public.cluster (
    tenant_id text NOT NULL,
    cluster_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT cluster_created_at_check CHECK (((EXTRACT(epoch FROM created_at) >= (0)::numeric) AND (EXTRACT(epoch FROM created_at) <= ('7258118399'::bigint)::numeric)))
);

CREATE TABLE public.cluster_sum (
    tenant_id text NOT NULL,
    cluster_id uuid NOT NULL,
    model_space text NOT NULL,
    total double precision[] NOT NULL
);
ALTER TABLE ONLY public.cluster_sum ALTER COLUMN total SET STORAGE EXTERNAL;

CREATE TABLE public.database_identity (
    only_row boolean DEFAULT true NOT NULL,
    database_id uuid DEFAULT gen_random_uuid() NOT NULL,
    CONSTRAINT database_identity_only_row_check CHECK (only_row)
);

CREATE TABLE public.embedding_model (
    model_space text NOT NULL,
    name text NOT NULL,
    is_active boolean NOT NULL,
    activated_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.face (
    tenant_id text NOT NULL,
    face_id uuid NOT NULL,
    image_id uuid NOT NULL,
    cluster_id uuid NOT NULL,
    seq bigint NOT NULL,
    box real[] NOT NULL,
    landmarks real[] NOT NULL,
    area integer[] NOT NULL,
    confidence real NOT NULL,
    is_auto_matched boolean NOT NULL,
    distance real,
    quality real,
    quality_facts jsonb,
    is_matchable boolean DEFAULT true NOT NULL,
    CONSTRAINT face_area_check CHECK ((cardinality(area) = 4)),
    CONSTRAINT face_area_is_one CHECK ((((array_ndims(area) = 1) AND (array_lower(area, 1) = 1) AND (0 <= ALL (area)) AND (area[3] > 0) AND (area[4] > 0)) IS TRUE)),
    CONSTRAINT face_box_check CHECK ((cardinality(box) = 4)),
    CONSTRAINT face_box_is_finite CHECK ((((array_ndims(box) = 1) AND (array_lower(box, 1) = 1) AND ('-1e+09'::real <= ALL (box)) AND ('1e+09'::real >= ALL (box))) IS TRUE)),
    CONSTRAINT face_confidence_check CHECK (((confidence >= (0)::double precision) AND (confidence <= (1)::double precision))),
    CONSTRAINT face_distance_check CHECK (((distance >= '-1e+09'::real) AND (distance <= '1e+09'::real))),
    CONSTRAINT face_landmarks_are_finite CHECK ((((array_ndims(landmarks) = 1) AND (array_lower(landmarks, 1) = 1) AND ('-1e+09'::real <= ALL (landmarks)) AND ('1e+09'::real >= ALL (landmarks))) IS TRUE)),
    CONSTRAINT face_landmarks_check CHECK ((cardinality(landmarks) = 10)),
    CONSTRAINT face_quality_check CHECK (((quality >= (0)::double precision) AND (quality <= (1)::double precision))),
    CONSTRAINT face_quality_facts_check CHECK (((quality_facts IS NULL) OR public.are_quality_facts(quality_facts)))
);

ALTER TABLE public.face ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.face_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.face_vector (
    tenant_id text NOT NULL,
    face_id uuid NOT NULL,
    model_space text NOT NULL,
    embedding public.halfvec NOT NULL,
    indexed boolean DEFAULT false NOT NULL,
    is_matchable boolean DEFAULT true NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
)
PARTITION BY HASH (tenant_id);

CREATE TABLE public.face_vector_00 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.face_vector_01 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.face_vector_02 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.face_vector_03 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.face_vector_04 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.face_vector_05 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.face_vector_06 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.face_vector_07 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.face_vector_08 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.face_vector_09 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.face_vector_10 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.face_vector_11 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.face_vector_12 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.face_vector_13 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.face_vector_14 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.face_vector_15 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL,
    is_matchable boolean DEFAULT true CONSTRAINT face_vector_is_matchable_not_null NOT NULL,
    CONSTRAINT face_vector_has_direction CHECK ((public.l2_norm(embedding) > (0)::double precision))
);

CREATE TABLE public.image (
    tenant_id text NOT NULL,
    image_id uuid NOT NULL,
    blob_key text,
    format text NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    phash text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    turned smallint DEFAULT 0 NOT NULL,
    CONSTRAINT image_created_at_check CHECK (((EXTRACT(epoch FROM created_at) >= (0)::numeric) AND (EXTRACT(epoch FROM created_at) <= ('7258118399'::bigint)::numeric))),
    CONSTRAINT image_format_check CHECK ((format ~ '^[a-z0-9]{1,16}$'::text)),
    CONSTRAINT image_height_check CHECK ((height > 0)),
    CONSTRAINT image_phash_check CHECK ((phash ~ '^[0-9a-f]{16}$'::text)),
    CONSTRAINT image_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT image_size_bytes_check CHECK ((size_bytes > 0)),
    CONSTRAINT image_turned_check CHECK ((turned = ANY (ARRAY[0, 90, 180, 270]))),
    CONSTRAINT image_width_check CHECK ((width > 0))
);

CREATE TABLE public.migration (
    number integer NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.review (
    tenant_id text NOT NULL,
    review_id bigint NOT NULL,
    cluster_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT review_created_at_check CHECK (((EXTRACT(epoch FROM created_at) >= (0)::numeric) AND (EXTRACT(epoch FROM created_at) <= ('7258118399'::bigint)::numeric))),
    CONSTRAINT review_id_check CHECK (((review_id >= 1) AND (review_id <= '9007199254740991'::bigint)))
);

ALTER TABLE public.review ALTER COLUMN review_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.review_review_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.tenant (
    tenant_id text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    changes bigint DEFAULT ((random() * ('4611686018427387904'::bigint)::double precision))::bigint NOT NULL,
    people bigint DEFAULT 0 NOT NULL,
    CONSTRAINT tenant_created_at_check CHECK (((EXTRACT(epoch FROM created_at) >= (0)::numeric) AND (EXTRACT(epoch FROM created_at) <= ('7258118399'::bigint)::numeric)))
);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_00 FOR VALUES WITH (modulus 16, remainder 0);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_01 FOR VALUES WITH (modulus 16, remainder 1);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_02 FOR VALUES WITH (modulus 16, remainder 2);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_03 FOR VALUES WITH (modulus 16, remainder 3);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_04 FOR VALUES WITH (modulus 16, remainder 4);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_05 FOR VALUES WITH (modulus 16, remainder 5);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_06 FOR VALUES WITH (modulus 16, remainder 6);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_07 FOR VALUES WITH (modulus 16, remainder 7);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_08 FOR VALUES WITH (modulus 16, remainder 8);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_09 FOR VALUES WITH (modulus 16, remainder 9);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_10 FOR VALUES WITH (modulus 16, remainder 10);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_11 FOR VALUES WITH (modulus 16, remainder 11);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_12 FOR VALUES WITH (modulus 16, remainder 12);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_13 FOR VALUES WITH (modulus 16, remainder 13);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_14 FOR VALUES WITH (modulus 16, remainder 14);

ALTER TABLE ONLY public.face_vector ATTACH PARTITION public.face_vector_15 FOR VALUES WITH (modulus 16, remainder 15);

ALTER TABLE ONLY public.cluster
    ADD CONSTRAINT cluster_pkey PRIMARY KEY (tenant_id, cluster_id);

ALTER TABLE ONLY public.cluster_sum
    ADD CONSTRAINT cluster_sum_pkey PRIMARY KEY (tenant_id, cluster_id, model_space);

ALTER TABLE ONLY public.database_identity
    ADD CONSTRAINT database_identity_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.embedding_model
    ADD CONSTRAINT embedding_model_pkey PRIMARY KEY (model_space);

ALTER TABLE ONLY public.face
    ADD CONSTRAINT face_pkey PRIMARY KEY (tenant_id, face_id);

ALTER TABLE ONLY public.face_vector
    ADD CONSTRAINT face_vector_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_00
    ADD CONSTRAINT face_vector_00_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_01
    ADD CONSTRAINT face_vector_01_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_02
    ADD CONSTRAINT face_vector_02_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_03
    ADD CONSTRAINT face_vector_03_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_04
    ADD CONSTRAINT face_vector_04_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_05
    ADD CONSTRAINT face_vector_05_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_06
    ADD CONSTRAINT face_vector_06_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_07
    ADD CONSTRAINT face_vector_07_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_08
    ADD CONSTRAINT face_vector_08_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_09
    ADD CONSTRAINT face_vector_09_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_10
    ADD CONSTRAINT face_vector_10_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_11
    ADD CONSTRAINT face_vector_11_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_12
    ADD CONSTRAINT face_vector_12_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_13
    ADD CONSTRAINT face_vector_13_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_14
    ADD CONSTRAINT face_vector_14_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE ONLY public.face_vector_15
    ADD CONSTRAINT face_vector_15_pkey PRIMARY KEY (tenant_id, face_id, model_space);

ALTER TABLE public.image
    ADD CONSTRAINT image_blob_key_check CHECK ((("left"(blob_key, 70) = ((("left"(encode(sha256(convert_to(tenant_id, 'UTF8'::name)), 'hex'::text), 32) || '/'::text) || image_id) || '.'::text)) AND (substr(blob_key, 71) ~ '^[a-z0-9]{1,16}$'::text))) NOT VALID;

ALTER TABLE ONLY public.image
    ADD CONSTRAINT image_pkey PRIMARY KEY (tenant_id, image_id);

ALTER TABLE ONLY public.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.review
    ADD CONSTRAINT review_pkey PRIMARY KEY (tenant_id, review_id);

ALTER TABLE public.tenant
    ADD CONSTRAINT tenant_id_check CHECK ((((char_length(tenant_id) >= 1) AND (char_length(tenant_id) <= 128)) AND (btrim(tenant_id) <> ''::text) AND (tenant_id !~ '[\u0001-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]'::text))) NOT VALID;

ALTER TABLE ONLY public.tenant
    ADD CONSTRAINT tenant_pkey PRIMARY KEY (tenant_id);

CREATE UNIQUE INDEX embedding_model_active ON public.embedding_model USING btree (is_active) WHERE is_active;

CREATE INDEX face_cluster ON public.face USING btree (tenant_id, cluster_id, seq);

CREATE INDEX face_image ON public.face USING btree (tenant_id, image_id, seq);

CREATE INDEX face_seq ON public.face USING btree (tenant_id, seq);

CREATE INDEX face_vector_tenant ON ONLY public.face_vector USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_00_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_00 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_01_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_01 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_02_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_02 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_03_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_03 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_04_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_04 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_05_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_05 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_06_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_06 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_07_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_07 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_08_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_08 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_09_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_09 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_10_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_10 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_11_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_11 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_12_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_12 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_13_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_13 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_14_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_14 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX face_vector_15_tenant_id_model_space_is_matchable_indexed_idx ON public.face_vector_15 USING btree (tenant_id, model_space, is_matchable, indexed);

CREATE INDEX review_cluster ON public.review USING btree (tenant_id, cluster_id);

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_00_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_00_tenant_id_model_space_is_matchable_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_01_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_01_tenant_id_model_space_is_matchable_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_02_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_02_tenant_id_model_space_is_matchable_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_03_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_03_tenant_id_model_space_is_matchable_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_04_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_04_tenant_id_model_space_is_matchable_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_05_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_05_tenant_id_model_space_is_matchable_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_06_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_06_tenant_id_model_space_is_matchable_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_07_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_07_tenant_id_model_space_is_matchable_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_08_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_08_tenant_id_model_space_is_matchable_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_09_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_09_tenant_id_model_space_is_matchable_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_10_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_10_tenant_id_model_space_is_matchable_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_11_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_11_tenant_id_model_space_is_matchable_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_12_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_12_tenant_id_model_space_is_matchable_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_13_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_13_tenant_id_model_space_is_matchable_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_14_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_14_tenant_id_model_space_is_matchable_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_15_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_15_tenant_id_model_space_is_matchable_indexed_idx;

CREATE TRIGGER count_deleted_people AFTER DELETE ON public.cluster REFERENCING OLD TABLE AS clusters FOR EACH STATEMENT EXECUTE FUNCTION public.count_people();

CREATE TRIGGER count_opened_people AFTER INSERT ON public.cluster REFERENCING NEW TABLE AS clusters FOR EACH STATEMENT EXECUTE FUNCTION public.count_people();

CREATE TRIGGER sum_changed_faces AFTER UPDATE ON public.face REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION public.sum_changed_faces();

CREATE TRIGGER sum_changed_vector AFTER UPDATE OF face_id, model_space, embedding ON public.face_vector FOR EACH ROW EXECUTE FUNCTION public.sum_changed_vector();

CREATE TRIGGER sum_deleted_face BEFORE DELETE ON public.face FOR EACH ROW WHEN (old.is_matchable) EXECUTE FUNCTION public.sum_deleted_face();

CREATE TRIGGER sum_deleted_vectors AFTER DELETE ON public.face_vector REFERENCING OLD TABLE AS gone FOR EACH STATEMENT WHEN ((pg_trigger_depth() = 0)) EXECUTE FUNCTION public.sum_deleted_vectors();

CREATE TRIGGER sum_inserted_vectors AFTER INSERT ON public.face_vector REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION public.sum_inserted_vectors();

ALTER TABLE ONLY public.cluster_sum
    ADD CONSTRAINT cluster_sum_tenant_id_cluster_id_fkey FOREIGN KEY (tenant_id, cluster_id) REFERENCES public.cluster(tenant_id, cluster_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.cluster
    ADD CONSTRAINT cluster_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(tenant_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.face
    ADD CONSTRAINT face_tenant_id_cluster_id_fkey FOREIGN KEY (tenant_id, cluster_id) REFERENCES public.cluster(tenant_id, cluster_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.face
    ADD CONSTRAINT face_tenant_id_image_id_fkey FOREIGN KEY (tenant_id, image_id) REFERENCES public.image(tenant_id, image_id) ON DELETE CASCADE;

ALTER TABLE public.face_vector
    ADD CONSTRAINT face_vector_tenant_id_face_id_fkey FOREIGN KEY (tenant_id, face_id) REFERENCES public.face(tenant_id, face_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.image
    ADD CONSTRAINT image_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(tenant_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.review
    ADD CONSTRAINT review_tenant_id_cluster_id_fkey FOREIGN KEY (tenant_id, cluster_id) REFERENCES public.cluster(tenant_id, cluster_id) ON DELETE CASCADE;

ALTER TABLE public.cluster ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.cluster_sum ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_00 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_01 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_02 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_03 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_04 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_05 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_06 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_07 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_08 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_09 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_10 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_11 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_12 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_13 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_14 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face_vector_15 ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.image ENABLE ROW LEVEL SECURITY;

CREATE POLICY own_tenant ON public.cluster USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.cluster_sum USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.face USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.face_vector USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.image USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.review USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.tenant USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

ALTER TABLE public.review ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.tenant ENABLE ROW LEVEL SECURITY;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cluster TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cluster_sum TO facette_service;

GRANT SELECT ON TABLE public.embedding_model TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.face TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.face_vector TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.image TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.review TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.tenant TO facette_service
