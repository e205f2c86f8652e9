-- The tables themselves refuse what the service never stores, whoever writes it. What is there and is
-- not so, as archives could bring it in before, is mended first; what cannot be mended without losing
-- something binds new rows alone (NOT VALID), and `facette doctor` tells of it.

-- A setting that a transaction set and the next one did not is an empty text, and not null.
ALTER POLICY own_tenant ON tenant
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));
ALTER POLICY own_tenant ON image
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));
ALTER POLICY own_tenant ON cluster
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));
ALTER POLICY own_tenant ON cluster_sum
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));
ALTER POLICY own_tenant ON face
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));
ALTER POLICY own_tenant ON face_vector
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));
ALTER POLICY own_tenant ON review
    USING (tenant_id = (SELECT nullif(current_setting('facette.tenant_id', true), '')));

-- Times from 1970 until 2200, in seconds: as times they would be written in the reader's time zone.
UPDATE tenant SET created_at = now() WHERE NOT extract(epoch FROM created_at) BETWEEN 0 AND 7258118399;
UPDATE image SET created_at = now() WHERE NOT extract(epoch FROM created_at) BETWEEN 0 AND 7258118399;
UPDATE cluster SET created_at = now() WHERE NOT extract(epoch FROM created_at) BETWEEN 0 AND 7258118399;
UPDATE review SET created_at = now() WHERE NOT extract(epoch FROM created_at) BETWEEN 0 AND 7258118399;

-- The rule is that of service/domain/names.py, as far as it does not depend on a version of Unicode.
ALTER TABLE tenant
    ADD CONSTRAINT tenant_created_at_check
        CHECK (extract(epoch FROM created_at) BETWEEN 0 AND 7258118399),
    ADD CONSTRAINT tenant_id_check CHECK (
        char_length(tenant_id) BETWEEN 1 AND 128 AND btrim(tenant_id) <> ''
        AND tenant_id !~ '[\u0001-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]'
    ) NOT VALID;

-- An image's blob is its own, in the folder of its tenant: see service/store/blob/names.py.
UPDATE image SET format = 'unknown' WHERE format !~ '^[a-z0-9]{1,16}$';
ALTER TABLE image
    ADD CONSTRAINT image_created_at_check
        CHECK (extract(epoch FROM created_at) BETWEEN 0 AND 7258118399),
    ADD CONSTRAINT image_format_check CHECK (format ~ '^[a-z0-9]{1,16}$'),
    ADD CONSTRAINT image_blob_key_check CHECK (
        left(blob_key, 70)
            = left(encode(sha256(convert_to(tenant_id, 'UTF8')), 'hex'), 32) || '/' || image_id || '.'
        AND substr(blob_key, 71) ~ '^[a-z0-9]{1,16}$'
    ) NOT VALID;

ALTER TABLE cluster
    ADD CONSTRAINT cluster_created_at_check
        CHECK (extract(epoch FROM created_at) BETWEEN 0 AND 7258118399);

-- Numbers of reviews go up to JavaScript's largest whole number. An archive could push them up there
-- for all tenants, or bring in negative ones: from 2^52 on they are drawn anew.
DO $$
DECLARE
    far CONSTANT bigint := 4503599627370496;
    numbers CONSTANT regclass := pg_get_serial_sequence('review', 'review_id');
BEGIN
    IF pg_sequence_last_value(numbers) >= far THEN
        PERFORM setval(numbers, greatest(1, max(review_id))) FROM review WHERE review_id < far;
    END IF;
    UPDATE review SET review_id = DEFAULT WHERE NOT (review_id >= 1 AND review_id < far);
END
$$;
ALTER TABLE review
    ADD CONSTRAINT review_id_check CHECK (review_id BETWEEN 1 AND 9007199254740991),
    ADD CONSTRAINT review_created_at_check
        CHECK (extract(epoch FROM created_at) BETWEEN 0 AND 7258118399);

