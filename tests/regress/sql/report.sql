-- The report: everything that is measured, as one page of HTML. How it looks is tested in a browser, by tests/clients/test_report.py.
\set VERBOSITY default
SET timezone = 'UTC';
CREATE EXTENSION decisioning;

CREATE TABLE public.customers (id text PRIMARY KEY, age integer);
INSERT INTO public.customers SELECT 'c-' || n, 20 + n % 50 FROM generate_series(1, 200) n;

-- Without any campaign there is a page, too.
SELECT decisioning.report() LIKE '<!DOCTYPE html>%There is no campaign yet.%</html>' AS empty;

-- A draft has decided nothing, and the page says so and what it leaves out.
SELECT decisioning.create_campaign('<b>winback</b>', 'public.customers', 'id', time_zone => 'Europe/Vienna') IS NOT NULL AS created;
UPDATE decisioning.campaigns SET salt = '00000000-0000-4000-8000-000000000003';
SELECT substring(page FROM '<h1>.*?</h1>') AS heading, page LIKE '%Nothing decided yet.%' AS nothing,
       substring(page FROM 'Left out, because there is nothing to show: [^·<]*') AS missing
FROM decisioning.report('<b>winback</b>') AS page;

-- After a day there is something to see.
SET decisioning.simulated_now = '2026-06-01 10:00+02';
SELECT decisioning.add_action('<b>winback</b>', 'mail', message => '<i>hello</i>', channel => 'email', slot => 'morning');
SELECT decisioning.approve_action('<b>winback</b>', 'mail');
SELECT decisioning.add_goal('order');
SELECT decisioning.add_campaign_goal('<b>winback</b>', 'order', attribution_window => '1 day');
SELECT decisioning.start_campaign('<b>winback</b>');
CALL decisioning.decide_all('<b>winback</b>');
SET decisioning.simulated_now = '2026-06-03 10:00+02';
SELECT page LIKE '%Nothing decided yet.%' AS nothing, page ~ '&lt;i&gt;hello&lt;/i&gt;: ' AS legend, page ~ '<[bi]>' AS run,
       page ~* '<script|<link|url\(|src=' AS needs_something
FROM decisioning.report('<b>winback</b>') AS page;
-- Its charts; those of lift and insights come when enough has happened.
SELECT figure[1] AS figure, figure[2] AS title
FROM regexp_matches(decisioning.report('<b>winback</b>'), '<figure id="([a-z-]+[0-9]*)"><figcaption>([^<]*)</figcaption>', 'g') AS figure
WHERE figure[1] !~ '^(headline|progress|insights)';

-- Whoever names no campaign gets all of them, whose lifts are not added up.
SELECT page LIKE '%&lt;b&gt;winback&lt;/b&gt;%' AS named, page LIKE '%Do not add up the lifts of campaigns.%' AS warned
FROM decisioning.report() AS page;

-- A name that is none is an error that says what to do.
SELECT decisioning.report('winbak');

-- It only reads.
BEGIN READ ONLY;
SELECT decisioning.report('<b>winback</b>') IS NOT NULL AS readable;
COMMIT;

-- Rights: readers may.
CREATE ROLE regress_report_reader;
SET ROLE regress_report_reader;
SELECT decisioning.report('<b>winback</b>');
RESET ROLE;
SELECT decisioning.grant_rights('regress_report_reader', 'reader');
SET ROLE regress_report_reader;
SELECT decisioning.report('<b>winback</b>') IS NOT NULL AS readable;
RESET ROLE;
DROP OWNED BY regress_report_reader;
DROP ROLE regress_report_reader;
