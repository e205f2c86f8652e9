-- What people said of doubtful faces moves the limit of a match in their tenant: it admits so many times the
-- share of strangers that it does by the model and the settings.

ALTER TABLE tenant ADD COLUMN match_factor double precision NOT NULL DEFAULT 1
    CHECK (match_factor >= 0.0001 AND match_factor <= 10000);
