-- Statements of the sweep for blobs without a row. They run on a connection that sees all
-- tenants.

-- name: take_sweep_turn
-- Held by one process at a time, until its connection closes.
SELECT pg_try_advisory_lock($1)

-- name: database_id
SELECT database_id FROM database_identity

-- name: tenants_of_folders
-- The folder of a tenant in the blob store, as service/store/blob/names.py computes it.
SELECT folder, tenant_id
FROM tenant, left(encode(sha256(convert_to(tenant_id, 'UTF8')), 'hex'), 32) AS folder
WHERE folder = ANY($1::text[])

-- name: blob_keys_of_images
-- Those of the wanted images that have a row, by their places from 1 on, with the keys of their bytes.
-- LIMIT keeps the subquery from being flattened: each image is looked up by its primary key.
SELECT wanted.nth, found.blob_key
FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS wanted (tenant_id, image_id, nth)
CROSS JOIN LATERAL (
    SELECT blob_key FROM image
    WHERE image.tenant_id = wanted.tenant_id AND image.image_id = wanted.image_id
    LIMIT 1
) AS found

-- name: limit_wait_for_locks
-- For this transaction.
SELECT set_config('lock_timeout', $1, true)

-- name: exclude_inserts
-- Every insert of an image locks its tenant by an INSERT, even when the tenant is not visible yet.
LOCK TABLE tenant IN SHARE MODE
