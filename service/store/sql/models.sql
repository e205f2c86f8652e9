-- The active embedding model, whose vectors searches use.

-- name: active_model
SELECT model_space AS space, name FROM embedding_model WHERE is_active

-- name: lock_models
-- Until the transaction ends, no other transaction changes the active model.
LOCK TABLE embedding_model IN SHARE ROW EXCLUSIVE MODE

-- name: knows_no_space_but
-- Whether a model can be the first active one: there are no vectors, or some are of its space.
SELECT NOT EXISTS (SELECT FROM face_vector)
    OR EXISTS (SELECT FROM face_vector WHERE model_space = $1)

-- name: some_space
SELECT model_space FROM face_vector LIMIT 1

-- name: retire_models
UPDATE embedding_model SET is_active = false WHERE is_active AND model_space <> $1

-- name: activate_model
INSERT INTO embedding_model (model_space, name, is_active) VALUES ($1, $2, true)
ON CONFLICT (model_space) DO UPDATE
SET name = EXCLUDED.name, is_active = true, activated_at = now()
WHERE NOT embedding_model.is_active OR embedding_model.name <> EXCLUDED.name
