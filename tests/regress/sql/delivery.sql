-- Delivery: what is due is looked at again and queued; workers claim it, or a tool syncs it; senders say what became of it.
\set VERBOSITY default
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE TABLE public.customers AS
SELECT 'c-' || n AS customer_id, n AS number, n <> 2 AS opt_in, true AS active, 20.0 AS spend FROM generate_series(1, 20) AS n;
CREATE EXTENSION decisioning;
SET decisioning.simulated_now = '2026-06-03 10:00+00';
SELECT left(decisioning.create_campaign('winback', 'public.customers', 'customer_id', audience => 'active', features => '{spend}'), 20);
SELECT decisioning.add_action('winback', 'mail', message => 'hello', channel => 'email', content => '{"subject": "Hello"}', cost_send => 1);
SELECT decisioning.add_action('winback', 'late_mail', message => 'again', channel => 'email', slot => 'evening');
SELECT decisioning.add_action('winback', 'text', message => 'hello', channel => 'sms');
SELECT decisioning.approve_action('winback', action) FROM decisioning.actions ORDER BY action_id;
SELECT decisioning.add_goal('purchase');
SELECT decisioning.add_campaign_goal('winback', 'purchase');
SELECT decisioning.set_goal_exit('winback', 'purchase');
SELECT decisioning.set_consent_column('winback', 'opt_in');
SELECT decisioning.add_frequency_cap(1, 'day', 'winback');
SELECT decisioning.set_budget('winback', 30, 'day');
-- Everybody is sent the same, so that what differs is what happens afterwards.
UPDATE decisioning.campaigns SET holdout_share = 0, explore_share = 0, control_share = 1, control_action = 'mail', offer_consistency = NULL,
       salt = '00000000-0000-4000-8000-000000000001';
SELECT decisioning.start_campaign('winback');
CREATE VIEW public.sent AS
SELECT customer_id, action, channel, send_at, delivery, status, reason FROM decisioning.sends ORDER BY substr(customer_id, 3)::int, send_at;

-- What is not meant is refused.
SELECT * FROM decisioning.dispatch('nothing');
SELECT * FROM decisioning.dispatch(batch_size => 0);
SELECT * FROM decisioning.claim_sends('email', lease => '0');
SELECT decisioning.set_delivery('email', 'pigeon');
SELECT decisioning.record_delivery('019e8000-0000-7000-8000-000000000000', 'sent');
SELECT decisioning.record_delivery('019e8000-0000-7000-8000-000000000000', 'opened');
SELECT decisioning.record_delivery('019e8000-0000-7000-8000-000000000000', 'sent', '2027-01-01');
SELECT decisioning.record_deliveries('{019e8000-0000-7000-8000-000000000000}', '{sent,sent}');
SELECT decisioning.release_send('019e8000-0000-7000-8000-000000000000');

-- Between the decision and its dispatch consent was withdrawn, somebody was suppressed, left, or bought. c-2 never consented.
SELECT count(*) AS decided FROM decisioning.decide_batch(ARRAY(SELECT 'c-' || n FROM generate_series(1, 8) AS n), 'winback') WHERE action = 'mail';
UPDATE public.customers SET opt_in = false WHERE customer_id = 'c-3';
SELECT decisioning.suppress('c-4');
UPDATE public.customers SET active = false WHERE customer_id = 'c-5';
SELECT decisioning.record_outcome('purchase', 'o-6', 'c-6');
SELECT * FROM decisioning.dispatch('winback');
SELECT * FROM public.sent;
-- Dispatched once, whatever comes; and the cap does not count what was cancelled.
SELECT * FROM decisioning.dispatch('winback');
SELECT customer_id FROM decisioning._assignment WHERE contact_decisions IS NOT NULL ORDER BY 1;
SELECT budget, reserved FROM decisioning.budget_status;
-- Queued sends of who is suppressed now are cancelled at once.
SELECT decisioning.suppress('c-8', channel => 'email', reason => 'asked on the phone');
SELECT * FROM public.sent WHERE customer_id = 'c-8';

