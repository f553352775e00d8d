CREATE OR REPLACE TRIGGER tallykeeper_insert AFTER INSERT ON golden.products REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_products_insert();

ALTER TABLE ONLY golden.products ENABLE ALWAYS TRIGGER tallykeeper_insert;

CREATE OR REPLACE TRIGGER tallykeeper_update AFTER UPDATE ON golden.products REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_products_update();

ALTER TABLE ONLY golden.products ENABLE ALWAYS TRIGGER tallykeeper_update;

CREATE OR REPLACE TRIGGER tallykeeper_delete AFTER DELETE ON golden.products REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_products_delete();

ALTER TABLE ONLY golden.products ENABLE ALWAYS TRIGGER tallykeeper_delete;

CREATE OR REPLACE TRIGGER tallykeeper_truncate AFTER TRUNCATE ON golden.products FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_golden_products_truncate();

ALTER TABLE ONLY golden.products ENABLE ALWAYS TRIGGER tallykeeper_truncate;

CREATE OR REPLACE TRIGGER tallykeeper_hand_delete AFTER DELETE ON golden.product_words REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_golden_product_words_hand_delete(0);

ALTER TABLE ONLY golden.product_words ENABLE ALWAYS TRIGGER tallykeeper_hand_delete;

CREATE OR REPLACE TRIGGER tallykeeper_hand_delete_nested AFTER DELETE ON golden.product_words REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_golden_product_words_hand_delete(1);

ALTER TABLE ONLY golden.product_words ENABLE ALWAYS TRIGGER tallykeeper_hand_delete_nested;

CREATE OR REPLACE TRIGGER tallykeeper_hand_update AFTER UPDATE ON golden.product_words REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_golden_product_words_hand_update(0);

ALTER TABLE ONLY golden.product_words ENABLE ALWAYS TRIGGER tallykeeper_hand_update;

CREATE OR REPLACE TRIGGER tallykeeper_hand_update_nested AFTER UPDATE ON golden.product_words REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_golden_product_words_hand_update(1);

ALTER TABLE ONLY golden.product_words ENABLE ALWAYS TRIGGER tallykeeper_hand_update_nested;

CREATE OR REPLACE TRIGGER tallykeeper_hand AFTER INSERT OR TRUNCATE ON golden.product_words FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_golden_product_words_hand(0);

ALTER TABLE ONLY golden.product_words ENABLE ALWAYS TRIGGER tallykeeper_hand;

CREATE OR REPLACE TRIGGER tallykeeper_hand_nested AFTER INSERT OR TRUNCATE ON golden.product_words FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_golden_product_words_hand(1);

ALTER TABLE ONLY golden.product_words ENABLE ALWAYS TRIGGER tallykeeper_hand_nested;

CREATE OR REPLACE TRIGGER tallykeeper_log AFTER DELETE OR UPDATE OR TRUNCATE ON tallykeeper.batched_product_words_log FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 0 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_golden_product_words_log(0);

ALTER TABLE ONLY tallykeeper.batched_product_words_log ENABLE ALWAYS TRIGGER tallykeeper_log;

CREATE OR REPLACE TRIGGER tallykeeper_log_nested AFTER DELETE OR UPDATE OR TRUNCATE ON tallykeeper.batched_product_words_log FOR EACH STATEMENT WHEN (pg_trigger_depth() % 2 = 1 AND (pg_trigger_depth() > 0 OR current_setting('tallykeeper.transaction', true) IS DISTINCT FROM pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp()))) EXECUTE FUNCTION tallykeeper.capture_golden_product_words_log(1);

ALTER TABLE ONLY tallykeeper.batched_product_words_log ENABLE ALWAYS TRIGGER tallykeeper_log_nested;
