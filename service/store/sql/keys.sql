-- Access keys, which are about the database as a whole.

-- name: keys_by_id
SELECT key_id, bound_tenant, name, scopes, salt, master_id, former_salt, former_master_id, former_until,
       created_at, expires_at, revoked_at, last_used_at
FROM access_key WHERE key_id = ANY($1::text[])

-- name: newest_keys
-- Of all tenants, and those bound to none; from after the position $1, $2 on (nulls: from the newest on).
SELECT key_id, bound_tenant, name, scopes, master_id, created_at, expires_at, revoked_at, last_used_at
FROM access_key
WHERE $1::timestamptz IS NULL OR (created_at, key_id) < ($1, $2::text)
ORDER BY created_at DESC, key_id DESC
LIMIT $3

-- name: newest_keys_of_tenant
-- The same of those bound to the tenant $4.
SELECT key_id, bound_tenant, name, scopes, master_id, created_at, expires_at, revoked_at, last_used_at
FROM access_key
WHERE bound_tenant = $4 AND ($1::timestamptz IS NULL OR (created_at, key_id) < ($1, $2::text))
ORDER BY created_at DESC, key_id DESC
LIMIT $3

-- name: insert_key
-- Times come from the database, so that those of all keys are of one clock. No row where the id is taken.
INSERT INTO access_key (key_id, bound_tenant, name, scopes, salt, master_id, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (key_id) DO NOTHING
RETURNING key_id, bound_tenant, name, scopes, master_id, created_at, expires_at, revoked_at, last_used_at

-- name: revoke_key
-- A key that is revoked already keeps its time.
UPDATE access_key SET revoked_at = coalesce(revoked_at, now()) WHERE key_id = $1
RETURNING key_id, bound_tenant, name, scopes, master_id, created_at, expires_at, revoked_at, last_used_at

-- name: rotate_key
-- A new salt; the former secret stays valid until $4 (null: ends now). A revoked key is not rotated.
UPDATE access_key
SET salt = $2, master_id = $3,
    former_salt = CASE WHEN $4::timestamptz IS NULL THEN NULL ELSE salt END,
    former_master_id = CASE WHEN $4::timestamptz IS NULL THEN NULL ELSE master_id END,
    former_until = $4
WHERE key_id = $1 AND revoked_at IS NULL
RETURNING key_id, bound_tenant, name, scopes, master_id, created_at, expires_at, revoked_at, last_used_at

-- name: note_uses_of_keys
-- The hours ($2) in which keys ($1) were used.
UPDATE access_key SET last_used_at = used_at
FROM unnest($1::text[], $2::timestamptz[]) AS used (key_id, used_at)
WHERE access_key.key_id = used.key_id AND (last_used_at IS NULL OR last_used_at < used_at)

-- name: valid_keys_by_master
-- Keys that are neither revoked nor expired, counted by the master secret that they were made with.
SELECT master_id, count(*) AS keys
FROM access_key
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
GROUP BY master_id
