-- The schema, as the migrations in service/store/sql/migrations leave it (pg_dump 18).

CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;

COMMENT ON EXTENSION vector IS 'vector data type and ivfflat and hnsw access methods';

CREATE TABLE public.cluster (
    tenant_id text NOT NULL,
    cluster_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.face (
    tenant_id text NOT NULL,
    face_id uuid NOT NULL,
    image_id uuid NOT NULL,
    cluster_id uuid NOT NULL,
    seq bigint NOT NULL,
    model_space text NOT NULL,
    embedding public.halfvec(512) NOT NULL,
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
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY public.cluster
    ADD CONSTRAINT cluster_pkey PRIMARY KEY (tenant_id, cluster_id);

ALTER TABLE ONLY public.face
    ADD CONSTRAINT face_pkey PRIMARY KEY (tenant_id, face_id);

ALTER TABLE ONLY public.image
    ADD CONSTRAINT image_pkey PRIMARY KEY (tenant_id, image_id);

ALTER TABLE ONLY public.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.review
    ADD CONSTRAINT review_pkey PRIMARY KEY (tenant_id, review_id);

ALTER TABLE ONLY public.tenant
    ADD CONSTRAINT tenant_pkey PRIMARY KEY (tenant_id);

CREATE INDEX face_cluster ON public.face USING btree (tenant_id, cluster_id, seq);

CREATE INDEX face_embedding ON public.face USING hnsw (embedding public.halfvec_cosine_ops) WITH (m='16', ef_construction='64');

CREATE INDEX face_image ON public.face USING btree (tenant_id, image_id, seq);

CREATE INDEX review_cluster ON public.review USING btree (tenant_id, cluster_id);

ALTER TABLE ONLY public.cluster
    ADD CONSTRAINT cluster_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(tenant_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.face
    ADD CONSTRAINT face_tenant_id_cluster_id_fkey FOREIGN KEY (tenant_id, cluster_id) REFERENCES public.cluster(tenant_id, cluster_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.face
    ADD CONSTRAINT face_tenant_id_image_id_fkey FOREIGN KEY (tenant_id, image_id) REFERENCES public.image(tenant_id, image_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.image
    ADD CONSTRAINT image_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(tenant_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.review
    ADD CONSTRAINT review_tenant_id_cluster_id_fkey FOREIGN KEY (tenant_id, cluster_id) REFERENCES public.cluster(tenant_id, cluster_id) ON DELETE CASCADE;

ALTER TABLE public.cluster ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.face ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.image ENABLE ROW LEVEL SECURITY;

CREATE POLICY own_tenant ON public.cluster USING ((tenant_id = ( SELECT current_setting('facette.tenant_id'::text, true) AS current_setting)));

CREATE POLICY own_tenant ON public.face USING ((tenant_id = ( SELECT current_setting('facette.tenant_id'::text, true) AS current_setting)));

CREATE POLICY own_tenant ON public.image USING ((tenant_id = ( SELECT current_setting('facette.tenant_id'::text, true) AS current_setting)));

CREATE POLICY own_tenant ON public.review USING ((tenant_id = ( SELECT current_setting('facette.tenant_id'::text, true) AS current_setting)));

CREATE POLICY own_tenant ON public.tenant USING ((tenant_id = ( SELECT current_setting('facette.tenant_id'::text, true) AS current_setting)));

ALTER TABLE public.review ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.tenant ENABLE ROW LEVEL SECURITY;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cluster TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.face TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.image TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.review TO facette_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.tenant TO facette_service
