CREATE OR REPLACE TRIGGER tallykeeper_insert_095f8dd8 AFTER INSERT ON golden.sales REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_insert_095f8dd8();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_insert_095f8dd8;

CREATE OR REPLACE TRIGGER tallykeeper_update_095f8dd8 AFTER UPDATE ON golden.sales REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_update_095f8dd8();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_update_095f8dd8;

CREATE OR REPLACE TRIGGER tallykeeper_delete_095f8dd8 AFTER DELETE ON golden.sales REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_delete_095f8dd8();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_delete_095f8dd8;

CREATE OR REPLACE TRIGGER tallykeeper_truncate_095f8dd8 AFTER TRUNCATE ON golden.sales FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_truncate_095f8dd8();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_truncate_095f8dd8;

CREATE OR REPLACE TRIGGER tallykeeper_hand AFTER INSERT OR TRUNCATE OR DELETE OR UPDATE OF day, product, lines, cents ON summed.sales_daily FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_summed_sales_daily_hand(0);

ALTER TABLE ONLY summed.sales_daily ENABLE ALWAYS TRIGGER tallykeeper_hand;

CREATE OR REPLACE TRIGGER tallykeeper_hand_nested AFTER INSERT OR TRUNCATE OR DELETE OR UPDATE OF day, product, lines, cents ON summed.sales_daily FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_summed_sales_daily_hand(1);

ALTER TABLE ONLY summed.sales_daily ENABLE ALWAYS TRIGGER tallykeeper_hand_nested;

CREATE OR REPLACE TRIGGER tallykeeper_log AFTER DELETE OR UPDATE OR TRUNCATE ON tallykeeper.summed_sales_daily_log FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_summed_sales_daily_log(0);

ALTER TABLE ONLY tallykeeper.summed_sales_daily_log ENABLE ALWAYS TRIGGER tallykeeper_log;

CREATE OR REPLACE TRIGGER tallykeeper_log_nested AFTER DELETE OR UPDATE OR TRUNCATE ON tallykeeper.summed_sales_daily_log FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_summed_sales_daily_log(1);

ALTER TABLE ONLY tallykeeper.summed_sales_daily_log ENABLE ALWAYS TRIGGER tallykeeper_log_nested;

CREATE OR REPLACE TRIGGER tallykeeper_pruned AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON tallykeeper.summed_sales_daily_pruned FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_summed_sales_daily_pruned(0);

ALTER TABLE ONLY tallykeeper.summed_sales_daily_pruned ENABLE ALWAYS TRIGGER tallykeeper_pruned;

CREATE OR REPLACE TRIGGER tallykeeper_pruned_nested AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON tallykeeper.summed_sales_daily_pruned FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_summed_sales_daily_pruned(1);

ALTER TABLE ONLY tallykeeper.summed_sales_daily_pruned ENABLE ALWAYS TRIGGER tallykeeper_pruned_nested;
