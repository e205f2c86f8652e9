-- Which database this is. Its blob store carries the same id, so that a service which is started
-- with another database does not take the photos there for orphans. A copy of the database keeps
-- the id: whoever restores a backup still owns the photos.

CREATE TABLE database_identity (
    only_row        boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    database_id     uuid        NOT NULL DEFAULT gen_random_uuid()
);

INSERT INTO database_identity DEFAULT VALUES;
