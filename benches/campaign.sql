-- A campaign of 24 actions over customers with twelve features. Variables: customers, how many.
CREATE EXTENSION decisioning;
CREATE TABLE customers AS
SELECT 'c-' || n AS id, n % 90 AS age, n % 7 AS orders, (n % 1000)::float8 AS spend, n % 2 = 0 AS member, n % 3 = 0 AS app,
       n % 365 AS days, n % 11 AS visits, 'city ' || n % 9 AS city, 'tier ' || n % 4 AS tier, 'brand ' || n % 5 AS brand,
       'source ' || n % 6 AS source, n % 13 AS score
FROM generate_series(1, :customers) n;
ALTER TABLE customers ADD PRIMARY KEY (id);
VACUUM ANALYZE customers;
SELECT FROM decisioning.create_campaign('c', 'customers', 'id');
SELECT FROM decisioning.add_action_grid('c', '{"message": ["a", "b", "c"], "offer": ["x", "y"], "channel": ["email", "sms"], "slot": ["morning", "evening"]}');
SELECT FROM (SELECT count(decisioning.approve_action('c', action)) FROM decisioning.actions) a;
SELECT FROM decisioning.add_goal('buy');
SELECT FROM decisioning.add_campaign_goal('c', 'buy');
SELECT FROM decisioning.start_campaign('c');
-- The same columns and indexes as a partition of the log, outside of it.
CREATE TABLE plain (LIKE decisioning.decisions);
ALTER TABLE plain ADD PRIMARY KEY (decision_id);
CREATE INDEX ON plain (customer_id, campaign, decided_at);
