-- The embedding models that this database was ever searched by, and the one it is searched by now.
-- It is a fact about the database and not about a tenant, so there is no tenant in its key: all
-- tenants change over in one moment. The service's role may read it and nothing more.

CREATE TABLE embedding_model (
    model_space     text        PRIMARY KEY,
    -- The folder of models/ that it lay in; the one above them is called default.
    name            text        NOT NULL,
    is_active       boolean     NOT NULL,
    activated_at    timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX embedding_model_active ON embedding_model (is_active) WHERE is_active;
