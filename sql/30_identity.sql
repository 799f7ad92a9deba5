CREATE TABLE decisioning._customer_alias (alias text PRIMARY KEY, customer_id text NOT NULL);
