-- The report: everything that is measured, as one page.

CREATE FUNCTION decisioning.report(campaign text DEFAULT NULL) RETURNS text
LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000000
AS 'MODULE_PATHNAME', 'report_page_wrapper';
COMMENT ON FUNCTION decisioning.report(text) IS
'One self-contained page of HTML about a campaign: lift with interval and verdict, how it came about, health, balance of groups, what learning brings, choices, send times, guardrails, budgets, insights, calibration, identity, and what was changed when. Without a campaign, a line for each of them. It needs no network and no script. Write it to a file: psql -AtXc "select decisioning.report(''winback'')" > report.html';
