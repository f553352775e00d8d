CREATE OR REPLACE TRIGGER tallykeeper_insert AFTER INSERT ON golden.sales REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_insert();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_insert;

CREATE OR REPLACE TRIGGER tallykeeper_update AFTER UPDATE ON golden.sales REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_update();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_update;

CREATE OR REPLACE TRIGGER tallykeeper_delete AFTER DELETE ON golden.sales REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_delete();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_delete;

CREATE OR REPLACE TRIGGER tallykeeper_truncate AFTER TRUNCATE ON golden.sales FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_truncate();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_truncate;

CREATE OR REPLACE TRIGGER tallykeeper_hand AFTER INSERT OR TRUNCATE OR DELETE OR UPDATE OF day, customers ON golden.customers_daily FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_golden_customers_daily_hand(0);

ALTER TABLE ONLY golden.customers_daily ENABLE ALWAYS TRIGGER tallykeeper_hand;

CREATE OR REPLACE TRIGGER tallykeeper_hand_nested AFTER INSERT OR TRUNCATE OR DELETE OR UPDATE OF day, customers ON golden.customers_daily FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_golden_customers_daily_hand(1);

ALTER TABLE ONLY golden.customers_daily ENABLE ALWAYS TRIGGER tallykeeper_hand_nested;

CREATE OR REPLACE TRIGGER tallykeeper_log AFTER DELETE OR UPDATE OR TRUNCATE ON tallykeeper.recomputed_customers_daily_log FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_golden_customers_daily_log(0);

ALTER TABLE ONLY tallykeeper.recomputed_customers_daily_log ENABLE ALWAYS TRIGGER tallykeeper_log;

CREATE OR REPLACE TRIGGER tallykeeper_log_nested AFTER DELETE OR UPDATE OR TRUNCATE ON tallykeeper.recomputed_customers_daily_log FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_golden_customers_daily_log(1);

ALTER TABLE ONLY tallykeeper.recomputed_customers_daily_log ENABLE ALWAYS TRIGGER tallykeeper_log_nested;

CREATE OR REPLACE TRIGGER tallykeeper_pruned AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON tallykeeper.recomputed_customers_daily_pruned FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_golden_customers_daily_pruned(0);

ALTER TABLE ONLY tallykeeper.recomputed_customers_daily_pruned ENABLE ALWAYS TRIGGER tallykeeper_pruned;

CREATE OR REPLACE TRIGGER tallykeeper_pruned_nested AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON tallykeeper.recomputed_customers_daily_pruned FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_golden_customers_daily_pruned(1);

ALTER TABLE ONLY tallykeeper.recomputed_customers_daily_pruned ENABLE ALWAYS TRIGGER tallykeeper_pruned_nested;
