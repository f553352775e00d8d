CREATE OR REPLACE TRIGGER tallykeeper_insert_07060396 AFTER INSERT ON golden.sales REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_insert_07060396();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_insert_07060396;

CREATE OR REPLACE TRIGGER tallykeeper_update_07060396 AFTER UPDATE ON golden.sales REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_update_07060396();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_update_07060396;

CREATE OR REPLACE TRIGGER tallykeeper_delete_07060396 AFTER DELETE ON golden.sales REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_delete_07060396();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_delete_07060396;

CREATE OR REPLACE TRIGGER tallykeeper_truncate_07060396 AFTER TRUNCATE ON golden.sales FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_truncate_07060396();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_truncate_07060396;

CREATE OR REPLACE TRIGGER tallykeeper_hand AFTER INSERT OR TRUNCATE OR DELETE OR UPDATE OF product, "least", most ON grouped.sale_extremes FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_grouped_sale_extremes_hand(0);

ALTER TABLE ONLY grouped.sale_extremes ENABLE ALWAYS TRIGGER tallykeeper_hand;

CREATE OR REPLACE TRIGGER tallykeeper_hand_nested AFTER INSERT OR TRUNCATE OR DELETE OR UPDATE OF product, "least", most ON grouped.sale_extremes FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_grouped_sale_extremes_hand(1);

ALTER TABLE ONLY grouped.sale_extremes ENABLE ALWAYS TRIGGER tallykeeper_hand_nested;

CREATE OR REPLACE TRIGGER tallykeeper_log AFTER DELETE OR UPDATE OR TRUNCATE ON tallykeeper.grouped_sale_extremes_log FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_grouped_sale_extremes_log(0);

ALTER TABLE ONLY tallykeeper.grouped_sale_extremes_log ENABLE ALWAYS TRIGGER tallykeeper_log;

CREATE OR REPLACE TRIGGER tallykeeper_log_nested AFTER DELETE OR UPDATE OR TRUNCATE ON tallykeeper.grouped_sale_extremes_log FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_grouped_sale_extremes_log(1);

ALTER TABLE ONLY tallykeeper.grouped_sale_extremes_log ENABLE ALWAYS TRIGGER tallykeeper_log_nested;

CREATE OR REPLACE TRIGGER tallykeeper_pruned AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON tallykeeper.grouped_sale_extremes_pruned FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_grouped_sale_extremes_pruned(0);

ALTER TABLE ONLY tallykeeper.grouped_sale_extremes_pruned ENABLE ALWAYS TRIGGER tallykeeper_pruned;

CREATE OR REPLACE TRIGGER tallykeeper_pruned_nested AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON tallykeeper.grouped_sale_extremes_pruned FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_grouped_sale_extremes_pruned(1);

ALTER TABLE ONLY tallykeeper.grouped_sale_extremes_pruned ENABLE ALWAYS TRIGGER tallykeeper_pruned_nested;
