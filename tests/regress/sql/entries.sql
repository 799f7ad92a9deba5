-- Campaigns that are triggered by events: due at once, stale after a while, and one decision per event.
\set VERBOSITY default
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE TABLE public.customers AS SELECT 'c-' || n AS customer_id, n % 2 AS segment FROM generate_series(1, 6) AS n;
CREATE TABLE public.carts (customer text, left_at timestamptz, worth numeric);
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-03 10:00+00';
SELECT left(decisioning.create_campaign('cart', 'public.customers', 'customer_id', audience => 'customer_id <> ''c-6'''), 16);
SELECT decisioning.add_action('cart', 'reminder', channel => 'email');
SELECT decisioning.approve_action('cart', 'reminder');
SELECT decisioning.add_goal('purchase');
SELECT decisioning.add_campaign_goal('cart', 'purchase');
UPDATE decisioning.campaigns SET holdout_share = 0, explore_share = 0, control_share = 1, control_action = 'reminder', offer_consistency = NULL;
SELECT decisioning.add_entry_source('cart', 'public.carts', 'customer', 'worth', '2 hours');
SELECT decisioning.add_entry_source('cart', 'public.carts', 'customer', 'left_at', '-2 hours');
SELECT decisioning.add_entry_source('cart', 'public.carts', 'customer', 'left_at', '2 hours', filter => 'worth >');
SELECT decisioning.add_entry_source('cart', 'public.carts', 'customer', 'left_at', '2 hours', filter => 'worth >= 20', entry_source => 'carts');
SELECT decisioning.add_entry_source('cart', 'public.carts', 'customer', 'left_at', '2 hours', entry_source => 'carts');
SELECT decisioning.start_campaign('cart');

-- Nobody has left a cart: nobody is due. One is too old, one worth too little, one is of somebody outside of the audience.
SELECT action, reason FROM decisioning.decide('c-1', 'cart');
SELECT * FROM decisioning.decide('c-1', 'cart', strict => true);
INSERT INTO public.carts VALUES ('c-1', '2026-06-03 09:30+00', 40), ('c-2', '2026-06-03 07:30+00', 40), ('c-3', '2026-06-03 09:30+00', 10),
                                ('c-4', '2026-06-03 09:00+00', 30), ('c-6', '2026-06-03 09:30+00', 40), (NULL, '2026-06-03 09:30+00', 40);
SELECT customer_id, action, reason, expires_at FROM decisioning.decide_batch('{c-1,c-2,c-3,c-6}', 'cart');
SELECT action, removed_by FROM decisioning.preview('c-2', 'cart');
SELECT action, candidate, removed_by FROM decisioning.preview('c-4', 'cart');
CALL decisioning.decide_all('cart');
SELECT customer_id, action, expires_at FROM decisioning.decisions ORDER BY decided_at, customer_id;
SELECT customer_id FROM decisioning.assignments ORDER BY 1;
-- The same event decides nothing twice; a further one does when the decision is stale, on the same day, too.
SELECT action, expires_at FROM decisioning.decide('c-1', 'cart');
INSERT INTO public.carts VALUES ('c-1', '2026-06-03 10:20+00', 25);
SET decisioning.simulated_now = '2026-06-03 10:30+00';
SELECT action, expires_at FROM decisioning.decide('c-1', 'cart');
SELECT action, reason FROM decisioning.decide('c-4', 'cart');
SET decisioning.simulated_now = '2026-06-03 11:31+00';
SELECT action, expires_at FROM decisioning.decide('c-1', 'cart');
SELECT action, reason FROM decisioning.decide('c-4', 'cart');
SELECT ordinal, entered_at FROM decisioning._assignment WHERE customer_id = 'c-1';
-- A send that nobody dispatched before its event went stale has expired.
INSERT INTO public.carts VALUES ('c-5', '2026-06-03 11:00+00', 25);
CALL decisioning.decide_all('cart');
SELECT * FROM decisioning.dispatch('cart');
SELECT customer_id, send_at, expires_at, status, reason FROM decisioning.sends ORDER BY customer_id, send_at;
INSERT INTO public.carts VALUES ('c-2', '2026-06-03 11:20+00', 25);
SELECT action, expires_at FROM decisioning.decide('c-2', 'cart');
SET decisioning.simulated_now = '2026-06-03 13:20+00';
SELECT * FROM decisioning.dispatch('cart');
SELECT customer_id, status, reason FROM decisioning.sends WHERE customer_id = 'c-2';
-- Without a source it is about everybody again.
SELECT decisioning.remove_entry_source('cart', 'carts');
SELECT decisioning.remove_entry_source('cart', 'carts');
SELECT action, expires_at FROM decisioning.decide('c-3', 'cart');
SELECT relation, operation, coalesce(after, before) ->> 'valid_for' AS valid_for FROM decisioning.epochs WHERE relation = 'entry_sources' ORDER BY epoch;
