-- The first schema. Every primary key begins with the tenant, so that isolation and partitioning
-- by tenant stay possible. Image bytes are in the blob store; a row never names a missing blob.

CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE tenant (
    tenant_id   text        PRIMARY KEY,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE image (
    tenant_id   text        NOT NULL REFERENCES tenant ON DELETE CASCADE,
    image_id    uuid        NOT NULL,
    blob_key    text        NOT NULL,
    format      text        NOT NULL,
    width       integer     NOT NULL CHECK (width > 0),
    height      integer     NOT NULL CHECK (height > 0),
    size_bytes  bigint      NOT NULL CHECK (size_bytes > 0),
    sha256      text        NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    phash       text        NOT NULL CHECK (phash ~ '^[0-9a-f]{16}$'),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, image_id)
);

CREATE TABLE cluster (
    tenant_id   text        NOT NULL REFERENCES tenant ON DELETE CASCADE,
    cluster_id  uuid        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, cluster_id)
);

CREATE TABLE face (
    tenant_id       text         NOT NULL,
    face_id         uuid         NOT NULL,
    image_id        uuid         NOT NULL,
    cluster_id      uuid         NOT NULL,
    -- Order of insertion: faces of a photo lie side by side, largest first.
    seq             bigint       GENERATED ALWAYS AS IDENTITY,
    model_space     text         NOT NULL,
    embedding       halfvec(512) NOT NULL,
    -- The detector's box (x1 y1 x2 y2) and five landmarks (x y, x y ...), pixels of the upright photo.
    box             real[]       NOT NULL CHECK (cardinality(box) = 4),
    landmarks       real[]       NOT NULL CHECK (cardinality(landmarks) = 10),
    -- The box in whole pixels inside the photo: left, top, width, height.
    area            integer[]    NOT NULL CHECK (cardinality(area) = 4),
    confidence      real         NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    is_auto_matched boolean      NOT NULL,
    distance        real,
    PRIMARY KEY (tenant_id, face_id),
    FOREIGN KEY (tenant_id, image_id) REFERENCES image ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, cluster_id) REFERENCES cluster ON DELETE CASCADE
);

CREATE INDEX face_image ON face (tenant_id, image_id, seq);
CREATE INDEX face_cluster ON face (tenant_id, cluster_id, seq);
CREATE INDEX face_embedding ON face USING hnsw (embedding halfvec_cosine_ops)
    WITH (m = 16, ef_construction = 64);

CREATE TABLE review (
    tenant_id   text        NOT NULL,
    review_id   bigint      GENERATED ALWAYS AS IDENTITY,
    cluster_id  uuid        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, review_id),
    FOREIGN KEY (tenant_id, cluster_id) REFERENCES cluster ON DELETE CASCADE
);

CREATE INDEX review_cluster ON review (tenant_id, cluster_id);
