CREATE OR REPLACE TRIGGER tallykeeper_insert AFTER INSERT ON golden.visits REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_visits_insert();

ALTER TABLE ONLY golden.visits ENABLE ALWAYS TRIGGER tallykeeper_insert;

CREATE OR REPLACE TRIGGER tallykeeper_update AFTER UPDATE ON golden.visits REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_visits_update();

ALTER TABLE ONLY golden.visits ENABLE ALWAYS TRIGGER tallykeeper_update;

CREATE OR REPLACE TRIGGER tallykeeper_delete AFTER DELETE ON golden.visits REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_visits_delete();

ALTER TABLE ONLY golden.visits ENABLE ALWAYS TRIGGER tallykeeper_delete;

CREATE OR REPLACE TRIGGER tallykeeper_truncate AFTER TRUNCATE ON golden.visits FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_visits_truncate();

ALTER TABLE ONLY golden.visits ENABLE ALWAYS TRIGGER tallykeeper_truncate;

CREATE OR REPLACE TRIGGER tallykeeper_insert AFTER INSERT ON golden.visits_2026 REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_visits_insert();

ALTER TABLE ONLY golden.visits_2026 ENABLE ALWAYS TRIGGER tallykeeper_insert;

CREATE OR REPLACE TRIGGER tallykeeper_update AFTER UPDATE ON golden.visits_2026 REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_visits_update();

ALTER TABLE ONLY golden.visits_2026 ENABLE ALWAYS TRIGGER tallykeeper_update;

CREATE OR REPLACE TRIGGER tallykeeper_delete AFTER DELETE ON golden.visits_2026 REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_visits_delete();

ALTER TABLE ONLY golden.visits_2026 ENABLE ALWAYS TRIGGER tallykeeper_delete;

CREATE OR REPLACE TRIGGER tallykeeper_truncate AFTER TRUNCATE ON golden.visits_2026 FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_visits_truncate();

ALTER TABLE ONLY golden.visits_2026 ENABLE ALWAYS TRIGGER tallykeeper_truncate;

CREATE OR REPLACE TRIGGER tallykeeper_merge BEFORE INSERT ON golden.visits FOR EACH ROW WHEN (false) EXECUTE FUNCTION tallykeeper.guard_merge();

ALTER TABLE ONLY golden.visits ENABLE ALWAYS TRIGGER tallykeeper_merge;

CREATE OR REPLACE TRIGGER tallykeeper_hand AFTER INSERT OR TRUNCATE OR DELETE OR UPDATE OF page, visits, latest ON partitioned.visit_pages FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_partitioned_visit_pages_hand(0);

ALTER TABLE ONLY partitioned.visit_pages ENABLE ALWAYS TRIGGER tallykeeper_hand;

CREATE OR REPLACE TRIGGER tallykeeper_hand_nested AFTER INSERT OR TRUNCATE OR DELETE OR UPDATE OF page, visits, latest ON partitioned.visit_pages FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_partitioned_visit_pages_hand(1);

ALTER TABLE ONLY partitioned.visit_pages ENABLE ALWAYS TRIGGER tallykeeper_hand_nested;

CREATE OR REPLACE TRIGGER tallykeeper_log AFTER DELETE OR UPDATE OR TRUNCATE ON tallykeeper.partitioned_visit_pages_log FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_partitioned_visit_pages_log(0);

ALTER TABLE ONLY tallykeeper.partitioned_visit_pages_log ENABLE ALWAYS TRIGGER tallykeeper_log;

CREATE OR REPLACE TRIGGER tallykeeper_log_nested AFTER DELETE OR UPDATE OR TRUNCATE ON tallykeeper.partitioned_visit_pages_log FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_partitioned_visit_pages_log(1);

ALTER TABLE ONLY tallykeeper.partitioned_visit_pages_log ENABLE ALWAYS TRIGGER tallykeeper_log_nested;

CREATE OR REPLACE TRIGGER tallykeeper_pruned AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON tallykeeper.partitioned_visit_pages_pruned FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_partitioned_visit_pages_pruned(0);

ALTER TABLE ONLY tallykeeper.partitioned_visit_pages_pruned ENABLE ALWAYS TRIGGER tallykeeper_pruned;

CREATE OR REPLACE TRIGGER tallykeeper_pruned_nested AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON tallykeeper.partitioned_visit_pages_pruned FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_partitioned_visit_pages_pruned(1);

ALTER TABLE ONLY tallykeeper.partitioned_visit_pages_pruned ENABLE ALWAYS TRIGGER tallykeeper_pruned_nested;
