-- Access keys. A key is a fact about the database and not about a tenant: it is looked up before anybody
-- knows whose request it is, and it may reach every tenant. So there is no tenant in its primary key and
-- no policy. `bound_tenant` is a name and no reference: a key may be made before the tenant's first photo.
--
-- The secret of a key is not here. It is derived from the salt and a master secret that the database does
-- not have (service/domain/keys.py). After a rotation the former salt is kept for as long as it is valid.

CREATE TABLE access_key (
    key_id          text        PRIMARY KEY CHECK (key_id ~ '^[a-z0-9]{16}$'),
    -- Null for a key of all tenants.
    bound_tenant    text        CHECK (char_length(bound_tenant) BETWEEN 1 AND 128),
    name            text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 128),
    scopes          text[]      NOT NULL CHECK (
        coalesce(array_ndims(scopes), 0) = 1 AND scopes <@ ARRAY['read', 'write', 'admin']
    ),
    salt            bytea       NOT NULL CHECK (octet_length(salt) >= 16),
    -- The fingerprint of the master secret that the secret was derived with.
    master_id       text        NOT NULL,
    former_salt     bytea       CHECK (octet_length(former_salt) >= 16),
    former_master_id text,
    former_until    timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz,
    revoked_at      timestamptz,
    -- To the hour.
    last_used_at    timestamptz,
    CHECK (num_nulls(former_salt, former_master_id, former_until) IN (0, 3))
);

CREATE INDEX access_key_newest ON access_key (created_at DESC, key_id DESC);
CREATE INDEX access_key_newest_of_tenant ON access_key (bound_tenant, created_at DESC, key_id DESC);
