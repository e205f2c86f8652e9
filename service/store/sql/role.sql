-- The role that the service works as, and its privileges. `facette_service` is written out here
-- and in service/store/database/role.py: a role's name cannot be a parameter.

-- name: service_role_exists
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'facette_service')

-- name: service_role_bypasses
-- Whether row-level security does not bind the role; null when there is no such role.
SELECT rolsuper OR rolbypassrls OR EXISTS (
    SELECT FROM pg_class
    WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relkind IN ('r', 'p')
      AND pg_has_role(pg_roles.oid, relowner, 'USAGE')
      AND relname IN (
        'tenant', 'image', 'cluster', 'cluster_sum', 'merged_cluster', 'face', 'face_vector', 'review',
        'change', 'kept_answer', 'decision', 'decision_face', 'change_face', 'change_cluster',
        'change_decision', 'change_review'
      )
) FROM pg_roles WHERE rolname = 'facette_service'

-- name: create_service_role
CREATE ROLE facette_service NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOINHERIT

-- name: grant_service_role
-- To the login, which may become the role from then on.
GRANT facette_service TO CURRENT_USER

-- name: missing_grants
-- The schemas and tables on which the role lacks a privilege, and the statements that grant it.
SELECT 'the schema ' || quote_ident(name) AS name,
       format('GRANT USAGE ON SCHEMA %I TO facette_service', name) AS statement
FROM unnest(current_schemas(false)) AS name
WHERE NOT has_schema_privilege('facette_service', name::text, 'USAGE')
UNION ALL
SELECT name,
       format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I.%I TO facette_service', current_schema(), name)
FROM unnest(ARRAY[
    'tenant', 'image', 'cluster', 'cluster_sum', 'merged_cluster', 'face', 'face_vector', 'review', 'change',
    'kept_answer', 'decision', 'decision_face', 'change_face', 'change_cluster', 'change_decision',
    'change_review'
]) AS name
WHERE NOT (
    has_table_privilege('facette_service', name, 'SELECT')
    AND has_table_privilege('facette_service', name, 'INSERT')
    AND has_table_privilege('facette_service', name, 'UPDATE')
    AND has_table_privilege('facette_service', name, 'DELETE')
)
UNION ALL
SELECT 'embedding_model',
       format('GRANT SELECT ON %I.embedding_model TO facette_service', current_schema())
WHERE NOT has_table_privilege('facette_service', 'embedding_model', 'SELECT')
UNION ALL
SELECT 'access_key',
       format('GRANT SELECT, INSERT, UPDATE ON %I.access_key TO facette_service', current_schema())
WHERE NOT (
    has_table_privilege('facette_service', to_regclass('access_key'), 'SELECT')
    AND has_table_privilege('facette_service', to_regclass('access_key'), 'INSERT')
    AND has_table_privilege('facette_service', to_regclass('access_key'), 'UPDATE')
)
UNION ALL
SELECT 'console_session',
       format('GRANT SELECT, INSERT, DELETE ON %I.console_session TO facette_service', current_schema())
WHERE NOT (
    has_table_privilege('facette_service', to_regclass('console_session'), 'SELECT')
    AND has_table_privilege('facette_service', to_regclass('console_session'), 'INSERT')
    AND has_table_privilege('facette_service', to_regclass('console_session'), 'DELETE')
)

-- name: tables_that_bind_login
-- Tables whose rows row-level security would hide from the login, which sees all tenants.
SELECT string_agg(name, ', ')
FROM unnest(ARRAY[
    'tenant', 'image', 'cluster', 'cluster_sum', 'merged_cluster', 'face', 'face_vector', 'review', 'change',
    'kept_answer', 'decision', 'decision_face', 'change_face', 'change_cluster', 'change_decision',
    'change_review'
]) AS name
WHERE row_security_active(name)

-- name: grant_room_for_archive
-- The temporary tables of an import.
GRANT SELECT, INSERT, TRUNCATE ON
    photo_of_archive, image_of_archive, cluster_of_archive, time_of_archive, face_of_archive,
    face_vector_of_archive, review_of_archive, merge_of_archive, decision_of_archive,
    decision_face_of_archive
TO facette_service

-- name: login
SELECT quote_ident(session_user)

-- name: become_service_role
SET LOCAL ROLE facette_service

-- name: become_login
-- Back to the login, until the transaction ends.
SET LOCAL ROLE NONE

-- name: use_tenant
-- For this transaction: the tenant whose rows are visible.
SELECT set_config('facette.tenant_id', $1, true)

-- name: use_tenant_of_text
-- The same without an argument: only such statements are sent together with another one, in one round trip. The
-- tenant's bytes stand in it in hexadecimal digits.
SELECT set_config('facette.tenant_id', convert_from(decode('{tenant}', 'hex'), 'UTF8'), true)
