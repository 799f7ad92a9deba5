"""Operators that somebody made for types of the user's columns are not called."""

import psycopg
import pytest

import shop

TRAPS = {
    "=": "character varying, character varying",
    " =": "oid, regnamespace",
    "*": "numeric, integer",
    "<": "real, integer",
    ">": "real, integer",
    ">=": "public.moment, timestamptz",
    "<=": "public.moment, timestamptz",
}


def test_no_operator_of_somebody_else(db):
    """In PostgreSQL, an operator in public that takes just these types is preferred to one of pg_catalog that takes them by a cast."""
    connection = db.connect()
    connection.execute("CREATE DOMAIN public.moment AS timestamptz")
    shop.create(connection, customers=50)
    for change in (
        "ALTER TABLE public.customers ALTER id TYPE varchar(20), ADD score real DEFAULT 0.5",
        "ALTER TABLE public.orders ALTER at TYPE public.moment, ALTER customer TYPE varchar(20)",
        "CREATE TABLE public.carts (customer varchar(20), at public.moment, agreed boolean)",
        "INSERT INTO public.carts SELECT id, '2026-06-01 09:00+00', true FROM public.customers",
        "INSERT INTO public.orders SELECT 'o-' || id, id, '2026-06-01 09:30+00', 5 FROM public.customers",
        "SELECT decisioning.add_outcome_source('buy', 'public.orders', 'customer', 'at', 'margin', 'id')",
        "SELECT decisioning.add_entry_source('c', 'public.carts', 'customer', 'at', '2 days')",
        "SELECT decisioning.add_consent_source('public.carts', 'customer', 'agreed', campaign => 'c')",
        "SELECT decisioning.add_source('carts', 'public.carts', 'customer', '{\"customer\": \"external_id\"}', changed_at => 'at')",
    ):
        connection.execute(change)
    for name, types in TRAPS.items():
        left, right = types.split(", ")
        connection.execute(
            f"""CREATE OR REPLACE FUNCTION public.trap({types}) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
                CREATE OPERATOR public.{name} (leftarg = {left}, rightarg = {right}, function = public.trap)"""
        )
    with pytest.raises(psycopg.errors.RaiseException, match="trapped"):
        connection.execute("SELECT id = id FROM public.customers")
    for call in (
        "SELECT * FROM decisioning.decide('c-1', 'c')",
        "CALL decisioning.decide_all('c')",
        "CALL decisioning.dispatch_all()",
        "SELECT decisioning.ingest_outcomes()",
        "SELECT decisioning.ingest_outcomes()",
        "SELECT decisioning.maintain()",
        "CALL decisioning.resolve_all()",
        "CALL decisioning.resolve_all()",
        "SELECT decisioning.data_readiness('c')",
        "SELECT decisioning.power_analysis('c')",
        "SELECT decisioning.create_campaign('e', 'public.customers', 'id', offset_column => 'score')",
    ):
        connection.execute(call)
    assert db.sql("SELECT count(*) FROM decisioning.decisions") == [(50,)]
    assert db.sql("SELECT count(*) FROM decisioning.outcomes") == [(50,)]


def test_keys_of_other_types_are_looked_up_by_their_own_equality(db):
    connection = db.connect()
    shop.create(connection, customers=50)
    connection.execute("CREATE SCHEMA types")
    connection.execute("CREATE EXTENSION citext SCHEMA types")
    connection.execute("ALTER TABLE public.customers ALTER id TYPE types.citext")
    connection.execute("SET search_path = public, types")
    assert connection.execute("SELECT (decisioning.decide('C-1', 'c')).customer_id").fetchone()
    connection.execute("SET search_path = pg_catalog")
    connection.execute("SET enable_seqscan = off")
    scans = "SELECT seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE relname = 'customers'"
    with connection.transaction():
        seq_scans, index_scans = connection.execute(scans).fetchone()
        assert connection.execute("SELECT action FROM decisioning.decide('c-2', 'c')").fetchone()[0] is not None
        # By the index, which goes by no other operator.
        assert connection.execute(scans).fetchone() == (seq_scans, index_scans + 1)
