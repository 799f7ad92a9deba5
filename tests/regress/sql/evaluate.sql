-- Off-policy evaluation: what would another policy have earned on logged decisions?
\set VERBOSITY default
SET timezone = 'UTC';
CREATE EXTENSION decisioning;

-- Any log: a table with the reward, the probability of the logged action, and that under the target policy. With what a reward
-- model says of the logged action and of the target, the direct and the doubly robust estimator too.
CREATE TABLE log AS
SELECT n, 'c-' || n / 2 AS customer, p.propensity, (p.action + x.x) % 4 * 0.1 + 0.1 AS target_probability,
       CASE WHEN (n * n + 3 * p.action + n / 7) % 7 < 2 THEN 1 + x.x ELSE 0 END AS reward,
       0.05 + 0.02 * p.action + 0.03 * x.x AS predicted,
       (SELECT sum(((a + x.x) % 4 * 0.1 + 0.1) * (0.05 + 0.02 * a + 0.03 * x.x)) FROM generate_series(0, 3) AS a) AS expected
FROM generate_series(1, 1987) AS n
CROSS JOIN LATERAL (SELECT n / 10 % 5 AS x) AS x
CROSS JOIN LATERAL (SELECT width_bucket((n * n + n / 3) % 10, ARRAY[1, 3, 6]) AS action) AS a
CROSS JOIN LATERAL (SELECT a.action, 0.1 + 0.1 * a.action AS propensity) AS p;

-- Reference values: OffPolicyEvaluation.estimate_policy_values of obp 0.5.7 on the same rows.
SELECT e.estimator, round(e.value::numeric, 6) AS value, abs(e.value - r.obp) < 1e-9 AS as_obp,
       e.lower < e.value AND e.value < e.upper AND e.bootstrap_lower < e.value AND e.value < e.bootstrap_upper AS inside
FROM decisioning.evaluate_log('log', predicted => 'predicted', expected => 'expected') AS e
JOIN (VALUES ('ips', 0.964603254488), ('snips', 0.859138620149), ('direct', 0.141657775541), ('doubly_robust', 0.953070290220))
     AS r(estimator, obp) USING (estimator);
SELECT estimator, decisions, round(effective_decisions::numeric, 1) AS effective_decisions, largest_weight, round(mean_weight::numeric, 4) AS mean_weight
FROM decisioning.evaluate_log('log', customer_key => 'customer', confidence => 0.9);
-- The bootstrap is seeded: again is the same.
SELECT count(*) AS estimates FROM decisioning.evaluate_log('log', customer_key => 'customer') AS a
JOIN decisioning.evaluate_log('log', customer_key => 'customer') AS b ON a = b;

-- What cannot be valued is refused.
CREATE VIEW impossible AS SELECT reward, 0 AS propensity, target_probability FROM log;
SELECT * FROM decisioning.evaluate_log('impossible');
CREATE VIEW elsewhere AS SELECT reward, propensity, target_probability / 2 AS target_probability FROM log;
SELECT * FROM decisioning.evaluate_log('elsewhere');
CREATE VIEW incomplete AS SELECT nullif(reward, 0) AS reward, propensity, target_probability FROM log;
SELECT * FROM decisioning.evaluate_log('incomplete');
SELECT * FROM decisioning.evaluate_log('log', predicted => 'predicted');
SELECT * FROM decisioning.evaluate_log('log', reward => 'revenue');

-- A campaign's own log. Members like sms, others like e-mail; nobody is bothered, but few come by themselves.
CREATE TABLE customers AS SELECT 'c-' || n AS id, n % 2 = 0 AS member FROM generate_series(1, 6000) AS n;
CREATE TABLE history AS
SELECT 'c-' || n AS id, n % 2 = 0 AS member, h.action, h.propensity, timestamptz '2026-01-01' + n * interval '1 minute' AS at,
       CASE h.action WHEN 'no_send' THEN 0.1 WHEN 'sms' THEN CASE WHEN n % 2 = 0 THEN 0.4 ELSE 0.1 END
                     ELSE CASE WHEN n % 2 = 0 THEN 0.1 ELSE 0.3 END END AS rate,
       abs(hashint4(n + 500000)::bigint) % 1000 / 1000.0 AS luck
