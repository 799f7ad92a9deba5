-- Rights: nothing for PUBLIC. EXECUTE is granted per level by grant_rights; the functions themselves read and write our
-- tables as the owner, so nobody needs rights to write a table.

REVOKE ALL ON ALL TABLES IN SCHEMA decisioning FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA decisioning FROM PUBLIC;
REVOKE ALL ON ALL PROCEDURES IN SCHEMA decisioning FROM PUBLIC;

CREATE FUNCTION decisioning._rights() RETURNS TABLE (level text, functions text[], relations text[])
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    VALUES
    ('reader',
     ARRAY['preview', 'export_configuration', 'fairness', 'explain', 'explain_text', 'explain_document', 'replay', 'check_content', 'check_action', 'brand_context', 'lift', 'report', 'total_lift', 'evaluate_policy', 'calibration', 'action_performance', 'insights', 'evaluate_log', '_now', '_uuid_floor', '_log_share', '_recent_decisions', '_policy_entropy', '_entropy', '_group_finding', '_lost_relations', '_misfits', 'lift_over_time', 'lift_before_exposure', 'group_differences', 'power_analysis', 'data_readiness', 'feature_balance', 'group_balance', '_sample', '_sample_add', '_sample_merge', '_merge_samples', '_sequential_balance', '_coefficient_names',
           '_match_rules', '_blocking_rules', '_normalised', '_is_identifier', 'explain_match', 'export_matching', 'identity_accuracy', 'identity_history', 'review_customers'],
     ARRAY['campaigns', 'actions', 'goals', 'campaign_goals', 'outcome_sources', 'epochs', 'configuration_changes', 'decisions', 'outcomes',
           'open_decisions', 'shadow_decisions', 'assignments', 'budgets', 'budget_status', 'models', 'coefficients', 'calibration', 'action_performance', 'policy_entropy', 'lift', 'lift_daily', 'campaign_health', 'campaign_overview', 'group_balance', 'balance_acknowledgements', 'sources', 'match_rules', 'blocked_values',
           'match_rules_in_effect', 'match_settings', 'match_settings_in_effect', 'match_weights', 'match_weights_in_effect', 'match_factors',
           'blocking_rules', 'blocking_rules_in_effect', 'nicknames', 'identity_links', 'uncertain_pairs', 'normalised_records', 'identity_quality', 'oversized_blocks',
           'eligibility_rules', 'consent_columns', 'consent_sources', 'frequency_caps', 'quiet_hours', 'quiet_hours_presets', 'order_rules',
           'suppressions', 'guardrail_funnel',
           'brand_rules', 'claims', 'action_contents', 'approvals', 'entry_sources', 'stop_rules', 'stop_alerts', 'global_holdout', 'renewals', 'past_assignments', 'fairness_guardrails', 'fairness_alerts', 'forgotten', 'sends', 'delivery_channels', 'delivery_sources', 'delivery_overview',
           'identity_map', 'customer_identifiers', 'identity_events', 'identity_conflicts', 'survivorship_rules', 'golden_records', 'households', 'match_corrections']),
    ('operator',
     ARRAY['decide', 'decide_batch', 'decide_all', '_decide_chunk', '_audience_chunks', '_refuse_transaction_block', 'record_outcome', 'record_outcomes',
           'suppress', 'lift_suppression',
           'dispatch', 'dispatch_all', '_due_campaigns', 'claim_sends', 'release_send', 'record_delivery', 'record_deliveries',
           'resolve_identity'],
     ARRAY[]::text[]),
    ('author',
     ARRAY['brand_context', 'check_content', 'check_action', 'propose_action'],
     ARRAY[]::text[]),
    ('manager',
     ARRAY['export_configuration', 'configure', '_configure',
           'create_campaign', 'start_campaign', 'ramp_control', 'ramp_when_better', 'pause_campaign', 'end_campaign', 'add_action', 'add_action_grid',
           'approve_action', 'pause_action', 'set_budget', 'remove_budget', 'add_goal', 'add_campaign_goal', 'add_outcome_source', 'ingest_outcomes',
           'add_eligibility_rule', 'set_consent_column', 'add_consent_source', 'add_frequency_cap', 'set_quiet_hours', 'add_quiet_hours_preset',
           'add_order_rule', 'set_goal_exit', 'set_send_options', 'set_priority', 'remove_guardrail', 'suppress', 'lift_suppression',
           'set_global_holdout', 'renew_holdout', 'add_stop_rule', 'remove_stop_rule', 'check_stop_rules', 'set_fairness_guardrail', 'remove_fairness_guardrail', 'override_fairness', 'check_fairness', 'estimate_guardrail_costs', 'acknowledge_imbalance', 'set_profiling_consent', 'forget_customer', 'forget_refusals', 'export_customer', 'thin_log', 'add_brand_rule', 'remove_brand_rule', 'add_claim', 'remove_claim', 'set_content', 'set_brand_options', 'propose_action',
           'add_entry_source', 'remove_entry_source', 'set_delivery', 'add_delivery_source', 'remove_delivery_source', 'ingest_deliveries', 'requeue_send',
           'import_decisions', 'learn', 'rebuild_model', 'maintain', 'add_source', 'remove_source', 'add_match_rule', 'block_value', 'unblock_value',
           'resolve_all', 'set_match_setting', 'set_match_weight', 'set_match_factor', 'add_blocking_rule', 'add_nickname', 'preview_blocking',
           'import_matching', 'train_matching', 'add_survivorship_rule', 'remove_survivorship_rule', 'refresh_golden_records', 'confirm_match', 'forbid_match',
           'merge_customers', 'split_customer', 'undo_correction', '_linearisation_point', '_statistics', '_partial', '_merge', '_newton_step'],
     ARRAY[]::text[])