-- An action that is not approved any more is not sent, nor is content that is not what was decided on.
SELECT count(*) FROM decisioning.decide_batch('{c-9,c-10}', 'winback');
SELECT decisioning.pause_action('winback', 'mail');
SELECT * FROM decisioning.dispatch('winback');
UPDATE decisioning.actions SET content = '{"subject": "Hello!"}' WHERE action = 'mail';
SELECT decisioning.approve_action('winback', 'mail');
SELECT count(*) FROM decisioning.decide_batch('{c-11}', 'winback');
UPDATE decisioning.actions SET content = '{"subject": "Hi"}' WHERE action = 'mail';
SELECT decisioning.approve_action('winback', 'mail');
SELECT * FROM decisioning.dispatch('winback');
SELECT customer_id, status, reason FROM public.sent WHERE reason = 'not approved';

-- A budget that was cut pays for what it can. A campaign that is paused waits, and one in preview does nothing.
SELECT count(*) FROM decisioning.decide_batch('{c-12,c-13,c-14,c-15}', 'winback');
SELECT decisioning.set_budget('winback', 4, 'day');
SELECT decisioning.pause_campaign('winback');
SELECT * FROM decisioning.dispatch('winback');
SELECT decisioning.start_campaign('winback');
SET decisioning.mode = 'preview';
SET client_min_messages = notice;
SELECT * FROM decisioning.dispatch('winback');
SELECT * FROM decisioning.claim_sends('email');
SET client_min_messages = warning;
RESET decisioning.mode;
SELECT * FROM decisioning.dispatch('winback');
SELECT status, reason, count(*) FROM public.sent WHERE customer_id IN ('c-12', 'c-13', 'c-14', 'c-15') GROUP BY 1, 2 ORDER BY 1;
SELECT decisioning.remove_budget('winback', budget) FROM decisioning.budgets;

-- What has its moment later is dispatched then; later still, it has expired. Quiet hours that begin meanwhile put it off.
UPDATE decisioning.campaigns SET control_action = 'late_mail';
SELECT action, send_at, expires_at FROM decisioning.decide('c-16', 'winback');
SELECT action, send_at FROM decisioning.decide('c-17', 'winback');
SELECT * FROM decisioning.dispatch('winback');
SET decisioning.simulated_now = '2026-06-03 18:10+00';
SELECT decisioning.set_send_options('winback', fallback_time_zone => 'Europe/London', send_within => '1 hour');
SELECT decisioning.set_quiet_hours('18:00', '20:00', 'winback');
SELECT * FROM decisioning.dispatch('winback');
SELECT s.contact_times FROM decisioning._assignment s WHERE s.customer_id = 'c-16';
SET decisioning.simulated_now = '2026-06-03 19:30+00';
UPDATE public.customers SET opt_in = false WHERE customer_id = 'c-17';
SELECT * FROM decisioning.dispatch('winback');
SELECT decisioning.remove_guardrail('quiet_hours', rule, 'winback') FROM decisioning.quiet_hours;
SELECT decisioning.set_send_options('winback', send_within => '6 hours');
SET decisioning.simulated_now = '2026-06-04 10:00+00';
SELECT action, send_at FROM decisioning.decide('c-16', 'winback');
SET decisioning.simulated_now = '2026-06-05 01:00+00';
SELECT * FROM decisioning.dispatch('winback');
SELECT * FROM public.sent WHERE customer_id IN ('c-16', 'c-17');

-- Workers claim: each send goes to one of them, with everything looked at once more.
SET decisioning.simulated_now = '2026-06-08 10:00+00';
UPDATE decisioning.campaigns SET control_action = 'text';
UPDATE public.customers SET opt_in = true, active = true;
SELECT decisioning.set_delivery('sms', 'claimed');
SELECT count(*) FROM decisioning.decide_batch('{c-1,c-2,c-7,c-9,c-10}', 'winback');
SELECT * FROM decisioning.dispatch('winback');
UPDATE public.customers SET opt_in = false WHERE customer_id = 'c-7';
SELECT customer_id, action, channel, claimed_until FROM decisioning.claim_sends('email', worker => 'w1');
SELECT customer_id, action, channel, claimed_until FROM decisioning.claim_sends('sms', worker => 'w1', batch_size => 2) ORDER BY 1;
SELECT customer_id, action, channel FROM decisioning.claim_sends('sms', worker => 'w2') ORDER BY 1;
SELECT customer_id, action, channel FROM decisioning.claim_sends(worker => 'w2');
SELECT customer_id, status, reason, claimed_by IS NOT NULL AS claimed FROM decisioning.sends WHERE channel = 'sms' ORDER BY 1;
-- One was certainly not made and goes back; one is delivered; of the others nobody knows when the lease ends.
SELECT decisioning.release_send(decision_id) FROM decisioning.sends WHERE customer_id = 'c-1' AND channel = 'sms';
SELECT decisioning.record_delivery(decision_id, 'delivered') FROM decisioning.sends WHERE customer_id = 'c-2' AND channel = 'sms';
SET decisioning.simulated_now = '2026-06-08 10:06+00';
SELECT customer_id FROM decisioning.claim_sends('sms', worker => 'w3');
SELECT customer_id, status, reason FROM decisioning.sends WHERE channel = 'sms' ORDER BY 1;
SELECT decisioning.requeue_send(decision_id) FROM decisioning.sends WHERE customer_id IN ('c-2', 'c-9') AND channel = 'sms' ORDER BY customer_id DESC;
SELECT decisioning.requeue_send(decision_id) FROM decisioning.sends WHERE customer_id = 'c-9' AND channel = 'sms';
SELECT customer_id FROM decisioning.claim_sends('sms', worker => 'w3');

