-- A service that is told to keep no pixels stores what it found on an image, and no blob.

ALTER TABLE image ALTER COLUMN blob_key DROP NOT NULL;