-- Lists of one dimension that begin at 1, of numbers: NaN is greater than any, and null is none.
UPDATE face
SET box = ARRAY(
    SELECT CASE WHEN each BETWEEN -1e9 AND 1e9 THEN each ELSE 0 END
    FROM unnest(box) WITH ORDINALITY AS found (each, nth) ORDER BY nth
)
WHERE (array_ndims(box) = 1 AND array_lower(box, 1) = 1
       AND '-1e9'::real <= ALL (box) AND '1e9'::real >= ALL (box)) IS NOT TRUE;
UPDATE face
SET landmarks = ARRAY(
    SELECT CASE WHEN each BETWEEN -1e9 AND 1e9 THEN each ELSE 0 END
    FROM unnest(landmarks) WITH ORDINALITY AS found (each, nth) ORDER BY nth
)
WHERE (array_ndims(landmarks) = 1 AND array_lower(landmarks, 1) = 1
       AND '-1e9'::real <= ALL (landmarks) AND '1e9'::real >= ALL (landmarks)) IS NOT TRUE;
UPDATE face
SET area = ARRAY(
    SELECT greatest(each, CASE WHEN nth > 2 THEN 1 ELSE 0 END)
    FROM unnest(area) WITH ORDINALITY AS found (each, nth) ORDER BY nth
)
WHERE (array_ndims(area) = 1 AND array_lower(area, 1) = 1
       AND 0 <= ALL (area) AND area[3] > 0 AND area[4] > 0) IS NOT TRUE;
UPDATE face SET distance = NULL WHERE NOT distance BETWEEN '-1e9'::real AND '1e9'::real;

-- What service/store/face/quality.py writes, and reads without asking.
CREATE FUNCTION are_quality_facts(facts jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN jsonb_typeof(facts) = 'object' THEN
        facts - '{size,sharpness,brightness,contrast,yaw,roll,reasons}'::text[] = '{}'
        AND coalesce(jsonb_typeof(facts -> 'size') = 'number', false)
        AND coalesce(jsonb_typeof(facts -> 'sharpness') = 'number', false)
        AND coalesce(jsonb_typeof(facts -> 'brightness') = 'number', false)
        AND coalesce(jsonb_typeof(facts -> 'contrast') = 'number', false)
        AND coalesce(jsonb_typeof(facts -> 'yaw') = 'number', false)
        AND coalesce(jsonb_typeof(facts -> 'roll') = 'number', false)
        AND coalesce(jsonb_typeof(facts -> 'reasons') = 'array', false)
    ELSE false END
$$;
UPDATE face SET quality = NULL, quality_facts = NULL
WHERE quality_facts IS NOT NULL AND NOT are_quality_facts(quality_facts);

ALTER TABLE face
    ADD CONSTRAINT face_box_is_finite CHECK (
        (array_ndims(box) = 1 AND array_lower(box, 1) = 1
         AND '-1e9'::real <= ALL (box) AND '1e9'::real >= ALL (box)) IS TRUE
    ),
    ADD CONSTRAINT face_landmarks_are_finite CHECK (
        (array_ndims(landmarks) = 1 AND array_lower(landmarks, 1) = 1
         AND '-1e9'::real <= ALL (landmarks) AND '1e9'::real >= ALL (landmarks)) IS TRUE
    ),
    ADD CONSTRAINT face_area_is_one CHECK (
        (array_ndims(area) = 1 AND array_lower(area, 1) = 1
         AND 0 <= ALL (area) AND area[3] > 0 AND area[4] > 0) IS TRUE
    ),
    ADD CONSTRAINT face_distance_check
        CHECK (distance BETWEEN '-1e9'::real AND '1e9'::real),
    ADD CONSTRAINT face_quality_facts_check
        CHECK (quality_facts IS NULL OR are_quality_facts(quality_facts));

-- A vector without a direction is near to nothing, and its distance to others is no number; pgvector
-- itself refuses NaN and infinity. The face stays, as those do whose model was replaced.
DELETE FROM face_vector WHERE NOT l2_norm(embedding) > 0;
ALTER TABLE face_vector
    ADD CONSTRAINT face_vector_has_direction CHECK (l2_norm(embedding) > 0);