-- What senders say: in any order, as often as they like. A send that failed leaves caps, one that was tried again comes back.
SELECT s.decision_id AS one FROM decisioning.sends s WHERE customer_id = 'c-9' AND channel = 'sms' \gset
SELECT decisioning.record_delivery(:'one', 'failed', '2026-06-08 10:07+00', 'timeout');
SELECT contact_decisions IS NULL AS uncounted FROM decisioning._assignment WHERE customer_id = 'c-9';
SELECT decisioning.record_delivery(:'one', 'sent', '2026-06-08 10:06:30+00');
SELECT decisioning.record_delivery(:'one', 'sent', '2026-06-08 10:08+00');
SELECT cardinality(contact_decisions) AS counted FROM decisioning._assignment WHERE customer_id = 'c-9';
SELECT decisioning.record_deliveries(ARRAY[:'one', :'one']::uuid[], '{delivered,sent}', '{2026-06-08 10:09+00,2026-06-08 10:10+00}');
SELECT status, occurred_at FROM decisioning.sends WHERE decision_id = :'one';
SELECT decisioning.record_delivery(:'one', 'bounced', reason => 'number is not assigned');
SELECT customer_id, channel, reason FROM decisioning.suppressions ORDER BY suppressed_at;

-- explain tells of it, as rows, as a text, and as a document.
SELECT subject, explanation FROM decisioning.explain(:'one') WHERE subject IN ('send', 'candidates');
SELECT decisioning.explain_text(:'one');
SELECT decisioning.explain_document(:'one') - 'decision_id' - 'steps' - 'epoch';

-- Read in place from the table of a sender, in his words.
CREATE TABLE public.events (decision text, what text, at timestamp, why text);
INSERT INTO public.events
SELECT decision_id::text, 'hard_bounce', '2026-06-03 11:00', 'no such box' FROM decisioning.sends WHERE customer_id = 'c-1' AND channel = 'email';
INSERT INTO public.events
SELECT decision_id::text, 'delivered', '2026-06-03 11:00', NULL FROM decisioning.sends WHERE customer_id = 'c-7' AND channel = 'email';
INSERT INTO public.events VALUES ('of somebody else', 'delivered', '2026-06-03 11:00', NULL),
                                 ('019e8000-0000-7000-8000-000000000000', 'delivered', '2026-06-03 11:00', NULL);
INSERT INTO public.events SELECT decision, 'opened', '2026-06-03 12:00', NULL FROM public.events WHERE what = 'delivered' AND length(decision) = 36;
SELECT decisioning.add_delivery_source('public.events', 'decision', 'what', 'why');
SELECT decisioning.add_delivery_source('public.events', 'decision', 'what', 'at', statuses => '{"hard_bounce": "lost"}');
SELECT decisioning.add_delivery_source('public.events', 'decision', 'what', 'at', 'why', '{"hard_bounce": "bounced"}', delivery_source => 'mailer');
SELECT decisioning.add_delivery_source('public.events', 'decision', 'what', 'at', delivery_source => 'mailer');
SELECT * FROM decisioning.ingest_deliveries();
SELECT * FROM decisioning.ingest_deliveries();
SELECT customer_id, status, reason FROM public.sent WHERE customer_id IN ('c-1', 'c-7') AND channel = 'email';
SELECT customer_id, channel, reason FROM decisioning.suppressions WHERE customer_id = 'c-1';
SELECT decisioning.remove_delivery_source('mailer');
SELECT decisioning.remove_delivery_source('mailer');

