-- Mistakes get a clear message and, where there is one, a way out; SQLSTATEs are checked at the end.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION decisioning;
CREATE TABLE public.customers (id bigint PRIMARY KEY, score float8, tags text[], tz text);
INSERT INTO public.customers SELECT n, n, '{}', 'UTC' FROM generate_series(1, 10) n;
CREATE TEMP TABLE passing (id int);
SELECT decisioning.create_campaign(NULL, 'public.customers', 'id');
SELECT decisioning.create_campaign('c', 'public.customers', 'nope');
SELECT decisioning.create_campaign('c', 'public.nope', 'id');
SELECT decisioning.create_campaign('c', 'passing', 'id');
SELECT decisioning.create_campaign('c', 'public.customers', 'tags');
SELECT decisioning.create_campaign('c', 'public.customers', 'id', audience => 'score');
SELECT decisioning.create_campaign('c', 'public.customers', 'id', audience => ' ');
SELECT decisioning.create_campaign('c', 'public.customers', 'id', audience => 'unknown_column > 1');
SELECT decisioning.create_campaign('c', 'public.customers', 'id', audience => 'true); DROP TABLE public.customers; SELECT (true');
SELECT decisioning.create_campaign('c', 'public.customers', 'id', features => '{tags}');
SELECT decisioning.create_campaign('c', 'public.customers', 'id', time_zone => 'Mars/Olympus');
SELECT decisioning.create_campaign('c', 'public.customers', 'id', holdout_share => 1.5);
SELECT decisioning.create_campaign('c', 'public.customers', 'id', holdout_share => 'NaN');
SELECT decisioning.create_campaign('c', 'public.customers', 'id', holdout_share => 0.6, explore_share => 0.6);
SELECT decisioning.create_campaign('c', 'public.customers', 'id', control_share => 0.1);
SELECT decisioning.create_campaign('c', 'public.customers', 'id', time_zone => 'tz');
SELECT decisioning.create_campaign('c', 'public.customers', 'id');

SELECT decisioning.start_campaign('nope');
SELECT decisioning.start_campaign('c');
SELECT * FROM decisioning.decide(1, 'c');
SELECT decisioning.add_action('c', 'empty');
SELECT decisioning.add_action('c', 'mail', channel => 'email');
SELECT decisioning.add_action('c', 'mail', channel => 'email');
SELECT decisioning.add_action('c', 'bad', dimensions => '{"channel": 7}');
SELECT decisioning.add_action('c', 'bad', dimensions => '[1]');
SELECT decisioning.add_action_grid('c', '{"channel": "email"}');
SELECT decisioning.add_action_grid('c', '{"channel": ["email"]}', excluded => '[{"channel": "emial"}]');
SELECT decisioning.approve_action('c', 'nope');
SELECT decisioning.approve_action('c', 'mail');
SELECT decisioning.start_campaign('c');
SELECT decisioning.add_goal('visit', kind => 'click');
SELECT decisioning.add_goal('visit');
SELECT decisioning.add_goal('visit');
SELECT decisioning.add_campaign_goal('c', 'nope');
SELECT decisioning.add_campaign_goal('c', 'visit', attribution_window => '-1 day');
SELECT decisioning.add_campaign_goal('c', 'visit', value => 'NaN');
SELECT decisioning.add_campaign_goal('c', 'visit');
SELECT decisioning.add_campaign_goal('c', 'visit');
SELECT * FROM decisioning.preview('1', 'c');
SELECT * FROM decisioning.learn('c');
SELECT decisioning.start_campaign('c');

