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

CREATE FUNCTION public.count_deleted_faces() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public'
    SET enable_seqscan TO 'off'
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

CREATE FUNCTION public.count_images() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public'
    SET enable_seqscan TO 'off'
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

CREATE FUNCTION public.count_inserted_faces() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public'
    SET enable_seqscan TO 'off'
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

CREATE FUNCTION public.count_moved_faces() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public'
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

CREATE FUNCTION public.drop_empty_decisions() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public'
    SET enable_seqscan TO 'off'
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

CREATE FUNCTION public.follow_moved_faces() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public'
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    UPDATE decision_face SET cluster_id = after.cluster_id
    FROM after
    WHERE decision_face.tenant_id = after.tenant_id AND decision_face.face_id = after.face_id
      AND decision_face.cluster_id <> after.cluster_id;
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

CREATE FUNCTION public.recount_faces(of_tenant text, of_clusters uuid[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public'
    SET enable_seqscan TO 'off'
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

CREATE TABLE public.access_key (
    key_id text NOT NULL,
    bound_tenant text,
    name text NOT NULL,
    scopes text[] NOT NULL,
    salt bytea NOT NULL,
    master_id text NOT NULL,
    former_salt bytea,
    former_master_id text,
    former_until timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    last_used_at timestamp with time zone,
    CONSTRAINT access_key_bound_tenant_check CHECK (((char_length(bound_tenant) >= 1) AND (char_length(bound_tenant) <= 128))),
    CONSTRAINT access_key_check CHECK ((num_nulls(former_salt, former_master_id, former_until) = ANY (ARRAY[0, 3]))),
    CONSTRAINT access_key_former_salt_check CHECK ((octet_length(former_salt) >= 16)),
    CONSTRAINT access_key_key_id_check CHECK ((key_id ~ '^[a-z0-9]{16}$'::text)),
    CONSTRAINT access_key_name_check CHECK (((char_length(name) >= 1) AND (char_length(name) <= 128))),
    CONSTRAINT access_key_salt_check CHECK ((octet_length(salt) >= 16)),
    CONSTRAINT access_key_scopes_check CHECK (((COALESCE(array_ndims(scopes), 0) = 1) AND (scopes <@ ARRAY['read'::text, 'write'::text, 'admin'::text])))
);

CREATE TABLE public.change (
    tenant_id text NOT NULL,
    change bigint NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    kind text NOT NULL,
    key_id text,
    subject jsonb NOT NULL,
    by_machine boolean DEFAULT false NOT NULL,
    has_inverse boolean DEFAULT false NOT NULL,
    undoes bigint,
    undone_by bigint
);

CREATE TABLE public.change_cluster (
    tenant_id text NOT NULL,
    change bigint NOT NULL,
    cluster_id uuid NOT NULL,
    before jsonb,
    after jsonb
);

CREATE TABLE public.change_decision (
    tenant_id text NOT NULL,
    change bigint NOT NULL,
    decision_id uuid NOT NULL,
    was_active boolean NOT NULL
);

CREATE TABLE public.change_face (
    tenant_id text NOT NULL,
    change bigint NOT NULL,
    face_id uuid NOT NULL,
    before_cluster_id uuid NOT NULL,
    before_is_auto_matched boolean NOT NULL,
    before_distance real,
    after_cluster_id uuid NOT NULL,
    after_is_auto_matched boolean NOT NULL,
    after_distance real
);

CREATE TABLE public.change_review (
    tenant_id text NOT NULL,
    change bigint NOT NULL,
    review_id bigint NOT NULL,
    was_open boolean NOT NULL,
    kind text NOT NULL,
    cluster_id uuid NOT NULL,
    face_id uuid,
    other_cluster_id uuid,
    created_at timestamp with time zone NOT NULL,
    distance real,
    other_distance real,
    similarity real,
    faces integer NOT NULL,
    chance real NOT NULL,
    put_off boolean NOT NULL
);

CREATE TABLE public.cluster (
    tenant_id text NOT NULL,
    cluster_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    label text,
    label_key text COLLATE pg_catalog."C",
    external_id text,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    hidden boolean DEFAULT false NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    faces integer DEFAULT 0 NOT NULL,
    images integer DEFAULT 0 NOT NULL,
    last_face_at timestamp with time zone DEFAULT now() NOT NULL,
    cover_face_id uuid,
    cover_quality real,
    is_labelled boolean GENERATED ALWAYS AS ((label IS NOT NULL)) STORED,
    CONSTRAINT cluster_created_at_check CHECK (((EXTRACT(epoch FROM created_at) >= (0)::numeric) AND (EXTRACT(epoch FROM created_at) <= ('7258118399'::bigint)::numeric))),
    CONSTRAINT cluster_external_id_check CHECK (((char_length(external_id) >= 1) AND (char_length(external_id) <= 128))),
    CONSTRAINT cluster_faces_check CHECK ((faces >= 0)),
    CONSTRAINT cluster_images_check CHECK ((images >= 0)),
    CONSTRAINT cluster_label_check CHECK (((char_length(label) >= 1) AND (char_length(label) <= 256))),
    CONSTRAINT cluster_label_key_check CHECK (((label IS NULL) = (label_key IS NULL))),
    CONSTRAINT cluster_metadata_check CHECK (((jsonb_typeof(metadata) = 'object'::text) AND (pg_column_size(metadata) <= 65536)))
);

CREATE TABLE public.cluster_sum (
    tenant_id text NOT NULL,
    cluster_id uuid NOT NULL,
    model_space text NOT NULL,
    total double precision[] NOT NULL
);
ALTER TABLE ONLY public.cluster_sum ALTER COLUMN total SET STORAGE EXTERNAL;

CREATE TABLE public.console_session (
    digest bytea NOT NULL,
    key_id text,
    shown bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT console_session_digest_check CHECK ((octet_length(digest) = 32)),
    CONSTRAINT console_session_shown_check CHECK ((octet_length(shown) = 32))
);

CREATE TABLE public.database_identity (
    only_row boolean DEFAULT true NOT NULL,
    database_id uuid DEFAULT gen_random_uuid() NOT NULL,
    CONSTRAINT database_identity_only_row_check CHECK (only_row)
);

CREATE TABLE public.decision (
    tenant_id text NOT NULL,
    decision_id uuid DEFAULT gen_random_uuid() NOT NULL,
    kind text NOT NULL,
    decided_at timestamp with time zone DEFAULT now() NOT NULL,
    key_id text,
    is_active boolean DEFAULT true NOT NULL,
    CONSTRAINT decision_kind_check CHECK ((kind = ANY (ARRAY['same'::text, 'different'::text])))
);

CREATE TABLE public.decision_face (
    tenant_id text NOT NULL,
    decision_id uuid NOT NULL,
    face_id uuid NOT NULL,
    side smallint NOT NULL,
    is_claim boolean NOT NULL,
    cluster_id uuid NOT NULL,
    left_by bigint,
    returned_by bigint,
    CONSTRAINT decision_face_side_check CHECK ((side = ANY (ARRAY[0, 1])))
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
    taken_at timestamp with time zone,
    orientation smallint DEFAULT 1 NOT NULL,
    latitude double precision,
    longitude double precision,
    phash_0 integer GENERATED ALWAYS AS (((('x'::text || substr(phash, 1, 4)))::bit(16))::integer) STORED,
    phash_1 integer GENERATED ALWAYS AS (((('x'::text || substr(phash, 5, 4)))::bit(16))::integer) STORED,
    phash_2 integer GENERATED ALWAYS AS (((('x'::text || substr(phash, 9, 4)))::bit(16))::integer) STORED,
    phash_3 integer GENERATED ALWAYS AS (((('x'::text || substr(phash, 13, 4)))::bit(16))::integer) STORED,
    change bigint,
    CONSTRAINT image_created_at_check CHECK (((EXTRACT(epoch FROM created_at) >= (0)::numeric) AND (EXTRACT(epoch FROM created_at) <= ('7258118399'::bigint)::numeric))),
    CONSTRAINT image_format_check CHECK ((format ~ '^[a-z0-9]{1,16}$'::text)),
    CONSTRAINT image_height_check CHECK ((height > 0)),
    CONSTRAINT image_latitude_check CHECK (((latitude >= ('-90'::integer)::double precision) AND (latitude <= (90)::double precision))),
    CONSTRAINT image_location_check CHECK (((latitude IS NULL) = (longitude IS NULL))),
    CONSTRAINT image_longitude_check CHECK (((longitude >= ('-180'::integer)::double precision) AND (longitude <= (180)::double precision))),
    CONSTRAINT image_orientation_check CHECK (((orientation >= 1) AND (orientation <= 8))),
    CONSTRAINT image_phash_check CHECK ((phash ~ '^[0-9a-f]{16}$'::text)),
    CONSTRAINT image_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT image_size_bytes_check CHECK ((size_bytes > 0)),
    CONSTRAINT image_taken_at_check CHECK (((EXTRACT(epoch FROM taken_at) >= ('-2208988800'::bigint)::numeric) AND (EXTRACT(epoch FROM taken_at) <= ('7258118399'::bigint)::numeric))),
    CONSTRAINT image_turned_check CHECK ((turned = ANY (ARRAY[0, 90, 180, 270]))),
    CONSTRAINT image_width_check CHECK ((width > 0))
);

CREATE TABLE public.kept_answer (
    tenant_id text NOT NULL,
    idempotency_key text NOT NULL,
    fingerprint bytea NOT NULL,
    status smallint NOT NULL,
    body bytea NOT NULL,
    kept_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.merged_cluster (
    tenant_id text NOT NULL,
    cluster_id uuid NOT NULL,
    merged_into uuid NOT NULL,
    merged_at timestamp with time zone DEFAULT now() NOT NULL
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
    kind text DEFAULT 'new_person'::text NOT NULL,
    face_id uuid,
    other_cluster_id uuid,
    distance real,
    other_distance real,
    similarity real,
    faces integer DEFAULT 1 NOT NULL,
    chance real DEFAULT 0.001 NOT NULL,
    worth real GENERATED ALWAYS AS (((faces)::double precision * chance)) STORED,
    leased_by text,
    leased_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    put_off boolean DEFAULT false NOT NULL,
    CONSTRAINT review_chance_check CHECK (((chance >= (0)::double precision) AND (chance <= (1)::double precision))),
    CONSTRAINT review_created_at_check CHECK (((EXTRACT(epoch FROM created_at) >= (0)::numeric) AND (EXTRACT(epoch FROM created_at) <= ('7258118399'::bigint)::numeric))),
    CONSTRAINT review_faces_check CHECK ((faces >= 0)),
    CONSTRAINT review_id_check CHECK (((review_id >= 1) AND (review_id <= '9007199254740991'::bigint))),
    CONSTRAINT review_kind_check CHECK ((kind = ANY (ARRAY['new_person'::text, 'same_person'::text, 'weak_match'::text, 'odd_face'::text]))),
    CONSTRAINT review_similarity_check CHECK (((similarity >= (0)::double precision) AND (similarity <= (1)::double precision))),
    CONSTRAINT review_subject_check CHECK ((((face_id IS NULL) = (kind = ANY (ARRAY['new_person'::text, 'same_person'::text]))) AND ((kind <> 'same_person'::text) OR (other_cluster_id IS NOT NULL)) AND ((kind <> 'new_person'::text) OR (other_cluster_id IS NULL))))
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
    images bigint DEFAULT 0 NOT NULL,
    faces bigint DEFAULT 0 NOT NULL,
    max_images bigint,
    max_faces bigint,
    requests_per_minute integer,
    watched_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    asked_seq bigint DEFAULT 0 NOT NULL,
    asked_change bigint DEFAULT 0 NOT NULL,
    match_factor double precision DEFAULT 1 NOT NULL,
    CONSTRAINT tenant_created_at_check CHECK (((EXTRACT(epoch FROM created_at) >= (0)::numeric) AND (EXTRACT(epoch FROM created_at) <= ('7258118399'::bigint)::numeric))),
    CONSTRAINT tenant_match_factor_check CHECK (((match_factor >= (0.0001)::double precision) AND (match_factor <= (10000)::double precision))),
    CONSTRAINT tenant_max_faces_check CHECK ((max_faces >= 0)),
    CONSTRAINT tenant_max_images_check CHECK ((max_images >= 0)),
    CONSTRAINT tenant_requests_per_minute_check CHECK ((requests_per_minute >= 1))
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

ALTER TABLE ONLY public.access_key
    ADD CONSTRAINT access_key_pkey PRIMARY KEY (key_id);

ALTER TABLE ONLY public.change_cluster
    ADD CONSTRAINT change_cluster_pkey PRIMARY KEY (tenant_id, change, cluster_id);

ALTER TABLE ONLY public.change_decision
    ADD CONSTRAINT change_decision_pkey PRIMARY KEY (tenant_id, change, decision_id);

ALTER TABLE ONLY public.change_face
    ADD CONSTRAINT change_face_pkey PRIMARY KEY (tenant_id, change, face_id);

ALTER TABLE ONLY public.change
    ADD CONSTRAINT change_pkey PRIMARY KEY (tenant_id, change);

ALTER TABLE ONLY public.change_review
    ADD CONSTRAINT change_review_pkey PRIMARY KEY (tenant_id, change, review_id);

ALTER TABLE ONLY public.cluster
    ADD CONSTRAINT cluster_pkey PRIMARY KEY (tenant_id, cluster_id);

ALTER TABLE ONLY public.cluster_sum
    ADD CONSTRAINT cluster_sum_pkey PRIMARY KEY (tenant_id, cluster_id, model_space);

ALTER TABLE ONLY public.console_session
    ADD CONSTRAINT console_session_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY public.database_identity
    ADD CONSTRAINT database_identity_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.decision_face
    ADD CONSTRAINT decision_face_pkey PRIMARY KEY (tenant_id, decision_id, face_id);

ALTER TABLE ONLY public.decision
    ADD CONSTRAINT decision_pkey PRIMARY KEY (tenant_id, decision_id);

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

ALTER TABLE ONLY public.kept_answer
    ADD CONSTRAINT kept_answer_pkey PRIMARY KEY (tenant_id, idempotency_key);

ALTER TABLE ONLY public.merged_cluster
    ADD CONSTRAINT merged_cluster_pkey PRIMARY KEY (tenant_id, cluster_id);

ALTER TABLE ONLY public.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.review
    ADD CONSTRAINT review_pkey PRIMARY KEY (tenant_id, review_id);

ALTER TABLE public.tenant
    ADD CONSTRAINT tenant_id_check CHECK ((((char_length(tenant_id) >= 1) AND (char_length(tenant_id) <= 128)) AND (btrim(tenant_id) <> ''::text) AND (tenant_id !~ '[\u0001-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]'::text))) NOT VALID;

ALTER TABLE ONLY public.tenant
    ADD CONSTRAINT tenant_pkey PRIMARY KEY (tenant_id);

CREATE INDEX access_key_newest ON public.access_key USING btree (created_at DESC, key_id DESC);

CREATE INDEX access_key_newest_of_tenant ON public.access_key USING btree (bound_tenant, created_at DESC, key_id DESC);

CREATE INDEX change_age ON public.change USING btree (tenant_id, changed_at);

CREATE INDEX change_cluster_of_cluster ON public.change_cluster USING btree (tenant_id, cluster_id);

CREATE INDEX change_decision_of_decision ON public.change_decision USING btree (tenant_id, decision_id);

CREATE INDEX change_face_of_face ON public.change_face USING btree (tenant_id, face_id);

CREATE INDEX change_review_of_cluster ON public.change_review USING btree (tenant_id, cluster_id);

CREATE INDEX change_review_of_face ON public.change_review USING btree (tenant_id, face_id) WHERE (face_id IS NOT NULL);

CREATE INDEX change_review_of_other_cluster ON public.change_review USING btree (tenant_id, other_cluster_id) WHERE (other_cluster_id IS NOT NULL);

CREATE INDEX change_review_of_review ON public.change_review USING btree (tenant_id, review_id);

CREATE INDEX cluster_by_faces ON public.cluster USING btree (tenant_id, hidden, is_labelled, faces, cluster_id);

CREATE INDEX cluster_by_label ON public.cluster USING btree (tenant_id, hidden, label_key, cluster_id) WHERE (label IS NOT NULL);

CREATE INDEX cluster_by_recency ON public.cluster USING btree (tenant_id, hidden, is_labelled, last_face_at, cluster_id);

CREATE UNIQUE INDEX cluster_external_id ON public.cluster USING btree (tenant_id, external_id) WHERE (external_id IS NOT NULL);

CREATE INDEX console_session_expiry ON public.console_session USING btree (expires_at);

CREATE INDEX console_session_of_key ON public.console_session USING btree (key_id);

CREATE INDEX decision_age ON public.decision USING btree (tenant_id, decided_at, decision_id);

CREATE INDEX decision_face_of_cluster ON public.decision_face USING btree (tenant_id, cluster_id, decision_id);

CREATE INDEX decision_face_of_face ON public.decision_face USING btree (tenant_id, face_id);

CREATE INDEX decision_face_that_left ON public.decision_face USING btree (tenant_id, left_by) WHERE (left_by IS NOT NULL);

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

CREATE INDEX image_created ON public.image USING btree (tenant_id, created_at, image_id);

CREATE INDEX image_phash_0 ON public.image USING btree (tenant_id, phash_0);

CREATE INDEX image_phash_1 ON public.image USING btree (tenant_id, phash_1);

CREATE INDEX image_phash_2 ON public.image USING btree (tenant_id, phash_2);

CREATE INDEX image_phash_3 ON public.image USING btree (tenant_id, phash_3);

CREATE INDEX image_sha256 ON public.image USING btree (tenant_id, sha256);

CREATE INDEX image_taken ON public.image USING btree (tenant_id, taken_at, image_id) WHERE (taken_at IS NOT NULL);

CREATE INDEX kept_answer_age ON public.kept_answer USING btree (tenant_id, kept_at);

CREATE INDEX merged_cluster_into ON public.merged_cluster USING btree (tenant_id, merged_into);

CREATE INDEX review_by_worth ON public.review USING btree (tenant_id, put_off, kind, worth DESC, review_id DESC);

CREATE INDEX review_cluster ON public.review USING btree (tenant_id, cluster_id);

CREATE UNIQUE INDEX review_of_face ON public.review USING btree (tenant_id, face_id, kind) WHERE (face_id IS NOT NULL);

CREATE INDEX review_of_other_cluster ON public.review USING btree (tenant_id, other_cluster_id) WHERE (other_cluster_id IS NOT NULL);

CREATE UNIQUE INDEX review_of_pair ON public.review USING btree (tenant_id, LEAST(cluster_id, other_cluster_id), GREATEST(cluster_id, other_cluster_id)) WHERE (kind = 'same_person'::text);

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

CREATE TRIGGER count_deleted_faces AFTER DELETE ON public.face REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION public.count_deleted_faces();

CREATE TRIGGER count_deleted_images AFTER DELETE ON public.image REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION public.count_images();

CREATE TRIGGER count_deleted_people AFTER DELETE ON public.cluster REFERENCING OLD TABLE AS clusters FOR EACH STATEMENT EXECUTE FUNCTION public.count_people();

CREATE TRIGGER count_inserted_faces AFTER INSERT ON public.face REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION public.count_inserted_faces();

CREATE TRIGGER count_inserted_images AFTER INSERT ON public.image REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION public.count_images();

CREATE TRIGGER count_moved_faces AFTER UPDATE ON public.face REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION public.count_moved_faces();

CREATE TRIGGER count_opened_people AFTER INSERT ON public.cluster REFERENCING NEW TABLE AS clusters FOR EACH STATEMENT EXECUTE FUNCTION public.count_people();

CREATE TRIGGER drop_empty_decisions AFTER DELETE ON public.decision_face REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION public.drop_empty_decisions();

CREATE TRIGGER follow_moved_faces AFTER UPDATE ON public.face REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION public.follow_moved_faces();

CREATE TRIGGER sum_changed_faces AFTER UPDATE ON public.face REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION public.sum_changed_faces();

CREATE TRIGGER sum_changed_vector AFTER UPDATE OF face_id, model_space, embedding ON public.face_vector FOR EACH ROW EXECUTE FUNCTION public.sum_changed_vector();

CREATE TRIGGER sum_deleted_face BEFORE DELETE ON public.face FOR EACH ROW WHEN (old.is_matchable) EXECUTE FUNCTION public.sum_deleted_face();

CREATE TRIGGER sum_deleted_vectors AFTER DELETE ON public.face_vector REFERENCING OLD TABLE AS gone FOR EACH STATEMENT WHEN ((pg_trigger_depth() = 0)) EXECUTE FUNCTION public.sum_deleted_vectors();

CREATE TRIGGER sum_inserted_vectors AFTER INSERT ON public.face_vector REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION public.sum_inserted_vectors();

ALTER TABLE ONLY public.change_cluster
    ADD CONSTRAINT change_cluster_tenant_id_change_fkey FOREIGN KEY (tenant_id, change) REFERENCES public.change(tenant_id, change) ON DELETE CASCADE;

ALTER TABLE ONLY public.change_decision
    ADD CONSTRAINT change_decision_tenant_id_change_fkey FOREIGN KEY (tenant_id, change) REFERENCES public.change(tenant_id, change) ON DELETE CASCADE;

ALTER TABLE ONLY public.change_decision
    ADD CONSTRAINT change_decision_tenant_id_decision_id_fkey FOREIGN KEY (tenant_id, decision_id) REFERENCES public.decision(tenant_id, decision_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.change_face
    ADD CONSTRAINT change_face_tenant_id_change_fkey FOREIGN KEY (tenant_id, change) REFERENCES public.change(tenant_id, change) ON DELETE CASCADE;

ALTER TABLE ONLY public.change_face
    ADD CONSTRAINT change_face_tenant_id_face_id_fkey FOREIGN KEY (tenant_id, face_id) REFERENCES public.face(tenant_id, face_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.change_review
    ADD CONSTRAINT change_review_tenant_id_change_fkey FOREIGN KEY (tenant_id, change) REFERENCES public.change(tenant_id, change) ON DELETE CASCADE;

ALTER TABLE ONLY public.change_review
    ADD CONSTRAINT change_review_tenant_id_face_id_fkey FOREIGN KEY (tenant_id, face_id) REFERENCES public.face(tenant_id, face_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.change
    ADD CONSTRAINT change_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(tenant_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.cluster_sum
    ADD CONSTRAINT cluster_sum_tenant_id_cluster_id_fkey FOREIGN KEY (tenant_id, cluster_id) REFERENCES public.cluster(tenant_id, cluster_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.cluster
    ADD CONSTRAINT cluster_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(tenant_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.console_session
    ADD CONSTRAINT console_session_key_id_fkey FOREIGN KEY (key_id) REFERENCES public.access_key(key_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.decision_face
    ADD CONSTRAINT decision_face_tenant_id_decision_id_fkey FOREIGN KEY (tenant_id, decision_id) REFERENCES public.decision(tenant_id, decision_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.decision_face
    ADD CONSTRAINT decision_face_tenant_id_face_id_fkey FOREIGN KEY (tenant_id, face_id) REFERENCES public.face(tenant_id, face_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.decision
    ADD CONSTRAINT decision_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(tenant_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.face
    ADD CONSTRAINT face_tenant_id_cluster_id_fkey FOREIGN KEY (tenant_id, cluster_id) REFERENCES public.cluster(tenant_id, cluster_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.face
    ADD CONSTRAINT face_tenant_id_image_id_fkey FOREIGN KEY (tenant_id, image_id) REFERENCES public.image(tenant_id, image_id) ON DELETE CASCADE;

ALTER TABLE public.face_vector
    ADD CONSTRAINT face_vector_tenant_id_face_id_fkey FOREIGN KEY (tenant_id, face_id) REFERENCES public.face(tenant_id, face_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.image
    ADD CONSTRAINT image_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(tenant_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.kept_answer
    ADD CONSTRAINT kept_answer_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(tenant_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.merged_cluster
    ADD CONSTRAINT merged_cluster_tenant_id_merged_into_fkey FOREIGN KEY (tenant_id, merged_into) REFERENCES public.cluster(tenant_id, cluster_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.review
    ADD CONSTRAINT review_face_fkey FOREIGN KEY (tenant_id, face_id) REFERENCES public.face(tenant_id, face_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.review
    ADD CONSTRAINT review_other_cluster_fkey FOREIGN KEY (tenant_id, other_cluster_id) REFERENCES public.cluster(tenant_id, cluster_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.review
    ADD CONSTRAINT review_tenant_id_cluster_id_fkey FOREIGN KEY (tenant_id, cluster_id) REFERENCES public.cluster(tenant_id, cluster_id) ON DELETE CASCADE;

ALTER TABLE public.change ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.change_cluster ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.change_decision ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.change_face ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.change_review ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.cluster ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.cluster_sum ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.decision ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.decision_face ENABLE ROW LEVEL SECURITY;

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

ALTER TABLE public.kept_answer ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.merged_cluster ENABLE ROW LEVEL SECURITY;

CREATE POLICY own_tenant ON public.change USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.change_cluster USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.change_decision USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.change_face USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.change_review USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.cluster USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.cluster_sum USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.decision USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.decision_face USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.face USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.face_vector USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.image USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.kept_answer USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.merged_cluster USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.review USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

CREATE POLICY own_tenant ON public.tenant USING ((tenant_id = ( SELECT NULLIF(current_setting('facette.tenant_id'::text, true), ''::text) AS "nullif")));

ALTER TABLE public.review ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.tenant ENABLE ROW LEVEL SECURITY;

GRANT SELECT,INSERT,UPDATE ON TABLE public.access_key TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.change TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.change_cluster TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.change_decision TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.change_face TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.change_review TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cluster TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cluster_sum TO facette_service;

GRANT SELECT,INSERT,DELETE ON TABLE public.console_session TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.decision TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.decision_face TO facette_service;

GRANT SELECT ON TABLE public.embedding_model TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.face TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.face_vector TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.image TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.kept_answer TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.merged_cluster TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.review TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.tenant TO facette_service
