LOCK TABLE golden.products IN ACCESS SHARE MODE;

LOCK TABLE golden.product_words IN SHARE ROW EXCLUSIVE MODE;

WITH consumed AS (DELETE FROM tallykeeper.batched_product_words_log AS l WHERE true RETURNING logged_at) SELECT count(*) AS entries, min(logged_at) AS oldest FROM consumed;

SELECT FROM golden.product_words LIMIT 1;

SELECT 'golden.product_words'::regclass::oid;

ALTER TABLE golden.product_words DROP CONSTRAINT product_words_pkey;

SELECT count(*) FROM golden.products;

SELECT count(*) AS walked, count(*) FILTER (WHERE steps.before < 20000) AS inside, max(steps."position") FILTER (WHERE steps.before < 20000) AS upto
FROM (SELECT golden.products.id AS "position", sum(greatest(coalesce(cardinality(golden.products.words), 1), 1)) OVER (ORDER BY golden.products.id) - greatest(coalesce(cardinality(golden.products.words), 1), 1) AS before
FROM golden.products ORDER BY golden.products.id
 LIMIT 30000) AS steps;

INSERT INTO golden.product_words (shelf, product, word)
SELECT f.shelf, f.product, f.word FROM (
SELECT s.shelf, s.product, s.word FROM (
SELECT CAST('all' AS TEXT) AS shelf, golden.products.id AS product, named.word
FROM golden.products JOIN LATERAL (SELECT DISTINCT unnest(golden.products.words) AS word) AS named ON true
WHERE named.word IS NOT NULL AND CAST('all' AS TEXT) = 'all'
) AS s WHERE s.shelf = 'all'
) AS f;

CREATE UNIQUE INDEX product_words_pkey ON golden.product_words USING btree (shelf, product, word);

SELECT FROM pg_constraint WHERE conrelid = 'golden.product_words'::regclass AND conname = 'product_words_pkey';

ALTER TABLE golden.product_words ADD CONSTRAINT product_words_pkey PRIMARY KEY USING INDEX product_words_pkey;

UPDATE tallykeeper.tally_state SET rows=(SELECT count(*) AS count_1
FROM golden.product_words), built_at=now(), refreshed_at=now(), seconds=%(seconds)s, pending_consumed=%(pending_consumed)s::BIGINT, keys_changed=%(keys_changed)s::BIGINT WHERE tallykeeper.tally_state.tally = %(tally_1)s::VARCHAR RETURNING tallykeeper.tally_state.rows, tallykeeper.tally_state.refreshed_at;

CREATE TEMPORARY TABLE tally_pending ON COMMIT DROP AS
SELECT part, shelf, product FROM tallykeeper.batched_product_words_log;