SELECT * FROM decisioning.decide(NULL::text, 'c');
SELECT * FROM decisioning.decide(1, 'c', '[]');
SELECT * FROM decisioning.decide(1, 'c', '{"score": "high"}');
SELECT * FROM decisioning.decide('not a number', 'c');
SELECT * FROM decisioning.decide_batch(ARRAY['1', NULL], 'c');
SELECT decisioning.record_outcome('nope', 'e', '1');
SELECT decisioning.record_outcome('visit', NULL, '1');
SELECT decisioning.record_outcome('visit', 'e');
SELECT decisioning.record_outcome('visit', 'e', '1', value => 'NaN');
SELECT decisioning.record_outcome('visit', 'e', '1', value => 'Infinity');
SELECT decisioning.record_outcome('visit', 'e', '1', occurred_at => 'infinity');
SELECT decisioning.record_outcome('visit', 'e', '1', occurred_at => now() + interval '2 days');
SELECT decisioning.record_outcome('visit', 'e', decision_id => '00000000-0000-7000-8000-000000000000');
SELECT decisioning.record_outcomes('visit', '{a,b}', '{1}');
SELECT count(*) AS stored FROM decisioning.outcomes;
SELECT * FROM decisioning.explain('00000000-0000-7000-8000-000000000000');
SELECT decisioning.explain_document('00000000-0000-7000-8000-000000000000');
SELECT decisioning.explain_document(NULL);
SELECT * FROM decisioning.evaluate_policy('c');
SELECT decisioning.add_outcome_source('visit', 'public.customers', customer_key => 'id', occurred_at => 'score', event_id => 'id');
SELECT decisioning.add_outcome_source('visit', 'public.customers', customer_key => 'id', occurred_at => 'score');

-- Plain DML is checked too.
\set VERBOSITY terse
UPDATE decisioning.campaigns SET holdout_share = 2;
\set VERBOSITY default
UPDATE decisioning.actions SET dimensions = '{"channel": "sms"}';
DELETE FROM decisioning.actions;
-- Changed content loses its approval.
UPDATE decisioning.actions SET content = '{"subject": "Hello"}' RETURNING status, approved_by;

-- A customers relation with two rows for one customer.
CREATE VIEW public.twice AS SELECT * FROM public.customers UNION ALL SELECT * FROM public.customers;
SELECT count(*) FROM decisioning.create_campaign('twice', 'public.twice', 'id');
SELECT decisioning.add_action('twice', 'mail', channel => 'email'), decisioning.approve_action('twice', 'mail'), decisioning.add_campaign_goal('twice', 'visit');
SELECT decisioning.start_campaign('twice');
SELECT * FROM decisioning.decide(1, 'twice');

-- What a constraint refuses is told with what it asks for, by whatever way it comes.
SELECT decisioning.create_campaign('', 'public.customers', 'id');
SELECT decisioning.create_campaign('d', 'public.customers', 'id', half_life => '-3 days');
SELECT decisioning.add_action('twice', 'no_send', channel => 'email');
SELECT decisioning.add_goal('');
SELECT decisioning.set_send_options('twice', send_within => '90 days');
SELECT decisioning.set_goal_exit('twice', 'visit', 'cool_down', cool_down => '-1 day');
SELECT decisioning.configure(jsonb_set(decisioning.export_configuration('twice'), '{settings,half_life}', '"-3 days"'));

SELECT decisioning.end_campaign('c');
SELECT * FROM decisioning.decide(1, 'c');
SELECT decisioning.start_campaign('c');
SELECT decisioning.pause_campaign('c');
SELECT decisioning.add_action('c', 'late', channel => 'email');
SELECT decisioning.grant_rights('postgres', 'king');

-- Programs go by SQLSTATE.
CREATE FUNCTION pg_temp.state(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
SELECT statement, pg_temp.state(statement) FROM (VALUES
    ($$SELECT decisioning.start_campaign('nope')$$),
    ($$SELECT decisioning.start_campaign(NULL)$$),
    ($$SELECT decisioning.decide(1, 'c')$$),
    ($$SELECT decisioning.decide(99, 'twice', strict => true)$$),
    ($$SELECT decisioning.decide(1, 'twice')$$),
    ($$SELECT decisioning.add_goal('visit')$$),
    ($$SELECT decisioning.create_campaign('d', 'public.customers', 'nope')$$),
    ($$SELECT decisioning.record_outcome('visit', 'e', '1', value => 'NaN')$$),
    ($$SELECT decisioning.record_outcome('visit', 'e', '1', occurred_at => '2999-01-01')$$),
    ($$SELECT decisioning.add_action_grid('twice', jsonb_build_object('a', (SELECT jsonb_agg(n::text) FROM generate_series(1, 10001) n)))$$)
) AS s(statement);
