"""The report as somebody sees it who opens it: in a browser, without a network, on a telephone, in the dark, on paper."""

import json
import re
import shutil
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import sync_playwright

import shop
import showcase

DASHBOARD = Path(__file__).resolve().parents[2] / "grafana" / "decisioning.json"

SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
HOSTILE = showcase.Names(
    campaign=SCRIPT,
    description=IMAGE,
    goal=IMAGE,
    harm="<b>harm</b>",
    messages=(SCRIPT, IMAGE, "' onmouseover='alert(1)"),
    kinds=(SCRIPT, IMAGE, "&lt;"),
    rule=IMAGE,
)

# Balance, what was captured and the policy (two each), actions and three dimensions, send times, guardrails, budgets and the pace
# of two, calibration. Lift has one for each goal with an interval and each with days; insights, if there are any, have one.
FIGURES = 1 + 2 + 2 + 4 + 1 + 1 + 3 + 1

# What is wrong with a page, as the browser lays it out.
LAYOUT = """() => {
    const letters = [...document.querySelectorAll('svg text')].map(text => {
        const svg = text.ownerSVGElement;
        return parseFloat(getComputedStyle(text).fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    });
    const room = document.documentElement.clientWidth;
    const charts = [...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect());
    return {
        scrolls: document.documentElement.scrollWidth - room,
        smallest: Math.min(...letters), letters: letters.length,
        cut: charts.filter(box => box.left < 0 || box.right > room || box.width < 200).length,
        overlapping: [...document.querySelectorAll('figure svg')].filter(svg => {
            const outer = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].some(text => {
                const box = text.getBoundingClientRect();
                return box.left < outer.left - 1 || box.right > outer.right + 1;
            });
        }).map(svg => svg.querySelector('title').textContent),
    };
}"""


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # Without a Chromium of the system, the one that scripts/setup.sh had playwright install.
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shown(cluster, template):
    """A database with the campaign of hostile names, and the evening of its last day."""
    database = cluster.create_database(template)
    with database.connect() as connection:
        showcase.build(connection, HOSTILE)
        # For readers as well, who may not set it.
        now = connection.execute("SHOW decisioning.simulated_now").fetchone()[0]
        connection.execute(f"ALTER DATABASE {database.name} SET decisioning.simulated_now = '{now}'")
    yield database
    database.close()


@pytest.fixture(scope="module")
def page_file(shown, tmp_path_factory):
    file = tmp_path_factory.mktemp("report") / "report.html"
    with shown.connect() as connection:
        file.write_text(connection.execute("SELECT decisioning.report(%s)", [SCRIPT]).fetchone()[0])
    return file


class Opened:
    """A page that keeps what the browser had to say."""

    def __init__(self, browser, file, width, **options):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        self.page = self.context.new_page()
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_needs_nothing_and_fits(shown, browser, page_file, width, scheme):
    with shown.connect() as connection:
        of_lift, of_insights = connection.execute(
            "SELECT (SELECT count(*) FROM decisioning.lift WHERE lower IS NOT NULL) "
            "+ (SELECT count(DISTINCT (goal, measure)) FROM decisioning.lift_daily), "
            "(SELECT count(*) FROM decisioning.insights(%s) i WHERE i.confirmed)",
            [SCRIPT],
        ).fetchone()
    assert of_lift >= 3
    with Opened(browser, page_file, width, color_scheme=scheme) as opened:
        page = opened.page
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        layout = page.evaluate(LAYOUT)
        assert opened.complaints == []
        assert opened.requests == [page_file.as_uri()]
        assert page.locator("figure > svg[role=img]").count() == page.locator("figure").count()
        assert page.locator("figure").count() == FIGURES + of_lift + min(of_insights, 1)
        assert layout["scrolls"] <= 0
        assert layout["cut"] == 0
        assert layout["overlapping"] == []
        assert layout["letters"] > 150
        if width == 390:
            assert layout["smallest"] >= 9
        paper = page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper)[:3])) > 600) == (scheme == "light")


def test_names_are_shown_as_text(browser, page_file):
    with Opened(browser, page_file, 1280) as opened:
        page = opened.page
        assert page.locator("h1").inner_text() == SCRIPT
        assert page.title().startswith(SCRIPT)
        assert page.locator("script, img, b, [onerror], [onmouseover]").count() == 0
        headings = page.locator("h3").all_inner_texts()
        assert IMAGE in headings and any(text.startswith("<b>harm</b>") for text in headings)
        legends = " ".join(page.locator(".legend").all_inner_texts())
        assert SCRIPT in legends and IMAGE in legends and "' onmouseover='" in legends
        # Names that are too long for a line are clipped.
        assert any(f"eligibility: {IMAGE[:20]}" in text for text in page.locator("#guardrails svg text").all_text_contents())


