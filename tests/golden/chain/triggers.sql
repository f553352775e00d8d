CREATE OR REPLACE TRIGGER tallykeeper_insert_7d4865e5 AFTER INSERT ON golden.sales REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_insert_7d4865e5();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_insert_7d4865e5;

CREATE OR REPLACE TRIGGER tallykeeper_update_7d4865e5 AFTER UPDATE ON golden.sales REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_update_7d4865e5();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_update_7d4865e5;

CREATE OR REPLACE TRIGGER tallykeeper_delete_7d4865e5 AFTER DELETE ON golden.sales REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_delete_7d4865e5();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_delete_7d4865e5;

CREATE OR REPLACE TRIGGER tallykeeper_truncate_7d4865e5 AFTER TRUNCATE ON golden.sales FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_sales_truncate_7d4865e5();

ALTER TABLE ONLY golden.sales ENABLE ALWAYS TRIGGER tallykeeper_truncate_7d4865e5;

CREATE OR REPLACE TRIGGER tallykeeper_insert_ff4ea30c AFTER INSERT ON golden.products REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_products_insert_ff4ea30c();

ALTER TABLE ONLY golden.products ENABLE ALWAYS TRIGGER tallykeeper_insert_ff4ea30c;

CREATE OR REPLACE TRIGGER tallykeeper_update_ff4ea30c AFTER UPDATE ON golden.products REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_products_update_ff4ea30c();

ALTER TABLE ONLY golden.products ENABLE ALWAYS TRIGGER tallykeeper_update_ff4ea30c;

CREATE OR REPLACE TRIGGER tallykeeper_delete_ff4ea30c AFTER DELETE ON golden.products REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_products_delete_ff4ea30c();

ALTER TABLE ONLY golden.products ENABLE ALWAYS TRIGGER tallykeeper_delete_ff4ea30c;

CREATE OR REPLACE TRIGGER tallykeeper_truncate_ff4ea30c AFTER TRUNCATE ON golden.products FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_products_truncate_ff4ea30c();

ALTER TABLE ONLY golden.products ENABLE ALWAYS TRIGGER tallykeeper_truncate_ff4ea30c;

CREATE OR REPLACE TRIGGER tallykeeper_hand AFTER INSERT OR TRUNCATE OR DELETE OR UPDATE OF lines, products, cents ON chain.words_by_sales FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_chain_words_by_sales_hand(0);

ALTER TABLE ONLY chain.words_by_sales ENABLE ALWAYS TRIGGER tallykeeper_hand;

CREATE OR REPLACE TRIGGER tallykeeper_hand_nested AFTER INSERT OR TRUNCATE OR DELETE OR UPDATE OF lines, products, cents ON chain.words_by_sales FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_chain_words_by_sales_hand(1);

ALTER TABLE ONLY chain.words_by_sales ENABLE ALWAYS TRIGGER tallykeeper_hand_nested;

CREATE OR REPLACE TRIGGER tallykeeper_log AFTER DELETE OR UPDATE OR TRUNCATE ON tallykeeper.chain_words_by_sales_log FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_chain_words_by_sales_log(0);

ALTER TABLE ONLY tallykeeper.chain_words_by_sales_log ENABLE ALWAYS TRIGGER tallykeeper_log;

CREATE OR REPLACE TRIGGER tallykeeper_log_nested AFTER DELETE OR UPDATE OR TRUNCATE ON tallykeeper.chain_words_by_sales_log FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_chain_words_by_sales_log(1);

ALTER TABLE ONLY tallykeeper.chain_words_by_sales_log ENABLE ALWAYS TRIGGER tallykeeper_log_nested;

CREATE OR REPLACE TRIGGER tallykeeper_pruned AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON tallykeeper.chain_words_by_sales_pruned FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_chain_words_by_sales_pruned(0);

ALTER TABLE ONLY tallykeeper.chain_words_by_sales_pruned ENABLE ALWAYS TRIGGER tallykeeper_pruned;

CREATE OR REPLACE TRIGGER tallykeeper_pruned_nested AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON tallykeeper.chain_words_by_sales_pruned FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_chain_words_by_sales_pruned(1);

ALTER TABLE ONLY tallykeeper.chain_words_by_sales_pruned ENABLE ALWAYS TRIGGER tallykeeper_pruned_nested;