FROM generate_series(1, 6000) AS n
CROSS JOIN LATERAL (SELECT abs(hashint4(n)::bigint) % 10 AS die) AS d
CROSS JOIN LATERAL (SELECT CASE WHEN die < 2 THEN 'no_send' WHEN die < 5 THEN 'email' ELSE 'sms' END AS action,
                           CASE WHEN die < 2 THEN 0.2 WHEN die < 5 THEN 0.3 ELSE 0.5 END AS propensity) AS h;
CREATE VIEW visits AS SELECT 'v-' || id AS event, id, at + interval '1 hour' AS at FROM history WHERE luck < rate;
SET decisioning.simulated_now = '2026-02-01';
SELECT decisioning.create_campaign('spring', 'customers', 'id', holdout_share => 0);
UPDATE decisioning.campaigns SET salt = '00000000-0000-4000-8000-000000000001';
SELECT decisioning.add_action('spring', action, channel => action), decisioning.approve_action('spring', action)
FROM (VALUES ('email'), ('sms')) AS a(action);
SELECT decisioning.add_goal('visit'), decisioning.add_campaign_goal('spring', 'visit', attribution_window => '1 day');
SELECT decisioning.add_outcome_source('visit', 'visits', customer_key => 'id', occurred_at => 'at', event_id => 'event');
SELECT decisioning.import_decisions('spring', 'history', customer_key => 'id', action => 'action', decided_at => 'at', propensity => 'propensity',
       filter => 'at < ''2026-01-03''');
SELECT new_decisions FROM decisioning.learn('spring');
SELECT decisioning.import_decisions('spring', 'history', customer_key => 'id', action => 'action', decided_at => 'at', propensity => 'propensity',
       filter => 'at >= ''2026-01-03''');

-- Every estimator finds what the fixed policies would earn; a good policy for members and others earns 0.35.
CREATE VIEW truth AS SELECT * FROM (VALUES ('always no_send', 0.1), ('always email', 0.2), ('always sms', 0.25), ('random', 0.55 / 3)) AS t(policy, rate);
SELECT e.policy, e.estimator, abs(e.value - t.rate) < 0.02 AS near, abs(e.value - t.rate) < 3 * e.standard_error AS within_errors,
       e.lower < e.bootstrap_upper AND e.bootstrap_lower < e.upper AS agree, e.overlap, e.in_sample
FROM decisioning.evaluate_policy('spring', since => '2026-01-03') AS e JOIN truth AS t USING (policy) WHERE e.estimator <> 'direct' ORDER BY 1, 2;
SELECT estimator, decisions, value > 0.3 AS better_than_any_fixed, in_sample
FROM decisioning.evaluate_policy('spring', since => '2026-01-03', policy => 'learned');
SELECT DISTINCT in_sample FROM decisioning.evaluate_policy('spring');
-- The policy that was logged has the mean reward, whatever the weights.
SELECT estimator, abs(value - (SELECT avg((luck < rate)::int) FROM history)) < 1e-9 AS mean FROM decisioning.evaluate_policy('spring', policy => 'logged')
WHERE estimator <> 'direct';
-- A reward model removes noise that the context explains.
SELECT r.standard_error < i.standard_error AS less_noise
FROM decisioning.evaluate_policy('spring', policy => 'learned') AS r, decisioning.evaluate_policy('spring', policy => 'learned') AS i
WHERE r.estimator = 'doubly_robust' AND i.estimator = 'ips';

-- Other rules: one-step changes can be valued, others not.
SELECT round(c.value::numeric, 9) = round(u.value::numeric, 9) AS all_random
FROM decisioning.evaluate_policy('spring', policy => 'learned', changes => '{"propensity_floor": 1}') AS c
JOIN decisioning.evaluate_policy('spring', policy => 'random') AS u USING (estimator);
SELECT DISTINCT policy FROM decisioning.evaluate_policy('spring', changes => '{"paused_actions": ["sms"]}') ORDER BY 1;
SELECT * FROM decisioning.evaluate_policy('spring', changes => '{"cadence": "1 week"}');
SELECT * FROM decisioning.evaluate_policy('spring', changes => '{"frequency_caps": []}');
SELECT * FROM decisioning.evaluate_policy('spring', changes => '{"temperature": 1}');
SELECT * FROM decisioning.evaluate_policy('spring', changes => '{"paused_actions": ["fax"]}');
SELECT * FROM decisioning.evaluate_policy('spring', changes => '{"propensity_floor": 2}');
SELECT * FROM decisioning.evaluate_policy('spring', policy => 'best');

