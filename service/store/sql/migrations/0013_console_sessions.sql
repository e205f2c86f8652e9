-- Sessions of the console. Like a key, a session is a fact about the database and not about a tenant: it is
-- looked up before anybody knows whose request it is.
--
-- The row has the SHA-256 of the session's secret, which only the browser holds. `shown` is an HMAC, keyed by
-- that secret, of what was shown at sign-in: so the session ends with the token or with the secret of the
-- key, and the row gives neither away.

CREATE TABLE console_session (
    digest     bytea       PRIMARY KEY CHECK (octet_length(digest) = 32),
    -- Null for the configured token.
    key_id     text        REFERENCES access_key ON DELETE CASCADE,
    shown      bytea       NOT NULL CHECK (octet_length(shown) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX console_session_expiry ON console_session (expires_at);
CREATE INDEX console_session_of_key ON console_session (key_id);
