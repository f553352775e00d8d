LOCK TABLE golden.products IN ACCESS SHARE MODE;

LOCK TABLE golden.product_words IN SHARE ROW EXCLUSIVE MODE;

CREATE TEMPORARY TABLE tally_pending ON COMMIT DROP AS
SELECT part, shelf, product FROM tallykeeper.batched_product_words_log;

WITH consumed AS (DELETE FROM tallykeeper.batched_product_words_log AS l WHERE true RETURNING logged_at) SELECT count(*) AS entries, min(logged_at) AS oldest FROM consumed;

CREATE TEMPORARY TABLE tally_keys ON COMMIT DROP AS
SELECT DISTINCT dirty.shelf, dirty.product
FROM pg_temp.tally_pending AS dirty
WHERE dirty.shelf IS NOT NULL AND dirty.product IS NOT NULL;

WITH tally_touched AS MATERIALIZED (SELECT DISTINCT k.shelf, k.product FROM pg_temp.tally_keys AS k), tally_counted AS (SELECT count(*) AS keys FROM tally_touched), tally_all_touched AS (INSERT INTO tallykeeper.unverified (tally, windows) SELECT 'batched.product_words', '{(,)}' FROM tally_counted WHERE keys > 20000), tally_single_touched AS (INSERT INTO tallykeeper.unverified_keys (tally, keys) SELECT 'batched.product_words', jsonb_agg(jsonb_build_object('shelf', k.shelf, 'product', k.product)) FROM tally_touched AS k, tally_counted WHERE keys <= 20000 HAVING count(*) > 0) SELECT;

CREATE TEMPORARY TABLE tally_desired ON COMMIT DROP AS
SELECT r.shelf, r.product, r.word
FROM (SELECT array_agg(k.shelf ORDER BY k.shelf, k.product) AS shelf, array_agg(k.product ORDER BY k.shelf, k.product) AS product FROM pg_temp.tally_keys AS k) AS k, tallykeeper.batched_product_words_rows_of_keys(k.shelf, k.product) AS r;

CREATE TEMPORARY TABLE tally_current ON COMMIT DROP AS
SELECT d.ctid AS tally_place, d.tableoid AS tally_relation, d.shelf, d.product, d.word
FROM golden.product_words AS d WHERE EXISTS (SELECT FROM pg_temp.tally_keys AS k WHERE k.shelf = d.shelf AND k.product = d.product);

WITH tally_merged AS MATERIALIZED (
  SELECT h.tally_place, h.tally_relation, f.tally_fresh, f.shelf, f.product, f.word
  FROM (SELECT g.*, true AS tally_fresh FROM pg_temp.tally_desired AS g) AS f
  FULL JOIN pg_temp.tally_current AS h ON h.shelf = f.shelf AND h.product = f.product AND h.word = f.word
  WHERE h.tally_place IS NULL OR f.tally_fresh IS NULL
), tally_deleted AS (
  DELETE FROM golden.product_words AS d USING tally_merged AS m
  WHERE d.ctid = m.tally_place AND d.tableoid = m.tally_relation AND m.tally_fresh IS NULL
  RETURNING NULL::text AS day
), tally_inserted AS (
  INSERT INTO golden.product_words AS d (shelf, product, word)
  SELECT m.shelf, m.product, m.word FROM tally_merged AS m
  WHERE m.tally_place IS NULL
  RETURNING NULL::text AS day
)
SELECT day, NULL::bigint AS consumed, sum(i) AS inserted, sum(u) AS updated,
  sum(r) AS deleted, NULL::timestamptz AS oldest
FROM (
  SELECT day, 1 AS i, 0 AS u, 0 AS r FROM tally_inserted
  UNION ALL SELECT day, 0, 0, 1 FROM tally_deleted
) AS written GROUP BY day ORDER BY day;