-- An action that the log never had: no overlap, no value.
SELECT decisioning.add_action('spring', 'push', channel => 'push'), decisioning.approve_action('spring', 'push');
SELECT * FROM decisioning.evaluate_policy('spring', policy => 'always push');
SELECT policy, bool_and(value IS NOT NULL) AS valued, min(overlap) AS overlap FROM decisioning.evaluate_policy('spring')
WHERE policy <> 'learned' GROUP BY 1 ORDER BY 1;
SELECT count(*) AS valued FROM decisioning.evaluate_policy('spring', policy => 'learned', changes => '{"paused_actions": ["push"]}') WHERE value > 0;
-- Decisions made here know what else they could have been: the whole vector of propensities is in the log.
SELECT decisioning.start_campaign('spring');
CALL decisioning.decide_all('spring');
SET decisioning.simulated_now = '2026-02-03';
SELECT decisions, policy, value IS NOT NULL AS valued, overlap, effective_decisions > 20 AS some
FROM decisioning.evaluate_policy('spring', since => '2026-02-01') WHERE estimator = 'snips' ORDER BY policy;
SELECT decisioning.add_action('spring', 'letter', channel => 'letter'), decisioning.approve_action('spring', 'letter');
SELECT * FROM decisioning.evaluate_policy('spring', since => '2026-02-01', policy => 'always letter');

-- Cross-fitting: the reward model must not have seen the customer. Eight customers, each known by a feature of their own, always
-- or never respond. A model that knew them would find their mean; what it makes of strangers is far off. The doubly robust
-- estimator does not mind.
CREATE TABLE members AS SELECT 'm-' || n AS id, n = 1 AS a, n = 2 AS b, n = 3 AS c, n = 4 AS d, n = 5 AS e, n = 6 AS f, n = 7 AS g FROM generate_series(1, 8) AS n;
CREATE TABLE letters AS
SELECT 'm-' || n AS id, n = 1 AS a, n = 2 AS b, n = 3 AS c, n = 4 AS d, n = 5 AS e, n = 6 AS f, n = 7 AS g,
       CASE WHEN day % 2 = 0 THEN 'letter' ELSE 'no_send' END AS action, 0.5 AS propensity, timestamptz '2026-01-01' + day * interval '1 hour' AS at
FROM generate_series(1, 8) AS n, generate_series(1, 300) AS day;
CREATE VIEW replies AS SELECT id || at AS event, id, at + interval '1 minute' AS at FROM letters WHERE id IN ('m-1', 'm-3', 'm-5', 'm-7');
SELECT decisioning.create_campaign('letters', 'members', 'id', holdout_share => 0);
UPDATE decisioning.campaigns SET salt = '00000000-0000-4000-8000-000000000001' WHERE campaign = 'letters';
SELECT decisioning.add_action('letters', 'letter', message => 'letter'), decisioning.approve_action('letters', 'letter');
SELECT decisioning.add_goal('reply'), decisioning.add_campaign_goal('letters', 'reply', attribution_window => '30 minutes');
SELECT decisioning.add_outcome_source('reply', 'replies', customer_key => 'id', occurred_at => 'at', event_id => 'event');
SELECT decisioning.import_decisions('letters', 'letters', customer_key => 'id', action => 'action', decided_at => 'at', propensity => 'propensity');
SELECT new_decisions FROM decisioning.learn('letters');
SELECT estimator, abs(value - 0.5) < 0.1 AS near, bootstrap_upper - bootstrap_lower > 5 * (upper - lower) AS drawn_by_customer
FROM decisioning.evaluate_policy('letters', policy => 'logged');