def test_tables_and_charts_can_be_read_without_seeing_them(browser, page_file):
    with Opened(browser, page_file, 1280) as opened:
        page = opened.page
        assert page.locator("html").get_attribute("lang") == "en"
        for svg in page.locator("figure svg").all():
            named = svg.get_attribute("aria-labelledby").split()
            title, description = (page.locator(f"#{one}").text_content() for one in named)
            assert len(title) > 5 and len(description) > 30
        assert page.locator("th:not([scope])").count() == 0
        assert page.locator("figure table").count() == page.locator("figure").count()
        levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(one => +one.tagName[1])")
        assert levels[0] == 1 and all(after <= before + 1 for before, after in zip(levels, levels[1:]))


def test_paper_is_white_and_complete(browser, page_file):
    with Opened(browser, page_file, 800, color_scheme="dark") as opened:
        opened.page.emulate_media(media="print")
        style = "getComputedStyle(document.querySelector('{}')).{}"
        assert opened.page.evaluate(style.format("body", "backgroundColor")) == "rgb(255, 255, 255)"
        ink = opened.page.evaluate(style.format("h1", "color"))
        assert sum(map(int, re.findall(r"\d+", ink))) < 200
        assert opened.page.evaluate(style.format("nav", "display")) == "none"
        assert opened.page.locator("figure > svg:visible").count() == opened.page.locator("figure").count()
        # Lines that were drawn are there on paper, in the colours of paper.
        assert opened.page.evaluate("getComputedStyle(document.querySelector('svg text')).fill") != "rgb(236, 238, 243)"
        assert len(opened.page.pdf()) > 20_000


def test_changes_are_marked_and_listed(browser, page_file):
    with Opened(browser, page_file, 1280) as opened:
        page = opened.page
        assert "propensity_floor: 0.02 → 0.05" in page.locator("#changes").inner_text()
        marks = page.locator("#progress-0 svg text").all_text_contents()
        assert {"1", "2"} <= {text.strip() for text in marks}


def test_what_is_shown_is_what_the_views_say(shown, browser, page_file):
    with shown.connect() as connection:
        lift, decisions = connection.execute(
            "SELECT (SELECT l.absolute_lift FROM decisioning.lift l WHERE l.campaign = %s AND l.goal = %s), "
            "(SELECT count(*) FROM decisioning.decisions WHERE treatment_group = 'optimise' AND action = 'no_send')",
            [SCRIPT, IMAGE],
        ).fetchone()
        measure = connection.execute("SELECT measure FROM decisioning.lift WHERE goal = %s", [IMAGE]).fetchone()[0]
    shown_lift = f"{100 * lift:+.2f} points" if measure == "conversion rate" else f"{lift:+.2f} EUR"
    with Opened(browser, page_file, 1280) as opened:
        assert opened.page.locator(".big").first.inner_text().replace("−", "-") == shown_lift
        (of_group,), = shown.sql("SELECT count(*) FROM decisioning.decisions WHERE treatment_group = 'optimise'")
        shown_share = re.search(r"no_send: ([0-9.]+) %", opened.page.locator("#shares-1 .legend").inner_text())[1]
        assert float(shown_share) == pytest.approx(100 * decisions / of_group, abs=0.051)


def test_insights_are_kept_by_maintain(shown):
    """It looks for them once a day, and the report shows those it found, with the day."""
    kept = "SELECT jsonb_array_length(insights) FROM decisioning._insights_found WHERE campaign = %s"
    with shown.connect() as connection, connection.transaction(force_rollback=True):
        (confirmed,) = connection.execute("SELECT count(*) FROM decisioning.insights(%s) i WHERE i.confirmed", [SCRIPT]).fetchone()
        assert confirmed > 0
        connection.execute("SELECT decisioning.maintain()")
        assert connection.execute(kept, [SCRIPT]).fetchone() == (confirmed,)
        page = connection.execute("SELECT decisioning.report(%s)", [SCRIPT]).fetchone()[0]
        assert re.search(r"1 is no difference. Found on \d+ \w+ \d{4}\.", page)
        connection.execute("UPDATE decisioning._insights_found SET insights = '[]'")
        connection.execute("SELECT decisioning.maintain()")
        assert connection.execute(kept, [SCRIPT]).fetchone() == (0,)
        assert "Found on" not in connection.execute("SELECT decisioning.report(%s)", [SCRIPT]).fetchone()[0]
        connection.execute("UPDATE decisioning._insights_found SET found_at = found_at - interval '1 day'")
        connection.execute("SELECT decisioning.maintain()")
        assert connection.execute(kept, [SCRIPT]).fetchone() == (confirmed,)


