-- A transaction sees the tenant that it names in facette.tenant_id, and without one nothing.
-- The owner of the tables is not bound by this; the role that the service works as is.

ALTER TABLE tenant ENABLE ROW LEVEL SECURITY;
ALTER TABLE image ENABLE ROW LEVEL SECURITY;
ALTER TABLE cluster ENABLE ROW LEVEL SECURITY;
ALTER TABLE face ENABLE ROW LEVEL SECURITY;
ALTER TABLE review ENABLE ROW LEVEL SECURITY;

-- The setting is read in a subquery, so that it is read once a statement and not once a row.
CREATE POLICY own_tenant ON tenant
    USING (tenant_id = (SELECT current_setting('facette.tenant_id', true)));
CREATE POLICY own_tenant ON image
    USING (tenant_id = (SELECT current_setting('facette.tenant_id', true)));
CREATE POLICY own_tenant ON cluster
    USING (tenant_id = (SELECT current_setting('facette.tenant_id', true)));
CREATE POLICY own_tenant ON face
    USING (tenant_id = (SELECT current_setting('facette.tenant_id', true)));
CREATE POLICY own_tenant ON review
    USING (tenant_id = (SELECT current_setting('facette.tenant_id', true)));