-- Nobody said a word for three days: taken for sent. Times of changes ascend.
SELECT status, count(*) FROM decisioning.sends GROUP BY 1 ORDER BY 1;
SET decisioning.simulated_now = '2026-06-12 10:00+00';
SELECT new_decisions > 0 AS learned FROM decisioning.learn('winback');
SELECT status, count(*) FROM decisioning.sends GROUP BY 1 ORDER BY 1;
SELECT campaign, dispatched_on, channel, status, reason, sends FROM decisioning.delivery_overview WHERE dispatched_on = '2026-06-08' ORDER BY channel, status, reason;
SELECT relation, operation, after ->> 'channel' AS channel, after ->> 'delivery' AS delivery FROM decisioning.epochs WHERE relation LIKE 'delivery%' ORDER BY epoch;
SELECT relation, operation, changes FROM decisioning.configuration_changes WHERE changes ?| '{send_within, amount}' AND operation = 'UPDATE' ORDER BY epoch;

-- A campaign whose customers are gone does not keep others from sending.
SELECT action FROM decisioning.decide('c-20', 'winback');
CREATE TABLE public.guests AS SELECT 'g-1' AS guest;
SELECT left(decisioning.create_campaign('guests', 'public.guests', 'guest'), 17);
SELECT decisioning.add_action('guests', 'card', channel => 'post');
SELECT decisioning.approve_action('guests', 'card');
SELECT decisioning.add_campaign_goal('guests', 'purchase');
UPDATE decisioning.campaigns SET holdout_share = 0, explore_share = 0, control_share = 1, control_action = 'card' WHERE campaign = 'guests';
SELECT decisioning.start_campaign('guests');
SELECT action FROM decisioning.decide('g-1', 'guests');
SELECT decisioning.set_delivery('*', 'claimed');
SELECT decisioning.decide('g-1', 'guests') IS NOT NULL, decisioning.decide('c-19', 'winback') IS NOT NULL;
ALTER TABLE public.guests RENAME TO gone;
CALL decisioning.dispatch_all('guests');
CALL decisioning.dispatch_all();
SELECT campaign, status FROM decisioning.sends WHERE customer_id IN ('c-20', 'g-1');
ALTER TABLE public.gone RENAME TO guests;
CALL decisioning.dispatch_all('guests');
DROP TABLE public.guests;
SELECT campaign, customer_id FROM decisioning.claim_sends() ORDER BY 1, 2;
SELECT campaign FROM decisioning.claim_sends(campaign => 'guests');
SELECT decisioning.end_campaign('guests');
SELECT campaign FROM decisioning.claim_sends();
SELECT campaign, status, reason FROM decisioning.sends WHERE customer_id = 'g-1';
SELECT decisioning.set_delivery('*', 'synced');

-- Decisions that were carried out by other means are not dispatched late, and feedback about them is welcome.
SELECT left(decisioning.create_campaign('other', 'public.customers', 'customer_id', features => '{spend}'), 18);
SELECT decisioning.add_action('other', 'push', channel => 'push');
SELECT decisioning.approve_action('other', 'push');
SELECT decisioning.add_campaign_goal('other', 'purchase');
UPDATE decisioning.campaigns SET holdout_share = 0, explore_share = 0, control_share = 1, control_action = 'push',
       salt = '00000000-0000-4000-8000-000000000002' WHERE campaign = 'other';
SELECT decisioning.start_campaign('other');
SELECT count(*) FROM decisioning.decide_batch('{c-18,c-19}', 'other');
SELECT decisioning.record_delivery(decision_id, 'delivered') FROM decisioning.open_decisions WHERE campaign = 'other' AND customer_id = 'c-18';
SELECT count(*) AS waiting FROM decisioning._outbox;
DELETE FROM decisioning.sends WHERE campaign = 'other';
SET decisioning.simulated_now = '2026-06-20 10:00+00';
SELECT * FROM decisioning.dispatch('other');
SELECT count(*) AS waiting FROM decisioning._outbox;
