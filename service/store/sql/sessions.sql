-- Sessions of the console, which are about the database as a whole.

-- name: insert_session
-- Also removes some that are over.
WITH old AS (
    DELETE FROM console_session WHERE digest IN (
        SELECT digest FROM console_session WHERE expires_at < now() ORDER BY expires_at LIMIT 10
    )
)
INSERT INTO console_session (digest, key_id, shown, expires_at)
VALUES ($1, $2, $3, now() + $4::interval)
RETURNING expires_at

-- name: session
SELECT key_id, shown, expires_at FROM console_session WHERE digest = $1 AND expires_at > now()

-- name: delete_session
DELETE FROM console_session WHERE digest = $1