$$;
COMMENT ON FUNCTION decisioning._rights() IS 'Internal: what each level of rights may execute and read.';

CREATE FUNCTION decisioning.grant_rights(role_name name, level text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    granted record;
    routine regprocedure;
    relation text;
BEGIN
    IF role_name IS NULL OR level IS NULL THEN
        RAISE EXCEPTION 'arguments of grant_rights must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    SELECT r.* INTO granted FROM decisioning._rights() r WHERE r.level = grant_rights.level;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unknown level of rights "%"', level
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Levels are reader, operator, author and manager.';
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA decisioning TO %I', role_name);
    FOR routine IN SELECT p.oid::regprocedure FROM pg_proc p
                   WHERE p.pronamespace = 'decisioning'::regnamespace AND p.proname = ANY (granted.functions) LOOP
        EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', routine, role_name);
    END LOOP;
    FOREACH relation IN ARRAY granted.relations LOOP
        EXECUTE format('GRANT SELECT ON decisioning.%I TO %I', relation, role_name);
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION decisioning._rights() FROM PUBLIC;
REVOKE ALL ON FUNCTION decisioning.grant_rights(name, text) FROM PUBLIC;
COMMENT ON FUNCTION decisioning.grant_rights(name, text) IS
'Grants a role one level of rights: reader (views, log, explain, replay, lift), operator (decide, send and record), author (propose actions and check content) or manager (configure and learn). Levels do not include each other; grant several.';

-- Tables without a key can be published, too: rows that go are told by all that they are.
DO $$
DECLARE
    relation pg_catalog.regclass;
BEGIN
    FOR relation IN SELECT c.oid FROM pg_catalog.pg_class c
                    WHERE c.relnamespace = 'decisioning'::pg_catalog.regnamespace AND c.relkind = 'r'
                      AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY FULL', relation);
    END LOOP;
END $$;

-- pg_dump carries only the extension tables and sequences that are registered: all of ours, for all they hold was put there
-- by the user or the engine. Monthly partitions are made at run time and are ordinary tables to it.
DO $$
DECLARE
    relation pg_catalog.regclass;
BEGIN
    FOR relation IN SELECT c.oid FROM pg_catalog.pg_class c
                    WHERE c.relnamespace = 'decisioning'::pg_catalog.regnamespace AND c.relkind IN ('r', 'S') LOOP
        PERFORM pg_catalog.pg_extension_config_dump(relation, '');
    END LOOP;
END $$;
