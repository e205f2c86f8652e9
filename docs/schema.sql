-- The schema, as the migrations in service/store/sql/migrations leave it (pg_dump 18).

CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;

COMMENT ON EXTENSION vector IS 'vector data type and ivfflat and hnsw access methods';

CREATE TABLE public.cluster (
    tenant_id text NOT NULL,
    cluster_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

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
    CONSTRAINT face_area_check CHECK ((cardinality(area) = 4)),
    CONSTRAINT face_box_check CHECK ((cardinality(box) = 4)),
    CONSTRAINT face_confidence_check CHECK (((confidence >= (0)::double precision) AND (confidence <= (1)::double precision))),
    CONSTRAINT face_landmarks_check CHECK ((cardinality(landmarks) = 10))
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
    embedding public.halfvec(512) NOT NULL,
    indexed boolean DEFAULT false NOT NULL
)
PARTITION BY HASH (tenant_id);

CREATE TABLE public.face_vector_00 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
);

CREATE TABLE public.face_vector_01 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
);

CREATE TABLE public.face_vector_02 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
);

CREATE TABLE public.face_vector_03 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
);

CREATE TABLE public.face_vector_04 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
);

CREATE TABLE public.face_vector_05 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
);

CREATE TABLE public.face_vector_06 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
);

CREATE TABLE public.face_vector_07 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
);

CREATE TABLE public.face_vector_08 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
);

CREATE TABLE public.face_vector_09 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
);

CREATE TABLE public.face_vector_10 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
);

CREATE TABLE public.face_vector_11 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
);

CREATE TABLE public.face_vector_12 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
);

CREATE TABLE public.face_vector_13 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
);

CREATE TABLE public.face_vector_14 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
);

CREATE TABLE public.face_vector_15 (
    tenant_id text CONSTRAINT face_vector_tenant_id_not_null NOT NULL,
    face_id uuid CONSTRAINT face_vector_face_id_not_null NOT NULL,
    model_space text CONSTRAINT face_vector_model_space_not_null NOT NULL,
    embedding public.halfvec(512) CONSTRAINT face_vector_embedding_not_null NOT NULL,
    indexed boolean DEFAULT false CONSTRAINT face_vector_indexed_not_null NOT NULL
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
    CONSTRAINT image_height_check CHECK ((height > 0)),
    CONSTRAINT image_phash_check CHECK ((phash ~ '^[0-9a-f]{16}$'::text)),
    CONSTRAINT image_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT image_size_bytes_check CHECK ((size_bytes > 0)),
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
    created_at timestamp with time zone DEFAULT now() NOT NULL
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
    changes bigint DEFAULT ((random() * ('4611686018427387904'::bigint)::double precision))::bigint NOT NULL
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

ALTER TABLE ONLY public.image
    ADD CONSTRAINT image_pkey PRIMARY KEY (tenant_id, image_id);

ALTER TABLE ONLY public.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.review
    ADD CONSTRAINT review_pkey PRIMARY KEY (tenant_id, review_id);

ALTER TABLE ONLY public.tenant
    ADD CONSTRAINT tenant_pkey PRIMARY KEY (tenant_id);

CREATE UNIQUE INDEX embedding_model_active ON public.embedding_model USING btree (is_active) WHERE is_active;

CREATE INDEX face_cluster ON public.face USING btree (tenant_id, cluster_id, seq);

CREATE INDEX face_image ON public.face USING btree (tenant_id, image_id, seq);

CREATE INDEX face_seq ON public.face USING btree (tenant_id, seq);

CREATE INDEX face_vector_tenant ON ONLY public.face_vector USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_00_tenant_id_model_space_indexed_idx ON public.face_vector_00 USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_01_tenant_id_model_space_indexed_idx ON public.face_vector_01 USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_02_tenant_id_model_space_indexed_idx ON public.face_vector_02 USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_03_tenant_id_model_space_indexed_idx ON public.face_vector_03 USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_04_tenant_id_model_space_indexed_idx ON public.face_vector_04 USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_05_tenant_id_model_space_indexed_idx ON public.face_vector_05 USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_06_tenant_id_model_space_indexed_idx ON public.face_vector_06 USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_07_tenant_id_model_space_indexed_idx ON public.face_vector_07 USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_08_tenant_id_model_space_indexed_idx ON public.face_vector_08 USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_09_tenant_id_model_space_indexed_idx ON public.face_vector_09 USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_10_tenant_id_model_space_indexed_idx ON public.face_vector_10 USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_11_tenant_id_model_space_indexed_idx ON public.face_vector_11 USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_12_tenant_id_model_space_indexed_idx ON public.face_vector_12 USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_13_tenant_id_model_space_indexed_idx ON public.face_vector_13 USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_14_tenant_id_model_space_indexed_idx ON public.face_vector_14 USING btree (tenant_id, model_space, indexed);

CREATE INDEX face_vector_15_tenant_id_model_space_indexed_idx ON public.face_vector_15 USING btree (tenant_id, model_space, indexed);

CREATE INDEX review_cluster ON public.review USING btree (tenant_id, cluster_id);

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_00_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_00_tenant_id_model_space_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_01_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_01_tenant_id_model_space_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_02_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_02_tenant_id_model_space_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_03_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_03_tenant_id_model_space_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_04_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_04_tenant_id_model_space_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_05_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_05_tenant_id_model_space_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_06_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_06_tenant_id_model_space_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_07_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_07_tenant_id_model_space_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_08_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_08_tenant_id_model_space_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_09_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_09_tenant_id_model_space_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_10_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_10_tenant_id_model_space_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_11_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_11_tenant_id_model_space_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_12_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_12_tenant_id_model_space_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_13_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_13_tenant_id_model_space_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_14_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_14_tenant_id_model_space_indexed_idx;

ALTER INDEX public.face_vector_pkey ATTACH PARTITION public.face_vector_15_pkey;

ALTER INDEX public.face_vector_tenant ATTACH PARTITION public.face_vector_15_tenant_id_model_space_indexed_idx;

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

CREATE POLICY own_tenant ON public.cluster USING ((tenant_id = ( SELECT current_setting('facette.tenant_id'::text, true) AS current_setting)));

CREATE POLICY own_tenant ON public.face USING ((tenant_id = ( SELECT current_setting('facette.tenant_id'::text, true) AS current_setting)));

CREATE POLICY own_tenant ON public.face_vector USING ((tenant_id = ( SELECT current_setting('facette.tenant_id'::text, true) AS current_setting)));

CREATE POLICY own_tenant ON public.image USING ((tenant_id = ( SELECT current_setting('facette.tenant_id'::text, true) AS current_setting)));

CREATE POLICY own_tenant ON public.review USING ((tenant_id = ( SELECT current_setting('facette.tenant_id'::text, true) AS current_setting)));

CREATE POLICY own_tenant ON public.tenant USING ((tenant_id = ( SELECT current_setting('facette.tenant_id'::text, true) AS current_setting)));

ALTER TABLE public.review ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.tenant ENABLE ROW LEVEL SECURITY;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cluster TO facette_service;

GRANT SELECT ON TABLE public.embedding_model TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.face TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.face_vector TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.image TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.review TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.tenant TO facette_service