def test_of_a_large_log_a_sample_is_read(db):
    """The log is made larger than 20 000 pages by copies of itself, so that whatever is a share or a rate stays as it is. They are
    mixed: a sample of pages is then one of decisions, whose error is known."""
    with db.connect() as connection:
        showcase.build(connection, HOSTILE)
        whole = "SELECT entropy, effective_actions FROM decisioning.policy_entropy WHERE campaign = %s ORDER BY day"
        exact = connection.execute(whole, [SCRIPT]).fetchall()
        (decisions,) = connection.execute("SELECT count(*) FROM decisioning.decisions WHERE origin = 'live'").fetchone()
        copies = 500_000 // decisions
        connection.execute(
            """INSERT INTO decisioning.decisions
               SELECT (overlay(d.decision_id::text PLACING left(md5(d.customer_id || n), 12) FROM 25 FOR 12))::uuid,
                      d.customer_id || '-' || n, d.campaign, d.treatment_group, d.action, d.action_id, d.propensity, d.reason, d.decided_at,
                      d.expires_at, d.send_at, d.origin, d.ordinal, d.overlap, d.epoch, d.model_version, d.encoder_version, d.candidates,
                      d.propensities, d.encoded, d.context, d.content, d.shadow_action_id, d.shadow_propensities, d.removed
               FROM decisioning.decisions d, generate_series(1, %s) n ORDER BY md5(d.decision_id::text || n)""",
            [copies],
        )
        (share,) = connection.execute("SELECT decisioning._log_share(%s, 20000)", [SCRIPT]).fetchone()
        assert share == pytest.approx(20000 / (decisions * (copies + 1)), rel=0.1)
        assert connection.execute("SELECT decisioning._log_share('nobody', 20000)").fetchone() == (1.0,)
        sampled = connection.execute(
            "SELECT day, entropy, effective_actions, decisions FROM decisioning._policy_entropy(%s, %s) ORDER BY day", [SCRIPT, share]
        ).fetchall()
        assert 10000 < sum(row[3] for row in sampled) < 20000
        # Of some 480 decisions a day, entropy has a standard error of 2 %, and the number of effective actions one of 4 %.
        for column in [0, 1]:
            ratios = [row[1 + column] / whole[column] for row, whole in zip(sampled, exact, strict=True)]
            assert ratios == pytest.approx([1] * len(ratios), abs=0.25)
            assert sum(ratios) / len(ratios) == pytest.approx(1, abs=0.04)
        page = connection.execute("SELECT decisioning.report(%s)", [SCRIPT]).fetchone()[0]
        shown = re.search(r"<dt>Decisions</dt><dd>about ([0-9 ,\u202f\u00a0]+)</dd>", page)[1]
        assert int(re.sub(r"\D", "", shown)) == pytest.approx(decisions * (copies + 1), rel=0.1)
        assert "The log is large." in page


def test_readers_read_it_and_nothing_is_written(shown):
    role = shown.create_role("report_reader")
    with shown.connect() as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            shown.connect(role=role).execute("SELECT decisioning.report(%s)", [SCRIPT])
        connection.execute("SELECT decisioning.grant_rights(%s, 'reader')", [role])
    with shown.connect(role=role) as reader:
        reader.execute("SET default_transaction_read_only = on")
        assert "<h1>" in reader.execute("SELECT decisioning.report(%s)", [SCRIPT]).fetchone()[0]
        overview = reader.execute("SELECT decisioning.report()").fetchone()[0]
        assert "Do not add up the lifts" in overview and "&lt;script&gt;" in overview and SCRIPT not in overview


def test_drafts_and_unknown_campaigns(db, browser, tmp_path):
    connection = shop.session(db)
    assert "There is no campaign yet" in connection.execute("SELECT decisioning.report(NULL)").fetchone()[0]
    connection.execute("CREATE TABLE public.customers (id text PRIMARY KEY, age integer)")
    connection.execute("SELECT decisioning.create_campaign('draft', 'public.customers', 'id')")
    file = tmp_path / "draft.html"
    file.write_text(connection.execute("SELECT decisioning.report('draft')").fetchone()[0])
    with Opened(browser, file, 390) as opened:
        assert "Nothing decided yet" in opened.page.locator("main").inner_text()
        assert opened.page.evaluate(LAYOUT)["scrolls"] <= 0
        assert opened.complaints == []
    with pytest.raises(psycopg.errors.UndefinedObject) as error:
        connection.execute("SELECT decisioning.report('nobody')")
    assert error.value.diag.message_hint
    assert "draft" in connection.execute("SELECT decisioning.report()").fetchone()[0]


def dashboard_queries():
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["rawSql"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["target"]["rawSql"]


def test_the_dashboard_of_grafana_runs(shown):
    role = shown.create_role("grafana_reader")
    with shown.connect() as connection:
        connection.execute("SELECT decisioning.grant_rights(%s, 'reader')", [role])
    variables = {one["name"]: one for one in json.loads(DASHBOARD.read_text())["templating"]["list"]}
    with shown.connect(role=role) as reader:
        assert (SCRIPT,) in reader.execute(variables["campaign"]["query"]).fetchall()
        queries = list(dashboard_queries())
        assert len(queries) >= 9
        for title, query in queries:
            query = query.replace("${campaign:sqlstring}", "'" + SCRIPT + "'")
            query = re.sub(r"\$__timeFilter\(([^()]+)\)", r"\1 BETWEEN '2026-05-01Z' AND '2027-07-01Z'", query)
            assert "$" not in query, title
            cursor = reader.execute(query)
            assert cursor.fetchall(), f"{title}: nothing"
            if "time series" in title.lower():
                assert "time" in [column.name for column in cursor.description]
