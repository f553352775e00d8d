LOCK TABLE golden.products IN ACCESS SHARE MODE;

LOCK TABLE golden.product_words IN SHARE ROW EXCLUSIVE MODE;

CREATE TEMPORARY TABLE tally_pending ON COMMIT DROP AS
SELECT part, shelf, product FROM tallykeeper.batched_product_words_log;

WITH consumed AS (DELETE FROM tallykeeper.batched_product_words_log AS l WHERE true RETURNING logged_at) SELECT count(*) AS entries, min(logged_at) AS oldest FROM consumed;

CREATE TEMPORARY TABLE tally_keys ON COMMIT DROP AS
SELECT DISTINCT dirty.shelf, dirty.product
FROM pg_temp.tally_pending AS dirty
WHERE dirty.shelf IS NOT NULL AND dirty.product IS NOT NULL;

WITH touched AS MATERIALIZED (SELECT DISTINCT k.shelf, k.product FROM pg_temp.tally_keys AS k), counted AS (SELECT count(*) AS keys FROM touched), all_of_them AS (INSERT INTO tallykeeper.unverified (tally, windows) SELECT 'batched.product_words', '{(,)}' FROM counted WHERE keys > 20000) INSERT INTO tallykeeper.unverified_keys (tally, keys) SELECT 'batched.product_words', jsonb_agg(jsonb_build_object('shelf', k.shelf, 'product', k.product)) FROM touched AS k, counted WHERE keys <= 20000 HAVING count(*) > 0;

CREATE TEMPORARY TABLE tally_desired ON COMMIT DROP AS
SELECT r.shelf, r.product, r.word
FROM (SELECT array_agg(k.shelf ORDER BY k.shelf, k.product) AS shelf, array_agg(k.product ORDER BY k.shelf, k.product) AS product FROM pg_temp.tally_keys AS k) AS k, tallykeeper.batched_product_words_rows_of_keys(k.shelf, k.product) AS r;

CREATE TEMPORARY TABLE tally_current ON COMMIT DROP AS
SELECT d.ctid AS tally_place, d.tableoid AS tally_relation, d.shelf, d.product, d.word
FROM golden.product_words AS d WHERE EXISTS (SELECT FROM pg_temp.tally_keys AS k WHERE k.shelf = d.shelf AND k.product = d.product);

WITH deleted AS (
  DELETE FROM golden.product_words AS d USING pg_temp.tally_current AS h
  WHERE d.ctid = h.tally_place AND d.tableoid = h.tally_relation AND NOT EXISTS (SELECT FROM pg_temp.tally_desired AS f WHERE h.shelf = f.shelf AND h.product = f.product AND h.word = f.word)
  RETURNING NULL::text AS day
), inserted AS (
  INSERT INTO golden.product_words AS d (shelf, product, word)
  SELECT f.shelf, f.product, f.word FROM pg_temp.tally_desired AS f
  WHERE NOT EXISTS (SELECT FROM pg_temp.tally_current AS h WHERE h.shelf = f.shelf AND h.product = f.product AND h.word = f.word)
  RETURNING NULL::text AS day
)
SELECT day, NULL::bigint AS consumed, sum(i) AS inserted, sum(u) AS updated,
  sum(r) AS deleted, NULL::timestamptz AS oldest
FROM (
  SELECT day, 1 AS i, 0 AS u, 0 AS r FROM inserted
  UNION ALL SELECT day, 0, 0, 1 FROM deleted
) AS written GROUP BY day ORDER BY day;
